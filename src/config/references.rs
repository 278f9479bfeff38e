//! What only shows across sections: things declared twice, and references that lead nowhere.
//!
//! Called by `Config::load_from` with everything that could be read. A name that is empty here was reported when it was
//! read, and is passed over.

use std::collections::{HashMap, HashSet};

use super::diagnose::{Location, Problem, Problems, join};
use super::{Binding, Config, DestinationType, Exchange, Permission, Policy, Queue, TopicPermission, User};

/// The tags that open the management API.
const MANAGEMENT_TAGS: [&str; 4] = ["management", "policymaker", "monitoring", "administrator"];

/// What is not wrong, and most likely not meant: users who can't do anything, and events without a vhost that has their exchange.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let permitted: HashSet<&str> =
        config.permissions.iter().map(|permission| permission.user.as_str()).collect();
    let can_do_something = |user: &User| {
        user.tags.iter().any(|tag| MANAGEMENT_TAGS.contains(&tag.as_str()))
            || permitted.contains(user.name.as_str())
    };
    let useless = config.users.iter().filter(|user| !can_do_something(user));
    let warning = |user: &User| {
        let Location { file, line, key } = user.declared_at.clone()?;
        let message =
            format!("user {:?} may not open any vhost; give it an entry under [[permissions]]", user.name);
        Some(Problem { file: Some(file), line: Some(line), key, message })
    };
    useless.filter_map(warning).chain(events_without_vhost(config)).collect()
}

/// Without the vhost that `[events]` names there are no events. It may be there without being declared.
fn events_without_vhost(config: &Config) -> Option<Problem> {
    let name = config.events.vhost.as_deref()?;
    if config.vhosts.iter().any(|vhost| vhost.name == name) {
        return None;
    }
    let message = format!(
        "vhost {name:?} is not declared under [[vhosts]]; unless it is there already, there are no events"
    );
    let Location { file, line, key } = config.events.declared_at.clone()?;
    Some(Problem { file: Some(file), line: Some(line), key: format!("{key}.vhost"), message })
}

/// Exchanges that every vhost has from the start. The default exchange is not among them: it takes no bindings.
const PREDECLARED_EXCHANGES: [&str; 6] =
    ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace"];

pub(super) fn check(config: &Config, problems: &Problems) {
    check_duplicates(config, problems);
    check_vhosts(config, problems);
    check_users(config, problems);
    check_bindings(config, problems);
}

fn check_duplicates(config: &Config, problems: &Problems) {
    let mut seen = Seen { first: HashMap::new(), problems };
    for vhost in &config.vhosts {
        seen.add([&vhost.name], &vhost.declared_at, || format!("vhost {:?}", vhost.name));
    }
    for user in &config.users {
        seen.add([&user.name], &user.declared_at, || format!("user {:?}", user.name));
    }
    for Permission { user, vhost, declared_at, .. } in &config.permissions {
        seen.add([user, vhost], declared_at, || format!("what user {user:?} may do in vhost {vhost:?}"));
    }
    for TopicPermission { user, vhost, exchange, declared_at, .. } in &config.topic_permissions {
        seen.add([user, vhost, exchange], declared_at, || {
            format!("what user {user:?} may do with topics of exchange {exchange:?} in vhost {vhost:?}")
        });
    }
    for Policy { name, vhost, declared_at, .. } in &config.policies {
        seen.add([name, vhost], declared_at, || format!("policy {name:?} in vhost {vhost:?}"));
    }
    for Policy { name, vhost, declared_at, .. } in &config.operator_policies {
        seen.add([name, vhost], declared_at, || format!("operator policy {name:?} in vhost {vhost:?}"));
    }
    for Exchange { name, vhost, declared_at, .. } in &config.exchanges {
        seen.add([name, vhost], declared_at, || format!("exchange {name:?} in vhost {vhost:?}"));
    }
    for Queue { name, vhost, declared_at, .. } in &config.queues {
        seen.add([name, vhost], declared_at, || format!("queue {name:?} in vhost {vhost:?}"));
    }
    for binding in &config.bindings {
        let names = [&binding.source, &binding.destination, &binding.vhost];
        seen.add(names, &binding.declared_at, || describe_binding(binding));
    }
}

/// What the file declares, by a title that is unique.
struct Seen<'a> {
    first: HashMap<String, &'a Location>,
    problems: &'a Problems,
}

impl<'a> Seen<'a> {
    fn add<const N: usize>(
        &mut self,
        names: [&String; N],
        declared_at: &'a Option<Location>,
        title: impl FnOnce() -> String,
    ) {
        let Some(location) = declared_at else { return };
        if names.iter().any(|name| name.is_empty()) {
            return;
        }
        let title = title();
        match self.first.get(&title) {
            Some(first) => {
                let message =
                    format!("{title} is declared on line {} already; keep one of the two", first.line);
                self.problems.report(&location.key, "", message);
            }
            None => {
                self.first.insert(title, location);
            }
        }
    }
}

