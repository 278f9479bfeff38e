//! Destinations: what a client may write where a message is to go, or to come from, and how a message's own is written.
//!
//! They are RabbitMQ's. A part between two slashes has `%2F` for a slash of its own.

use super::error::StompError;

/// The kinds of destination, as the text for one that is none lists them.
const KINDS: &str = "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/";

/// Prefixes of what a reply can be sent to as it stands.
const PREFIXES: [&[u8]; 6] =
    [b"/temp-queue", b"/exchange", b"/topic", b"/queue", b"/amq/queue", b"/reply-queue/"];

/// Where messages go to, or come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A queue that is declared when it is first used.
    Queue(Vec<u8>),
    /// A queue that is there already.
    ExistingQueue(Vec<u8>),
    /// An exchange; the key is empty where none is given.
    Exchange { name: Vec<u8>, key: Option<Vec<u8>> },
    /// A key of the exchange for topics.
    Topic(Vec<u8>),
    /// A queue of the session's own, which stands in `reply-to` alone.
    TempQueue(Vec<u8>),
}

impl Destination {
    /// Reads a destination.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(text: &[u8]) -> Result<Destination, StompError> {
        if !text.contains(&b'/') {
            return Ok(Destination::Queue(unescaped(text)));
        }
        let unknown = || {
            let text = String::from_utf8_lossy(text);
            let body =
                format!("'{text}' is not a valid destination.\nValid destination types are: {KINDS}.\n");
            StompError::new("Unknown destination", body)
        };
        let rest = text.strip_prefix(b"/").ok_or_else(unknown)?;
        if let Some(name) = rest.strip_prefix(b"reply-queue/") {
            return match name {
                [] => Err(invalid("reply_queue", b"/")),
                name => Ok(Destination::ExistingQueue(unescaped(name))),
            };
        }
        if let Some(name) = rest.strip_prefix(b"amq/queue") {
            return Ok(Destination::ExistingQueue(
                one_part("amqqueue", name)
                    .map_err(|error| if name.is_empty() || name[0] == b'/' { error } else { unknown() })?,
            ));
        }
        let (kind, path) = match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, &[][..]),
        };
        match kind {
            b"exchange" => exchange(path),
            b"queue" => one_part("queue", path).map(Destination::Queue),
            b"topic" => one_part("topic", path).map(Destination::Topic),
            b"temp-queue" => one_part("temp_queue", path).map(Destination::TempQueue),
            _ => Err(unknown()),
        }
    }

    /// Writes what a message was published to.
    pub(super) fn write(exchange: &[u8], key: &[u8], out: &mut Vec<u8>) {
        match exchange {
            b"" => {
                out.extend_from_slice(b"/queue/");
                escape(key, out);
            }
            b"amq.topic" => {
                out.extend_from_slice(b"/topic/");
                escape(key, out);
            }
            exchange => {
                out.extend_from_slice(b"/exchange/");
                escape(exchange, out);
                if !key.is_empty() {
                    out.push(b'/');
                    escape(key, out);
                }
            }
        }
    }
}

/// Whether a `reply-to` can be sent to as it stands; others are names of queues.
pub(super) fn is_destination(text: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

fn exchange(path: &[u8]) -> Result<Destination, StompError> {
    let mut parts = path.split(|byte| *byte == b'/').skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), key, None) if !name.is_empty() => {
            Ok(Destination::Exchange { name: unescaped(name), key: key.map(unescaped) })
        }
        _ => Err(invalid("exchange", path)),
    }
}

/// The one part of a path that begins with a slash.
fn one_part(kind: &str, path: &[u8]) -> Result<Vec<u8>, StompError> {
    match path.strip_prefix(b"/") {
        Some(name) if !name.is_empty() && !name.contains(&b'/') => Ok(unescaped(name)),
        _ => Err(invalid(kind, path)),
    }
}

fn invalid(kind: &str, path: &[u8]) -> StompError {
    let path = String::from_utf8_lossy(path);
    StompError::new("Invalid destination", format!("'{path}' is not a valid {kind} destination\n"))
}

fn unescaped(part: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(b"%2F") {
            Some(behind) => {
                plain.push(b'/');
                rest = behind;
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

fn escape(part: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in part {
        match byte {
            b'/' | b'%' | 0..32 | 128.. => {
                out.extend_from_slice(&[
                    b'%',
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]);
            }
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Destination, StompError> {
        Destination::read(text.as_bytes())
    }

    #[test]
    fn each_kind_is_read() {
        let exchange = |name: &str, key: Option<&str>| Destination::Exchange {
            name: name.into(),
            key: key.map(|key| key.into()),
        };
        let rows = [
            ("plain", Destination::Queue("plain".into())),
            ("", Destination::Queue("".into())),
            ("/queue/a", Destination::Queue("a".into())),
            ("/queue/a%2Fb%25", Destination::Queue("a/b%25".into())),
            ("/amq/queue/a", Destination::ExistingQueue("a".into())),
            ("/reply-queue/a/b", Destination::ExistingQueue("a/b".into())),
            ("/exchange/x", exchange("x", None)),
            ("/exchange/x/", exchange("x", Some(""))),
            ("/exchange/x/k.%2F", exchange("x", Some("k./"))),
            ("/topic/a.b", Destination::Topic("a.b".into())),
            ("/temp-queue/a", Destination::TempQueue("a".into())),
        ];
        for (text, destination) in rows {
            assert_eq!(read(text).unwrap(), destination, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        let rows = [
            ("/topic/a/b", "Invalid destination", "'/a/b' is not a valid topic destination\n"),
            ("/topic", "Invalid destination", "'' is not a valid topic destination\n"),
            ("/queue", "Invalid destination", "'' is not a valid queue destination\n"),
            ("/queue/", "Invalid destination", "'/' is not a valid queue destination\n"),
            ("/amq/queue/a/b", "Invalid destination", "'/a/b' is not a valid amqqueue destination\n"),
            ("/exchange/", "Invalid destination", "'/' is not a valid exchange destination\n"),
            ("/exchange/a/b/c", "Invalid destination", "'/a/b/c' is not a valid exchange destination\n"),
            ("/temp-queue/", "Invalid destination", "'/' is not a valid temp_queue destination\n"),
            ("/amq/queue/", "Invalid destination", "'/' is not a valid amqqueue destination\n"),
        ];
        for (text, message, body) in rows {
            assert_eq!(read(text), Err(StompError::new(message, body)), "{text}");
        }
        for text in ["/foo/bar", "a/b", "/", "/amq/queues/a"] {
            let body = format!(
                "'{text}' is not a valid destination.\nValid destination types are: /temp-queue, /exchange, /topic, /queue, \
                 /amq/queue, /reply-queue/.\n"
            );
            assert_eq!(read(text), Err(StompError::new("Unknown destination", body)), "{text}");
        }
    }

    #[test]
    fn a_message_says_where_it_was_published_to() {
        let rows: [(&str, &[u8], &str); 5] = [
            ("", b"a/b", "/queue/a%2Fb"),
            ("amq.topic", b"a.%", "/topic/a.%25"),
            ("amq.fanout", b"", "/exchange/amq.fanout"),
            ("x/y", b"k", "/exchange/x%2Fy/k"),
            ("x", "\u{e4}\u{1}\u{7f}".as_bytes(), "/exchange/x/%C3%A4%01\u{7f}"),
        ];
        for (exchange, key, text) in rows {
            let mut out = Vec::new();
            Destination::write(exchange.as_bytes(), key, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
