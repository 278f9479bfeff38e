//! Cuts frames out of what has come: every byte is looked at once, however it is cut into reads.
//!
//! A frame stays in the input until all of it has come. A large body goes to a place of its own meanwhile, so that the input stays
//! small.

use super::frame::{Frame, Malformed};
use crate::steps;
use memchr::memchr;

/// A command is at most this long. The longest that there is has 11 bytes.
const COMMAND_BYTES_MAX: usize = 32;

/// Of a body of which so much has come the rest is gathered outside the input.
const PARTS_BYTES_MIN: usize = 32 * 1024;

/// How large frames may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Headers of a frame.
    pub headers_max: usize,
    /// Bytes of a header, that is its line.
    pub header_bytes_max: usize,
    /// Bytes of a command and all headers.
    pub head_bytes_max: usize,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Bytes of a whole frame of a client that has not logged in.
    pub login_bytes_max: usize,
}

impl Default for FrameLimits {
    fn default() -> FrameLimits {
        FrameLimits {
            headers_max: 100,
            header_bytes_max: 100 * 1024,
            head_bytes_max: 120 * 1024,
            body_bytes_max: 134_217_728,
            login_bytes_max: 65_536,
        }
    }
}

impl FrameLimits {
    /// The same for a client that has not logged in.
    fn before_login(self) -> FrameLimits {
        FrameLimits {
            head_bytes_max: self.head_bytes_max.min(self.login_bytes_max),
            body_bytes_max: self.body_bytes_max.min(self.login_bytes_max),
            ..self
        }
    }
}

/// How far the frame has come that is arriving.
#[derive(Debug, Default)]
pub(super) struct Parser {
    is_logged_in: bool,
    /// Where in the frame the search for the next end of a line, or for the end of the body, goes on.
    scanned: usize,
    /// Where the line begins that is being searched for its end.
    line_start: usize,
    headers: usize,
    content_length: Option<usize>,
    /// Bytes of command and headers with the empty line, once all of them have come.
    head_bytes: Option<usize>,
    arriving: Option<Arriving>,
}

/// A frame with a large body, which has been taken out of the input.
#[derive(Debug)]
struct Arriving {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the body that have yet to come, if its length is known.
    left: Option<usize>,
    /// Once all of it is there: how many bytes of the input were the end of it.
    end_bytes: Option<usize>,
}

/// What was found in the input.
#[derive(Debug)]
pub(super) enum Cut<'a> {
    /// That many bytes before a frame are done with. There may be a frame behind them.
    Noise(usize),
    /// That many bytes of it are done with; there is no whole frame yet.
    Unfinished(usize),
    /// A frame, and how many bytes are done with when that has been handled. [`Parser::next`] comes after that; until then the same
    /// frame is found again.
    Whole(Frame<'a>, usize),
}

impl Parser {
    /// The client has logged in: its frames may be larger.
    pub(super) fn logged_in(&mut self) {
        self.is_logged_in = true;
    }

    /// Whether nothing has come of the next frame so far, or nothing that was looked at.
    pub(super) fn is_between_frames(&self) -> bool {
        self.scanned == 0 && self.arriving.is_none()
    }

    /// Bytes that have been taken out of the input.
    pub(super) fn taken_bytes(&self) -> usize {
        self.arriving.as_ref().map_or(0, |arriving| arriving.head.len() + arriving.body.len())
    }

    /// The frame that was cut has been handled.
    pub(super) fn next(&mut self) {
        *self = Parser { is_logged_in: self.is_logged_in, ..Parser::default() };
    }

