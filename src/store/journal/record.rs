//! How a record is written: a header, then the operations of every change that was gathered into it. Read back by the
//! index, by paging in and by recovery; written by [`super::Changes`] and [`super::Journal::commit`].
//!
//! ```text
//! header      version (1) ‖ number (8) ‖ records kept below it (8) ‖ CRC-32 of all else (4), little-endian
//! enqueue     1 | flags ‖ exchange bytes (1) ‖ routing key bytes (1) ‖ with the flag "wide": more of them (1) ‖ format (1) ‖
//!             property bytes ‖ enqueued at ‖ content bytes ‖ number of targets ‖ targets ‖ content
//!   target    queue ‖ position ‖ priority (1) ‖ with the flag "returned": 0, or delivery count plus 1
//! settle      2 ‖ queue ‖ first position ‖ last position minus first
//! requeue     3 ‖ queue ‖ position ‖ delivery count
//! drop queue  4 ‖ queue
//! delivered   5 ‖ queue ‖ priority (1) ‖ position
//! ```
//! Numbers without a size are LEB128. The flags of an enqueue: 0x10, not to be recovered (it was written to save memory only);
//! 0x20, returned: this is a copy that carries what was noted about the message since it was first written; 0x40: the message
//! was dead-lettered by this broker; 0x80, wide: its routing key has 256 bytes or more, or it is in another format than that of
//! AMQP 0-9-1, which is 0.

use super::numbers::{self, Numbers};
use crate::message::{FORMAT_AMQP_091, Lsn, Millis, Position, QueueId, StoredShape};
use crate::steps;
use crate::store::NUMBER_MAX;

const VERSION: u8 = 1;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 21;

const KIND: u8 = 0x0f;
const ENQUEUE: u8 = 1;
const SETTLE: u8 = 2;
const REQUEUE: u8 = 3;
const DROP_QUEUE: u8 = 4;
const DELIVERED: u8 = 5;
const TRANSIENT: u8 = 0x10;
const RETURNED: u8 = 0x20;
const DEAD_LETTERED: u8 = 0x40;
const WIDE: u8 = 0x80;

/// Makes the header of a record that holds `body`. `kept` is how many records with lower numbers are still kept.
pub(super) fn header(lsn: Lsn, kept: u64, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = VERSION;
    header[1..9].copy_from_slice(&lsn.0.to_le_bytes());
    header[9..17].copy_from_slice(&kept.to_le_bytes());
    let checksum = checksum(&header[..17], body);
    header[17..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Checks a record against its header; returns how many lower records were kept when it was written.
pub(super) fn check(lsn: Lsn, record: &[u8]) -> Result<u64, String> {
    let Some((header, body)) = record.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("it is {} bytes long, shorter than a header", record.len()));
    };
    let number = |range: std::ops::Range<usize>| {
        header[range].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    if header[0] != VERSION {
        return Err(format!("it has version {}, and this version of Leveret reads {VERSION}", header[0]));
    }
    if number(17..21) != u64::from(checksum(&header[..17], body)) {
        return Err("its checksum does not match".into());
    }
    if number(1..9) != lsn.0 {
        return Err(format!("it says that it is record {}", number(1..9)));
    }
    Ok(number(9..17))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// One operation of a record.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Enqueue(Enqueue<'a>),
    /// Every position from first to last, those not seen yet among them.
    Settle {
        queue: QueueId,
        first: Position,
        last: Position,
    },
    Requeue {
        queue: QueueId,
        position: Position,
        delivery_count: u32,
    },
    DropQueue {
        queue: QueueId,
    },
    Delivered {
        queue: QueueId,
        priority: u8,
        position: Position,
    },
}

impl Operation<'_> {
    /// Whether it speaks of positions that a queue may have; a range may reach to the end of numbers.
    fn is_sound(&self) -> bool {
        let is_position = |position: Position| position.0 <= NUMBER_MAX;
        match self {
            Operation::Enqueue(enqueue) => {
                let mut targets = enqueue.targets();
                let sound = targets.by_ref().take_while(|target| is_position(target.position)).count();
                sound as u64 == enqueue.target_count
            }
            Operation::Settle { first, last, .. } => {
                is_position(*first) && (is_position(*last) || last.0 == u64::MAX)
            }
            Operation::Requeue { position, .. } | Operation::Delivered { position, .. } => {
                is_position(*position)
            }
            Operation::DropQueue { .. } => true,
        }
    }
}

