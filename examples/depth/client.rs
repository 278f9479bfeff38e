//! A client of few words: raw frames, written and read by the hundred thousand, so that it costs less than the broker.

use super::Result;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The queue that everything goes through.
pub(crate) const QUEUE: &str = "depth";

/// Messages written at once.
const BATCH: u64 = 1000;

/// Messages published and not confirmed yet, at most.
const WINDOW: u64 = 50_000;

/// Deliveries that may wait for their acknowledgement, and after how many there is one.
const PREFETCH: u16 = 20_000;
const ACK_EVERY: u64 = 2000;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// A connection with channel 1 open.
pub(crate) struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    frame: Vec<u8>,
    received: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        let reader = BufReader::with_capacity(1 << 20, writer.try_clone()?);
        let mut client = Client { writer, reader, frame: Vec::new(), received: 0 };
        client.writer.write_all(b"AMQP\x00\x00\x09\x01")?;
        client.expect((10, 10))?;
        let login = [b"\0\0\0\0\x05PLAIN".as_slice(), b"\0\0\0\x0c\0guest\0guest", b"\x05en_US"].concat();
        client.call(0, (10, 11), &login)?;
        client.expect((10, 30))?;
        client.call(0, (10, 31), b"\x07\xff\0\x02\0\0\0\0")?;
        client.call(0, (10, 40), b"\x01/\0\0")?;
        client.expect((10, 41))?;
        client.call(1, (20, 10), b"\0")?;
        client.expect((20, 11))?;
        Ok(client)
    }

    /// The socket alone, for a connection that is kept and does nothing.
    #[allow(dead_code, reason = "the example scale has thousands")]
    pub(crate) fn into_idle(self) -> TcpStream {
        self.writer
    }

    /// Sends frames that have no answers.
    #[allow(dead_code, reason = "the example scale declares by the thousand")]
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.writer.write_all(bytes)?)
    }

    /// Declares the queue; says how many messages are ready in it.
    pub(crate) fn declare(&mut self) -> Result<u64> {
        let arguments = [b"\0\0", short(QUEUE).as_slice(), b"\x02\0\0\0\0"].concat();
        self.call(1, (50, 10), &arguments)?;
        let answer = self.expect((50, 11))?;
        Ok(count_behind_name(&answer))
    }

    pub(crate) fn purge(&mut self) -> Result<u64> {
        self.call(1, (50, 30), &[b"\0\0", short(QUEUE).as_slice(), b"\0"].concat())?;
        Ok(u64::from(number(&self.expect((50, 31))?)))
    }

    pub(crate) fn delete(&mut self) -> Result<u64> {
        self.call(1, (50, 40), &[b"\0\0", short(QUEUE).as_slice(), b"\0"].concat())?;
        Ok(u64::from(number(&self.expect((50, 41))?)))
    }

    /// Begins to publish with confirms.
    pub(crate) fn publisher(&mut self, body_bytes: usize, persistent: bool) -> Result<Publisher<'_>> {
        self.call(1, (85, 10), b"\0")?;
        self.expect((85, 11))?;
        Ok(Publisher { batch: Batch::new(body_bytes, persistent), client: self, published: 0, confirmed: 0 })
    }

    pub(crate) fn consume(&mut self) -> Result<()> {
        let prefetch = [&[0; 4], PREFETCH.to_be_bytes().as_slice(), b"\0"].concat();
        self.call(1, (60, 10), &prefetch)?;
        self.expect((60, 11))?;
        self.call(1, (60, 20), &[b"\0\0", short(QUEUE).as_slice(), b"\0\0\0\0\0\0"].concat())?;
        self.expect((60, 21))?;
        self.received = 0;
        Ok(())
    }

    /// Takes deliveries until there were that many, checks that each is the next one, and acknowledges them.
    pub(crate) fn receive_up_to(&mut self, messages: u64) -> Result<()> {
        while self.received < messages {
            if self.read_frame()? != BODY {
                continue;
            }
            let (found, _) = self.frame.split_first_chunk().ok_or("a body is too short for its number")?;
            let found = u64::from_be_bytes(*found);
            if found != self.received {
                return Err(format!("message {found} came where {} should have", self.received).into());
            }
            self.received += 1;
            if self.received.is_multiple_of(ACK_EVERY) || self.received == messages {
                let tag = self.received.to_be_bytes();
                self.call(1, (60, 80), &[tag.as_slice(), b"\x01"].concat())?;
            }
        }
        Ok(())
    }

    pub(crate) fn call(&mut self, channel: u16, method: (u16, u16), arguments: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        let payload = [&method.0.to_be_bytes(), &method.1.to_be_bytes(), arguments].concat();
        put_frame(&mut bytes, METHOD, channel, &payload);
        Ok(self.writer.write_all(&bytes)?)
    }

    /// Reads until that method comes, and returns its arguments.
    pub(crate) fn expect(&mut self, method: (u16, u16)) -> Result<Vec<u8>> {
        loop {
            if self.read_frame()? != METHOD {
                continue;
            }
            match method_of(&self.frame) {
                found if found == method => return Ok(self.frame[4..].to_vec()),
                (10, 50) | (20, 40) => {
                    return Err(format!("closed: {}", String::from_utf8_lossy(&self.frame[4..])).into());
                }
                _ => {}
            }
        }
    }

    /// Reads a frame's payload and says what it is.
    fn read_frame(&mut self) -> Result<u8> {
        let mut head = [0; 7];
        self.reader.read_exact(&mut head)?;
        let bytes = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        self.frame.resize(bytes + 1, 0);
        self.reader.read_exact(&mut self.frame)?;
        if self.frame.pop() != Some(FRAME_END) {
            return Err("a frame does not end where it should".into());
        }
        Ok(head[0])
    }
}

