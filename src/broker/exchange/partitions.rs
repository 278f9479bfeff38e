//! What the exchange of a super stream does with keys that match no binding, if it was declared so: the hash of each says which
//! partition it belongs to, as clients of the stream protocol find it. So messages of one key are in one partition, in order.

use super::binding::Binding;
use super::murmur3::hash_of_key;
use super::types::Envelope;
use crate::broker::error::Refusal;
use crate::message::{FieldTable, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The partitions of a super stream, by what their bindings say of their order.
#[derive(Debug)]
pub(super) struct Partitions {
    /// The header that is hashed in the place of the routing key.
    header: Option<String>,
    /// Bindings of one order, which differ in their keys, lead to one partition.
    by_order: BTreeMap<i64, Vec<Arc<Binding>>>,
}

impl Partitions {
    /// Reads the arguments of an exchange; `None` when it does not hash.
    ///
    /// # Errors
    /// When it names an algorithm that there is not, or no header.
    pub(super) fn of(arguments: &FieldTable) -> Result<Option<Partitions>, Refusal> {
        if arguments.field("x-super-stream") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let refuse = |text: String| Err(Refusal::Because(text));
        let header = match (arguments.field("x-hash-on"), arguments.field("hash-header")) {
            (None, None) => None,
            (Some(_), Some(_)) => return refuse("x-hash-on and hash-header are mutually exclusive".into()),
            (Some(name), None) | (None, Some(name)) => match name.as_str() {
                Some(name) => Some(name.to_owned()),
                None => {
                    return refuse(format!("the name of a header is a longstr, not a {}", name.type_name()));
                }
            },
        };
        match arguments.field("x-algorithm").map(Value::as_str) {
            None if header.is_none() => Ok(None),
            None | Some(Some("murmur3")) => Ok(Some(Partitions { header, by_order: BTreeMap::new() })),
            Some(other) => refuse(format!(
                "x-algorithm of a super stream is murmur3, not {}",
                other.unwrap_or("a value of another type")
            )),
        }
    }

    fn order(binding: &Binding) -> Option<i64> {
        binding.arguments.field("x-stream-partition-order")?.as_integer()
    }

    /// Takes a binding in, if it says which partition it leads to.
    pub(super) fn bind(&mut self, binding: &Arc<Binding>) {
        if let Some(order) = Partitions::order(binding) {
            self.by_order.entry(order).or_default().push(binding.clone());
        }
    }

    /// Takes it out again.
    pub(super) fn unbind(&mut self, binding: &Arc<Binding>) {
        let Some(order) = Partitions::order(binding) else { return };
        if let Some(bindings) = self.by_order.get_mut(&order) {
            bindings.retain(|other| !Arc::ptr_eq(other, binding));
            if bindings.is_empty() {
                self.by_order.remove(&order);
            }
        }
    }

    /// The binding that leads to the partition of a message. Without the header that is hashed, its routing key is.
    pub(super) fn find(&self, envelope: &Envelope<'_>) -> Option<&Arc<Binding>> {
        if !envelope.is_for_published_key() {
            return None;
        }
        let header = self.header.as_ref().and_then(|name| envelope.message.header(name));
        let hash = match header {
            None => hash_of_key(envelope.routing_key),
            Some(Value::LongStr(text)) => hash_of_key(&text),
            // What is no text is hashed as its digits are.
            Some(value) => match value.as_integer() {
                Some(number) => hash_of_key(number.to_string().as_bytes()),
                None => hash_of_key(envelope.routing_key),
            },
        };
        let partitions = u32::try_from(self.by_order.len()).ok().filter(|count| *count > 0)?;
        self.by_order.values().nth((hash % partitions) as usize)?.first()
    }

    /// Whether the routing key alone decides.
    pub(super) fn is_by_key(&self) -> bool {
        self.header.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::direct::Direct;
    use super::super::fixture::{binding_with, routed, table};
    use super::super::types::ExchangeType;
    use super::*;

    #[test]
    fn a_key_without_a_binding_goes_to_the_partition_of_its_hash() {
        let arguments = table(&[("x-super-stream", Value::Bool(true)), ("x-algorithm", "murmur3".into())]);
        let mut exchange = Direct::new(&arguments).unwrap();
        assert!(routed(&exchange, "k0").is_empty());
        let bound: Vec<_> = (0..3)
            .map(|order: i64| {
                let key = order.to_string();
                binding_with(&format!("s-{key}"), &key, &[("x-stream-partition-order", Value::I64(order))])
            })
            .collect();
        bound.iter().rev().for_each(|binding| exchange.bind(binding));
        for key in ["hello0", "hello1", "k0", "k1", "", "anything"] {
            assert_eq!(routed(&exchange, key), [format!("s-{}", hash_of_key(key.as_bytes()) % 3)], "{key:?}");
        }
        assert_eq!(routed(&exchange, "2"), ["s-2"], "a key that is bound leads where it is bound to");
        exchange.unbind(&bound[1]);
        assert_eq!(routed(&exchange, "k1"), [["s-0", "s-2"][hash_of_key(b"k1") as usize % 2]]);
        assert!(exchange.routes_by_key_alone());
    }

    #[test]
    fn arguments_without_sense_are_refused_of_super_streams_alone() {
        let of = |with: (&str, Value)| Direct::new(&table(&[("x-super-stream", Value::Bool(true)), with]));
        assert!(of(("x-algorithm", "jump".into())).is_err());
        assert!(of(("x-hash-on", Value::I32(1))).is_err());
        assert!(!of(("x-hash-on", "user".into())).unwrap().routes_by_key_alone());
        assert!(of(("other", "x".into())).is_ok());
        assert!(Direct::new(&table(&[("x-algorithm", "jump".into())])).is_ok());
    }
}
