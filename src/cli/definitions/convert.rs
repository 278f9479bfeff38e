//! RabbitMQ's definitions as a configuration file: read as an import reads them, and written so that `leveret check` takes
//! the file. What it does not take is left out with a note.

use super::toml::{Entry, quoted, take_unwritable, write};
use leveret::api::Table;
use leveret::broker::access::passwords::HashingAlgorithm;
use leveret::broker::access::users::User;
use leveret::broker::exchange::{Binding, Destination, ExchangeTypes};
use leveret::broker::policy::PolicyKind;
use leveret::broker::topology::parameters::CLUSTER_NAME;
use leveret::config::Config;
use leveret::management::definitions::{Options, Step, in_a_line, read};
use leveret::server;
use serde_json::Value;
use std::collections::BTreeMap;

/// A configuration, and what had no place in it.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
}

/// The order of the lists in the file.
const LISTS: [&str; 9] = [
    "vhosts",
    "users",
    "permissions",
    "topic_permissions",
    "policies",
    "operator_policies",
    "exchanges",
    "queues",
    "bindings",
];

/// How deep arguments may be nested: as deep as any broker takes them.
const DEPTH_MAX: usize = 128;

/// What the result is called in what is said of it.
const RESULT: &str = "the converted file";

/// The vhost of a configuration that lists none.
const DEFAULT_VHOST: &str = "/";

/// Converts a document of definitions into a configuration.
///
/// # Errors
/// When it has a section that is no list, or something that is no object.
pub(super) fn convert(document: &Value) -> Result<Converted, String> {
    let broker =
        server::scratch(&Config::default(), &ExchangeTypes::standard()).map_err(|error| error.to_string())?;
    let is_empty = |section: &str| document[section].as_array().is_none_or(Vec::is_empty);
    // What a configuration has that lists no vhosts, or no users.
    if is_empty("vhosts") {
        broker.add_vhost(DEFAULT_VHOST).map_err(|error| error.to_string())?;
    }
    if is_empty("users") {
        let guest = User { name: "guest".into(), ..User::nobody() };
        broker.put_user(guest).map_err(|error| error.to_string())?;
    }
    let plan = read(&broker, document, &Options::for_file(DEPTH_MAX))?;
    let mut file = File { cluster_name: None, entries: Vec::new(), notes: Vec::new() };
    file.notes.extend(plan.notes.iter().map(ToString::to_string));
    for step in plan.steps() {
        file.add(step);
    }
    let place = |entry: &Entry| LISTS.iter().position(|list| *list == entry.list);
    file.entries.sort_by_key(place);
    file.check()
}

/// The file as it comes together.
struct File {
    cluster_name: Option<String>,
    entries: Vec<Entry>,
    notes: Vec<String>,
}

impl File {
    fn add(&mut self, step: &Step) {
        let (list, title) = match step {
            Step::GlobalParameter(name, value) => {
                if &**name == CLUSTER_NAME {
                    self.cluster_name = value.as_str().map(str::to_owned);
                }
                return;
            }
            // The reading has left these out already.
            Step::Parameter(..) => return,
            Step::Vhost(name, _) => ("vhosts", format!("vhost '{name}'")),
            Step::User(user) => ("users", format!("user '{}'", user.name)),
            Step::Permission(of) => {
                ("permissions", format!("permissions of user '{}' in vhost '{}'", of.user, of.vhost))
            }
            Step::TopicPermission(of) => (
                "topic_permissions",
                format!(
                    "topic permissions of user '{}' with exchange '{}' in vhost '{}'",
                    of.user, of.exchange, of.vhost
                ),
            ),
            Step::Policy(vhost, PolicyKind::Policy, policy) => {
                ("policies", format!("policy '{}' in vhost '{vhost}'", policy.name))
            }
            Step::Policy(vhost, PolicyKind::Operator, policy) => {
                ("operator_policies", format!("operator policy '{}' in vhost '{vhost}'", policy.name))
            }
            Step::Exchange(exchange) => ("exchanges", exchange.resource().to_string()),
            Step::Queue(vhost, queue) => ("queues", format!("queue '{}' in vhost '{vhost}'", queue.name)),
            Step::Binding(vhost, Binding { source, destination, .. }) => {
                let (Destination::Queue(name) | Destination::Exchange(name)) = destination;
                ("bindings", format!("binding from '{source}' to '{name}' in vhost '{vhost}'"))
            }
        };
        let mut fields = in_file(step.definition());
        for name in ["arguments", "definition"] {
            if let Some(Value::Object(arguments)) = fields.get_mut(name) {
                let unwritable = take_unwritable(arguments);
                for (name, value) in unwritable {
                    self.note(&format!("{title} is without {name:?}: TOML has no value like {value}"));
                }
            }
        }
        fields.retain(|name, value| !is_default(name, value));
        self.entries.push(Entry { list, title, fields });
    }