/// A message and the queues that it went into.
#[derive(Debug)]
pub(super) struct Enqueue<'a> {
    pub(super) shape: StoredShape,
    pub(super) enqueued_at: Millis,
    pub(super) transient: bool,
    pub(super) content: &'a [u8],
    /// Where the content starts, counted from the start of the record's body.
    pub(super) content_at: usize,
    returned: bool,
    target_count: u64,
    targets: &'a [u8],
    /// The target when there is one, as mostly: it was read to find what is behind it.
    only_target: Option<Target>,
}

/// One queue's copy of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) queue: QueueId,
    pub(super) position: Position,
    pub(super) priority: u8,
    /// How often it was delivered, when it came back at least once.
    pub(super) returned: Option<u32>,
}

impl<'a> Enqueue<'a> {
    /// The queues that the message went into.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target> + 'a {
        let mut reader = OperationReader { bytes: self.targets, at: 0 };
        let (returned, only, mut left) = (self.returned, self.only_target, self.target_count);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            only.or_else(|| reader.target(returned))
        })
    }

    /// Bytes of the body alone.
    pub(super) fn body_bytes(&self) -> u64 {
        let envelope = u64::from(self.shape.exchange_bytes)
            + u64::from(self.shape.routing_key_bytes)
            + u64::from(self.shape.properties_bytes);
        (self.content.len() as u64).saturating_sub(envelope)
    }
}

/// Reads a record's operations in order; ends early at what it can't read, see [`OperationReader::is_sound`].
#[derive(Clone)]
pub(super) struct OperationReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> OperationReader<'a> {
    /// Reads what follows a record's header.
    pub(super) fn new(body: &'a [u8]) -> OperationReader<'a> {
        OperationReader { bytes: body, at: 0 }
    }

    /// Whether all of a body can be read. Its checksum matched, so if not, something wrote what this version doesn't know.
    pub(super) fn is_sound(body: &[u8]) -> bool {
        let mut reader = OperationReader::new(body);
        while let Some(operation) = reader.operation() {
            if !operation.is_sound() {
                return false;
            }
        }
        reader.is_at_end()
    }

    fn operation(&mut self) -> Option<Operation<'a>> {
        steps::count(1);
        let start = self.at;
        let operation = self.parse();
        if operation.is_none() {
            self.at = start;
        }
        operation
    }

    fn parse(&mut self) -> Option<Operation<'a>> {
        let kind = self.byte()?;
        Some(match kind & KIND {
            ENQUEUE => Operation::Enqueue(self.enqueue(kind)?),
            SETTLE => {
                let (queue, first) = (QueueId(self.number()?), self.number()?);
                let last = first.checked_add(self.number()?)?;
                Operation::Settle { queue, first: Position(first), last: Position(last) }
            }
            REQUEUE => Operation::Requeue {
                queue: QueueId(self.number()?),
                position: Position(self.number()?),
                delivery_count: u32::try_from(self.number()?).ok()?,
            },
            DROP_QUEUE => Operation::DropQueue { queue: QueueId(self.number()?) },
            DELIVERED => Operation::Delivered {
                queue: QueueId(self.number()?),
                priority: self.byte()?,
                position: Position(self.number()?),
            },
            _ => return None,
        })
    }

    fn enqueue(&mut self, kind: u8) -> Option<Enqueue<'a>> {
        let (exchange_bytes, low) = (self.byte()?, self.byte()?);
        let (high, format) =
            if kind & WIDE == 0 { (0, FORMAT_AMQP_091) } else { (self.byte()?, self.byte()?) };
        let shape = StoredShape {
            format,
            exchange_bytes,
            routing_key_bytes: u16::from_le_bytes([low, high]),
            properties_bytes: u32::try_from(self.number()?).ok()?,
            dead_lettered: kind & DEAD_LETTERED != 0,
        };
        let enqueued_at = self.number()?;
        let content_bytes = usize::try_from(self.number()?).ok()?;
        let target_count = self.number()?;
        let returned = kind & RETURNED != 0;
        let targets_at = self.at;
        let mut last_target = None;
        for _ in 0..target_count {
            last_target = Some(self.target(returned)?);
        }
        let only_target = last_target.filter(|_| target_count == 1);
        let targets = &self.bytes[targets_at..self.at];
        let content_at = self.at;
        let content = self.bytes.get(content_at..content_at.checked_add(content_bytes)?)?;
        self.at += content_bytes;
        let transient = kind & TRANSIENT != 0;
        Some(Enqueue {
            shape,
            enqueued_at,
            transient,
            content,
            content_at,
            returned,
            target_count,
            targets,
            only_target,
        })
    }

    fn target(&mut self, returned: bool) -> Option<Target> {
        steps::count(1);
        let (queue, position) = (QueueId(self.number()?), Position(self.number()?));
        let priority = self.byte()?;
        let returned = match returned {
            true => self.number()?.checked_sub(1).map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            false => None,
        };
        Some(Target { queue, position, priority, returned })
    }

    /// The next byte, which stays.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Whether all was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, bytes) = numbers::read(self.bytes.get(self.at..)?)?;
        self.at += bytes;
        Some(number)
    }
}