fn describe_binding(binding: &Binding) -> String {
    let Binding { vhost, source, destination, routing_key, .. } = binding;
    let kind = binding.destination_type.name();
    let mut title = format!("binding of exchange {source:?} to {kind} {destination:?} in vhost {vhost:?}");
    if !routing_key.is_empty() {
        title.push_str(&format!(" with routing key {routing_key:?}"));
    }
    if !binding.arguments.is_empty() {
        let mut arguments: Vec<_> = binding.arguments.iter().collect();
        arguments.sort_by(|(left, _), (right, _)| left.cmp(right));
        let arguments: Vec<_> = arguments.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        title.push_str(&format!(" with arguments {{ {} }}", arguments.join(", ")));
    }
    title
}

/// A key whose value must name something declared.
struct Reference<'a> {
    declared_at: &'a Option<Location>,
    key: &'static str,
    name: &'a str,
    /// What a message calls the thing that is meant.
    title: String,
    /// The list that would declare it.
    list: &'static str,
}

impl Reference<'_> {
    fn check(&self, known: &HashSet<&str>, problems: &Problems) {
        let Some(location) = self.declared_at else { return };
        if self.name.is_empty() || known.contains(self.name) {
            return;
        }
        let advice = match problems.nearest(self.name, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("declare it under [[{}]]", self.list),
        };
        let message = format!("{} is not declared; {advice}", self.title);
        problems.report(&join(&location.key, self.key), &location.key, message);
    }
}

fn check_vhosts(config: &Config, problems: &Problems) {
    let permissions = config.permissions.iter().map(|item| (&item.vhost, &item.declared_at));
    let topics = config.topic_permissions.iter().map(|item| (&item.vhost, &item.declared_at));
    let permissions = permissions.chain(topics);
    let policies = config.policies.iter().chain(&config.operator_policies);
    let policies = policies.map(|item| (&item.vhost, &item.declared_at));
    let exchanges = config.exchanges.iter().map(|item| (&item.vhost, &item.declared_at));
    let queues = config.queues.iter().map(|item| (&item.vhost, &item.declared_at));
    let bindings = config.bindings.iter().map(|item| (&item.vhost, &item.declared_at));
    let known = config.vhosts.iter().map(|vhost| vhost.name.as_str()).collect();
    for (name, declared_at) in permissions.chain(policies).chain(exchanges).chain(queues).chain(bindings) {
        let title = format!("vhost {name:?}");
        Reference { declared_at, key: "vhost", name, title, list: "vhosts" }.check(&known, problems);
    }
}

fn check_users(config: &Config, problems: &Problems) {
    let known = config.users.iter().map(|user| user.name.as_str()).collect();
    let permissions = config.permissions.iter().map(|item| (&item.user, &item.declared_at));
    let topics = config.topic_permissions.iter().map(|item| (&item.user, &item.declared_at));
    for (name, declared_at) in permissions.chain(topics) {
        let title = format!("user {name:?}");
        Reference { declared_at, key: "user", name, title, list: "users" }.check(&known, problems);
    }
}

fn check_bindings(config: &Config, problems: &Problems) {
    // A binding in a vhost that is not declared is reported for that alone.
    let mut exchanges: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut queues: HashMap<&str, HashSet<&str>> = HashMap::new();
    for vhost in &config.vhosts {
        exchanges.insert(&vhost.name, PREDECLARED_EXCHANGES.into());
        queues.insert(&vhost.name, HashSet::new());
    }
    let has_events = config.events.vhost.as_deref().and_then(|vhost| exchanges.get_mut(vhost));
    has_events.map(|exchanges| exchanges.insert("amq.rabbitmq.event"));
    for Exchange { vhost, name, .. } in &config.exchanges {
        if let Some(names) = exchanges.get_mut(vhost.as_str()) {
            names.insert(name);
        }
    }
    for Queue { vhost, name, .. } in &config.queues {
        if let Some(names) = queues.get_mut(vhost.as_str()) {
            names.insert(name);
        }
    }
    for Binding { vhost, source, destination, destination_type, declared_at, .. } in &config.bindings {
        let (Some(exchanges), Some(queues)) = (exchanges.get(vhost.as_str()), queues.get(vhost.as_str()))
        else {
            continue;
        };
        let title = format!("exchange {source:?} in vhost {vhost:?}");
        Reference { declared_at, key: "source", name: source, title, list: "exchanges" }
            .check(exchanges, problems);
        let (kind, list, known) = match destination_type {
            DestinationType::Queue => ("queue", "queues", queues),
            DestinationType::Exchange => ("exchange", "exchanges", exchanges),
        };
        let title = format!("{kind} {destination:?} in vhost {vhost:?}");
        Reference { declared_at, key: "destination", name: destination, title, list }.check(known, problems);
    }
}
