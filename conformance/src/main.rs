//! The command: plays the cases against a broker at a URL and prints how each went.
#![allow(clippy::print_stdout)]

mod diff_command;

use clap::{Parser, Subcommand};
use diff_command::DiffArguments;
use leveret_conformance::report::{self, Line};
use leveret_conformance::{
    Broker, Case, Failure, Management, Options, TcpTransport, differences, library, record, stomp, stream,
    suite, url,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Plays raw-frame AMQP 0-9-1 cases against a broker. Exits with 0 when every case passes.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The broker: amqp://user:password@host:port/vhost
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672")]
    url: String,
    /// Where its management API is, host:port; by default port 15672 of the same host. Its user is the URL's
    #[arg(long)]
    management: Option<String>,
    /// Plays only cases whose section/name contains this; * stands for any characters
    #[arg(long, default_value = "")]
    only: String,
    /// Prints the cases and the rules they check, and plays none
    #[arg(long)]
    list: bool,
    /// Writes JUnit XML to this file
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Writes a Markdown table to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// The broker: rabbitmq3, rabbitmq4 or leveret; recognised by its server properties if not given
    #[arg(long)]
    broker: Option<String>,
    /// Seconds to wait for a frame that is expected
    #[arg(long, default_value_t = 15)]
    timeout: u64,
    /// Where the cases are
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Plays this file instead, and prints it with what came behind each line
    #[arg(long)]
    record: Option<PathBuf>,
    /// How many cases are played at a time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Prints failures only
    #[arg(long)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Diff(DiffArguments),
    Stomp(ProtocolArguments),
    Stream(ProtocolArguments),
}

/// Plays the cases in STOMP, or in the stream protocol, one after the other.
#[derive(clap::Args)]
struct ProtocolArguments {
    /// Where it is spoken: host:port; mostly 127.0.0.1:61613, and 127.0.0.1:5552
    #[arg(long)]
    address: String,
    /// Where the management API is: host:port; its user is guest
    #[arg(long, default_value = "127.0.0.1:15672")]
    management: String,
    /// Whose behaviour it is to be: leveret, rabbitmq3 or rabbitmq4
    #[arg(long, default_value = "leveret")]
    broker: String,
    /// Plays only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// A case in a protocol other than AMQP 0-9-1.
enum Script {
    Stomp(stomp::Script),
    Stream(stream::Script),
}

impl Script {
    fn name(&self) -> &str {
        match self {
            Script::Stomp(script) => &script.name,
            Script::Stream(script) => &script.name,
        }
    }

