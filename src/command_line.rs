//! The command line: which commands there are, and which function does each.

use crate::cli::{self, Tool};
#[cfg(feature = "perf")]
use crate::perf;
use crate::serve::serve;
use crate::terminal::{complain, say};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use leveret::broker::exchange::ExchangeTypes;
use leveret::config::{Config, settings_page};
use leveret::server::backup;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Lists the settings of most tables of the file, with their defaults, values and meaning, in Markdown
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
    /// Lists who speaks the stream protocol, and what streams remember; a link of that name does so too
    ///
    /// `leveret rabbitmq-streams help` lists the commands that are there.
    #[command(disable_help_flag = true)]
    RabbitmqStreams {
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

/// Does what the process's arguments say. Under the name of one of RabbitMQ's commands it does what that command does.
pub(crate) fn run() -> ExitCode {
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
        Some(Command::RabbitmqStreams { arguments }) => cli::run_tool(Tool::Streams, &arguments),
        Some(Command::Completions { shell }) => complete(shell),
        Some(Command::Check { file }) => {
            let name = file.display().to_string();
            let checked = Place { config: Some(file), ..Place::default() };
            with_config(place, checked, |config| check(&name, config))
        }
        Some(Command::Backup { directory, place: own }) => with_config(place, own, |config| {
            with_progress(|progress| backup::back_up(config, &directory, progress))
        }),
        Some(Command::Restore { directory, place: own }) => with_config(place, own, |config| {
            with_progress(|progress| backup::restore(config, &directory, progress))
        }),
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
fn with_progress<E: std::fmt::Display>(
    command: impl FnOnce(&mut dyn FnMut(&str)) -> Result<String, E>,
) -> ExitCode {
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