    /// Looks for the next frame. `input` begins where that does, or the noise before it.
    ///
    /// # Errors
    /// When what comes is no frame, or one that is too large.
    pub(super) fn cut<'a>(&'a mut self, input: &'a [u8], limits: &FrameLimits) -> Result<Cut<'a>, Malformed> {
        let limits = if self.is_logged_in { *limits } else { limits.before_login() };
        if self.arriving.is_some() {
            return self.go_on_with_body(input, &limits);
        }
        let noise = if self.scanned == 0 { noise(input)? } else { 0 };
        if noise > 0 {
            return Ok(Cut::Noise(noise));
        }
        if self.scanned == 0 && input == b"\r" {
            // It may be noise.
            return Ok(Cut::Unfinished(0));
        }
        let frame = input;
        if self.head_bytes.is_none() && !self.find_head(frame, &limits)? {
            return Ok(Cut::Unfinished(0));
        }
        let Some(head_bytes) = self.head_bytes else { return Ok(Cut::Unfinished(0)) };
        let (head, behind) = frame.split_at(head_bytes);
        let found = match self.content_length {
            Some(length) => counted_body(behind, length)?,
            None => {
                let from = self.scanned - head_bytes;
                let found = end_of_body(&behind[from..], &limits, from)?.map(|at| from + at);
                if found.is_none() {
                    self.scanned = frame.len();
                }
                found
            }
        };
        if let Some(body_bytes) = found {
            let frame = Frame::read(head, &behind[..body_bytes])?;
            return Ok(Cut::Whole(frame, head_bytes + body_bytes + 1));
        }
        if behind.len() < PARTS_BYTES_MIN {
            return Ok(Cut::Unfinished(0));
        }
        let left = self.content_length.map(|length| length.saturating_sub(behind.len()));
        let body = &behind[..behind.len().min(self.content_length.unwrap_or(usize::MAX))];
        let taken = head_bytes + body.len();
        self.arriving = Some(Arriving { head: head.to_vec(), body: body.to_vec(), left, end_bytes: None });
        Ok(Cut::Unfinished(taken))
    }

    /// Looks for the empty line behind the headers. True when all of the head is there.
    fn find_head(&mut self, frame: &[u8], limits: &FrameLimits) -> Result<bool, Malformed> {
        let login_max = (!self.is_logged_in).then_some(limits.login_bytes_max);
        let too_long = |bytes: usize| match login_max {
            Some(max) if bytes > max => Err(Malformed::LoginTooLong(max)),
            _ if bytes > limits.head_bytes_max => Err(Malformed::HeadTooLong(limits.head_bytes_max)),
            _ => Ok(()),
        };
        loop {
            let rest = &frame[self.scanned..];
            let end = memchr(b'\n', rest);
            steps::count(end.unwrap_or(rest.len()) + 1);
            let line_end = end.map_or(frame.len(), |end| self.scanned + end);
            let line = &frame[self.line_start..line_end];
            self.check_line(line, limits)?;
            too_long(line_end)?;
            if end.is_none() {
                self.scanned = frame.len();
                return Ok(false);
            }
            self.scanned = line_end + 1;
            let is_command = std::mem::replace(&mut self.line_start, line_end + 1) == 0;
            if line.is_empty() || line == b"\r" {
                self.head_bytes = Some(self.scanned);
                return Ok(true);
            }
            if !is_command {
                self.note_header(line, limits)?;
            }
        }
    }

    /// Checks the length of a line, or of what has come of it.
    fn check_line(&self, line: &[u8], limits: &FrameLimits) -> Result<(), Malformed> {
        if self.line_start == 0 && line.len() > COMMAND_BYTES_MAX {
            return Err(Malformed::CommandTooLong(COMMAND_BYTES_MAX));
        }
        if self.line_start > 0 && line.len() > limits.header_bytes_max {
            return Err(Malformed::HeaderTooLong(limits.header_bytes_max));
        }
        Ok(())
    }

    fn note_header(&mut self, line: &[u8], limits: &FrameLimits) -> Result<(), Malformed> {
        self.headers += 1;
        if self.headers > limits.headers_max {
            return Err(Malformed::TooManyHeaders(limits.headers_max));
        }
        let Some(length) = line.strip_prefix(b"content-length:") else { return Ok(()) };
        if self.content_length.is_some() {
            return Ok(());
        }
        let bad = || Malformed::BadLength(String::from_utf8_lossy(length).chars().take(40).collect());
        let length: usize =
            std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(bad)?;
        if length > limits.body_bytes_max {
            return Err(body_too_long(self.is_logged_in, limits));
        }
        self.content_length = Some(length);
        Ok(())
    }

