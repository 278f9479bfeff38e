//! `leveret rabbitmqctl`, `leveret rabbitmq-diagnostics`, `leveret rabbitmq-plugins` and `leveret rabbitmq-streams`: what RabbitMQ's commands of those names
//! do, by the same names, arguments, output and status, so that scripts and health checks go on working. A subset: what is about
//! Erlang and clusters is not there. What is newer than RabbitMQ 3.10.8 is as in 4.3.6.

mod about;
mod access;
mod arguments;
mod broker;
mod cluster;
mod definitions;
mod diagnostics;
mod features;
mod format;
mod help;
mod lists;
mod plugins;
mod settings;
mod streams;
mod wait;

use super::client::{Client, ClientError};
use super::output::printable;
use super::path::path;
use super::target::Connect;
use arguments::Typed;
use clap::{Args, FromArgMatches};
use leveret::api::Overview;
use std::io::{self, Write};

/// The statuses of RabbitMQ's command, which are those of sysexits.h.
mod status {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_USER: u8 = 67;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const SOFTWARE: u8 = 70;
    pub(super) const TIMED_OUT: u8 = 75;
    pub(super) const NO_PERMISSION: u8 = 77;
}

/// Why a command was not done.
#[derive(Debug)]
enum Refusal {
    /// What was typed makes no sense.
    Usage(String),
    /// An argument is not as it should be, and what stands behind `Bad argument`.
    Argument(String),
    /// What to say behind `Error:`, and the status.
    Error(u8, String),
    /// What to say alone, and the status.
    Bare(u8, String),
    /// The broker has not answered as it should have.
    Client(ClientError),
    /// The output can't be written.
    Output(io::Error),
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        Refusal::Client(error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Output(error)
    }
}

type Done = Result<(), Refusal>;

/// What a command works with.
struct Call<'a> {
    typed: &'a Typed,
    client: Client,
    options: Connect,
    out: &'a mut dyn Write,
}

impl Call<'_> {
    /// One of the command's arguments; the table of commands says how many there are.
    fn argument(&self, index: usize) -> &str {
        self.typed.arguments.get(index).map(String::as_str).unwrap_or_default()
    }

    /// Says what is being done, unless that is not wanted.
    fn banner(&mut self, text: &str) -> io::Result<()> {
        if self.typed.has_banner() { self.say(text) } else { Ok(()) }
    }

    /// Says what was found.
    fn result(&mut self, text: &str) -> Done {
        Ok(self.say(text)?)
    }

    /// The node's name, from the broker.
    fn node(&mut self) -> Result<String, Refusal> {
        Ok(printable(&self.client.get::<Overview>(&path(&["overview"]))?.node))
    }

    /// The node's name where there was no login: as it was typed, or its address.
    fn place(&self) -> String {
        self.typed.option("--node").map_or_else(|| self.client.url(), str::to_owned)
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

/// A command of RabbitMQ's that is there.
struct Command {
    name: &'static str,
    /// What may stand behind the name.
    usage: &'static str,
    /// How many arguments there have to be, and may be.
    count: (usize, usize),
    run: fn(&mut Call) -> Done,
}

const MANY: usize = usize::MAX;

const fn command(
    name: &'static str,
    count: (usize, usize),
    run: fn(&mut Call) -> Done,
    usage: &'static str,
) -> Command {
    Command { name, usage, count, run }
}

/// RabbitMQ's commands as which this program can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// What manages a broker.
    Ctl,
    /// What looks at one.
    Diagnostics,
    /// What is about plugins.
    Plugins,
    /// What is about streams.
    Streams,
}

impl Tool {
    /// The one of that name.
    pub(crate) fn by_name(name: &str) -> Option<Tool> {
        [Tool::Ctl, Tool::Diagnostics, Tool::Plugins, Tool::Streams]
            .into_iter()
            .find(|tool| tool.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Tool::Ctl => "rabbitmqctl",
            Tool::Diagnostics => "rabbitmq-diagnostics",
            Tool::Plugins => "rabbitmq-plugins",
            Tool::Streams => "rabbitmq-streams",
        }
    }

    fn commands(self) -> impl Iterator<Item = &'static Command> {
        let groups: &[&[Command]] = match self {
            Tool::Ctl => &[
                lists::COMMANDS,
                access::COMMANDS,
                settings::COMMANDS,
                definitions::COMMANDS,
                broker::COMMANDS,
                broker::LOOKS,
                cluster::COMMANDS,
                cluster::LOOKS,
                features::COMMANDS,
                features::LOOKS,
                wait::COMMANDS,
            ],
            Tool::Diagnostics => &[
                diagnostics::COMMANDS,
                lists::COMMANDS,
                broker::LOOKS,
                cluster::LOOKS,
                features::LOOKS,
                wait::COMMANDS,
            ],
            Tool::Plugins => &[plugins::COMMANDS],
            Tool::Streams => &[streams::COMMANDS],
        };
        groups.iter().copied().flatten()
    }

    /// Options of its own.
    fn switches(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Tool::Plugins => arguments::PLUGIN_SWITCHES,
            Tool::Streams => arguments::STREAM_SWITCHES,
            Tool::Ctl | Tool::Diagnostics => &[],
        }
    }
}

