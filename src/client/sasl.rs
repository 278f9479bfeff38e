//! What SASL mechanisms say: who logs in, with which password.

use crate::message::{FieldTable, Value};

/// Reads a response of PLAIN (RFC 4616): the user and the password. Or says what it should have been.
pub(crate) fn plain(response: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next()) {
        (Some([]), Some(name), Some(password)) => {
            Ok((String::from_utf8_lossy(name).into_owned(), password.to_vec()))
        }
        _ => Err("a zero byte, the user, a zero byte, the password"),
    }
}

/// Reads a response of AMQPLAIN, a field table's content with LOGIN and PASSWORD. Or says what it should have been.
pub(crate) fn amqplain(response: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let table = FieldTable::decode(response, 1).unwrap_or_default();
    match (table.field("LOGIN"), table.field("PASSWORD")) {
        (Some(Value::LongStr(name)), Some(Value::LongStr(password))) => {
            Ok((String::from_utf8_lossy(name).into_owned(), password.clone()))
        }
        _ => Err("a table with the long strings LOGIN and PASSWORD"),
    }
}
