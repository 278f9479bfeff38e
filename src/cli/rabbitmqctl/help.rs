//! What these commands say of themselves.

use super::arguments::Typed;
use super::{Command, Refusal, Tool, about, lists, status};
use std::io::Write;

const OPTIONS: &str = "\
-q, --quiet            nothing but what was asked for
-s, --silent           not even the names of columns
-p, --vhost <vhost>    for what is in a vhost [default: /]
-t, --timeout <n>      seconds, for commands that wait
--formatter <name>     for lists: table, pretty_table, json or csv
--url <url>            where the management API is [default: LEVERET_URL, or http://127.0.0.1:15672]
-n, --node <node>      is taken, and means nothing: there is one node, and --url says where";

/// How a command is typed.
pub(super) fn usage(tool: Tool, command: &Command) -> String {
    let Command { name, usage, .. } = command;
    let line = format!("{} [--node <node>] [--longnames] [--quiet] {name} {usage}", tool.name());
    line.trim_end().to_owned()
}

/// Says what commands there are, or what the one does that is asked about, and the status.
pub(super) fn help(tool: Tool, typed: &Typed, out: &mut dyn Write) -> Result<u8, Refusal> {
    let about = match typed.command.as_str() {
        "help" => typed.arguments.first().map(String::as_str),
        "" => None,
        command => Some(command),
    };
    let Some(name) = about else {
        list(tool, out)?;
        let is_asked = typed.command == "help" || typed.has("--help");
        return Ok(if is_asked { 0 } else { status::USAGE });
    };
    let Some(command) = tool.commands().find(|command| command.name == name) else {
        return Err(Refusal::Error(status::USAGE, format!("\n{}", super::unknown(tool, name))));
    };
    writeln!(out, "\nUsage\n\n{}\n\n{}", usage(tool, command), about::about(name))?;
    if let Some(columns) = lists::columns(name) {
        writeln!(out, "\n\nArguments and Options\n\n<column>\n\tmust be one of {}", columns.join(", "))?;
    }
    writeln!(out, "\n\nGeneral Options\n\n{OPTIONS}\n")?;
    Ok(0)
}

fn list(tool: Tool, out: &mut dyn Write) -> std::io::Result<()> {
    let name = tool.name();
    writeln!(
        out,
        "Usage\n\n{name} [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]\n\n\
         These of RabbitMQ's commands are there. They use the management API: LEVERET_URL, LEVERET_USER and\n\
         LEVERET_PASSWORD say where and who, and --node says nothing. leveret ctl can do more.\n\nAvailable commands:\n"
    )?;
    tool.commands()
        .try_for_each(|command| writeln!(out, "   {:<29} {}", command.name, about::about(command.name)))?;
    writeln!(out, "\nUse '{name} help <command>' to learn more about a specific command")
}
