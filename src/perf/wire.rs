//! A connection's bytes, read and written by the hundred thousand, and the frames in them (0-9-1 section 2.3.5).

use super::Failure;
use super::target::Tls;
use crate::trust;
use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, parse_class};
use bytes::{Buf, BytesMut};
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Types of frames (0-9-1 section 2.3.5).
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;

/// The octet that ends every frame.
pub(super) const END: u8 = 0xCE;

const HEAD_BYTES: usize = 7;

/// How much is read before it is looked at.
const READ_BYTES: usize = 256 * 1024;

/// Larger frames than this are none: we ask for 128 KiB at most.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// One whole frame. We have one channel, so it does not matter which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Class and method id of a method's frame; zeros for any other.
    pub(super) fn method(&self) -> (u16, u16) {
        match (self.kind, self.payload) {
            (METHOD, [c0, c1, m0, m1, ..]) => {
                (u16::from_be_bytes([*c0, *c1]), u16::from_be_bytes([*m0, *m1]))
            }
            _ => (0, 0),
        }
    }

    /// What stands behind them.
    pub(super) fn arguments(&self) -> &[u8] {
        self.payload.get(4..).unwrap_or_default()
    }

    /// The method as amq-protocol has it.
    pub(super) fn class(&self) -> Result<AMQPClass, Failure> {
        match parse_class(self.payload) {
            Ok((_, class)) if self.kind == METHOD => Ok(class),
            _ => Err(Failure::Lost(format!("the broker sent what is no method: type {}", self.kind))),
        }
    }
}

/// Cuts one frame off the front; `None` when it is not all there yet.
pub(super) fn cut(input: &[u8]) -> Result<Option<Frame<'_>>, Failure> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, _, _, s0, s1, s2, s3] = *head;
    let payload_bytes = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    let faulty = || Failure::Lost("the broker sent what is no frame".to_owned());
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(faulty());
    }
    match rest.get(payload_bytes) {
        None => Ok(None),
        Some(&END) => Ok(Some(Frame { kind, payload: &rest[..payload_bytes] })),
        Some(_) => Err(faulty()),
    }
}

/// Appends a frame whose payload lies in pieces.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, pieces: &[&[u8]]) {
    let payload_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    let size = u32::try_from(payload_bytes).expect("a payload is no larger than a frame may be");
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out.push(END);
}

/// Puts a method's frame.
pub(super) fn method_frame(channel: u16, method: AMQPClass) -> Vec<u8> {
    let frame = AMQPFrame::Method(channel, method);
    let encoded = gen_frame(&frame)(WriteContext::from(Vec::with_capacity(64)));
    encoded.expect("writing to a Vec can't fail").write
}

/// What has come and was not looked at.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: BytesMut,
    /// How much of it has been.
    seen: usize,
}

impl Input {
    /// The next whole frame.
    pub(super) fn frame(&mut self) -> Result<Option<Frame<'_>>, Failure> {
        let frame = cut(&self.bytes[self.seen..])?;
        if let Some(frame) = frame {
            self.seen += HEAD_BYTES + frame.payload.len() + 1;
        }
        Ok(frame)
    }

    /// What `cut` cuts off the front, if that is whole; it says how many bytes it takes.
    pub(super) fn next<'a, T>(
        &'a mut self,
        cut: impl FnOnce(&'a [u8]) -> Result<Option<(T, usize)>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let found = cut(&self.bytes[self.seen..])?;
        Ok(found.map(|(found, bytes)| {
            self.seen += bytes;
            found
        }))
    }

    fn forget_seen(&mut self) {
        self.bytes.advance(self.seen);
        self.seen = 0;
    }

    /// Whether what has come begins as a broker's answer to a client of another protocol version does.
    pub(super) fn is_protocol_header(&self) -> bool {
        self.bytes.starts_with(b"AMQP")
    }

    /// Whether there is something that is no whole frame.
    pub(super) fn has_rest(&self) -> bool {
        self.bytes.len() > self.seen
    }
}

/// A socket with what is read from it and what goes to it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// What lies between the socket and the bytes, if TLS is spoken.
    tls: Option<Box<ClientConnection>>,
    /// Why TLS can't go on.
    pub(super) tls_fault: Option<String>,
    pub(super) input: Input,
    /// What is to be written.
    pub(super) output: Vec<u8>,
    written: usize,
}

impl Wire {
    /// Connects, and agrees on TLS if there is to be some.
    pub(super) async fn connect(address: &str, tls: Option<&Tls>) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let session = tls.map(|tls| ClientConnection::new(tls.config.clone(), tls.name.clone()));
        let session = session.transpose().map_err(of_tls)?.map(Box::new);
        let mut wire = Wire {
            stream,
            tls: session,
            tls_fault: None,
            input: Input::default(),
            output: Vec::new(),
            written: 0,
        };
        while let Some(session) = wire.tls.as_ref().filter(|session| session.is_handshaking()) {
            let (reads, writes) = (session.wants_read(), session.wants_write());
            let ready = wire.stream.ready(interest(reads, writes)).await?;
            if ready.is_writable() {
                wire.write_tls()?;
            }
            if ready.is_readable() && wire.read_tls()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(wire)
    }

