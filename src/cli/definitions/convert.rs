//! RabbitMQ's definitions as a configuration file.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A configuration, and what had no place in it.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
}

/// What is written of an item: keys and values, in that order.
type Entry = Vec<(&'static str, Value)>;

/// Converts a document. What Leveret's file has no place for is left out, with a note.
pub(super) fn convert(document: &Value) -> Converted {
    let mut writer = Writer { document, text: String::new(), notes: Vec::new() };
    writer.text.push_str("# Converted from definitions in RabbitMQ's form.\n");
    writer.cluster_name();
    writer.parameters_without_place();
    let vhosts = writer.vhosts();
    writer.list("vhosts", vhosts);
    for (list, section, of) in [
        ("users", "users", user as fn(&Value) -> Entry),
        ("permissions", "permissions", permission),
        ("topic_permissions", "topic_permissions", topic_permission),
        ("policies", "policies", policy),
    ] {
        let entries = writer.items(section).map(of).collect();
        writer.list(list, entries);
    }
    let operator_policies = writer.operator_policies();
    writer.list("operator_policies", operator_policies);
    let exchanges = writer.items("exchanges").map(exchange).collect();
    writer.list("exchanges", exchanges);
    let queues = writer.queues();
    writer.list("queues", queues);
    let bindings = writer.bindings();
    writer.list("bindings", bindings);
    Converted { text: writer.text, notes: writer.notes }
}

struct Writer<'a> {
    document: &'a Value,
    text: String,
    notes: Vec<String>,
}

impl<'a> Writer<'a> {
    fn items(&self, section: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.document[section].as_array().into_iter().flatten()
    }