/// Does what was typed, and says with which status the process ends.
pub(super) fn run(tool: Tool, arguments: &[String], out: &mut dyn Write, errors: &mut dyn Write) -> u8 {
    let typed = match Typed::parse(arguments, tool.switches()) {
        Ok(typed) => typed,
        Err(problem) => {
            let meant = tool.commands().find(|command| arguments.iter().any(|word| word == command.name));
            return complain(errors, tool, &arguments.join(" "), meant, Refusal::Usage(problem));
        }
    };
    if typed.command.is_empty() || typed.command == "help" || typed.has("--help") {
        return match help::help(tool, &typed, out) {
            Ok(code) => code,
            Err(refusal) => complain(errors, tool, &typed.given, None, refusal),
        };
    }
    let Some(command) = tool.commands().find(|command| command.name == typed.command) else {
        return complain(errors, tool, &typed.given, None, Refusal::Usage(unknown(tool, &typed.command)));
    };
    match perform(command, &typed, out) {
        Ok(()) => 0,
        Err(refusal) => complain(errors, tool, &typed.given, Some(command), refusal),
    }
}

fn perform(command: &Command, typed: &Typed, out: &mut dyn Write) -> Done {
    let (least, most) = command.count;
    if typed.arguments.len() < least {
        return Err(Refusal::Usage("not enough arguments.".to_owned()));
    }
    if typed.arguments.len() > most {
        return Err(Refusal::Usage("too many arguments.".to_owned()));
    }
    let options = connect(typed)?;
    let client = Client::new(&options)?;
    (command.run)(&mut Call { typed, client, options, out })
}

/// The variables say where the broker is, and --url.
fn connect(typed: &Typed) -> Result<Connect, Refusal> {
    let parser = Connect::augment_args(clap::Command::new("rabbitmqctl").no_binary_name(true));
    let url = typed.option("--url").map(|url| vec!["--url".to_owned(), url.to_owned()]).unwrap_or_default();
    let read = parser.try_get_matches_from(url).and_then(|matches| Connect::from_arg_matches(&matches));
    read.map_err(|error| Refusal::Usage(error.to_string()))
}

fn unknown(tool: Tool, name: &str) -> String {
    let why = match name {
        "eval" | "eval_file" | "exec" => ": it runs Erlang on the broker, and there is none",
        _ => "",
    };
    let near = tool
        .commands()
        .map(|command| (strsim::jaro_winkler(command.name, name), command.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let near = near.map(|(_, name)| format!(" Did you mean '{name}'?")).unwrap_or_default();
    format!("Command '{name}' not found{why}.{near}")
}

/// Says what is wrong, as RabbitMQ's command does.
fn complain(
    errors: &mut dyn Write,
    tool: Tool,
    given: &str,
    command: Option<&Command>,
    refusal: Refusal,
) -> u8 {
    let (code, text) = match refusal {
        Refusal::Usage(problem) => (status::USAGE, usage_text(tool, &problem, given, command)),
        Refusal::Argument(problem) => {
            (status::DATA, usage_text(tool, &format!("Bad argument{problem}"), given, command))
        }
        Refusal::Error(code, text) => (code, format!("Error:\n{text}")),
        Refusal::Bare(code, text) => (code, text),
        Refusal::Client(error) => (client_status(&error), format!("Error:\n{error}")),
        Refusal::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
        Refusal::Output(error) => (status::SOFTWARE, format!("Error:\nthe output can't be written: {error}")),
    };
    // There is no reader left.
    let _ = writeln!(errors, "{text}");
    code
}

fn client_status(error: &ClientError) -> u8 {
    match error {
        ClientError::Options(_) => status::USAGE,
        ClientError::Login { .. } | ClientError::Forbidden { .. } => status::NO_PERMISSION,
        _ => status::UNAVAILABLE,
    }
}

fn usage_text(tool: Tool, problem: &str, given: &str, command: Option<&Command>) -> String {
    match command {
        Some(command) => format!(
            "Error (argument validation): {problem}\nArguments given:\n\t{given}\n\nUsage\n\n{}",
            help::usage(tool, command)
        ),
        None => format!("\n{problem}\n\n{} help lists the commands.", tool.name()),
    }
}
