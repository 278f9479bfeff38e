//! Checkpoints of the index: a digest of every record that is kept, so that a restart reads those instead of the records. What was
//! appended later is read as ever.
//!
//! A digest says of its record what can't change, so a checkpoint is no picture of one moment: which of its records are still kept is the
//! log's to say, and a digest of one that is not is passed over. A record without a digest is read. So an old checkpoint is as good
//! as a new one, only shorter. It holds for the log that it was made of: the checksum of the newest record that both have shows that.
//!
//! ```text
//! version (1) ‖ last record (8) ‖ for each record: its number minus the one before ‖ its bytes ‖ its CRC-32 (4) ‖ bytes of the digest ‖
//! digest ‖ CRC-32 of all before (4)
//! ```
//! Numbers without a size are LEB128. Records are read and digests made by the caller of [`Journal::checkpoint`], with the index locked only
//! to list which records are kept; the digests of those that the last checkpoint had are taken from there.

use super::digest::write_digest;
use super::numbers::{self, Numbers};
use super::record::{HEADER_BYTES, OperationReader, check};
use super::{Journal, RecordLog, StoreError};
use crate::message::Lsn;
use bytes::Bytes;
use std::sync::atomic::Ordering;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 9;
const CRC_BYTES: usize = 4;

/// A checkpoint may take this share of what was written since the last one: where very much is kept they are made less often.
const STATE_SHARE: u64 = 4;

/// What a log has of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last record that it may speak of.
    pub at: Lsn,
    /// What [`RecordLog::checkpoint`] was given.
    pub state: Bytes,
    /// The numbers of the records up to that one that the log still keeps, in order.
    pub kept: Vec<Lsn>,
}

/// What the last checkpoint was.
#[derive(Debug, Default)]
pub(super) struct Checkpointing {
    /// Bytes that had been written to the log when it was made.
    written_bytes: u64,
    state_bytes: u64,
    /// Up to this record its digests are of the records that there are; behind it they may be of records that a crash took.
    trusted: Lsn,
}

impl Checkpointing {
    /// At the start, where the log has a checkpoint that holds up to that record.
    pub(super) fn trusting(trusted: Lsn) -> Checkpointing {
        Checkpointing { trusted, ..Checkpointing::default() }
    }
}

/// The digest of one record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) lsn: Lsn,
    pub(super) record_bytes: usize,
    pub(super) crc: u32,
    pub(super) digest: Bytes,
}

impl Journal {
    /// Whether so much was written since the last checkpoint that one is worth its cost.
    pub fn is_checkpoint_due(&self) -> bool {
        let every = self.options.checkpoint_every_bytes;
        every > 0 && (self.is_checkpoint_wrong.load(Ordering::Relaxed) || self.is_checkpoint_due_after(every))
    }

    /// The same after that many bytes of records, instead of what the options say.
    pub fn is_checkpoint_due_after(&self, bytes: u64) -> bool {
        let last = self.checkpointing.lock();
        let since = self.written_bytes.load(Ordering::Relaxed).saturating_sub(last.written_bytes);
        self.options.checkpoint_every_bytes > 0
            && since >= bytes.max(last.state_bytes.saturating_mul(STATE_SHARE))
    }

    /// Makes a checkpoint of what is durable. It reads the records that are kept and that the last checkpoint did not have, so it is for
    /// a thread that has the time; nothing waits for it meanwhile.
    ///
    /// # Errors
    /// When the log is out of something, or the checkpoint can't be written. The last one is good all the same.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let mut last = self.checkpointing.lock();
        self.is_checkpoint_wrong.store(false, Ordering::Relaxed);
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        let (at, kept) = {
            let index = self.index.lock();
            let at = self.durable().min(index.ledger.applied());
            (at, index.ledger.kept_up_to(at))
        };
        // A record that a read has failed for is left out, and read at the next start, which says what is wrong with it.
        let distrusted = self.distrusted.lock().clone();
        let before = self.log.last_checkpoint()?.and_then(|checkpoint| entries_of(&checkpoint).ok());
        let mut before =
            before.unwrap_or_default().into_iter().take_while(|entry| entry.lsn <= last.trusted).peekable();
        let mut state = State::new(at);
        for lsn in kept.into_iter().filter(|lsn| !distrusted.contains(lsn)) {
            while before.next_if(|entry| entry.lsn < lsn).is_some() {}
            let entry = match before.next_if(|entry| entry.lsn == lsn) {
                Some(entry) => Some(entry),
                None => match self.log.get(lsn) {
                    Ok(record) => record.and_then(|record| entry_of(lsn, &record)),
                    Err(error) if error.may_pass() => return Err(error),
                    // The next start reads it, and says what is lost.
                    Err(_) => None,
                },
            };
            if let Some(entry) = entry
                && !state.add(&entry, self.options.checkpoint_bytes_max)
            {
                break;
            }
        }
        let state = state.end();
        self.log.checkpoint(at, &state)?;
        *last = Checkpointing { written_bytes, state_bytes: state.len() as u64, trusted: at };
        Ok(())
    }

    /// A record could not be read, though it is kept: the next checkpoint, which is due, is made without it, so that the next start reads
    /// it and reports what is lost.
    pub(super) fn distrust(&self, lsn: Lsn) {
        if self.distrusted.lock().insert(lsn) {
            self.is_checkpoint_wrong.store(true, Ordering::Relaxed);
        }
    }
}