    fn parameters(&self, component: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let component = component.to_owned();
        self.items("parameters").filter(move |item| item["component"] == *component)
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn list(&mut self, name: &str, entries: Vec<Entry>) {
        for entry in entries {
            let _ = write!(self.text, "\n[[{name}]]\n");
            for (key, value) in entry {
                match toml(&value) {
                    Ok(value) => {
                        let _ = writeln!(self.text, "{key} = {value}");
                    }
                    Err(value) => {
                        self.note(format!("{name}: {key} is left out, since TOML has no value like {value}"))
                    }
                }
            }
        }
    }

    fn cluster_name(&mut self) {
        let named = self.items("global_parameters").find(|item| item["name"] == "cluster_name");
        if let Some(name) = named.and_then(|item| item["value"].as_str()) {
            let name = quoted(name);
            let _ = write!(self.text, "\n[server]\ncluster_name = {name}\n");
        }
    }

    /// Tells what is set at run time alone.
    fn parameters_without_place(&mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for parameter in self.items("parameters") {
            let component = parameter["component"].as_str().unwrap_or_default();
            if !matches!(component, "vhost-limits" | "operator_policy") {
                *counts.entry(component).or_default() += 1;
            }
        }
        for (component, count) in counts {
            self.note(format!("parameters: {count} of component {component:?} left out, the file has none"));
        }
        let others = self.items("global_parameters").filter_map(|item| item["name"].as_str());
        let others: Vec<&str> =
            others.filter(|name| !matches!(*name, "cluster_name" | "internal_cluster_id")).collect();
        for name in others {
            self.note(format!("global_parameters: {name:?} is left out, the file has none"));
        }
    }

    fn vhosts(&self) -> Vec<Entry> {
        let vhost = |item: &Value| {
            let limits = self.parameters("vhost-limits").find(|limits| limits["vhost"] == item["name"]);
            let limit = |name: &str| limits.map_or(Value::Null, |limits| limits["value"][name].clone());
            let said = |name: &str| {
                let about = &item["metadata"][name];
                if about.is_null() { item[name].clone() } else { about.clone() }
            };
            let queue_type = Some(said("default_queue_type")).filter(|name| *name != "undefined");
            entry([
                ("name", item["name"].clone()),
                ("description", unless(said("description"), &"".into())),
                ("tags", tags(&said("tags"))),
                ("default_queue_type", queue_type.unwrap_or_default()),
                ("max_connections", limit("max-connections")),
                ("max_queues", limit("max-queues")),
            ])
        };
        self.items("vhosts").map(vhost).collect()
    }

    fn operator_policies(&self) -> Vec<Entry> {
        let flat = |item: &Value| {
            let mut flat = item["value"].clone();
            flat["name"] = item["name"].clone();
            flat["vhost"] = item["vhost"].clone();
            flat
        };
        self.parameters("operator_policy").map(|item| policy(&flat(item))).collect()
    }

    fn queues(&mut self) -> Vec<Entry> {
        let (streams, queues): (Vec<&Value>, Vec<&Value>) =
            self.items("queues").partition(|item| is_stream(item));
        for stream in streams {
            self.note(format!("queues: {} is left out, since Leveret has no streams", stream["name"]));
        }
        queues.into_iter().map(queue).collect()
    }

    /// Those bindings whose ends are there too: an export may name what went while it was made.
    fn bindings(&mut self) -> Vec<Entry> {
        let key = |item: &Value, name: &str| (item["vhost"].to_string(), item[name].to_string());
        let queues: BTreeSet<_> =
            self.items("queues").filter(|item| !is_stream(item)).map(|item| key(item, "name")).collect();
        let exchanges: BTreeSet<_> = self.items("exchanges").map(|item| key(item, "name")).collect();
        let is_exchange = |item: &Value, name: &str| {
            item[name].as_str().is_some_and(|name| name.starts_with("amq."))
                || exchanges.contains(&key(item, name))
        };
        let has_ends = |item: &&Value| {
            is_exchange(item, "source")
                && match item["destination_type"].as_str() {
                    Some("exchange") => is_exchange(item, "destination"),
                    _ => queues.contains(&key(item, "destination")),
                }
        };
        let (kept, left): (Vec<&Value>, Vec<&Value>) = self.items("bindings").partition(has_ends);
        for item in left.into_iter().filter(|item| item["source"] != "") {
            let (source, destination) = (&item["source"], &item["destination"]);
            self.note(format!(
                "bindings: {source} to {destination} is left out, since one of them is not there"
            ));
        }
        kept.into_iter().map(binding).collect()
    }
}

/// What is not null.
fn entry<const N: usize>(fields: [(&'static str, Value); N]) -> Entry {
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// Nothing, if it is what is taken without it.
fn unless(value: Value, default: &Value) -> Value {
    if value == *default { Value::Null } else { value }
}

fn vhost(item: &Value) -> Value {
    unless(item["vhost"].clone(), &"/".into())
}

/// Tags as a list; nothing where there are none.
fn tags(value: &Value) -> Value {
    let words: Vec<Value> = match value {
        Value::String(text) => {
            text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Value::from).collect()
        }
        Value::Array(words) => words.clone(),
        _ => Vec::new(),
    };
    if words.is_empty() { Value::Null } else { words.into() }
}

/// A table of arguments; nothing where it is empty. RabbitMQ writes an empty one as a list at times.
fn arguments(value: &Value) -> Value {
    value.as_object().filter(|fields| !fields.is_empty()).map_or(Value::Null, |fields| fields.clone().into())
}

fn user(item: &Value) -> Entry {
    let limit = |name: &str| item["limits"][name].clone();
    let hash = match &item["password"] {
        Value::String(_) => Value::Null,
        _ => item["password_hash"].as_str().unwrap_or_default().into(),
    };
    let algorithm = if hash == "" { Value::Null } else { item["hashing_algorithm"].clone() };
    entry([
        ("name", item["name"].clone()),
        ("password", item["password"].clone()),
        ("password_hash", hash),
        ("hashing_algorithm", unless(algorithm, &"rabbit_password_hashing_sha256".into())),
        ("tags", tags(&item["tags"])),
        ("max_connections", limit("max-connections")),
        ("max_channels", limit("max-channels")),
    ])
}

fn permission(item: &Value) -> Entry {
    entry([
        ("user", item["user"].clone()),
        ("vhost", vhost(item)),
        ("configure", item["configure"].clone()),
        ("write", item["write"].clone()),
        ("read", item["read"].clone()),
    ])
}

fn topic_permission(item: &Value) -> Entry {
    entry([
        ("user", item["user"].clone()),
        ("vhost", vhost(item)),
        ("exchange", item["exchange"].clone()),
        ("write", item["write"].clone()),
        ("read", item["read"].clone()),
    ])
}

fn policy(item: &Value) -> Entry {
    entry([
        ("vhost", vhost(item)),
        ("name", item["name"].clone()),
        ("pattern", item["pattern"].clone()),
        ("apply_to", unless(item["apply-to"].clone(), &"all".into())),
        ("priority", unless(item["priority"].clone(), &0.into())),
        ("definition", item["definition"].clone()),
    ])
}

fn exchange(item: &Value) -> Entry {
    entry([
        ("vhost", vhost(item)),
        ("name", item["name"].clone()),
        ("type", item["type"].clone()),
        ("durable", unless(item["durable"].clone(), &true.into())),
        ("auto_delete", unless(item["auto_delete"].clone(), &false.into())),
        ("internal", unless(item["internal"].clone(), &false.into())),
        ("arguments", arguments(&item["arguments"])),
    ])
}

fn is_stream(item: &Value) -> bool {
    item["arguments"]["x-queue-type"] == "stream" || item["type"] == "stream"
}

fn queue(item: &Value) -> Entry {
    let mut fields = item["arguments"].clone();
    // Later versions say it beside the arguments.
    if item["type"] == "quorum" {
        let with_type = fields.as_object().cloned().unwrap_or_default();
        fields = with_type.into();
        fields["x-queue-type"] = "quorum".into();
    }
    entry([
        ("vhost", vhost(item)),
        ("name", item["name"].clone()),
        ("durable", unless(item["durable"].clone(), &true.into())),
        ("auto_delete", unless(item["auto_delete"].clone(), &false.into())),
        ("arguments", arguments(&fields)),
    ])
}

fn binding(item: &Value) -> Entry {
    entry([
        ("vhost", vhost(item)),
        ("source", item["source"].clone()),
        ("destination", item["destination"].clone()),
        ("destination_type", unless(item["destination_type"].clone(), &"queue".into())),
        ("routing_key", unless(item["routing_key"].clone(), &"".into())),
        ("arguments", arguments(&item["arguments"])),
    ])
}

/// A value as TOML writes it in a line, or the one in it that TOML has not.
fn toml(value: &Value) -> Result<String, &Value> {
    Ok(match value {
        Value::Null => return Err(value),
        Value::Number(number) if number.is_u64() && !number.is_i64() => return Err(value),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml).collect::<Result<_, _>>()?;
            format!("[{}]", values.join(", "))
        }
        Value::Object(fields) => format!("{{ {} }}", inline(fields)?),
    })
}

fn inline(fields: &Map<String, Value>) -> Result<String, &Value> {
    let pairs = fields.iter().map(|(name, value)| Ok(format!("{} = {}", key(name), toml(value)?)));
    Ok(pairs.collect::<Result<Vec<_>, _>>()?.join(", "))
}

fn key(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A string in quotes. JSON's escapes are TOML's too, but for one control character that JSON leaves as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
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
        let converted = convert(&document);
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
                "parameters: 1 of component \"shovel\" left out, the file has none",
                "queues: \"s\" is left out, since Leveret has no streams",
                "bindings: \"gone\" to \"q\" is left out, since one of them is not there",
            ]
        );
    }

    #[test]
    fn a_value_that_toml_has_not_is_told() {
        let document =
            json!({ "queues": [{ "vhost": "/", "name": "q", "durable": true, "arguments": { "a": null } }] });
        let converted = convert(&document);
        assert_eq!(converted.notes, ["queues: arguments is left out, since TOML has no value like null"]);
        assert_eq!(load(&converted.text).queues[0].arguments, []);
    }
}
