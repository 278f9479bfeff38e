//! STOMP frames as they stand in the input, and as they are written (STOMP 1.2, "STOMP Frames").

use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// CONNECT, or STOMP, which means the same.
    Connect,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
    /// What clients do not say.
    Unknown(&'a [u8]),
}

impl<'a> Command<'a> {
    fn named(name: &'a [u8]) -> Command<'a> {
        match name {
            b"CONNECT" | b"STOMP" => Command::Connect,
            b"SEND" => Command::Send,
            b"SUBSCRIBE" => Command::Subscribe,
            b"UNSUBSCRIBE" => Command::Unsubscribe,
            b"ACK" => Command::Ack,
            b"NACK" => Command::Nack,
            b"BEGIN" => Command::Begin,
            b"COMMIT" => Command::Commit,
            b"ABORT" => Command::Abort,
            b"DISCONNECT" => Command::Disconnect,
            other => Command::Unknown(other),
        }
    }

    /// The command as error texts name it.
    pub(super) fn name(self) -> Cow<'a, str> {
        match self {
            Command::Connect => "CONNECT".into(),
            Command::Send => "SEND".into(),
            Command::Subscribe => "SUBSCRIBE".into(),
            Command::Unsubscribe => "UNSUBSCRIBE".into(),
            Command::Ack => "ACK".into(),
            Command::Nack => "NACK".into(),
            Command::Begin => "BEGIN".into(),
            Command::Commit => "COMMIT".into(),
            Command::Abort => "ABORT".into(),
            Command::Disconnect => "DISCONNECT".into(),
            Command::Unknown(name) => String::from_utf8_lossy(name),
        }
    }
}

/// One whole frame.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) command: Command<'a>,
    pub(super) headers: Headers<'a>,
    pub(super) body: &'a [u8],
}

/// A frame's headers, unescaped. Of several with one name the first counts.
#[derive(Debug, Default)]
pub(super) struct Headers<'a>(Vec<Header<'a>>);

/// A name and its value.
type Header<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// What is wrong with a frame. The connection can't go on: where the next one begins is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a command is longer than {0} bytes")]
    CommandTooLong(usize),
    #[error("a frame has more than {0} headers, which is limits.stomp_headers_max")]
    TooManyHeaders(usize),
    #[error("a header is longer than {0} bytes, which is limits.stomp_header_max_bytes")]
    HeaderTooLong(usize),
    #[error("the headers of a frame are longer than {0} bytes, which is limits.stomp_head_max_bytes")]
    HeadTooLong(usize),
    #[error(
        "a frame is longer than {0} bytes, which is limits.initial_frame_max_bytes, and the client has not logged in"
    )]
    LoginTooLong(usize),
    #[error("a body is longer than {0} bytes, which is limits.message_size_max_bytes")]
    BodyTooLong(usize),
    #[error("header '{0}' has no value")]
    NoValue(String),
    #[error("a header has an escape that is none: \\{0}")]
    BadEscape(String),
    #[error("a carriage return is not at the end of a line")]
    StrayReturn,
    #[error("content-length '{0}' is no length")]
    BadLength(String),
    #[error("there is no zero byte behind the {0} bytes of a body")]
    NoEnd(usize),
}

impl<'a> Frame<'a> {
    /// Reads the lines of a head, which ends with an empty one.
    ///
    /// # Errors
    /// When one of them is no header.
    pub(super) fn read(head: &'a [u8], body: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let (command, mut rest) = first_line(head);
        let command = Command::named(without_return(command)?);
        let mut headers = Headers(Vec::with_capacity(HEADERS_MOSTLY));
        while !rest.is_empty() {
            let (line, behind) = first_line(rest);
            rest = behind;
            if !line.is_empty() && line != b"\r" {
                headers.0.push(read_header(line)?);
            }
        }
        Ok(Frame { command, headers, body })
    }
}

/// Most frames have no more headers than that.
const HEADERS_MOSTLY: usize = 8;

/// A line without its end, and what is behind it.
fn first_line(head: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'\n', head) {
        Some(end) => (&head[..end], &head[end + 1..]),
        None => (head, &[]),
    }
}

/// A line without the carriage return at its end.
fn without_return(line: &[u8]) -> Result<&[u8], Malformed> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') { Err(Malformed::StrayReturn) } else { Ok(line) }
}

fn read_header(line: &[u8]) -> Result<Header<'_>, Malformed> {
    let is_plain = memchr2(b'\\', b'\r', line).is_none();
    let line = if is_plain { line } else { without_return(line)? };
    let Some(colon) = memchr(b':', line) else {
        return Err(Malformed::NoValue(String::from_utf8_lossy(line).into_owned()));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if is_plain { Ok((name.into(), value.into())) } else { Ok((unescaped(name)?, unescaped(value)?)) }
}

fn unescaped(text: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    if !text.contains(&b'\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let escaped = bytes.as_slice().first().copied();
        bytes.next();
        plain.push(match escaped {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'c') => b':',
            Some(b'\\') => b'\\',
            other => {
                let shown = other.map_or(String::new(), |byte| byte.escape_ascii().to_string());
                return Err(Malformed::BadEscape(shown));
            }
        });
    }
    Ok(Cow::Owned(plain))
}

