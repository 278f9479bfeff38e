//! The `leveret` command: reads the configuration, starts a broker, stops it on a signal.

mod cli;
mod notify;
#[cfg(feature = "perf")]
mod perf;
mod terminal;
mod trust;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use cli::Tool;
use leveret::broker::Broker;
use leveret::broker::exchange::ExchangeTypes;
use leveret::config::{Config, Engine, settings_page};
use leveret::server::{Server, backup};
use notify::{READY, STOPPING, notify};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use terminal::{complain, say};
use tokio::signal::unix::{SignalKind, signal};

use tikv_jemalloc_ctl::{Access, AsName};
// Linked for its malloc, which takes the place of the system's: see ARCHITECTURE.md, "Dependencies".
use tikv_jemallocator as _;

/// A message broker that RabbitMQ's clients use unchanged.
///
/// Without a command it serves: AMQP 0-9-1 on 127.0.0.1:5672 for user guest with password guest, with what it keeps in
/// ./leveret-data. Every setting stands in a file (see examples/leveret.toml) or in a variable such as
/// LEVERET__LISTENERS__AMQP__BIND=127.0.0.1:5673.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
}

/// Which broker it is that runs here, or is to.
#[derive(Args, Default)]
struct Place {
    /// The configuration; without it every setting has its default, and no file is looked for
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where definitions and messages are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the broker until a signal stops it (the default)
    Serve(Place),
    /// Writes a copy of everything kept into an empty directory, while the broker runs or not
    Backup {
        /// Where to; made when it is not there
        directory: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Puts a backup into the empty data directory of a broker that does not run
    Restore {
        /// The backup
        directory: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Reads a configuration, and says what is wrong with it
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Lists the limits and the settings of the store, with their defaults, values and meaning, in Markdown
    Settings,
    Ctl(cli::Ctl),
    Definitions(cli::Definitions),
    Apply(cli::Apply),
    #[cfg(feature = "perf")]
    Perf(perf::Perf),
    /// Does what RabbitMQ's command of that name does, for scripts; a link of that name to this program does so too
    ///
    /// `leveret rabbitmqctl help` lists the commands that are there. They use the management API: LEVERET_URL, LEVERET_USER and
    /// LEVERET_PASSWORD say where and who.
    #[command(disable_help_flag = true)]
    Rabbitmqctl {
        /// As RabbitMQ's command takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Does what RabbitMQ's command of that name does: health checks above all; a link of that name does so too
    ///
    /// `leveret rabbitmq-diagnostics help` lists the commands that are there. ping and check_running need no login.
    #[command(disable_help_flag = true)]
    RabbitmqDiagnostics {
        /// As RabbitMQ's command takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Says which of RabbitMQ's plugins the broker does the work of; a link of that name does so too
    ///
    /// There are no plugins: what is there is always on.
    #[command(disable_help_flag = true)]
    RabbitmqPlugins {
        /// As RabbitMQ's command takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Writes a script that lets a shell complete commands: leveret completions bash > /etc/bash_completion.d/leveret
    Completions {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    if let Some(tool) = cli::tool_called(std::env::args_os().next().as_ref()) {
        let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        return cli::run_tool(tool, &arguments.collect::<Vec<_>>());
    }
    let Arguments { command, place } = Arguments::parse();
    match command {
        Some(Command::Settings) => {
            say(settings_page().trim_end());
            ExitCode::SUCCESS
        }
        Some(Command::Ctl(command)) => cli::run_ctl(&command),
        Some(Command::Apply(command)) => cli::run_apply(&command),
        Some(Command::Definitions(command)) => cli::run_definitions(&command),
        #[cfg(feature = "perf")]
        Some(Command::Perf(options)) => perf::run(&options),
        Some(Command::Rabbitmqctl { arguments }) => cli::run_tool(Tool::Ctl, &arguments),
        Some(Command::RabbitmqDiagnostics { arguments }) => cli::run_tool(Tool::Diagnostics, &arguments),
        Some(Command::RabbitmqPlugins { arguments }) => cli::run_tool(Tool::Plugins, &arguments),
        Some(Command::Completions { shell }) => complete(shell),
        Some(Command::Check { file }) => {
            let name = file.display().to_string();
            let checked = Place { config: Some(file), ..Place::default() };
            with_config(place, checked, |config| check(&name, config))
        }
        Some(Command::Backup { directory, place: own }) => {
            with_config(place, own, |config| tell(|heard| backup::back_up(config, &directory, heard)))
        }
        Some(Command::Restore { directory, place: own }) => {
            with_config(place, own, |config| tell(|heard| backup::restore(config, &directory, heard)))
        }
        Some(Command::Serve(own)) => with_config(place, own, serve),
        None => with_config(place, Place::default(), serve),
    }
}

/// Runs a command on the configuration that is named behind the command, or before it.
fn with_config(before: Place, behind: Place, command: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    let file = behind.config.or(before.config);
    let data_dir = behind.data_dir.or(before.data_dir);
    match Config::load(file.as_deref(), data_dir.as_deref()) {
        Ok(config) => command(&config),
        Err(problems) => {
            complain(problems);
            ExitCode::FAILURE
        }
    }
}

fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "leveret", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("leveret: the script can't be written: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What can be known without a store has been checked by reading; this is what the types of exchange say.
fn check(file: &str, config: &Config) -> ExitCode {
    let problems = leveret::server::check(config, &ExchangeTypes::standard());
    for problem in &problems {
        complain(problem);
    }
    if !problems.is_empty() {
        return ExitCode::FAILURE;
    }
    for warning in leveret::server::warnings(config) {
        complain(format_args!("warning: {warning}"));
    }
    let counts = [
        counted(config.vhosts.len(), "vhost"),
        counted(config.users.len(), "user"),
        counted(config.exchanges.len(), "exchange"),
        counted(config.queues.len(), "queue"),
        counted(config.bindings.len(), "binding"),
    ];
    say(format_args!("{file} is fine: {}", counts.join(", ")));
    ExitCode::SUCCESS
}

/// `1 queue`, `2 queues`.
fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Runs a command that makes data directories or copies of them, and reports its progress and how it ended.
fn tell<E: std::fmt::Display>(command: impl FnOnce(&mut dyn FnMut(&str)) -> Result<String, E>) -> ExitCode {
    leveret::files::keep_all_private();
    match command(&mut |text| complain(text)) {
        Ok(text) => {
            say(text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(format_args!("leveret: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Config) -> ExitCode {
    if let Err(error) = leveret::log::start(&config.log) {
        complain(format_args!("leveret: {error}"));
        return ExitCode::FAILURE;
    }
    leveret::log::report_panics(leveret::store::takes_panics);
    leveret::files::keep_all_private();
    keep_freed_memory();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("leveret: the system gives no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("leveret: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Lets what was freed lie until it has been unused for the time in `.cargo/config.toml`, however much of it has grown together.
/// jemalloc gives 8 MiB or more back at once, and with messages of a megabyte that is soon together and soon wanted again. The
/// setting in the file comes too late for the first of its arenas.
fn keep_freed_memory() {
    if let Err(error) = b"arena.0.oversize_threshold\0".name().write(usize::MAX) {
        tracing::debug!(
            "jemalloc does not take a setting, so large messages take more processor time: {error}"
        );
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let server = Server::start(config, ExchangeTypes::standard()).await?;
    let address = server.address()?;
    say(format_args!("leveret {} is listening on amqp://{address}", env!("CARGO_PKG_VERSION")));
    for listener in server.listeners()? {
        let address = listener.address;
        match listener.protocol {
            "amqp/ssl" => say(format_args!("leveret is listening on amqps://{address}")),
            "http" => say(format_args!("the management API is at http://{address}/api")),
            "https" => say(format_args!("the management API is at https://{address}/api")),
            "http/websocket" => say(format_args!("leveret is listening on ws://{address}/ws")),
            "https/websocket" => say(format_args!("leveret is listening on wss://{address}/ws")),
            "http/prometheus" => say(format_args!("metrics are at http://{address}/metrics")),
            "https/prometheus" => say(format_args!("metrics are at https://{address}/metrics")),
            // Said before.
            "amqp" => {}
            other => say(format_args!("leveret is listening for {other} on {address}")),
        }
    }
    match config.store.engine {
        Engine::Sled => {
            say(format_args!("what is kept is in {}", std::path::absolute(&config.data_dir)?.display()))
        }
        Engine::Memory => say("nothing is kept when it stops, since store.engine is \"memory\""),
    }
    if can_be_tried(server.broker()) {
        let address = reachable(address);
        say(format_args!("try it: AMQP_URL=amqp://guest:guest@{address}/%2F python3 examples/first.py"));
    }
    say("Ctrl-C stops the broker");
    notify(READY);
    let shutdown = server.shutdown();
    let tls = server.tls().cloned();
    let mut running = tokio::spawn(server.run());
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended??),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                tracing::info!("SIGHUP: the files of [tls] are read again");
                tls.iter().for_each(|tls| tls.reload_and_log());
            }
        }
    }
    notify(STOPPING);
    tracing::info!("stopping: connections are closed, then everything is made durable");
    shutdown.begin();
    tokio::select! {
        ended = running => {
            ended??;
            tracing::info!("stopped");
            Ok(())
        }
        _ = terminate.recv() => Err("stopped at once by a second signal".into()),
        _ = interrupt.recv() => Err("stopped at once by a second signal".into()),
    }
}

/// An address that a client on this machine can take: one that stands for all of the machine's is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

/// Whether the user that every example takes is there as it was made, and may use the vhost that they use.
fn can_be_tried(broker: &Broker) -> bool {
    let user = broker.users().get("guest").filter(|user| broker.users().fits(user, "guest"));
    user.is_some_and(|user| broker.permissions().may_open(&user.name, &"/".into()))
        && broker.vhost("/").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line of documentation: what stands in single quotes is one, and several spaces end them.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.split("  ").next().unwrap_or_default().split('\'').enumerate() {
            match index % 2 {
                1 => words.push(part.to_owned()),
                _ => words.extend(part.split_whitespace().map(str::to_owned)),
            }
        }
        words
    }

    #[test]
    fn what_is_to_be_tried_can_be_typed() {
        for (bound, typed) in [
            ("0.0.0.0:5672", "127.0.0.1:5672"),
            ("[::]:5672", "[::1]:5672"),
            ("192.0.2.7:5673", "192.0.2.7:5673"),
            ("[2001:db8::1]:5672", "[2001:db8::1]:5672"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), typed);
        }
    }

    #[test]
    fn all_commands_can_be_typed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_readme_and_help_show_can_be_typed() {
        let mut help = Vec::new();
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            help.extend(command.get_after_help().map(ToString::to_string));
            help.extend(command.get_about().map(ToString::to_string));
            commands.extend(command.get_subcommands().cloned());
        }
        let texts = help.join("\n").replace(": leveret ", "\nleveret ") + include_str!("../README.md");
        let lines: Vec<&str> =
            texts.lines().map(str::trim).filter(|line| line.starts_with("leveret ctl ")).collect();
        assert!(lines.len() > 20, "{lines:?}");
        for line in lines {
            let line =
                line.split(" <").next().unwrap_or_default().split(" shows ").next().unwrap_or_default();
            if let Err(error) = Arguments::try_parse_from(words(line)) {
                assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{line}: {error}");
            }
        }
    }
}
