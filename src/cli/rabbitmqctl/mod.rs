//! `leveret rabbitmqctl`: what RabbitMQ 3.10.8's command of that name does, by the same names, arguments, output and status, so
//! that scripts go on working. A subset: what is about Erlang, clusters and plugins is not there.

mod access;
mod arguments;
mod broker;
mod cluster;
mod definitions;
mod format;
mod lists;
mod settings;

use super::client::{Client, ClientError};
use super::target::Connect;
use arguments::Typed;
use clap::{Args, FromArgMatches};
use std::io::{self, Write};

/// The statuses of RabbitMQ's command, which are those of sysexits.h.
mod status {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_USER: u8 = 67;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const SOFTWARE: u8 = 70;
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

    fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

/// A command.
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

const COMMANDS: &[&[Command]] = &[
    lists::COMMANDS,
    access::COMMANDS,
    settings::COMMANDS,
    definitions::COMMANDS,
    broker::COMMANDS,
    cluster::COMMANDS,
];

fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().flatten()
}

/// Does what was typed, and says with which status the process ends.
pub(super) fn run(arguments: &[String], out: &mut dyn Write, errors: &mut dyn Write) -> u8 {
    let typed = match Typed::parse(arguments) {
        Ok(typed) => typed,
        Err(problem) => {
            let meant = commands().find(|command| arguments.iter().any(|word| word == command.name));
            return complain(errors, &arguments.join(" "), meant, Refusal::Usage(problem));
        }
    };
    if typed.command.is_empty() || typed.command == "help" || typed.has("--help") {
        let code = if typed.command.is_empty() && !typed.has("--help") { status::USAGE } else { 0 };
        return match help(out) {
            Ok(()) => code,
            Err(error) => complain(errors, &typed.given, None, error.into()),
        };
    }
    let Some(command) = commands().find(|command| command.name == typed.command) else {
        return complain(errors, &typed.given, None, Refusal::Usage(unknown(&typed.command)));
    };
    match perform(command, &typed, out) {
        Ok(()) => 0,
        Err(refusal) => complain(errors, &typed.given, Some(command), refusal),
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

fn unknown(name: &str) -> String {
    let why = match name {
        "eval" | "eval_file" | "exec" => ": it runs Erlang on the broker, and there is none",
        _ => "",
    };
    let near = commands()
        .map(|command| (strsim::jaro_winkler(command.name, name), command.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let near = near.map(|(_, name)| format!(" Did you mean '{name}'?")).unwrap_or_default();
    format!("Command '{name}' not found{why}.{near}")
}

/// Says what is wrong, as RabbitMQ's command does.
fn complain(errors: &mut dyn Write, given: &str, command: Option<&Command>, refusal: Refusal) -> u8 {
    let (code, text) = match refusal {
        Refusal::Usage(problem) => (status::USAGE, usage_text(&problem, given, command)),
        Refusal::Argument(problem) => {
            (status::DATA, usage_text(&format!("Bad argument{problem}"), given, command))
        }
        Refusal::Error(code, text) => (code, format!("Error:\n{text}")),
        Refusal::Bare(code, text) => (code, text),
        Refusal::Client(error) => (client_status(&error), format!("Error:\n{error}")),
        Refusal::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
        Refusal::Output(error) => (status::SOFTWARE, format!("Error:\nthe output can't be written: {error}")),
    };
    // There is nobody left to tell.
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

fn usage_text(problem: &str, given: &str, command: Option<&Command>) -> String {
    match command {
        Some(Command { name, usage, .. }) => format!(
            "Error (argument validation): {problem}\nArguments given:\n\t{given}\n\nUsage\n\n\
             rabbitmqctl [--node <node>] [--longnames] [--quiet] {name} {usage}"
        ),
        None => format!("\n{problem}\n\nrabbitmqctl help lists the commands."),
    }
}

fn help(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Usage\n\nrabbitmqctl [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]\n\n\
         These of RabbitMQ's commands are there. They use the management API: LEVERET_URL, LEVERET_USER and\n\
         LEVERET_PASSWORD say where and who, and --node says nothing. leveret ctl can do more.\n\nAvailable commands:\n"
    )?;
    commands().try_for_each(|command| writeln!(out, "   {:<29} {}", command.name, command.usage))
}
