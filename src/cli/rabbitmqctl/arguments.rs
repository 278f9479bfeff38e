//! What was typed: RabbitMQ's commands take options before, between and behind their arguments.

use std::collections::BTreeMap;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
    PrettyTable,
}

/// Options that stand alone.
const SWITCHES: &[(&str, &str)] = &[
    ("--quiet", "-q"),
    ("--silent", "-s"),
    ("--longnames", "-l"),
    ("--no-table-headers", ""),
    ("--help", "-?"),
    ("--online", ""),
    ("--offline", ""),
    ("--local", ""),
    ("--if-empty", "-e"),
    ("--if-unused", "-u"),
    ("--global", ""),
    ("--pre-hashed-password", ""),
    ("--verbose", ""),
    ("--skip-if-unchanged", ""),
    ("--opt-in", ""),
    ("--all", ""),
];

/// Options with a value behind them.
const OPTIONS: &[(&str, &str)] = &[
    ("--node", "-n"),
    ("--vhost", "-p"),
    ("--timeout", "-t"),
    ("--formatter", ""),
    ("--format", ""),
    ("--url", ""),
    ("--priority", ""),
    ("--apply-to", ""),
    ("--description", ""),
    ("--tags", ""),
    ("--default-queue-type", ""),
    ("--user", ""),
    ("--limit", ""),
    ("--per-connection-delay", ""),
    ("--pid", "-P"),
    ("--queue-timeout", ""),
    ("--within", ""),
    ("--unit", ""),
    ("--stream", ""),
    ("--reference", ""),
];

/// What stands alone in rabbitmq-plugins, where some letters mean something else.
pub(super) const PLUGIN_SWITCHES: &[(&str, &str)] =
    &[("--enabled", "-E"), ("--implicitly-enabled", "-e"), ("--verbose", "-v"), ("--minimal", "-m")];

/// What stands alone in rabbitmq-streams.
pub(super) const STREAM_SWITCHES: &[(&str, &str)] = &[("--all", ""), ("--offset", ""), ("--writer", "")];

/// A command with its arguments and options.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    /// Everything behind the command's name and before it, as it was typed; options that are for all commands left out.
    pub(super) given: String,
    options: BTreeMap<&'static str, String>,
}

impl Typed {
    /// Reads what was typed; on failure, what is wrong with the options. `own` are those of the tool before all others.
    pub(super) fn parse(typed: &[String], own: &'static [(&str, &str)]) -> Result<Typed, String> {
        let mut options = BTreeMap::new();
        let mut arguments = Vec::new();
        let mut rest = typed.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                arguments.extend(rest.by_ref().cloned());
                break;
            }
            // A negative number is no option.
            if !word.starts_with('-') || word.len() < 2 || word.parse::<f64>().is_ok() {
                arguments.push(word.clone());
                continue;
            }
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let is = |(long, short): &&(&'static str, &'static str)| *long == name || *short == name;
            if let Some((long, _)) = own.iter().chain(SWITCHES).find(is) {
                options.insert(*long, String::new());
            } else if let Some((long, _)) = OPTIONS.iter().find(is) {
                let value = joined.or_else(|| rest.next().cloned());
                options.insert(
                    *long,
                    value.ok_or_else(|| format!("Invalid options for this command:\n{name} : "))?,
                );
            } else {
                return Err(format!("Invalid options for this command:\n{name} : "));
            }
        }
        let given = arguments.join(" ");
        let command = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
        let typed = Typed { command, arguments, given, options };
        if let Some(formatter) = typed.option("--formatter")
            && !matches!(formatter, "table" | "json" | "csv" | "pretty_table")
        {
            return Err(format!(
                "Formatter {formatter} is not known; there are table, pretty_table, json and csv"
            ));
        }
        Ok(typed)
    }

    pub(super) fn option(&self, long: &str) -> Option<&str> {
        self.options.get(long).map(String::as_str)
    }

    pub(super) fn has(&self, long: &str) -> bool {
        self.options.contains_key(long)
    }

    pub(super) fn vhost(&self) -> &str {
        self.option("--vhost").unwrap_or("/")
    }

    pub(super) fn format(&self) -> Format {
        match self.option("--formatter") {
            Some("json") => Format::Json,
            Some("csv") => Format::Csv,
            Some("pretty_table") => Format::PrettyTable,
            _ => Format::Table,
        }
    }

    /// Whether the line that says what is being done is written.
    pub(super) fn has_banner(&self) -> bool {
        !self.has("--quiet")
            && !self.has("--silent")
            && matches!(self.format(), Format::Table | Format::PrettyTable)
    }

    /// Whether the columns' names are written above a table.
    pub(super) fn has_headers(&self) -> bool {
        !self.has("--silent") && !self.has("--no-table-headers")
    }

    /// Seconds that the whole command may take.
    pub(super) fn timeout_s(&self) -> Option<f64> {
        self.option("--timeout").and_then(|text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Typed, String> {
        Typed::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), &[])
    }

    #[test]
    fn options_stand_anywhere() {
        let typed =
            parse("-q -n node@host set_policy -p v name ^a {} --priority 2 --apply-to=queues").unwrap();
        assert_eq!((typed.command.as_str(), typed.vhost()), ("set_policy", "v"));
        assert_eq!(typed.arguments, ["name", "^a", "{}"]);
        assert_eq!((typed.option("--priority"), typed.option("--apply-to")), (Some("2"), Some("queues")));
        assert!(!typed.has_banner() && typed.has_headers());
        let typed = parse("-s list_queues name -- --name").unwrap();
        assert_eq!(typed.arguments, ["name", "--name"]);
        assert!(!typed.has_banner() && !typed.has_headers());
        assert_eq!(parse("set_vm_memory_high_watermark -0.1").unwrap().arguments, ["-0.1"]);
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert_eq!(parse("list_queues -p").unwrap_err(), "Invalid options for this command:\n-p : ");
        assert_eq!(parse("list_queues --what").unwrap_err(), "Invalid options for this command:\n--what : ");
        assert!(parse("list_queues --formatter xml").is_err());
    }
}