/// Publishes with confirms, never more than [`WINDOW`] ahead of them.
pub(crate) struct Publisher<'a> {
    client: &'a mut Client,
    batch: Batch,
    published: u64,
    confirmed: u64,
}

impl Publisher<'_> {
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    pub(crate) fn publish_up_to(&mut self, messages: u64) -> Result<()> {
        while self.published < messages {
            let count = BATCH.min(messages - self.published);
            while self.published + count > self.confirmed + WINDOW {
                self.take_confirm()?;
            }
            let bytes = self.batch.numbered(self.published, count);
            self.client.writer.write_all(bytes)?;
            self.published += count;
        }
        Ok(())
    }

    /// Waits until all is confirmed.
    pub(crate) fn finish(mut self) -> Result<()> {
        while self.confirmed < self.published {
            self.take_confirm()?;
        }
        Ok(())
    }

    fn take_confirm(&mut self) -> Result<()> {
        let answer = self.client.expect((60, 80))?;
        let tag = answer.first_chunk().map(|tag| u64::from_be_bytes(*tag)).ok_or("an ack without a tag")?;
        let multiple = answer.get(8).is_some_and(|bits| bits & 1 == 1);
        if !multiple && tag != self.confirmed + 1 {
            return Err(format!("message {tag} was confirmed after {}", self.confirmed).into());
        }
        self.confirmed = tag;
        Ok(())
    }
}

/// Many publishes as they go to the socket; only the numbers in the bodies differ.
struct Batch {
    bytes: Vec<u8>,
    message_bytes: usize,
    number_at: usize,
}

impl Batch {
    fn new(body_bytes: usize, persistent: bool) -> Batch {
        let body_bytes = body_bytes.max(8);
        let mut one = Vec::new();
        let publish = [b"\0\x3c\0\x28\0\0\0".as_slice(), &short(QUEUE), b"\0"].concat();
        put_frame(&mut one, METHOD, 1, &publish);
        let size = (body_bytes as u64).to_be_bytes();
        // The property delivery-mode.
        let properties = [b"\x10\0".as_slice(), &[1 + u8::from(persistent)]].concat();
        put_frame(&mut one, HEADER, 1, &[b"\0\x3c\0\0".as_slice(), &size, &properties].concat());
        let number_at = one.len() + 7;
        let body: Vec<u8> = (0..body_bytes).map(|at| ((at * 7919) >> 3) as u8).collect();
        put_frame(&mut one, BODY, 1, &body);
        Batch { message_bytes: one.len(), number_at, bytes: one.repeat(BATCH as usize) }
    }

    fn numbered(&mut self, first: u64, count: u64) -> &[u8] {
        for (message, number) in self.bytes.chunks_exact_mut(self.message_bytes).zip(first..first + count) {
            message[self.number_at..self.number_at + 8].copy_from_slice(&number.to_be_bytes());
        }
        &self.bytes[..self.message_bytes * count as usize]
    }
}

pub(crate) fn put_frame(into: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    into.push(kind);
    into.extend_from_slice(&channel.to_be_bytes());
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    into.extend_from_slice(payload);
    into.push(FRAME_END);
}

pub(crate) fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn method_of(payload: &[u8]) -> (u16, u16) {
    let number = |at: usize| payload.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    (number(0), number(2))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// The message count of declare-ok, which stands behind the queue's name.
fn count_behind_name(answer: &[u8]) -> u64 {
    let name_bytes = answer.first().map_or(0, |length| usize::from(*length));
    u64::from(number(answer.get(1 + name_bytes..).unwrap_or_default()))
}
