//! Bindings: listing, making, removing them. In paths a binding goes by its `properties_key`: its routing key, and a hash of
//! its arguments if it has some.

use super::answer::{Answer, ApiError};
use super::exchanges::{exchange_name, sorted};
use super::list::{Listed, list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::{json, queues};
use crate::api;
use crate::broker::VirtualHost;
use crate::broker::access::permissions::Access;
use crate::broker::error::Resource;
use crate::broker::exchange::{Binding, Destination, Exchange};
use crate::broker::queue::QueueHandle;
use crate::broker::topology::without_line_ends;
use crate::message::{FieldTable, Name};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/bindings", Needs::Login, bindings, "All bindings").lists::<api::Binding>(),
    Route::get("/api/bindings/{vhost}", Needs::SeeVhost, bindings, "The bindings of a vhost")
        .lists::<api::Binding>(),
    Route::get(
        "/api/bindings/{vhost}/e/{source}/q/{queue}",
        Needs::SeeVhost,
        between,
        "The bindings from an exchange to a queue",
    )
    .lists::<api::Binding>(),
    Route::post(
        "/api/bindings/{vhost}/e/{source}/q/{queue}",
        Needs::UseVhost,
        bind,
        "Binds a queue to an exchange",
    )
    .takes::<api::Binding>(),
    Route::get("/api/bindings/{vhost}/e/{source}/q/{queue}/{key}", Needs::SeeVhost, binding, "A binding")
        .answers::<api::Binding>(),
    Route::delete(
        "/api/bindings/{vhost}/e/{source}/q/{queue}/{key}",
        Needs::UseVhost,
        unbind,
        "Removes a binding",
    ),
    Route::get(
        "/api/bindings/{vhost}/e/{source}/e/{exchange}",
        Needs::SeeVhost,
        between,
        "The bindings from an exchange to another",
    )
    .lists::<api::Binding>(),
    Route::post(
        "/api/bindings/{vhost}/e/{source}/e/{exchange}",
        Needs::UseVhost,
        bind,
        "Binds an exchange to another",
    )
    .takes::<api::Binding>(),
    Route::get(
        "/api/bindings/{vhost}/e/{source}/e/{exchange}/{key}",
        Needs::SeeVhost,
        binding,
        "A binding between exchanges",
    )
    .answers::<api::Binding>(),
    Route::delete(
        "/api/bindings/{vhost}/e/{source}/e/{exchange}/{key}",
        Needs::UseVhost,
        unbind,
        "Removes a binding between exchanges",
    ),
];

/// A binding to be listed.
pub(super) struct Row {
    vhost: Name,
    binding: Arc<Binding>,
}

impl Listed for Row {
    type Shown<'a> = api::Binding;

    /// What a filter by name looks at.
    fn name(&self) -> Cow<'_, str> {
        (**destination(&self.binding.destination).1).into()
    }

    fn shown(&self) -> api::Binding {
        let properties_key = Some(properties_key(&self.binding));
        api::Binding { properties_key, ..definition(&self.vhost, &self.binding) }
    }
}

/// A binding as definitions have it.
pub(super) fn definition(vhost: &Name, binding: &Binding) -> api::Binding {
    let (kind, name) = destination(&binding.destination);
    api::Binding {
        source: Some(binding.source.clone()),
        vhost: Some(vhost.clone()),
        destination: Some(name.clone()),
        destination_type: Some(kind.to_owned()),
        routing_key: json::text_of(binding.routing_key.as_bytes()),
        arguments: json::table(&binding.arguments.decode()),
        properties_key: None,
    }
}

fn destination(destination: &Destination) -> (&'static str, &Name) {
    match destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    }
}

/// The binding to the default exchange that every queue has.
pub(super) fn implied_by(queue: &QueueHandle) -> Row {
    let definition = queue.definition();
    let binding = Binding {
        source: "".into(),
        destination: Destination::Queue(definition.name.clone()),
        routing_key: (*definition.name).into(),
        arguments: Default::default(),
    };
    Row { vhost: definition.vhost.clone(), binding: Arc::new(binding) }
}