impl<'a> Iterator for OperationReader<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        self.operation()
    }
}

/// Writes one operation of a record.
pub(super) struct OperationWriter<'a>(pub(super) &'a mut Vec<u8>);

impl OperationWriter<'_> {
    pub(super) fn enqueue(
        &mut self,
        (content, shape): (&[u8], StoredShape),
        enqueued_at: Millis,
        transient: bool,
        targets: impl ExactSizeIterator<Item = Target> + Clone,
    ) {
        let returned = targets.clone().any(|target| target.returned.is_some());
        let [low, high] = shape.routing_key_bytes.to_le_bytes();
        let wide = high != 0 || shape.format != FORMAT_AMQP_091;
        let dead_lettered = (shape.dead_lettered, DEAD_LETTERED);
        let flags = [(transient, TRANSIENT), (returned, RETURNED), dead_lettered, (wide, WIDE)]
            .into_iter()
            .fold(0, |flags, (set, flag)| if set { flags | flag } else { flags });
        let mut numbers = Numbers::new();
        for byte in [ENQUEUE | flags, shape.exchange_bytes, low] {
            numbers.byte(byte);
        }
        if wide {
            numbers.byte(high);
            numbers.byte(shape.format);
        }
        numbers.number(u64::from(shape.properties_bytes));
        numbers.number(enqueued_at);
        numbers.number(content.len() as u64);
        numbers.number(targets.len() as u64);
        self.0.reserve(content.len() + 2 * size_of::<Numbers>());
        self.0.extend_from_slice(numbers.as_bytes());
        for target in targets {
            let mut numbers = Numbers::new();
            numbers.number(target.queue.0);
            numbers.number(target.position.0);
            numbers.byte(target.priority);
            if returned {
                numbers.number(target.returned.map_or(0, |count| u64::from(count) + 1));
            }
            self.0.extend_from_slice(numbers.as_bytes());
        }
        self.0.extend_from_slice(content);
    }

    pub(super) fn settle(&mut self, queue: QueueId, first: Position, last: Position) {
        self.numbers(SETTLE, &[queue.0, first.0, last.0 - first.0]);
    }

    pub(super) fn requeue(&mut self, queue: QueueId, position: Position, delivery_count: u32) {
        self.numbers(REQUEUE, &[queue.0, position.0, u64::from(delivery_count)]);
    }

    pub(super) fn drop_queue(&mut self, queue: QueueId) {
        self.numbers(DROP_QUEUE, &[queue.0]);
    }

    pub(super) fn delivered(&mut self, queue: QueueId, priority: u8, position: Position) {
        let mut operation = Numbers::new();
        operation.byte(DELIVERED);
        operation.number(queue.0);
        operation.byte(priority);
        operation.number(position.0);
        self.0.extend_from_slice(operation.as_bytes());
    }

    fn numbers(&mut self, kind: u8, numbers: &[u64]) {
        let mut operation = Numbers::new();
        operation.byte(kind);
        numbers.iter().for_each(|number| operation.number(*number));
        self.0.extend_from_slice(operation.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_as_they_were_written() {
        for (format, routing_key_bytes) in [(0, 1), (0, 255), (0, 256), (0, u16::MAX), (1, 1)] {
            let shape = StoredShape {
                format,
                exchange_bytes: 2,
                routing_key_bytes,
                properties_bytes: 300,
                dead_lettered: true,
            };
            let content = vec![9; 309 + usize::from(routing_key_bytes)];
            come_back(shape, &content);
        }
    }

    fn come_back(shape: StoredShape, content: &[u8]) {
        let target = |queue, position, returned| Target {
            queue: QueueId(queue),
            position: Position(position),
            priority: 7,
            returned,
        };
        let targets = [target(1, 128, None), target(u64::MAX, NUMBER_MAX, Some(u32::MAX - 1))];
        let mut body = Vec::new();
        let mut writer = OperationWriter(&mut body);
        writer.enqueue((content, shape), 1_700_000_000_000, true, targets.iter().copied());
        writer.settle(QueueId(5), Position(3), Position(u64::MAX));
        writer.requeue(QueueId(5), Position(3), 9);
        writer.drop_queue(QueueId(6));
        writer.delivered(QueueId(5), 2, Position(1 << 40));
        assert!(OperationReader::is_sound(&body));
        let mut reader = OperationReader::new(&body);
        let Some(Operation::Enqueue(enqueue)) = reader.next() else { panic!("an enqueue was written") };
        assert_eq!(enqueue.targets().collect::<Vec<_>>(), targets);
        assert_eq!((enqueue.content, enqueue.shape, enqueue.transient), (content, shape, true));
        assert_eq!((enqueue.enqueued_at, enqueue.body_bytes()), (1_700_000_000_000, 7));
        assert_eq!(&body[enqueue.content_at..enqueue.content_at + content.len()], content);
        let rest: Vec<_> = reader.map(|operation| format!("{operation:?}")).collect();
        assert_eq!(rest.len(), 4);
        assert!(rest[0].contains("last: Position(18446744073709551615)"), "{rest:?}");
    }

    #[test]
    fn positions_beyond_the_largest_are_damage() {
        for (position, is_sound) in [(NUMBER_MAX, true), (NUMBER_MAX + 1, false)] {
            let mut body = Vec::new();
            OperationWriter(&mut body).requeue(QueueId(1), Position(position), 1);
            assert_eq!(OperationReader::is_sound(&body), is_sound, "{position}");
        }
    }

    #[test]
    fn a_record_that_is_not_what_was_written_is_told_from_one_that_is() {
        let body = b"\x04\x01";
        let mut record = header(Lsn(7), 3, body).to_vec();
        record.extend_from_slice(body);
        assert_eq!(check(Lsn(7), &record), Ok(3));
        assert!(check(Lsn(8), &record).unwrap_err().contains("record 7"));
        assert!(check(Lsn(7), &record[..record.len() - 1]).unwrap_err().contains("checksum"));
        assert!(check(Lsn(7), &record[..20]).unwrap_err().contains("shorter"));
        for at in 1..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            assert!(check(Lsn(7), &damaged).unwrap_err().contains("checksum"), "byte {at}");
        }
        record[0] = 2;
        assert!(check(Lsn(7), &record).unwrap_err().contains("version 2"));
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..state % 40)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u8 & 0xb7
                })
                .collect();
            OperationReader::is_sound(&bytes);
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }
}
