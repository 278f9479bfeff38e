//! The newest messages of a stream, in memory: those that are not durable yet, those that are not in the log yet, and of those in
//! the log the last ones, for consumers that are near the end.
//!
//! ```text
//!        log                   tail
//! ──────────────────┬──────────┬──────────────┬─────────────┬───────
//!                   first      written        readable      next
//! ```
//! Offsets are given before their messages come, so those of another session may come first: they wait in `early` until what
//! is before them is there.

use crate::message::{Lsn, Message, Millis};
use std::collections::{BTreeMap, VecDeque};

/// A message in memory.
#[derive(Clone, Debug)]
pub(super) struct TailEntry {
    pub(super) offset: u64,
    pub(super) enqueued_at: Millis,
    pub(super) message: Message,
}

/// What is to be written to the log.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    pub(super) entries: Vec<TailEntry>,
    /// The offset behind the last of them.
    pub(super) end: u64,
    /// When the last of them was published.
    pub(super) last_at: Millis,
}

/// Messages that came before those of lower offsets.
#[derive(Debug)]
struct Early {
    messages: Vec<Message>,
    lsn: Lsn,
    enqueued_at: Millis,
}

/// The newest messages of a stream, see the module.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<TailEntry>,
    /// Bytes of all of them, and of those that are not in the log.
    bytes: usize,
    unwritten_bytes: usize,
    /// How many are not in the log.
    unwritten_entries: usize,
    written: u64,
    readable: u64,
    next: u64,
    /// What came with the last record that is readable began here; `None` until there is one since the start.
    last_chunk: Option<u64>,
    /// The offsets behind what was published, each with the record that it is durable with.
    pending: VecDeque<(u64, Lsn)>,
    early: BTreeMap<u64, Early>,
}

/// What an entry takes besides its message's bytes, roughly.
const ENTRY_BYTES: usize = size_of::<TailEntry>() + 48;

fn size(message: &Message) -> usize {
    message.size_bytes() + ENTRY_BYTES
}

impl Tail {
    /// An empty one behind a log whose next offset is `next`.
    pub(super) fn new(next: u64) -> Tail {
        Tail {
            entries: VecDeque::new(),
            bytes: 0,
            unwritten_bytes: 0,
            unwritten_entries: 0,
            written: next,
            readable: next,
            next,
            last_chunk: None,
            pending: VecDeque::new(),
            early: BTreeMap::new(),
        }
    }

    /// The offset that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The offset behind what can be read.
    pub(super) fn readable(&self) -> u64 {
        self.readable
    }

    /// The offset that what came with the last readable record began with, if there is one since the start.
    pub(super) fn last_chunk(&self) -> Option<u64> {
        self.last_chunk
    }

    /// The first offset that is here, or the next one.
    pub(super) fn first(&self) -> u64 {
        self.entries.front().map_or(self.next, |first| first.offset)
    }

    /// When the first of them was published.
    pub(super) fn first_at(&self) -> Option<Millis> {
        self.entries.front().map(|first| first.enqueued_at)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    pub(super) fn unwritten_entries(&self) -> u64 {
        self.unwritten_entries as u64
    }

    /// Takes published messages that are durable with that record.
    pub(super) fn push(&mut self, first: u64, messages: Vec<Message>, lsn: Lsn, now: Millis) {
        if first > self.next {
            self.early.insert(first, Early { messages, lsn, enqueued_at: now });
            return;
        }
        self.add(messages, lsn, now);
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() == self.next) {
            let Early { messages, lsn, enqueued_at } = entry.remove();
            self.add(messages, lsn, enqueued_at);
        }
    }

    fn add(&mut self, messages: Vec<Message>, lsn: Lsn, now: Millis) {
        for message in messages {
            self.put(self.next, message, now);
            self.next += 1;
        }
        self.pending.push_back((self.next, lsn));
    }

    fn put(&mut self, offset: u64, message: Message, enqueued_at: Millis) {
        let bytes = size(&message);
        self.bytes += bytes;
        self.unwritten_bytes += bytes;
        self.unwritten_entries += 1;
        self.entries.push_back(TailEntry { offset, enqueued_at, message });
    }

    /// Takes a message that the journal had at the start; offsets may be left out.
    pub(super) fn restore(&mut self, offset: u64, message: Message, enqueued_at: Millis) {
        self.put(offset, message, enqueued_at);
        self.next = offset + 1;
        self.readable = self.next;
    }