    /// How much is left to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Reads what is there and writes what goes out, whichever can be done first; gives up at `until`.
    pub(super) async fn move_bytes(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        let is_pending = self.tls.as_ref().is_some_and(|session| session.wants_write());
        let ready = self.stream.ready(interest(true, self.unwritten() > 0 || is_pending));
        let ready = match until {
            Some(until) => match timeout_at(until, ready).await {
                Ok(ready) => ready,
                Err(_) => return Ok(()),
            },
            None => ready.await,
        };
        let ready = ready.map_err(lost)?;
        if ready.is_writable() {
            self.write()?;
        }
        if ready.is_readable() {
            self.read()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        while self.unwritten() > 0 {
            match self.write_some() {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // What the broker said before it went is still to be read.
                Err(_) if self.read().is_ok() && self.input.has_rest() => break,
                Err(error) => return Err(lost(error)),
            }
        }
        self.output.clear();
        self.written = 0;
        match self.write_tls() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(lost(error)),
            _ => Ok(()),
        }
    }

    /// Writes what the socket, or TLS, takes of the output.
    fn write_some(&mut self) -> io::Result<usize> {
        let rest = &self.output[self.written..];
        let Some(session) = &mut self.tls else { return self.stream.try_write(rest) };
        match session.writer().write(rest)? {
            // It is full: some of it has to go first.
            0 => self.write_tls().map(|()| 0),
            count => Ok(count),
        }
    }

    /// Writes what TLS has ready, until the socket takes no more.
    fn write_tls(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        while session.wants_write() {
            if let Err(error) = session.write_tls(&mut Socket(&self.stream)) {
                return if error.kind() == io::ErrorKind::WouldBlock && session.is_handshaking() {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        }
        Ok(())
    }

    /// Reads what the socket has, through TLS, into the input. Says how many bytes came over the socket; 0 at its end.
    fn read_tls(&mut self) -> io::Result<usize> {
        let Some(session) = &mut self.tls else { return Ok(0) };
        let mut came = 0;
        while came < READ_BYTES {
            match session.read_tls(&mut Socket(&self.stream)) {
                Ok(0) => break,
                Ok(count) => came += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && came > 0 => break,
                // Woken without anything to do.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && session.is_handshaking() => {
                    return Ok(usize::MAX);
                }
                Err(error) => return Err(error),
            }
            if let Err(error) = session.process_new_packets() {
                // The peer learns why, if it still reads.
                let _ = session.write_tls(&mut Socket(&self.stream));
                let error = of_tls(error);
                self.tls_fault = Some(trust::plain_reason(&error));
                return Err(error);
            }
            let mut piece = [0; 16 * 1024];
            // It ends when there is nothing left, or the peer has closed, which the socket shows too.
            while let Ok(count @ 1..) = session.reader().read(&mut piece) {
                self.input.bytes.extend_from_slice(&piece[..count]);
            }
        }
        Ok(came)
    }

    fn read(&mut self) -> Result<(), Failure> {
        self.input.forget_seen();
        let before = self.input.bytes.len();
        self.input.bytes.reserve(READ_BYTES);
        let read = match self.tls {
            Some(_) => self.read_tls(),
            None => self.stream.try_read_buf(&mut self.input.bytes),
        };
        match read {
            Ok(0) if before == 0 => Err(Failure::Lost("the broker closed it".to_owned())),
            Ok(0) => Err(Failure::Lost("the broker closed it within a frame".to_owned())),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }
}

/// A socket that gives and takes what it can at once.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn interest(reads: bool, writes: bool) -> Interest {
    match (reads, writes) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (false, true) => Interest::WRITABLE,
        (_, false) => Interest::READABLE,
    }
}

fn of_tls(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Whether it is TLS that went wrong, not what carries it.
pub(super) fn is_of_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn lost(error: io::Error) -> Failure {
    Failure::Lost(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_when_they_are_whole() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, METHOD, 1, &[&[0, 60], &[0, 80, 9]]);
        for end in 0..bytes.len() {
            assert!(cut(&bytes[..end]).unwrap().is_none(), "{end} bytes");
        }
        let frame = cut(&bytes).unwrap().unwrap();
        assert_eq!((frame.method(), frame.arguments()), ((60, 80), &[9][..]));
        *bytes.last_mut().unwrap() = 0;
        assert!(cut(&bytes).is_err());
        assert!(cut(&[1, 0, 0, 0xff, 0, 0, 0]).is_err());
    }

    #[test]
    fn frames_are_looked_at_once() {
        let mut input = Input::default();
        let mut bytes = Vec::new();
        put_frame(&mut bytes, METHOD, 1, &[&[0, 60, 0, 80]]);
        put_frame(&mut bytes, BODY, 1, &[b"x"]);
        input.bytes.extend_from_slice(&bytes);
        input.bytes.extend_from_slice(&[3, 0]);
        assert_eq!(input.frame().unwrap().unwrap().kind, METHOD);
        assert_eq!(input.frame().unwrap().unwrap().payload, b"x");
        assert!(input.frame().unwrap().is_none() && input.has_rest());
        input.forget_seen();
        assert_eq!(&input.bytes[..], [3, 0]);
    }
}
