//! Frames of STOMP 1.2, as a broker sends them.

use crate::perf::Failure;
use memchr::memchr;

/// The header of a frame's length.
const CONTENT_LENGTH: &[u8] = b"content-length";

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) command: &'a [u8],
    /// The lines of the headers, each with its end.
    headers: &'a [u8],
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The value of a header as it was sent, with what is escaped in it.
    pub(super) fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.headers;
        while let Some(end) = memchr(b'\n', rest) {
            if let Some(value) = rest[..end].strip_prefix(name).and_then(|line| line.strip_prefix(b":")) {
                return Some(value);
            }
            rest = &rest[end + 1..];
        }
        None
    }

    /// An error, if that is what the frame says.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.command != b"ERROR" {
            return Ok(());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (message, body) = (text(self.header(b"message").unwrap_or_default()), text(self.body));
        Err(Failure::Error(format!("{message}: {body}")))
    }
}

/// Cuts one frame off the front, and says how many bytes that takes; `None` when it is not all there yet.
pub(super) fn cut(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Failure> {
    let faulty = || Failure::Lost("the broker sent what is no frame of STOMP".to_owned());
    // Between frames there may be line ends, which are heart-beats too.
    let start = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let line_end = |from: usize| memchr(b'\n', &input[from..]).map(|at| from + at);
    let Some(command_end) = line_end(start) else { return Ok(None) };
    let headers_start = command_end + 1;
    let mut at = headers_start;
    let mut length = None;
    loop {
        let Some(end) = line_end(at) else { return Ok(None) };
        let line = &input[at..end];
        if line.is_empty() {
            break;
        }
        if length.is_none()
            && let Some(value) = line.strip_prefix(CONTENT_LENGTH).and_then(|rest| rest.strip_prefix(b":"))
        {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<usize>().ok());
            length = Some(number.ok_or_else(faulty)?);
        }
        at = end + 1;
    }
    let body_start = at + 1;
    let body_end = match length {
        Some(length) => body_start.checked_add(length).ok_or_else(faulty)?,
        None => match memchr(0, &input[body_start..]) {
            Some(length) => body_start + length,
            None => return Ok(None),
        },
    };
    match input.get(body_end) {
        None => Ok(None),
        Some(0) => {
            let command = &input[start..command_end];
            let frame =
                Frame { command, headers: &input[headers_start..at], body: &input[body_start..body_end] };
            Ok(Some((frame, body_end + 1)))
        }
        Some(_) => Err(faulty()),
    }
}

/// A text as it is written in a header.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_when_they_are_whole() {
        let bytes = b"\n\nMESSAGE\nack:a\\c1\ncontent-length:3\nack:2\n\na\0b\0\nRECEIPT\nreceipt-id:7\n\n\0";
        let first_end = bytes.len() - b"\nRECEIPT\nreceipt-id:7\n\n\0".len();
        for end in 0..first_end {
            assert_eq!(cut(&bytes[..end]).unwrap(), None, "{end} bytes");
        }
        let (frame, taken) = cut(bytes).unwrap().unwrap();
        assert_eq!((frame.command, frame.body, taken), (&b"MESSAGE"[..], &b"a\0b"[..], first_end));
        assert_eq!(frame.header(b"ack"), Some(&b"a\\c1"[..]), "the first of two counts");
        let (frame, taken) = cut(&bytes[first_end..]).unwrap().unwrap();
        assert_eq!((frame.header(b"receipt-id"), frame.body), (Some(&b"7"[..]), &b""[..]));
        assert_eq!(first_end + taken, bytes.len());
        assert!(cut(b"MESSAGE\ncontent-length:1\n\nab\0").is_err());
        assert!(cut(b"MESSAGE\ncontent-length:x\n\n\0").is_err());
        let (frame, _) = cut(b"ERROR\nmessage:not_found\n\nno queue\n\0").unwrap().unwrap();
        let refused = frame.check().unwrap_err().to_string();
        assert!(refused.ends_with("not_found: no queue"), "{refused}");
    }
}