    fn note(&mut self, note: &str) {
        self.notes.push(in_a_line(note));
    }

    /// The file without what it can't have, which is what checking it complains of.
    fn check(mut self) -> Result<Converted, String> {
        loop {
            let (text, lines) = self.write();
            let complaints = complaints(&text)?;
            if complaints.is_empty() {
                return Ok(Converted { text, notes: self.notes });
            }
            let mut refused: BTreeMap<usize, String> = BTreeMap::new();
            for (line, message) in complaints {
                let at = lines.partition_point(|first| *first <= line).checked_sub(1);
                let at = at.ok_or_else(|| format!("{RESULT} would be wrong in line {line}: {message}"))?;
                refused.entry(at).or_insert(message);
            }
            for (at, message) in &refused {
                self.note(&format!("{} is left out: {message}", self.entries[*at].title));
            }
            let mut at = 0..;
            self.entries.retain(|_| at.next().is_none_or(|at| !refused.contains_key(&at)));
        }
    }

    /// The text, and in which line each entry begins.
    fn write(&self) -> (String, Vec<usize>) {
        let mut out = "# Converted from definitions in RabbitMQ's form.\n".to_owned();
        if !self.notes.is_empty() {
            out.push_str("#\n# Not all of it is here, or as it was:\n");
        }
        for note in &self.notes {
            out.push_str(&format!("# - {note}\n"));
        }
        if let Some(name) = &self.cluster_name {
            out.push_str(&format!("\n[server]\ncluster_name = {}\n", quoted(name)));
        }
        let mut lines = Vec::with_capacity(self.entries.len());
        let mut counted = (0, 1);
        for entry in &self.entries {
            let newlines = out[counted.0..].bytes().filter(|byte| *byte == b'\n').count();
            counted = (out.len(), counted.1 + newlines);
            lines.push(counted.1);
            write(entry, &mut out);
        }
        (out, lines)
    }
}

/// What `leveret check` says of a file, with the lines.
fn complaints(text: &str) -> Result<Vec<(usize, String)>, String> {
    let environment: [(&str, &str); 0] = [];
    let config = match Config::load_from(text, RESULT, environment) {
        Ok(config) => config,
        Err(errors) => {
            let located = errors.problems.into_iter().map(|problem| match problem.line {
                Some(line) => Ok((line, problem.message)),
                None => Err(problem.to_string()),
            });
            return located.collect();
        }
    };
    let mut found = Vec::new();
    for error in server::check(&config, &ExchangeTypes::standard()) {
        let server::StartError::Declarations(errors) = error else { return Err(error.to_string()) };
        for error in errors {
            match error.location {
                Some(location) => found.push((location.line, error.error.to_string())),
                None => return Err(error.to_string()),
            }
        }
    }
    Ok(found)
}

/// What definitions have of a thing, under the keys that the file has for it.
fn in_file(definition: Table) -> Table {
    let mut fields = Table::new();
    for (name, value) in definition {
        match (name.as_str(), value) {
            ("apply-to", value) => drop(fields.insert("apply_to".to_owned(), value)),
            ("metadata", Value::Object(about)) => fields.extend(about),
            // All that is below zero is no limit.
            ("limits", Value::Object(limits)) => fields.extend(limits.into_iter().map(|(name, limit)| {
                (name.replace('-', "_"), limit.as_i64().unwrap_or_default().max(-1).into())
            })),
            (_, value) => drop(fields.insert(name, value)),
        }
    }
    // What tells a thing from others stands at its beginning.
    if let Some(vhost) = fields.shift_remove("vhost") {
        fields.shift_insert(usize::from(fields.contains_key("user")), "vhost".to_owned(), vhost);
    }
    if fields.get("password_hash").is_some_and(|hash| hash == "") {
        // What no password fits was not hashed in any way.
        fields.shift_remove("hashing_algorithm");
    }
    fields
}

