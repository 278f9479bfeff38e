//! `x-consistent-hash`: each key belongs to one binding, in proportion to the weights that are the binding keys.
//!
//! Every binding draws a number from its destination and the message's key, and the best draw for its weight wins (rendezvous
//! hashing). So who wins depends on nothing but the bindings there are: not on the order in which they came, and it is the
//! same after a restart. A new binding takes keys from the others, a removed one leaves its own to them, and no other key
//! moves. RabbitMQ's jump hash spreads keys as evenly, but moves many when a binding in the middle goes.

use super::binding::{Binding, Destination};
use super::binding_set::BindingSet;
use super::key_hash::{scramble, stable_hash};
use super::types::{Envelope, ExchangeType, Matches};
use crate::broker::error::Refusal;
use crate::message::{FieldTable, Value};
use std::collections::BTreeMap;
use std::num::IntErrorKind;
use std::sync::Arc;

/// The index of a consistent hash exchange.
#[derive(Debug)]
pub struct ConsistentHash {
    hashed: Hashed,
    /// By weight; beside each binding the hash of its destination. One that is bound several times counts once, with its
    /// greatest weight, since all its draws are the same: so a new weight can be bound before the old one is unbound.
    by_weight: BTreeMap<u32, BindingSet<u64>>,
}

/// The greatest weight. RabbitMQ has no limit, and ends at one of a hundred million for lack of memory.
const WEIGHT_MAX: u32 = u32::MAX;

/// A draw takes some two nanoseconds.
const DRAWS_PER_STEP: usize = 4;

/// What of a message decides where it goes.
#[derive(Clone, Debug, PartialEq)]
enum Hashed {
    RoutingKey,
    Header(String),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl ConsistentHash {
    /// An exchange with these arguments: `hash-header` or `hash-property` names what to hash instead of the routing key.
    ///
    /// # Errors
    /// When both are given, or one is nothing that can be hashed.
    pub fn new(arguments: &FieldTable) -> Result<ConsistentHash, Refusal> {
        let hashed = match (arguments.field("hash-header"), arguments.field("hash-property")) {
            (None, None) => Hashed::RoutingKey,
            (Some(_), Some(_)) => {
                return Err(Refusal::Because("hash-header and hash-property are mutually exclusive".into()));
            }
            (Some(header), None) => Hashed::Header(name(header, "hash-header")?.to_owned()),
            (None, Some(property)) => match name(property, "hash-property")? {
                "message_id" => Hashed::MessageId,
                "correlation_id" => Hashed::CorrelationId,
                "timestamp" => Hashed::Timestamp,
                other => return Err(Refusal::Because(format!("Unsupported property: {other}"))),
            },
        };
        Ok(ConsistentHash { hashed, by_weight: BTreeMap::new() })
    }

    /// The hash of what decides. Messages that lack it all go the same way, as in RabbitMQ.
    fn hash(&self, envelope: &Envelope<'_>) -> u64 {
        let properties = || envelope.message.decode_properties();
        let text = match &self.hashed {
            Hashed::RoutingKey => return stable_hash(envelope.routing_key),
            Hashed::Header(name) => {
                return envelope.headers().field(name).map_or(stable_hash(b""), hash_of_value);
            }
            Hashed::MessageId => properties().message_id,
            Hashed::CorrelationId => properties().correlation_id,
            Hashed::Timestamp => properties().timestamp.map(|seconds| seconds.to_string().as_str().into()),
        };
        text.map_or(stable_hash(b""), |text| stable_hash(text.as_bytes()))
    }
}

fn name<'v>(value: &'v Value, argument: &str) -> Result<&'v str, Refusal> {
    value.as_str().ok_or_else(|| {
        Refusal::Because(format!(
            "{argument} must be a longstr, not a {}: name what is to be hashed",
            value.type_name()
        ))
    })
}

fn hash_of_value(value: &Value) -> u64 {
    match value {
        Value::LongStr(text) => stable_hash(text),
        other => {
            let mut encoded = Vec::new();
            FieldTable::from_iter([("", other.clone())]).encode(&mut encoded);
            stable_hash(&encoded)
        }
    }
}

fn hash_of_destination(destination: &Destination) -> u64 {
    match destination {
        Destination::Queue(name) => stable_hash(name.as_bytes()),
        Destination::Exchange(name) => scramble(stable_hash(name.as_bytes())),
    }
}