impl Headers<'_> {
    /// The value of a header.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| **other == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// The value of a header as text; what in it is no UTF-8 is replaced.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }

    /// Whether a header says yes; `None` when it says neither yes nor no.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            b"true" | b"True" => Some(true),
            b"false" | b"False" => Some(false),
            _ => None,
        }
    }

    /// Whether a subscription is to outlive its connection: `durable` and `persistent` mean the same.
    pub(super) fn is_durable(&self) -> bool {
        self.flag("durable") == Some(true) || self.flag("persistent") == Some(true)
    }

    /// The names of all, some of which may stand twice.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// All of them, each name once.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let first_of_its_name = |index: usize| {
            let name = &self.0[index].0;
            !self.0[..index].iter().any(|(other, _)| other == name)
        };
        let firsts = self.0.iter().enumerate().filter(move |(index, _)| first_of_its_name(*index));
        firsts.map(|(_, (name, value))| (&**name, &**value))
    }

    /// Clients of STOMP 1.0 may put blanks before a value.
    pub(super) fn trim(&mut self) {
        for (_, value) in &mut self.0 {
            let blanks = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blanks > 0 {
                *value = Cow::Owned(value[blanks..].to_vec());
            }
        }
    }
}

/// Writes a frame's head; the body follows.
pub(super) struct HeadWriter<'a>(&'a mut Vec<u8>);

impl HeadWriter<'_> {
    /// Begins a frame.
    pub(super) fn new<'a>(command: &str, out: &'a mut Vec<u8>) -> HeadWriter<'a> {
        out.extend_from_slice(command.as_bytes());
        out.push(b'\n');
        HeadWriter(out)
    }

    /// Goes on with a head that has been begun.
    pub(super) fn going_on(out: &mut Vec<u8>) -> HeadWriter<'_> {
        HeadWriter(out)
    }

    /// Adds a header, escaped.
    pub(super) fn header(&mut self, name: &[u8], value: &[u8]) {
        self.escaped(name);
        self.0.push(b':');
        self.escaped(value);
        self.0.push(b'\n');
    }

    /// Adds a header whose name and value need no escapes.
    pub(super) fn plain(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Adds a header with a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b':');
        put_number(value, self.0);
        self.0.push(b'\n');
    }

    /// Adds a header whose name is plain and whose value may need escapes.
    pub(super) fn value(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b':');
        self.escaped(value);
        self.0.push(b'\n');
    }

    /// Ends the head.
    pub(super) fn end(self) {
        self.0.push(b'\n');
    }

    fn escaped(&mut self, text: &[u8]) {
        put_escaped(text, self.0);
    }
}

/// Appends a text as it stands in a header's name or value.
pub(super) fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\r' | b':');
    if !text.iter().any(is_special) {
        return out.extend_from_slice(text);
    }
    for &byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b':' => out.extend_from_slice(b"\\c"),
            byte => out.push(byte),
        }
    }
}

/// Appends a number in decimal, without the formatting machinery: each delivery has two.
pub(super) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(head: &str) -> Result<Vec<(String, String)>, Malformed> {
        let frame = Frame::read(head.as_bytes(), b"")?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(frame.headers.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn escapes_are_read_and_written_in_names_and_values() {
        let read = headers("SEND\na\\cb:x\\n\\r\\\\\\cy\n\n").unwrap();
        assert_eq!(read, [("a:b".to_owned(), "x\n\r\\:y".to_owned())]);
        let mut out = Vec::new();
        let mut head = HeadWriter::new("MESSAGE", &mut out);
        head.header(b"a:b", b"x\n\r\\:y");
        head.end();
        assert_eq!(out, b"MESSAGE\na\\cb:x\\n\\r\\\\\\cy\n\n");
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            put_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn the_first_of_several_headers_with_one_name_counts_and_colons_may_stand_in_values() {
        let read = headers("SEND\r\na:1:2\r\na:3\nb:\n\n").unwrap();
        assert_eq!(read, [("a".to_owned(), "1:2".to_owned()), ("b".to_owned(), String::new())]);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert_eq!(headers("SEND\nnothing\n\n"), Err(Malformed::NoValue("nothing".to_owned())));
        assert_eq!(headers("SEND\na:\\t\n\n"), Err(Malformed::BadEscape("t".to_owned())));
        assert_eq!(headers("SEND\na:\\\n\n"), Err(Malformed::BadEscape(String::new())));
        assert_eq!(headers("SEND\na:1\r2\n\n"), Err(Malformed::StrayReturn));
    }

    #[test]
    fn only_clients_of_the_first_version_have_their_values_trimmed() {
        let mut frame = Frame::read(b"SEND\ndestination:  /queue/a \n\n", b"").unwrap();
        assert_eq!(frame.headers.get("destination"), Some(&b"  /queue/a "[..]));
        frame.headers.trim();
        assert_eq!(frame.headers.get("destination"), Some(&b"/queue/a "[..]));
    }
}
