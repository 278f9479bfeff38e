//! What is looked at of a message that a client publishes, whatever protocol it came in: the properties that RabbitMQ looks at.

use crate::broker::BrokerError;
use crate::broker::access::users::User;
use crate::message::{FieldTable, PropertyScan, Value};

/// Ten years in milliseconds: RabbitMQ's limit for times.
const EXPIRATION_MAX_MS: i128 = 315_360_000_000;

/// Checks expiration, user-id, and the headers CC and BCC, which `headers` decodes.
///
/// # Errors
/// When one of them can't be.
pub(crate) fn check_properties(
    scan: &PropertyScan<'_>,
    user: &User,
    headers: impl FnOnce() -> FieldTable,
) -> Result<(), BrokerError> {
    if let Some(expiration) = scan.expiration {
        check_expiration(expiration)?;
    }
    if let Some(user_id) = scan.user_id
        && user_id != user.name.as_bytes()
        && !user.has_tag("impersonator")
    {
        let claimed = String::from_utf8_lossy(user_id);
        return Err(BrokerError::Precondition(format!(
            "user_id property set to '{claimed}' but authenticated user was '{}'",
            user.name
        )));
    }
    if scan.has_copies { check_copies(&headers()) } else { Ok(()) }
}

/// An expiration is a whole number of milliseconds in decimal, and nothing else.
fn check_expiration(expiration: &[u8]) -> Result<(), BrokerError> {
    let text = String::from_utf8_lossy(expiration);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, rest) = (&digits[..end], &digits[end..]);
    let reason = if number.is_empty() {
        "no_integer".to_owned()
    } else if !rest.is_empty() {
        format!("{{leftover_string,\"{rest}\"}}")
    } else {
        let magnitude: i128 = number.parse().unwrap_or(i128::MAX);
        let value = if text.starts_with('-') { -magnitude } else { magnitude };
        match value {
            ..0 => format!("{{value_negative,{value}}}"),
            0..=EXPIRATION_MAX_MS => return Ok(()),
            _ => format!("{{value_too_large,{number}}}"),
        }
    };
    Err(BrokerError::Precondition(format!("invalid expiration '{text}': {reason}")))
}

/// CC and BCC are arrays; what in them is no long string is passed over.
fn check_copies(headers: &FieldTable) -> Result<(), BrokerError> {
    for name in ["CC", "BCC"] {
        let value = match headers.field(name) {
            None => continue,
            Some(Value::Array(_)) => continue,
            Some(other) => other,
        };
        {
            let kind = value.type_name();
            return Err(BrokerError::Precondition(format!(
                "invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}"
            )));
        }
    }
    Ok(())
}