/// The weight that a binding key stands for.
fn weight(binding: &Binding) -> Result<u32, Refusal> {
    let key = binding.routing_key.as_bytes();
    let number = std::str::from_utf8(key).unwrap_or_default().parse::<i64>();
    match number.map_err(|error| *error.kind()) {
        Ok(number @ 1..) if number <= WEIGHT_MAX.into() => Ok(number as u32),
        Ok(1..) | Err(IntErrorKind::PosOverflow) => {
            Err(Refusal::Because(format!("The binding key must be at most {WEIGHT_MAX}")))
        }
        Ok(_) | Err(IntErrorKind::NegOverflow) => {
            Err(Refusal::Because("The binding key must be greater than 0".into()))
        }
        Err(_) => Err(Refusal::Value {
            fault: "The binding key must be an integer: ".into(),
            value: Value::Bytes(key.to_vec()),
            wanted: "",
        }),
    }
}

impl ExchangeType for ConsistentHash {
    fn check_binding(&self, binding: &Binding) -> Result<(), Refusal> {
        weight(binding).map(|_| ())
    }

    fn bind(&mut self, binding: &Arc<Binding>) {
        let Ok(weight) = weight(binding) else { return };
        self.by_weight.entry(weight).or_default().insert(binding, hash_of_destination(&binding.destination));
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        let Ok(weight) = weight(binding) else { return };
        if let Some(set) = self.by_weight.get_mut(&weight) {
            set.remove(binding);
            if set.is_empty() {
                self.by_weight.remove(&weight);
            }
        }
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        if !envelope.is_for_published_key() {
            return;
        }
        let hash = self.hash(envelope);
        matches.count_work(self.by_weight.values().map(BindingSet::len).sum::<usize>() / DRAWS_PER_STEP);
        let draw = |destination: &u64| scramble(hash ^ destination);
        // Among equal weights the highest draw is the best, so the logarithm is taken once for each weight.
        let best_of_each = self.by_weight.iter().filter_map(|(weight, set)| {
            let (binding, destination) = set.iter().max_by_key(|(_, destination)| draw(destination))?;
            Some((binding, cost(draw(destination), *weight)))
        });
        if let Some((binding, _)) = best_of_each.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            matches.push(binding);
        }
    }

    fn routes_by_key_alone(&self) -> bool {
        self.hashed == Hashed::RoutingKey
    }
}