/// Whether that is taken where the key is not said.
fn is_default(key: &str, value: &Value) -> bool {
    let default = match key {
        "vhost" => DEFAULT_VHOST.into(),
        "durable" => true.into(),
        "auto_delete" | "internal" => false.into(),
        "destination_type" => "queue".into(),
        "apply_to" => "all".into(),
        "priority" => 0.into(),
        "routing_key" => "".into(),
        "hashing_algorithm" => HashingAlgorithm::default().name().into(),
        "tags" => Value::Array(Vec::new()),
        "arguments" => Value::Object(Table::new()),
        _ => Value::Null,
    };
    *value == default
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret::config::Config;
    use serde_json::json;

    fn load(text: &str) -> Config {
        let none: [(&str, &str); 0] = [];
        Config::load_from(text, "leveret.toml", none).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn what_is_converted_is_a_configuration() {
        let document = json!({
            "global_parameters": [{ "name": "cluster_name", "value": "rabbit@\"one\"" }],
            "vhosts": [
                { "name": "/" },
                { "name": "shop", "metadata": { "description": "a\nb\u{7f}", "tags": ["t"], "default_queue_type": "quorum" } },
            ],
            "users": [
                { "name": "app", "password_hash": "kI3GCqRd0Z38uyDSzC0btiJkTGLAU4rd+xpPkiIXBdXKU7mn",
                  "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "monitoring, own",
                  "limits": { "max-channels": 5 } },
                { "name": "certified", "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": [] },
            ],
            "permissions": [{ "user": "app", "vhost": "shop", "configure": "", "write": "^(?!amq\\.)", "read": ".*" }],
            "topic_permissions": [{ "user": "app", "vhost": "shop", "exchange": "amq.topic", "write": "a", "read": "b" }],
            "parameters": [
                { "component": "vhost-limits", "name": "limits", "vhost": "shop", "value": { "max-queues": 7 } },
                { "component": "operator_policy", "name": "o", "vhost": "/",
                  "value": { "pattern": "", "definition": { "max-length": 5 }, "apply-to": "queues", "priority": 0 } },
                { "component": "shovel", "name": "s", "vhost": "/", "value": {} },
            ],
            "policies": [{ "vhost": "/", "name": "p", "pattern": "^a", "apply-to": "all", "priority": 3,
                           "definition": { "dead-letter-exchange": "x" } }],
            "exchanges": [{ "vhost": "/", "name": "x", "type": "topic", "durable": true, "auto_delete": false,
                            "internal": false, "arguments": {} }],
            "queues": [
                { "vhost": "/", "name": "q", "durable": false, "auto_delete": true, "arguments": { "x-max-length": 5, "a b": [1, "x"] } },
                { "vhost": "/", "name": "s", "durable": true, "auto_delete": false, "arguments": { "x-queue-type": "jms" } },
            ],
            "bindings": [
                { "vhost": "/", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.#", "arguments": {} },
                { "vhost": "/", "source": "gone", "destination": "q", "destination_type": "queue", "routing_key": "", "arguments": {} },
            ],
        });
        let converted = convert(&document).unwrap();
        let config = load(&converted.text);
        assert_eq!(config.server.cluster_name, "rabbit@\"one\"");
        assert_eq!(config.vhosts[1].description.as_deref(), Some("a\nb\u{7f}"));
        assert_eq!((config.vhosts[1].max_queues, config.users[0].max_channels), (Some(7), Some(5)));
        assert_eq!(config.users[0].tags, ["monitoring", "own"]);
        assert_eq!(config.users[1].name, "certified");
        assert_eq!(config.permissions[0].write, "^(?!amq\\.)");
        assert_eq!((config.policies[0].priority, config.operator_policies[0].name.as_str()), (3, "o"));
        assert_eq!((config.exchanges.len(), config.queues.len(), config.bindings.len()), (1, 1, 1));
        assert!(!config.queues[0].durable && config.queues[0].auto_delete);
        assert_eq!(config.queues[0].arguments.len(), 2);
        assert_eq!(
            converted.notes,
            [
                "parameters[2], parameter 's' in vhost '/' is left out: the configuration file has no place for parameters; they are set while the broker runs",
                "queues[1], queue 's' in vhost '/' is left out: there are no queues of type \"jms\"",
                "bindings[1], binding 'gone' to 'q' in vhost '/' is left out: there is no exchange 'gone' in vhost '/'",
            ]
        );
        assert!(
            converted.text.contains("\n# - queues[1], queue 's' in vhost '/' is left out: "),
            "{}",
            converted.text
        );
    }

    #[test]
    fn a_value_that_toml_has_not_is_told() {
        let document = json!({ "queues": [{ "vhost": "/", "name": "q", "durable": true, "arguments": { "a": null, "b": 1 } }] });
        let converted = convert(&document).unwrap();
        assert_eq!(converted.notes, ["queue 'q' in vhost '/' is without \"a\": TOML has no value like null"]);
        assert_eq!(load(&converted.text).queues[0].arguments.len(), 1);
    }
}