    /// The offsets before `next` have been given.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.readable = self.next;
    }

    /// Notes up to where the journal is durable; returns the record that the next messages wait for, if there are any.
    pub(super) fn note_durable(&mut self, durable: Lsn) -> Option<Lsn> {
        let mut last = None;
        while let Some((end, lsn)) = self.pending.pop_front_if(|(_, lsn)| *lsn <= durable) {
            // What came with one record is one chunk.
            if last.replace(lsn) != Some(lsn) {
                self.last_chunk = Some(self.readable);
            }
            self.readable = end;
        }
        self.pending.front().map(|(_, lsn)| *lsn)
    }

    /// Those that can be read and are not in the log, until they take `bytes_max`.
    pub(super) fn unwritten(&self, bytes_max: usize) -> Unwritten {
        let mut unwritten = Unwritten { end: self.written, ..Unwritten::default() };
        let mut bytes = 0;
        let from = self.place(self.written);
        for entry in self.entries.range(from..).take_while(|entry| entry.offset < self.readable) {
            bytes += size(&entry.message);
            unwritten.end = entry.offset + 1;
            unwritten.last_at = entry.enqueued_at;
            unwritten.entries.push(entry.clone());
            if bytes >= bytes_max {
                break;
            }
        }
        unwritten
    }

    /// Those before that offset are in the log.
    pub(super) fn note_written(&mut self, end: u64) {
        let range = self.place(self.written)..self.place(end);
        self.unwritten_entries -= range.len();
        self.unwritten_bytes -= self.entries.range(range).map(|entry| size(&entry.message)).sum::<usize>();
        self.written = self.written.max(end);
    }

    /// Lets those go that are in the log and before that offset, and more until those in the log take `bytes_max`.
    pub(super) fn drop_written(&mut self, wanted_from: u64, bytes_max: usize) {
        while let Some(first) = self.entries.front().filter(|first| first.offset < self.written) {
            if first.offset >= wanted_from && self.bytes - self.unwritten_bytes <= bytes_max {
                break;
            }
            self.bytes -= size(&first.message);
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
        }
    }

    /// Lets all of it go.
    pub(super) fn clear(&mut self) {
        *self = Tail { next: self.next, ..Tail::new(self.next) };
    }

    /// The readable entries from an offset on; `None` when that is in the log.
    pub(super) fn from(&self, offset: u64) -> Option<impl Iterator<Item = &TailEntry>> {
        let is_here = offset >= self.first() || offset >= self.written;
        let readable = self.readable;
        is_here.then(|| {
            let entries = self.entries.range(self.place(offset)..);
            entries.take_while(move |entry| entry.offset < readable)
        })
    }

    /// The first readable offset here that was published at a time or later.
    pub(super) fn offset_at(&self, at: Millis) -> u64 {
        let found = self.entries.iter().find(|entry| entry.enqueued_at >= at);
        found.map_or(self.readable, |entry| entry.offset.min(self.readable))
    }

    /// Where the first entry of that offset, or behind it, stands.
    fn place(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(count: usize) -> Vec<Message> {
        (0..count).map(|_| Message::new("", b"s", &[0, 0], b"x").unwrap()).collect()
    }

    fn offsets(tail: &Tail, from: u64) -> Option<Vec<u64>> {
        tail.from(from).map(|entries| entries.map(|entry| entry.offset).collect())
    }

    #[test]
    fn what_comes_early_waits_and_what_is_not_durable_is_not_read() {
        let mut tail = Tail::new(10);
        tail.push(12, messages(1), Lsn(5), 1);
        assert_eq!((tail.next(), offsets(&tail, 10)), (10, Some(vec![])));
        tail.push(10, messages(2), Lsn(6), 1);
        assert_eq!(tail.next(), 13);
        // In the order of offsets, whatever the order of records.
        assert_eq!(tail.note_durable(Lsn(5)), Some(Lsn(6)));
        assert_eq!(offsets(&tail, 10), Some(vec![]));
        assert_eq!(tail.note_durable(Lsn(6)), None);
        assert_eq!(offsets(&tail, 11), Some(vec![11, 12]));
        assert_eq!((tail.readable(), tail.last_chunk()), (13, Some(12)), "what came with one record");
    }

    #[test]
    fn what_is_written_goes_when_no_consumer_wants_it() {
        let mut tail = Tail::new(0);
        tail.push(0, messages(4), Lsn(1), 7);
        tail.note_durable(Lsn(1));
        let unwritten = tail.unwritten(1);
        assert_eq!((unwritten.entries.len(), unwritten.end, unwritten.last_at), (1, 1, 7));
        tail.note_written(3);
        assert_eq!(tail.unwritten_entries(), 1);
        tail.drop_written(2, usize::MAX);
        assert_eq!((offsets(&tail, 1), offsets(&tail, 2)), (None, Some(vec![2, 3])));
        tail.drop_written(2, 0);
        assert_eq!((offsets(&tail, 2), offsets(&tail, 3)), (None, Some(vec![3])));
        tail.note_written(4);
        tail.drop_written(9, 0);
        assert_eq!((tail.bytes(), tail.unwritten_bytes(), offsets(&tail, 4)), (0, 0, Some(vec![])));
        assert_eq!(offsets(&tail, 3), None);
    }
}