/// A number with an exponential distribution of rate `weight`: the least of several is each one's in proportion to its weight.
fn cost(draw: u64, weight: u32) -> f64 {
    let between_0_and_1 = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -between_0_and_1.ln() / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{binding, message, routed, routed_headers, routed_message, table};
    use super::*;
    use crate::message::Properties;
    use std::collections::BTreeSet;

    const KEYS: usize = 10_000;

    fn bound(queues: &[(&str, &str)]) -> ConsistentHash {
        let bindings: Vec<_> = queues.iter().map(|(queue, weight)| binding(queue, weight)).collect();
        with(&bindings)
    }

    fn with(bindings: &[Arc<Binding>]) -> ConsistentHash {
        let mut exchange = ConsistentHash::new(&FieldTable::default()).unwrap();
        bindings.iter().for_each(|binding| exchange.bind(binding));
        exchange
    }

    fn owners(exchange: &ConsistentHash) -> Vec<String> {
        (0..KEYS).map(|n| routed(exchange, format!("key-{n}")).concat()).collect()
    }

    fn share(owners: &[String], queue: &str) -> f64 {
        owners.iter().filter(|owner| *owner == queue).count() as f64 / owners.len() as f64
    }

    #[test]
    fn keys_are_spread_in_proportion_to_the_weights() {
        let owners = owners(&bound(&[("a", "1"), ("b", "2"), ("c", "1"), ("d", "4")]));
        for (queue, expected) in [("a", 0.125), ("b", 0.25), ("c", 0.125), ("d", 0.5)] {
            let share = share(&owners, queue);
            assert!((share - expected).abs() < 0.02, "{queue} has {share} of the keys, not {expected}");
        }
    }

    #[test]
    fn a_key_has_one_owner_whatever_the_order_of_the_bindings() {
        let first = owners(&bound(&[("a", "1"), ("b", "2"), ("c", "1")]));
        assert_eq!(first, owners(&bound(&[("c", "1"), ("a", "1"), ("b", "2")])));
        assert_eq!(BTreeSet::from_iter(first), BTreeSet::from(["a", "b", "c"].map(String::from)));
        assert!(routed(&bound(&[]), "k").is_empty());
    }

    #[test]
    fn only_the_keys_of_the_binding_that_comes_or_goes_move() {
        let bindings = [("a", "3"), ("b", "3"), ("c", "1"), ("d", "3")].map(|(q, weight)| binding(q, weight));
        let mut exchange = with(&bindings);
        let before = owners(&exchange);
        let e = binding("e", "2");
        exchange.bind(&e);
        let with_e = owners(&exchange);
        assert!(before.iter().zip(&with_e).all(|(old, new)| old == new || new == "e"));
        assert!((share(&with_e, "e") - 2.0 / 12.0).abs() < 0.02);
        exchange.unbind(&e);
        assert_eq!(owners(&exchange), before);
        exchange.unbind(&bindings[1]);
        assert!(before.iter().zip(owners(&exchange)).all(|(old, new)| *old == new || old == "b"));
    }

    #[test]
    fn a_destination_counts_once_with_its_greatest_weight() {
        let twice = owners(&bound(&[("a", "1"), ("a", "3"), ("b", "1")]));
        assert_eq!(twice, owners(&bound(&[("a", "3"), ("b", "1")])));
    }

    #[test]
    fn unbinding_leaves_nothing_behind() {
        let bindings = ["1", "2"].map(|weight| binding("a", weight));
        let mut exchange = with(&bindings);
        exchange.unbind(&bindings[0]);
        assert_eq!(routed(&exchange, "k"), ["a"]);
        exchange.unbind(&bindings[1]);
        exchange.unbind(&bindings[1]);
        assert!(exchange.by_weight.is_empty());
    }

    #[test]
    fn a_header_or_a_property_can_decide() {
        let exchange = |argument: &str, value: &str| {
            let mut exchange = ConsistentHash::new(&table(&[(argument, value.into())])).unwrap();
            (0..50).for_each(|n| exchange.bind(&binding(&format!("q{n}"), "1")));
            exchange
        };
        let queues =
            |routed: &dyn Fn(u64) -> Vec<String>| (0..100).flat_map(routed).collect::<BTreeSet<_>>().len();

        let by_header = exchange("hash-header", "who");
        assert!(!by_header.routes_by_key_alone());
        assert!(
            queues(&|n| routed_headers(&by_header, &table(&[("who", n.to_string().as_str().into())]))) > 20
        );
        assert!(queues(&|n| routed_headers(&by_header, &table(&[("who", Value::I64(n as i64))]))) > 20);
        assert_eq!(queues(&|n| routed(&by_header, n.to_string())), 1, "without the header");

        let some = |n: u64| Some(n.to_string().as_str().into());
        let properties: [(&str, &dyn Fn(u64) -> Properties); 3] = [
            ("message_id", &|n| Properties { message_id: some(n), ..Properties::default() }),
            ("correlation_id", &|n| Properties { correlation_id: some(n), ..Properties::default() }),
            ("timestamp", &|n| Properties { timestamp: Some(n), ..Properties::default() }),
        ];
        for (property, with) in properties {
            let by_property = exchange("hash-property", property);
            assert!(queues(&|n| routed_message(&by_property, &message(b"k", &with(n)))) > 20, "{property}");
            assert_eq!(queues(&|n| routed(&by_property, n.to_string())), 1, "without {property}");
        }
    }

    #[test]
    fn a_copy_s_key_picks_nothing() {
        let exchange = bound(&[("a", "1")]);
        let message = message(b"published", &Properties::default());
        let mut matches = Matches::default();
        exchange.route(&Envelope::new(b"copy", &message), &mut matches);
        assert!(matches.bindings().is_empty());
    }

    #[test]
    fn arguments_and_weights_that_make_no_sense_are_refused() {
        let refusal = |fields: &[(&str, Value)]| ConsistentHash::new(&table(fields)).unwrap_err().to_string();
        let (header, property) = (("hash-header", "h".into()), ("hash-property", "message_id".into()));
        assert_eq!(refusal(&[header, property]), "hash-header and hash-property are mutually exclusive");
        assert_eq!(refusal(&[("hash-property", "foo".into())]), "Unsupported property: foo");
        assert_eq!(
            refusal(&[("hash-header", Value::I32(5))]),
            "hash-header must be a longstr, not a signedint: name what is to be hashed"
        );
        let check =
            |key: &str| bound(&[]).check_binding(&binding("q", key)).map_err(|refusal| refusal.to_string());
        for (key, text) in [
            ("foo", "The binding key must be an integer: <<\"foo\">>"),
            ("", "The binding key must be an integer: <<>>"),
            ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
            (" 1", "The binding key must be an integer: <<\" 1\">>"),
            ("0", "The binding key must be greater than 0"),
            ("-1", "The binding key must be greater than 0"),
            ("99999999999", "The binding key must be at most 4294967295"),
            ("99999999999999999999999", "The binding key must be at most 4294967295"),
        ] {
            assert_eq!(check(key), Err(text.to_owned()));
        }
        assert_eq!((check("+1"), check("01"), check("4294967295")), (Ok(()), Ok(()), Ok(())));
    }
}
