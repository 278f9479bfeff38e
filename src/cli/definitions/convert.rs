//! RabbitMQ's definitions as a configuration file: read as an import reads them, and written so that `leveret check` takes
//! the file. What it does not take is left out with a note.

use super::toml::{Entry, quoted, take_unwritable, write};
use leveret::broker::exchange::{Destination, ExchangeTypes};
use leveret::broker::parameters::CLUSTER_NAME;
use leveret::broker::passwords::HashingAlgorithm;
use leveret::broker::policy::{Policy, PolicyKind};
use leveret::broker::users::User;
use leveret::broker::vhost_settings::VhostSettings;
use leveret::config::Config;
use leveret::management::definitions::{Options, Step, in_a_line, read, table_json, value_json};
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
        let (list, title, fields) = match step {
            Step::GlobalParameter(name, value) => {
                if &**name == CLUSTER_NAME {
                    self.cluster_name = value.as_str().map(str::to_owned);
                }
                return;
            }
            // The reading has left these out already.
            Step::Parameter(..) => return,
            Step::Vhost(name, settings) => ("vhosts", format!("vhost '{name}'"), vhost(name, settings)),
            Step::User(user) => ("users", format!("user '{}'", user.name), self::user(user)),
            Step::Permission(of) => {
                let patterns = &of.patterns;
                let fields = fields([
                    ("user", text(&of.user)),
                    ("vhost", of_vhost(&of.vhost)),
                    ("configure", text(patterns.configure.as_str())),
                    ("write", text(patterns.write.as_str())),
                    ("read", text(patterns.read.as_str())),
                ]);
                ("permissions", format!("permissions of user '{}' in vhost '{}'", of.user, of.vhost), fields)
            }
            Step::TopicPermission(of) => {
                let fields = fields([
                    ("user", text(&of.user)),
                    ("vhost", of_vhost(&of.vhost)),
                    ("exchange", text(&of.exchange)),
                    ("write", text(of.patterns.write.as_str())),
                    ("read", text(of.patterns.read.as_str())),
                ]);
                let title = format!(
                    "topic permissions of user '{}' with exchange '{}' in vhost '{}'",
                    of.user, of.exchange, of.vhost
                );
                ("topic_permissions", title, fields)
            }
            Step::Policy(vhost, kind, policy) => {
                let (list, kind) = match kind {
                    PolicyKind::Policy => ("policies", "policy"),
                    PolicyKind::Operator => ("operator_policies", "operator policy"),
                };
                let title = format!("{kind} '{}' in vhost '{vhost}'", policy.name);
                let fields = self.policy(vhost, policy, &title);
                (list, title, fields)
            }
            Step::Exchange(exchange) => {
                let title = exchange.resource().to_string();
                let fields = fields([
                    ("vhost", of_vhost(&exchange.vhost)),
                    ("name", text(&exchange.name)),
                    ("type", text(&exchange.kind)),
                    ("durable", unless(exchange.durable, true)),
                    ("auto_delete", unless(exchange.auto_delete, false)),
                    ("internal", unless(exchange.internal, false)),
                    ("arguments", self.arguments(table_json(&exchange.arguments.decode()), &title)),
                ]);
                ("exchanges", title, fields)
            }
            Step::Queue(vhost, queue) => {
                let title = format!("queue '{}' in vhost '{vhost}'", queue.name);
                let fields = fields([
                    ("vhost", of_vhost(vhost)),
                    ("name", text(&queue.name)),
                    ("durable", unless(queue.durable, true)),
                    ("auto_delete", unless(queue.auto_delete, false)),
                    ("arguments", self.arguments(table_json(&queue.arguments), &title)),
                ]);
                ("queues", title, fields)
            }
            Step::Binding(vhost, binding) => {
                let (kind, name) = match &binding.destination {
                    Destination::Queue(name) => (Value::Null, name),
                    Destination::Exchange(name) => (text("exchange"), name),
                };
                let title = format!("binding from '{}' to '{name}' in vhost '{vhost}'", binding.source);
                let key = String::from_utf8_lossy(binding.routing_key.as_bytes());
                let fields = fields([
                    ("vhost", of_vhost(vhost)),
                    ("source", text(&binding.source)),
                    ("destination", text(name)),
                    ("destination_type", kind),
                    ("routing_key", if key.is_empty() { Value::Null } else { text(&key) }),
                    ("arguments", self.arguments(table_json(&binding.arguments.decode()), &title)),
                ]);
                ("bindings", title, fields)
            }
        };
        self.entries.push(Entry { list, title, fields });
    }

    fn note(&mut self, note: &str) {
        self.notes.push(in_a_line(note));
    }

    fn policy(&mut self, vhost: &str, policy: &Policy, title: &str) -> Vec<(&'static str, Value)> {
        let apply_to = policy.apply_to.name();
        let priority = value_json(&policy.priority);
        fields([
            ("vhost", of_vhost(vhost)),
            ("name", text(&policy.name)),
            ("pattern", text(policy.pattern.as_str())),
            ("apply_to", if apply_to == "all" { Value::Null } else { text(apply_to) }),
            ("priority", if priority == 0 { Value::Null } else { priority }),
            ("definition", self.arguments(table_json(&policy.definition), title)),
        ])
    }

    /// A table of arguments without what TOML has no value for; nothing where it is empty.
    fn arguments(&mut self, table: Value, title: &str) -> Value {
        let Value::Object(mut arguments) = table else { return Value::Null };
        for (name, value) in take_unwritable(&mut arguments) {
            self.note(&format!("{title} is without {name:?}: TOML has no value like {value}"));
        }
        if arguments.is_empty() { Value::Null } else { arguments.into() }
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

fn vhost(name: &str, settings: &VhostSettings) -> Vec<(&'static str, Value)> {
    // All that is below zero is no limit.
    let limit = |limit: Option<i64>| limit.map_or(Value::Null, |limit| limit.max(-1).into());
    let description = Some(&settings.description).filter(|description| !description.is_empty());
    fields([
        ("name", text(name)),
        ("description", description.map_or(Value::Null, |description| text(description))),
        ("tags", list(&settings.tags)),
        ("default_queue_type", settings.default_queue_type.map_or(Value::Null, |kind| text(kind.name()))),
        ("tracing", if settings.tracing { true.into() } else { Value::Null }),
        ("max_connections", limit(settings.limits.max_connections)),
        ("max_queues", limit(settings.limits.max_queues)),
    ])
}

fn user(user: &User) -> Vec<(&'static str, Value)> {
    let limit = |limit: Option<i64>| limit.map_or(Value::Null, |limit| limit.max(-1).into());
    let (hash, algorithm) = (user.password.as_str(), user.password.algorithm());
    let is_said = !hash.is_empty() && algorithm != HashingAlgorithm::default();
    fields([
        ("name", text(&user.name)),
        ("password_hash", text(hash)),
        ("hashing_algorithm", if is_said { text(algorithm.name()) } else { Value::Null }),
        ("tags", list(&user.tags)),
        ("max_connections", limit(user.limits.max_connections)),
        ("max_channels", limit(user.limits.max_channels)),
    ])
}

/// What is not null.
fn fields<const N: usize>(fields: [(&'static str, Value); N]) -> Vec<(&'static str, Value)> {
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn text(text: &str) -> Value {
    text.into()
}

fn list(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { words.into() }
}

/// Nothing, if it is what is taken without it.
fn unless(flag: bool, default: bool) -> Value {
    if flag == default { Value::Null } else { flag.into() }
}

fn of_vhost(name: &str) -> Value {
    if name == DEFAULT_VHOST { Value::Null } else { text(name) }
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
                { "vhost": "/", "name": "s", "durable": true, "auto_delete": false, "arguments": { "x-queue-type": "stream" } },
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
                "queues[1], queue 's' in vhost '/' is left out: there are no streams yet",
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