/// The digest of a record, unless it is damaged: then the next start reads it and says so.
fn entry_of(lsn: Lsn, record: &Bytes) -> Option<Entry> {
    check(lsn, record).ok()?;
    let body = &record[HEADER_BYTES..];
    if !OperationReader::is_sound(body) {
        return None;
    }
    let mut digest = Vec::new();
    write_digest(body, &mut digest);
    Some(Entry { lsn, record_bytes: record.len(), crc: crc_of(record), digest: digest.into() })
}

/// The checksum in a record's header, which is about all of it.
pub(super) fn crc_of(record: &[u8]) -> u32 {
    let crc = record.get(HEADER_BYTES - CRC_BYTES..HEADER_BYTES).and_then(<[u8]>::first_chunk);
    crc.map_or(0, |crc| u32::from_le_bytes(*crc))
}

/// A checkpoint being put together.
struct State {
    bytes: Vec<u8>,
    last: Lsn,
}

impl State {
    fn new(at: Lsn) -> State {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&at.0.to_le_bytes());
        State { bytes, last: Lsn(0) }
    }

    /// False when it would be larger than that; then nothing was added.
    fn add(&mut self, entry: &Entry, bytes_max: usize) -> bool {
        let mut head = Numbers::new();
        head.number(entry.lsn.0 - self.last.0);
        head.number(entry.record_bytes as u64);
        entry.crc.to_le_bytes().into_iter().for_each(|byte| head.byte(byte));
        head.number(entry.digest.len() as u64);
        let head = head.as_bytes();
        if self.bytes.len() + head.len() + entry.digest.len() + CRC_BYTES > bytes_max {
            return false;
        }
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(&entry.digest);
        self.last = entry.lsn;
        true
    }

    fn end(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

/// The digests of a checkpoint, in order of their records.
///
/// # Errors
/// Why it can't be used.
pub(super) fn entries_of(checkpoint: &Checkpoint) -> Result<Vec<Entry>, String> {
    let state = &checkpoint.state;
    let damaged = || "it is damaged".to_owned();
    let (rest, crc) = state.split_last_chunk::<CRC_BYTES>().ok_or_else(damaged)?;
    if rest.first() != Some(&VERSION) && !rest.is_empty() {
        return Err(format!("it has version {}, and this version of Leveret reads {VERSION}", rest[0]));
    }
    let at = rest.get(1..HEAD_BYTES).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    if crc32fast::hash(rest) != u32::from_le_bytes(*crc) || u64::from_le_bytes(*at) != checkpoint.at.0 {
        return Err(damaged());
    }
    let (end, mut at, mut last) = (rest.len(), HEAD_BYTES, Lsn(0));
    let mut entries = Vec::new();
    while at < end {
        let entry = entry_at(state, &mut at, end, last).ok_or_else(damaged)?;
        last = entry.lsn;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry_at(state: &Bytes, at: &mut usize, end: usize, last: Lsn) -> Option<Entry> {
    let number = |at: &mut usize| {
        let (number, bytes) = numbers::read(state.get(*at..end)?)?;
        *at += bytes;
        Some(number)
    };
    let lsn = Lsn(last.0.checked_add(number(at)?.max(1))?);
    let record_bytes = usize::try_from(number(at)?).ok()?;
    let crc = state.get(*at..end)?.first_chunk()?;
    *at += CRC_BYTES;
    let bytes = usize::try_from(number(at)?).ok()?;
    let digest_end = at.checked_add(bytes).filter(|digest_end| *digest_end <= end)?;
    let digest = state.slice(*at..digest_end);
    *at = digest_end;
    Some(Entry { lsn, record_bytes, crc: u32::from_le_bytes(*crc), digest })
}

/// Whether a log has the record that a checkpoint says it has.
pub(super) fn is_same(log: &dyn RecordLog, entry: &Entry) -> Option<Bytes> {
    let record = log.get(entry.lsn).ok().flatten()?;
    (check(entry.lsn, &record).is_ok() && crc_of(&record) == entry.crc && record.len() == entry.record_bytes)
        .then_some(record)
}
