//! Methods: a payload becomes one of amq-protocol's structs, with its field table read apart.
//!
//! Tables are read by our own decoder, which keeps their order and bounds their depth; amq-protocol, whose decoder does
//! neither, is shown an empty table in their place.

use super::error::{AmqpError, ReplyCode};
use crate::message::{DecodeError, FieldTable, Reader};
use crate::rabbit::term;
use crate::steps;
use amq_protocol::protocol::{AMQPClass, parse_class};

/// A decoded method, with its field table, if it has one, decoded apart.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) class: AMQPClass,
    /// The method's table: client properties, or arguments. Empty for a method that has none.
    pub(super) table: FieldTable,
}

/// Why a payload is no method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MethodFault {
    /// No such method, or its arguments can't be read.
    Undecodable,
    /// A name is not UTF-8.
    NotUtf8,
}

impl From<DecodeError> for MethodFault {
    fn from(_: DecodeError) -> MethodFault {
        MethodFault::Undecodable
    }
}

impl MethodFault {
    /// The error for the client, with the arguments that could not be decoded.
    pub(super) fn error(self, payload: &[u8]) -> AmqpError {
        match self {
            MethodFault::Undecodable => {
                let text = format!("cannot decode {}", term::bytes(payload.get(4..).unwrap_or_default()));
                AmqpError { method: Some(ids(payload)), ..AmqpError::new(ReplyCode::FrameError, text) }
            }
            MethodFault::NotUtf8 => {
                AmqpError::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr").without_method()
            }
        }
    }
}

/// Class and method id at the front of a payload; zeros where it is too short for them.
#[inline]
pub(super) fn ids(payload: &[u8]) -> (u16, u16) {
    let mut reader = Reader::new(payload);
    (reader.u16().unwrap_or(0), reader.u16().unwrap_or(0))
}

/// basic.publish and basic.ack, which are read by hand.
pub(super) const PUBLISH: (u16, u16) = (60, 40);
pub(super) const ACK: (u16, u16) = (60, 80);

/// Decodes a method. Tables may be nested `depth_max` levels deep.
pub(super) fn decode(payload: &[u8], depth_max: usize) -> Result<Method, MethodFault> {
    steps::count(10 + payload.len() / 8);
    let ids = ids(payload);
    let Some(before_table) = before_table(ids) else {
        return Ok(Method { class: parse(payload)?, table: FieldTable::default() });
    };
    let mut reader = Reader::new(payload);
    reader.take(4)?;
    for field in before_table {
        match field {
            Field::Octets(count) => drop(reader.take(*count)?),
            Field::ShortStr => drop(reader.short_str()?),
        }
    }
    let table_start = payload.len() - reader.rest().len();
    let table = FieldTable::decode(reader.long_str()?, depth_max)?;
    let mut without_table = payload[..table_start].to_vec();
    without_table.extend_from_slice(&[0; 4]);
    without_table.extend_from_slice(reader.rest());
    Ok(Method { class: parse(&without_table)?, table })
}

fn parse(payload: &[u8]) -> Result<AMQPClass, MethodFault> {
    if !is_known(ids(payload)) {
        return Err(MethodFault::Undecodable);
    }
    match parse_class(payload) {
        Ok(([], class)) => Ok(class),
        Ok(_) => Err(MethodFault::Undecodable),
        // The layout of methods with a table has been checked by then: what is left to go wrong is a name.
        Err(_) if before_table(ids(payload)).is_some() => Err(MethodFault::NotUtf8),
        Err(_) => Err(MethodFault::Undecodable),
    }
}

enum Field {
    Octets(usize),
    ShortStr,
}

/// What stands before a method's table; `None` for methods without one.
fn before_table(ids: (u16, u16)) -> Option<&'static [Field]> {
    use Field::{Octets, ShortStr};
    const TICKET: Field = Octets(2);
    const BITS: Field = Octets(1);
    Some(match ids {
        (10, 11) => &[],
        (40, 10) => &[TICKET, ShortStr, ShortStr, BITS],
        (40, 30) | (40, 40) => &[TICKET, ShortStr, ShortStr, ShortStr, BITS],
        (50, 10) => &[TICKET, ShortStr, BITS],
        (50, 20) => &[TICKET, ShortStr, ShortStr, ShortStr, BITS],
        (50, 50) => &[TICKET, ShortStr, ShortStr, ShortStr],
        (60, 20) => &[TICKET, ShortStr, ShortStr, BITS],
        _ => return None,
    })
}

/// Whether class and method are among those of 0-9-1 and RabbitMQ's extensions.
fn is_known((class, method): (u16, u16)) -> bool {
    let methods: &[u16] = match class {
        10 => &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71],
        20 => &[10, 11, 20, 21, 40, 41],
        30 => &[10, 11],
        40 => &[10, 11, 20, 21, 30, 31, 40, 51],
        50 => &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51],
        60 => &[10, 11, 20, 21, 30, 31, 40, 50, 60, 70, 71, 72, 80, 90, 100, 110, 111, 120],
        85 => &[10, 11],
        90 => &[10, 11, 20, 21, 30, 31],
        _ => &[],
    };
    methods.contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Value;
    use amq_protocol::protocol::queue;

    #[test]
    fn a_table_is_read_apart() {
        let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0b10];
        let mut table = Vec::new();
        [("z", Value::I32(1)), ("a", Value::Void)].into_iter().collect::<FieldTable>().encode(&mut table);
        payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(&table);
        let method = decode(&payload, 4).unwrap();
        let AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) = method.class else {
            panic!("{method:?}")
        };
        assert_eq!((declare.queue.as_str(), declare.durable), ("q", true));
        assert_eq!(method.table.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["z", "a"]);
        for end in 4..payload.len() {
            assert!(decode(&payload[..end], 4).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_method_is_refused() {
        for payload in [&[0, 50, 0, 99][..], &[0, 7, 0, 10], &[0, 60, 0, 80, 0], &[]] {
            assert_eq!(decode(payload, 4).unwrap_err(), MethodFault::Undecodable, "{payload:?}");
        }
        let not_utf8 = [0, 50, 0, 10, 0, 0, 1, 0xff, 0, 0, 0, 0, 0];
        assert_eq!(decode(&not_utf8, 4).unwrap_err(), MethodFault::NotUtf8);
    }
}
