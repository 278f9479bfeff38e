//! Where a consumer of a stream begins, and which messages it wants: x-stream-offset, x-stream-filter, x-stream-match-unfiltered.

use crate::broker::error::{ArgumentFault, BrokerError, Resource};
use crate::message::{FieldTable, Message, Millis, STREAM_FILTER_VALUE, Value};
use std::collections::BTreeSet;

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOffset {
    /// With the oldest entry that is kept.
    First,
    /// With what became durable together last.
    Last,
    /// With the next entry that is published.
    Next,
    /// With that offset, once it is there; with the first one where that is greater.
    Offset(u64),
    /// With the first entry that was published then, or later; in milliseconds.
    At(Millis),
}

impl StreamOffset {
    /// Reads the consumer's argument.
    ///
    /// # Errors
    /// When it is none of the forms that RabbitMQ takes. Values of other types than text, number and timestamp end RabbitMQ's
    /// connections; here they are refused like texts.
    pub(in crate::broker::queue) fn of(
        arguments: &FieldTable,
        now: Millis,
        resource: &Resource,
    ) -> Result<StreamOffset, BrokerError> {
        let Some(value) = arguments.field("x-stream-offset") else { return Ok(StreamOffset::Next) };
        let found = match value {
            Value::Timestamp(seconds) => Some(StreamOffset::At(seconds.saturating_mul(1000))),
            value => match (value.as_integer(), value.as_str()) {
                (Some(offset), _) => Some(StreamOffset::Offset(u64::try_from(offset).unwrap_or(0))),
                (_, Some("first")) => Some(StreamOffset::First),
                (_, Some("last")) => Some(StreamOffset::Last),
                (_, Some("next")) => Some(StreamOffset::Next),
                (_, Some(text)) => age_ms(text).map(|ago| StreamOffset::At(now.saturating_sub(ago))),
                _ => None,
            },
        };
        found.ok_or_else(|| BrokerError::InvalidArgument {
            argument: "x-stream-offset".to_owned(),
            resource: resource.clone(),
            fault: ArgumentFault::UnknownValue(value.clone()),
        })
    }
}

/// An age or an interval: digits and one unit, not zero. `None` for anything else.
pub(in crate::broker) fn age_ms(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'D' => 86_400,
        'M' => 30 * 86_400,
        'Y' => 365 * 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(seconds)?.checked_mul(1000)
}

/// Which messages a consumer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFilter {
    /// The values of those it wants; none is all.
    values: BTreeSet<Vec<u8>>,
    /// It wants those without a value, too.
    unfiltered: bool,
}

impl StreamFilter {
    /// A filter for these values, and with `unfiltered` for messages without one. Without values it passes all.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>, unfiltered: bool) -> StreamFilter {
        StreamFilter { values: values.into_iter().collect(), unfiltered }
    }

    /// Reads the consumer's arguments. RabbitMQ passes over a filter of a wrong type, or ends the connection for it.
    pub(in crate::broker::queue) fn of(
        arguments: &FieldTable,
        resource: &Resource,
    ) -> Result<StreamFilter, BrokerError> {
        let invalid = |argument: &str, value: &Value| BrokerError::InvalidArgument {
            argument: argument.to_owned(),
            resource: resource.clone(),
            fault: ArgumentFault::WrongType(value.type_name()),
        };
        let values = match arguments.field("x-stream-filter") {
            None => BTreeSet::new(),
            Some(Value::LongStr(value)) => BTreeSet::from([value.to_vec()]),
            Some(Value::Array(values)) if !values.is_empty() => {
                let bytes = |value: &Value| match value {
                    Value::LongStr(value) => Ok(value.to_vec()),
                    other => Err(invalid("x-stream-filter", other)),
                };
                values.iter().map(bytes).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(invalid("x-stream-filter", other)),
        };
        let unfiltered = match arguments.field("x-stream-match-unfiltered") {
            None => false,
            Some(Value::Bool(unfiltered)) => *unfiltered,
            Some(other) => return Err(invalid("x-stream-match-unfiltered", other)),
        };
        Ok(StreamFilter { values, unfiltered })
    }

    /// Whether the consumer wants that message.
    #[inline]
    pub(in crate::broker::queue) fn passes(&self, message: &Message) -> bool {
        self.values.is_empty() || self.passes_value(message)
    }

    fn passes_value(&self, message: &Message) -> bool {
        match message.headers().as_ref().and_then(|headers| headers.field(STREAM_FILTER_VALUE)) {
            Some(Value::LongStr(value)) if !value.is_empty() => self.values.contains(&value[..]),
            // An empty filter is for those without a value.
            _ => self.unfiltered || self.values.contains(&b""[..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(value: Value) -> Result<StreamOffset, BrokerError> {
        let arguments: FieldTable = [("x-stream-offset", value)].into_iter().collect();
        let resource = Resource::queue(&"/".into(), "q");
        StreamOffset::of(&arguments, 10_000_000_000, &resource)
    }

    #[test]
    fn offsets_are_read_in_all_their_forms() {
        let is = |value: Value, expected| assert_eq!(offset(value), Ok(expected));
        is(Value::from("first"), StreamOffset::First);
        is(Value::from("last"), StreamOffset::Last);
        is(Value::from("next"), StreamOffset::Next);
        is(Value::I64(7), StreamOffset::Offset(7));
        is(Value::I32(-1), StreamOffset::Offset(0));
        is(Value::Timestamp(5), StreamOffset::At(5000));
        is(Value::from("1h"), StreamOffset::At(10_000_000_000 - 3_600_000));
        is(Value::from("7D"), StreamOffset::At(10_000_000_000 - 7 * 86_400_000));
        for wrong in ["5", "0s", "1h30m", "foo", "First", "", "s", "1€"] {
            assert!(offset(Value::from(wrong)).is_err(), "{wrong}");
        }
        assert!(offset(Value::Bool(true)).is_err());
    }
}