    /// Takes more of a large body.
    fn go_on_with_body<'a>(
        &'a mut self,
        input: &'a [u8],
        limits: &FrameLimits,
    ) -> Result<Cut<'a>, Malformed> {
        let is_logged_in = self.is_logged_in;
        let Some(arriving) = &mut self.arriving else { return Ok(Cut::Unfinished(0)) };
        let Arriving { head, body, left, end_bytes } = arriving;
        if let Some(end_bytes) = *end_bytes {
            return Ok(Cut::Whole(Frame::read(head, body)?, end_bytes));
        }
        let part = match left {
            Some(left) => {
                let part = &input[..input.len().min(*left)];
                *left -= part.len();
                part
            }
            None => {
                steps::count(input.len());
                let end = memchr(0, input);
                if end.is_some() {
                    *left = Some(0);
                }
                &input[..end.unwrap_or(input.len())]
            }
        };
        if body.len() + part.len() > limits.body_bytes_max {
            return Err(body_too_long(is_logged_in, limits));
        }
        steps::count(part.len() / 64);
        body.extend_from_slice(part);
        match input.get(part.len()) {
            Some(0) if *left == Some(0) => {
                *end_bytes = Some(part.len() + 1);
                Ok(Cut::Whole(Frame::read(head, body)?, part.len() + 1))
            }
            Some(_) => Err(Malformed::NoEnd(body.len())),
            None => Ok(Cut::Unfinished(part.len())),
        }
    }
}

fn body_too_long(is_logged_in: bool, limits: &FrameLimits) -> Malformed {
    if is_logged_in {
        Malformed::BodyTooLong(limits.body_bytes_max)
    } else {
        Malformed::LoginTooLong(limits.login_bytes_max)
    }
}