    fn play(&self, transport: &mut TcpTransport, broker: Broker, run: &str) -> Result<(), String> {
        match self {
            Script::Stomp(script) => stomp::play(script, transport, broker, run),
            Script::Stream(script) => stream::play(script, transport, broker, run),
        }
    }
}

fn play_scripts(mut scripts: Vec<Script>, arguments: &ProtocolArguments) -> Result<bool, String> {
    let broker = Broker::named(&arguments.broker)
        .ok_or_else(|| format!("--broker is leveret, rabbitmq3 or rabbitmq4, not {}", arguments.broker))?;
    let management = Management {
        address: arguments.management.clone(),
        user: "guest".to_owned(),
        password: "guest".to_owned(),
    };
    let (run, mut failed) = (std::process::id().to_string(), 0);
    scripts.retain(|script| script.name().contains(&arguments.only));
    for script in &scripts {
        let mut transport = TcpTransport::new(&arguments.address, Some(management.clone()));
        match script.play(&mut transport, broker, &run) {
            Ok(()) => println!("{} passed", script.name()),
            Err(error) => {
                failed += 1;
                println!("{} failed: {error}", script.name());
            }
        }
    }
    println!("{} cases, {failed} failed", scripts.len());
    Ok(failed == 0)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Diff(arguments)) => diff_command::run(arguments),
        Some(Command::Stomp(arguments)) => stomp::load(&stomp::folder())
            .and_then(|scripts| play_scripts(scripts.into_iter().map(Script::Stomp).collect(), arguments)),
        Some(Command::Stream(arguments)) => stream::load(&stream::folder())
            .and_then(|scripts| play_scripts(scripts.into_iter().map(Script::Stream).collect(), arguments)),
        None => command(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("leveret-conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn command(arguments: &Arguments) -> Result<bool, String> {
    let (address, options) = target(arguments)?;
    let management = management(arguments, &address, &options);
    if let Some(file) = &arguments.record {
        return record_file(file, &mut TcpTransport::new(&address, Some(management)), &options);
    }
    let folder = arguments.cases.clone().unwrap_or_else(library::folder);
    let cases = library::load(&folder, &arguments.only)?;
    let declared = differences::declared()?;
    if arguments.only.is_empty() {
        differences::check(&cases, &declared)?;
    }
    if cases.is_empty() {
        return Err(format!("no case in {} contains '{}'", folder.display(), arguments.only));
    }
    if arguments.list {
        cases.iter().for_each(|case| println!("{}\n    {}", case.name, case.rule));
        return Ok(true);
    }
    let lines = suite::play(
        &cases,
        arguments.jobs,
        &options,
        || Box::new(TcpTransport::new(&address, Some(management.clone()))),
        |case, line, done| print_line(case, line, done, cases.len(), arguments.quiet),
    );
    for (section, [passed, declared, failed]) in report::sections(&lines) {
        println!("{section:14} {passed:4} passed {declared:3} declared {failed:3} failed");
    }
    let failed = lines.iter().filter(|line| line.failure.is_some()).count();
    println!("{} cases, {failed} failed", lines.len());
    let write = |file: &Option<PathBuf>, text: String| match file {
        Some(file) => std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display())),
        None => Ok(()),
    };
    write(&arguments.junit, report::junit(&lines))?;
    write(
        &arguments.report,
        report::markdown(&lines, arguments.broker.as_deref().unwrap_or(&arguments.url)),
    )?;
    Ok(failed == 0)
}

fn print_line(case: &Case, line: &Line, done: usize, all: usize, quiet: bool) {
    if let Some(failure) = &line.failure {
        println!("[{done}/{all}] FAILED {}", case.name);
        explain(case, failure);
    } else if !quiet {
        println!("[{done}/{all}] ok {} ({} ms)", case.name, line.took.as_millis());
    }
}

fn explain(case: &Case, failure: &Failure) {
    println!("    {}", case.rule);
    for (index, line) in case.lines.iter().enumerate().take(failure.line) {
        let mark = if index + 1 == failure.line { ">>" } else { "  " };
        println!("  {mark} {line}");
    }
    println!("    {}", failure.reason);
    failure.got.iter().for_each(|line| println!("    got: {line}"));
}

fn record_file(file: &PathBuf, transport: &mut TcpTransport, options: &Options) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    // A case that is being written may expect nothing yet.
    let case = Case::parse("record", &format!("{text}\nnothing\n"))?;
    let (text, failure) = record::record(&case, transport, options);
    print!("{}", text.strip_suffix("\nnothing\n").map_or(text.clone(), |text| format!("{text}\n")));
    if let Some(failure) = &failure {
        eprintln!("{failure}");
    }
    Ok(failure.is_none())
}

fn management(arguments: &Arguments, address: &str, options: &Options) -> Management {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    Management {
        address: arguments.management.clone().unwrap_or(format!("{host}:15672")),
        user: options.user.clone(),
        password: options.password.clone(),
    }
}

fn target(arguments: &Arguments) -> Result<(String, Options), String> {
    let (address, options) = url::parse(&arguments.url)?;
    let broker = match &arguments.broker {
        Some(name) => Some(Broker::named(name).ok_or("--broker takes rabbitmq3, rabbitmq4 or leveret")?),
        None => None,
    };
    let options = Options {
        broker,
        timeout: Duration::from_secs(arguments.timeout),
        // A recording must not miss what comes late, such as a refused login.
        patience: Duration::from_millis(if arguments.record.is_some() { 4000 } else { 50 }),
        run: format!("{}-", std::process::id()),
        ..options
    };
    Ok((address, options))
}
