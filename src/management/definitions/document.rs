//! A document of definitions out of bytes, as programs of all kinds leave them: with a byte order mark, and in UTF-16.

use crate::management::json::{DEFINITIONS_BYTES_EACH, Unparsed, parse_bounded};
use serde_json::{Map, Value};

/// Why bytes are no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// They are not UTF-8, nor UTF-16 behind a byte order mark.
    #[error("it is no text in UTF-8: byte {at} can't be read")]
    NoText {
        /// The first byte that can't be, counted from 1.
        at: usize,
    },
    /// They are text, and not JSON.
    #[error("it is no JSON: {0}")]
    NoJson(String),
    /// They are JSON that takes far more memory than it has bytes.
    #[error("it has too many values for {bytes} bytes; leave out what is no definition")]
    TooManyValues {
        /// The document's length.
        bytes: usize,
    },
    /// They are JSON, and not an object.
    #[error("it has no definitions: it is no object of JSON, {{...}}")]
    NoObject,
}

const UTF_8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The document that these bytes are; no bytes at all are one without anything.
///
/// # Errors
/// When they are none.
pub fn parse(bytes: &[u8]) -> Result<Value, DocumentError> {
    parse_counted(bytes).map(|(document, _)| document)
}

/// The same, and what it takes in memory, about.
pub(super) fn parse_counted(bytes: &[u8]) -> Result<(Value, usize), DocumentError> {
    if bytes.is_empty() {
        return Ok((Value::Object(Map::new()), 0));
    }
    let decoded;
    let bytes = match bytes {
        // What redirecting the output of a command writes on Windows.
        [0xff, 0xfe, rest @ ..] => {
            decoded = utf_16(rest, u16::from_le_bytes)?;
            decoded.as_bytes()
        }
        [0xfe, 0xff, rest @ ..] => {
            decoded = utf_16(rest, u16::from_be_bytes)?;
            decoded.as_bytes()
        }
        _ => bytes.strip_prefix(&UTF_8_MARK).unwrap_or(bytes),
    };
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(DocumentError::NoText { at: error.valid_up_to() + 1 });
    }
    match parse_bounded(bytes, DEFINITIONS_BYTES_EACH) {
        Ok((document @ Value::Object(_), taken)) => Ok((document, taken)),
        Ok(_) => Err(DocumentError::NoObject),
        Err(Unparsed::TooMuch) => Err(DocumentError::TooManyValues { bytes: bytes.len() }),
        Err(Unparsed::NoJson(error)) => Err(DocumentError::NoJson(error.to_string())),
    }
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, DocumentError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let mut text = String::with_capacity(bytes.len() / 2);
    for decoded in char::decode_utf16(units) {
        text.push(
            decoded.map_err(|_| DocumentError::NoText { at: 2 + 2 * text.encode_utf16().count() + 1 })?,
        );
    }
    if rest.is_empty() { Ok(text) } else { Err(DocumentError::NoText { at: bytes.len() + 2 }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marks_and_wide_characters_are_read() {
        let text = "{\"a\":\"\u{e4}\u{1f407}\"}";
        let expected = json!({ "a": "\u{e4}\u{1f407}" });
        assert_eq!(parse(text.as_bytes()), Ok(expected.clone()));
        assert_eq!(parse(&[&UTF_8_MARK[..], text.as_bytes()].concat()), Ok(expected.clone()));
        let units: Vec<u16> = [0xfeff].into_iter().chain(text.encode_utf16()).collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(parse(&little), Ok(expected.clone()));
        assert_eq!(parse(&big), Ok(expected));
        assert_eq!(parse(&big[..big.len() - 1]), Err(DocumentError::NoText { at: big.len() - 1 }));
        assert_eq!(parse(b""), Ok(json!({})));
        assert_eq!(parse(b"[]"), Err(DocumentError::NoObject));
        assert_eq!(parse(b"{\"a\xff\"}"), Err(DocumentError::NoText { at: 4 }));
        assert_eq!(
            parse(b"{,}").unwrap_err().to_string(),
            "it is no JSON: key must be a string at line 1 column 2"
        );
    }
    #[test]
    fn a_document_takes_memory_in_proportion_to_its_bytes() {
        let binding = r#"{"source":"x","vhost":"/","destination":"q","destination_type":"queue","arguments":{"a":[]}},"#;
        let export = format!("{{\"bindings\":[{}null]}}", binding.repeat(50_000));
        let (document, taken) = parse_counted(export.as_bytes()).unwrap();
        assert!(taken > export.len() && document["bindings"].as_array().unwrap().len() == 50_001);
        let zeros = format!("{{\"queues\":[0{}]}}", ",0".repeat(1 << 17));
        assert_eq!(parse(zeros.as_bytes()), Err(DocumentError::TooManyValues { bytes: zeros.len() }));
    }
}