/// How many bytes of ends of lines and zeros there are before a frame.
fn noise(input: &[u8]) -> Result<usize, Malformed> {
    let mut at = 0;
    loop {
        match &input[at..] {
            [0 | b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            [b'\r', _, ..] => return Err(Malformed::StrayReturn),
            _ => {
                steps::count(at);
                return Ok(at);
            }
        }
    }
}

/// The length of a body that says it, if all of it is there.
fn counted_body(behind: &[u8], length: usize) -> Result<Option<usize>, Malformed> {
    match behind.get(length) {
        Some(0) => Ok(Some(length)),
        Some(_) => Err(Malformed::NoEnd(length)),
        None => Ok(None),
    }
}

/// Where a body ends that does not say its length, and of which `before` bytes have been searched.
fn end_of_body(part: &[u8], limits: &FrameLimits, before: usize) -> Result<Option<usize>, Malformed> {
    let end = memchr(0, part);
    steps::count(end.unwrap_or(part.len()));
    if before + end.unwrap_or(part.len()) > limits.body_bytes_max {
        return Err(Malformed::BodyTooLong(limits.body_bytes_max));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf, BytesMut};

    /// Commands and bodies of all frames of an input that comes in pieces of `piece` bytes.
    fn frames(input: &[u8], piece: usize, limits: &FrameLimits) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let (mut parser, mut buffer, mut frames) = (Parser::default(), BytesMut::new(), Vec::new());
        parser.logged_in();
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match parser.cut(&buffer, limits)? {
                    Cut::Noise(done) => buffer.advance(done),
                    Cut::Unfinished(done) => {
                        buffer.advance(done);
                        break;
                    }
                    Cut::Whole(frame, done) => {
                        frames.push((frame.command.name().into_owned(), frame.body.to_vec()));
                        // One that waits for something is found again.
                        assert!(
                            matches!(parser.cut(&buffer, limits)?, Cut::Whole(_, again) if again == done)
                        );
                        parser.next();
                        buffer.advance(done);
                    }
                }
            }
        }
        Ok(frames)
    }

    fn all(input: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let whole = frames(input, usize::MAX, &FrameLimits::default());
        for piece in [1, 2, 3, 7] {
            assert_eq!(frames(input, piece, &FrameLimits::default()), whole, "in pieces of {piece}");
        }
        whole
    }

    fn frame(command: &str, body: &[u8]) -> (String, Vec<u8>) {
        (command.to_owned(), body.to_vec())
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let input = b"\n\0\r\nSEND\ndestination:a\n\nbody\0\n\0ACK\r\nid:1\r\n\r\n\0SEND\ncontent-length:3\n\na\0b\0BEGIN\n\n\0";
        let expected =
            [frame("SEND", b"body"), frame("ACK", b""), frame("SEND", b"a\0b"), frame("BEGIN", b"")];
        assert_eq!(all(input).unwrap(), expected);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(all(b"SEND\n\nx\0\rA"), Err(Malformed::StrayReturn));
        assert_eq!(all(b"SEND\ncontent-length:1\n\nxy\0"), Err(Malformed::NoEnd(1)));
        assert_eq!(all(b"SEND\ncontent-length:-1\n\n\0"), Err(Malformed::BadLength("-1".to_owned())));
        assert_eq!(all(&[b'A'; 40]), Err(Malformed::CommandTooLong(32)));
    }

    #[test]
    fn each_part_has_a_limit() {
        let limits = FrameLimits {
            headers_max: 2,
            header_bytes_max: 10,
            head_bytes_max: 30,
            body_bytes_max: 4,
            login_bytes_max: 20,
        };
        let cut = |input: &[u8]| frames(input, 1, &limits);
        assert_eq!(cut(b"SEND\na:1\nb:2\nc:3\n\n\0"), Err(Malformed::TooManyHeaders(2)));
        assert_eq!(cut(b"SEND\na:1234567890"), Err(Malformed::HeaderTooLong(10)));
        assert_eq!(cut(b"SENDSENDSENDSENDSEND\na:12345\nb:1"), Err(Malformed::HeadTooLong(30)));
        assert_eq!(cut(b"SEND\n\n12345"), Err(Malformed::BodyTooLong(4)));
        let mut parser = Parser::default();
        let login = parser.cut(b"CONNECT\na:1\nb:2\n\n\n\n\n\n\n", &limits);
        assert_eq!(login.unwrap_err(), Malformed::BodyTooLong(4));
        let long = FrameLimits { body_bytes_max: 100, header_bytes_max: 100, ..limits };
        let mut parser = Parser::default();
        let login = parser.cut(b"CONNECT\nlogin:12345678901234567890", &long);
        assert_eq!(login.unwrap_err(), Malformed::LoginTooLong(20));
    }

    #[test]
    fn large_bodies_leave_the_input_as_they_come() {
        let mut body = vec![b'x'; 100_000];
        let mut input = b"SEND\ncontent-length:100001\n\n".to_vec();
        body.push(0);
        input.extend_from_slice(&body);
        input.push(0);
        let unsaid = [b"SEND\n\n".to_vec(), vec![b'y'; 90_000], vec![0]].concat();
        input.extend_from_slice(&unsaid);
        for piece in [1000, 40_000, usize::MAX] {
            let found = frames(&input, piece, &FrameLimits::default()).unwrap();
            assert_eq!(found, [frame("SEND", &body), frame("SEND", &[b'y'; 90_000])]);
        }
    }

    #[test]
    fn every_byte_is_looked_at_once() {
        let input =
            [b"SEND\nlong:".to_vec(), vec![b'x'; 50_000], b"\n\n".to_vec(), vec![b'y'; 50_000]].concat();
        let (found, steps) = steps::of(|| frames(&input, 10, &FrameLimits::default()));
        assert_eq!(found.unwrap(), []);
        assert!(steps < 3 * input.len() as u64, "{steps} steps for {} bytes", input.len());
    }
}