/// All of those in a vhost.
pub(super) fn implied(vhost: &VirtualHost) -> Vec<Row> {
    queues::sorted(vhost).iter().map(|queue| implied_by(queue)).collect()
}

/// The bindings that start from an exchange.
pub(super) fn from_exchange(exchange: &Exchange) -> Vec<Row> {
    let vhost = &exchange.definition().vhost;
    let bindings = exchange.bindings();
    bindings.iter().map(|binding| Row { vhost: vhost.clone(), binding: binding.clone() }).collect()
}

/// The bindings that lead to a queue or an exchange, but for the one that is implied.
pub(super) fn to(vhost: &VirtualHost, destination: &Destination) -> Vec<Row> {
    let mut found = Vec::new();
    for exchange in sorted(vhost) {
        let bindings = exchange.bindings();
        let leading = bindings.of(destination);
        found.extend(leading.map(|binding| Row { vhost: vhost.name().clone(), binding: binding.clone() }));
    }
    found
}

fn bindings(request: &Request) -> Result<Answer, ApiError> {
    let mut found = Vec::new();
    for vhost in request.vhosts()? {
        found.extend(implied(&vhost));
        found.extend(sorted(&vhost).iter().flat_map(|exchange| from_exchange(exchange)));
    }
    list(found, request)
}

/// Both ends that the path names.
struct Ends {
    vhost: Arc<VirtualHost>,
    source: Name,
    destination: Destination,
}

impl Ends {
    fn of(request: &Request) -> Result<Ends, ApiError> {
        let destination = match request.parameter("queue") {
            "" => Destination::Exchange(exchange_name(request.parameter("exchange")).into()),
            queue => Destination::Queue(queue.into()),
        };
        let source = exchange_name(request.parameter("source")).into();
        Ok(Ends { vhost: request.vhost()?, source, destination })
    }

    /// The ends of a binding that is made: there are no line breaks in names.
    fn of_new(request: &Request) -> Result<Ends, ApiError> {
        let ends = Ends::of(request)?;
        let plain = |name: &Name| Name::from(without_line_ends(name));
        let destination = match &ends.destination {
            Destination::Queue(name) => Destination::Queue(plain(name)),
            Destination::Exchange(name) => Destination::Exchange(plain(name)),
        };
        Ok(Ends { source: plain(&ends.source), destination, ..ends })
    }

    fn bindings(&self) -> Vec<Row> {
        match &self.destination {
            Destination::Queue(name) if self.source.is_empty() => {
                self.vhost.queue(name).iter().map(|queue| implied_by(queue)).collect()
            }
            destination => {
                let mut found = to(&self.vhost, destination);
                found.retain(|row| row.binding.source == self.source);
                found
            }
        }
    }

    /// The binding that the path's last part names.
    fn find(&self, key: &str) -> Result<Row, ApiError> {
        let asked = key_parts(key);
        let mut found = self.bindings().into_iter();
        let named = |row: &Row| {
            let of_row = properties_key(&row.binding);
            of_row == key || key_parts(&of_row) == asked
        };
        found.find(named).ok_or(ApiError::NotFound)
    }

    /// Checks that the user may change what leads from here to there.
    fn check_access(&self, request: &Request, routing_key: &[u8]) -> Result<(), ApiError> {
        let target = match &self.destination {
            Destination::Queue(name) => Resource::queue(self.vhost.name(), name),
            Destination::Exchange(name) => Resource::exchange(self.vhost.name(), name),
        };
        request.check_access(Access::Write, &target)?;
        request.check_access(Access::Read, &Resource::exchange(self.vhost.name(), &self.source))?;
        match self.vhost.exchange(&self.source) {
            Some(source) => Ok(request.check_topic(Access::Read, &source, routing_key)?),
            None => Ok(()),
        }
    }
}

fn between(request: &Request) -> Result<Answer, ApiError> {
    list(Ends::of(request)?.bindings(), request)
}

fn binding(request: &Request) -> Result<Answer, ApiError> {
    one(&Ends::of(request)?.find(request.parameter("key"))?.shown(), request)
}

fn bind(request: &Request) -> Result<Answer, ApiError> {
    let ends = Ends::of_new(request)?;
    let wanted: api::Binding = request.body()?;
    let routing_key = wanted.routing_key.as_str();
    ends.check_access(request, routing_key.as_bytes())?;
    if routing_key.len() > 255 {
        return Err(ApiError::bad_value("not_shortstr", routing_key));
    }
    let arguments = json::table_from_json(&wanted.arguments, request.settings().field_table_depth_max)?;
    let binding = Binding {
        source: ends.source.clone(),
        destination: ends.destination.clone(),
        routing_key: routing_key.into(),
        arguments: arguments.into(),
    };
    let key = properties_key(&binding);
    ends.vhost.bind(binding, request.actor())?.into_value();
    let (_, name) = destination(&ends.destination);
    Ok(Answer::CreatedAt(format!("{}/{}", in_path(name.as_bytes()), in_path(key.as_bytes()))))
}

fn unbind(request: &Request) -> Result<Answer, ApiError> {
    let ends = Ends::of(request)?;
    let found = ends.find(request.parameter("key"))?;
    ends.check_access(request, found.binding.routing_key.as_bytes())?;
    let Binding { source, destination, routing_key, arguments } = &*found.binding;
    ends.vhost.unbind(source, destination, routing_key, &arguments.decode(), request.actor())?.into_value();
    Ok(Answer::NoContent)
}

/// What identifies a binding among others between the same ends.
fn properties_key(binding: &Binding) -> String {
    let routing_key: String = form_urlencoded::byte_serialize(binding.routing_key.as_bytes())
        .collect::<String>()
        .replace('~', "%7E")
        .replace('*', "%2A");
    match (routing_key.as_str(), binding.arguments.is_empty()) {
        ("", true) => "~".to_owned(),
        (_, true) => routing_key,
        (_, false) => format!("{routing_key}~{}", hash(&binding.arguments.decode())),
    }
}

/// A routing key and a hash, whether the key is escaped or not.
fn key_parts(key: &str) -> (String, Option<&str>) {
    let (routing_key, hash) = match key.rsplit_once('~') {
        Some((routing_key, "")) => (routing_key, None),
        Some((routing_key, hash)) => (routing_key, Some(hash)),
        None => (key, None),
    };
    // As the only field of a form: what is between `=` and the end.
    let escaped = format!("k={}", routing_key.replace('&', "%26"));
    let decoded = form_urlencoded::parse(escaped.as_bytes()).next().map(|(_, value)| value.into_owned());
    (decoded.unwrap_or_default(), hash)
}

/// 32 bits (FNV-1a) of the arguments in the order of their names.
fn hash(arguments: &FieldTable) -> String {
    let mut sorted = arguments.clone();
    sorted.sort();
    let mut bytes = Vec::new();
    sorted.encode(&mut bytes);
    let hash =
        bytes.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    URL_SAFE_NO_PAD.encode(hash.to_be_bytes())
}

/// Bytes as part of a path.
fn in_path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Value as Argument;

    fn key(routing_key: &str, arguments: &[(&str, i64)]) -> String {
        let arguments: FieldTable =
            arguments.iter().map(|(name, value)| (*name, Argument::I64(*value))).collect();
        let destination = Destination::Queue("q".into());
        properties_key(&Binding {
            source: "x".into(),
            destination,
            routing_key: routing_key.into(),
            arguments: arguments.into(),
        })
    }

    #[test]
    fn keys_are_escaped_as_rabbitmq_does() {
        for (routing_key, expected) in
            [("", "~"), ("k", "k"), ("a b", "a+b"), ("a.#", "a.%23"), ("~", "%7E"), ("*", "%2A")]
        {
            assert_eq!(key(routing_key, &[]), expected);
            assert_eq!(key_parts(expected), (routing_key.to_owned(), None));
        }
        let with_arguments = key("k", &[("a", 1), ("b", 2)]);
        assert_eq!(with_arguments, key("k", &[("b", 2), ("a", 1)]), "in any order");
        assert_ne!(with_arguments, key("k", &[("a", 1), ("b", 3)]));
        assert!(with_arguments.starts_with("k~") && with_arguments.len() == 8, "{with_arguments}");
        assert_eq!(key_parts("a&b"), ("a&b".to_owned(), None));
    }
}
