//! The write-ahead log: what was done since the last checkpoint, in the order in which it was done. A commit is one write at the
//! end of a file whose blocks are there already, and one fdatasync.
//!
//! **Segments** are files of [`WalOptions::segment_bytes`], named by the ordinal of their first entry. An entry is never cut; one that
//! is larger than a segment makes its segment larger. A segment is synced before the next one is begun. The oldest one goes when
//! the checkpoint is past it, and is used again under a new name: a file whose blocks are on the disk is synced faster.
//!
//! **Replay** hands back all entries. After a crash the end may be cut or have holes: it ends at the first entry that is not whole,
//! unless a later one says that the missing one had been synced. Then it is damage, and reported.

mod entry;
mod ready;
mod replay;

pub(super) use entry::{ALIGNMENT, Entry, EntryMagic, Found, Ordinals, Replayed, padded};

use super::exhausted::lasting;
use super::{Durability, NUMBER_MAX};
use crate::files;
use crate::message::Lsn;
use bytes::{Bytes, BytesMut};
use entry::RECORD_HEAD_BYTES;
use ready::Ready;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How large it may get.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// Bytes after which a segment is full.
    pub segment_bytes: u64,
    /// Bytes of all segments after which the oldest one is moved into the database.
    pub bytes_max: u64,
    /// Segments after which it is, however little is in them: each is a file that is open.
    pub segments_max: usize,
    /// Whether a thread does that, or the thread that syncs: a test may have to know when.
    pub in_background: bool,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 16 << 20, bytes_max: 512 << 20, segments_max: 1024, in_background: true }
    }
}

/// The log takes at most this share of the volume it is on.
const VOLUME_SHARE: u64 = 16;

impl WalOptions {
    /// Files that the store may have open at once for the log: twice as many segments as it should have, the one that is written
    /// to, the next one, one to be used again, and the folder; and the definitions, and them anew.
    pub fn files_max(&self) -> usize {
        self.segments_max.saturating_mul(2).saturating_add(6)
    }

    /// The same, or less where the volume is small.
    pub(super) fn for_volume(self, path: &Path) -> WalOptions {
        let volume = rustix::fs::statvfs(path);
        let volume_bytes = volume.map_or(u64::MAX, |volume| volume.f_blocks.saturating_mul(volume.f_frsize));
        let bytes_max = self.bytes_max.min(volume_bytes / VOLUME_SHARE);
        WalOptions { bytes_max, segment_bytes: self.segment_bytes.min(bytes_max / 2), ..self }
    }
}

/// A file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    /// Records in it that are still needed.
    live: AtomicU64,
}

impl Segment {
    /// Whether no record in it is needed any more.
    pub(super) fn is_dead(&self) -> bool {
        self.live.load(Ordering::Acquire) == 0
    }
}

/// Where a record lies in the log. The record counts as needed until [`Place::release`].
#[derive(Debug)]
pub(super) struct Place {
    segment: Arc<Segment>,
    at: u64,
    /// Bytes of the record.
    bytes: u32,
}

impl Place {
    fn new(segment: &Arc<Segment>, at: u64, bytes: usize) -> Place {
        segment.live.fetch_add(1, Ordering::AcqRel);
        Place { segment: segment.clone(), at, bytes: bytes as u32 }
    }

    /// The record is not needed here any more; whether it was the segment's last one.
    pub(super) fn release(self) -> bool {
        self.segment.live.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// What has to be known to read the record while nothing is locked.
    pub(super) fn reader(&self) -> Reader {
        Reader { segment: self.segment.clone(), at: self.at, bytes: self.bytes }
    }

    pub(super) fn is_in(&self, segment: &Arc<Segment>) -> bool {
        Arc::ptr_eq(&self.segment, segment)
    }
}

/// Reads one record. The segment is not used again while there is one.
#[derive(Debug)]
pub(super) struct Reader {
    segment: Arc<Segment>,
    at: u64,
    bytes: u32,
}

impl Reader {
    /// The record's data. An error of the kind [`io::ErrorKind::InvalidData`] says that it is damaged.
    pub(super) fn read(&self, magic: EntryMagic, lsn: Lsn) -> io::Result<Bytes> {
        let mut entry = BytesMut::zeroed(RECORD_HEAD_BYTES + self.bytes as usize);
        self.segment.file.read_exact_at(&mut entry, self.at)?;
        let is_whole = Found::at_start_of(&entry, magic).is_some_and(|found| found.is_record(lsn));
        if !is_whole {
            let what = format!("{} is damaged at byte {}", self.segment.path.display(), self.at);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(entry.freeze().slice(RECORD_HEAD_BYTES..))
    }
}

/// A segment that is not written to any more.
#[derive(Debug)]
struct Full {
    segment: Arc<Segment>,
    bytes: u64,
}

/// The write-ahead log of a data directory; see the module.
#[derive(Debug)]
pub(super) struct Wal {
    folder: PathBuf,
    magic: EntryMagic,
    durability: Durability,
    options: WalOptions,
    /// The segments that are full, oldest first.
    full: VecDeque<Full>,
    /// What is written to, and where it ends.
    current: Option<Arc<Segment>>,
    at: u64,
    /// The last entry's ordinal.
    ordinal: u64,
    /// Up to where all is on the disk.
    synced: u64,
    /// Files for the segments to come.
    ready: Ready,
    /// What makes their names durable.
    entries: File,
    /// Memory for the head of an entry.
    head: Vec<u8>,
}

impl Wal {
    /// Opens the log in `folder`, makes it when it is not there, and hands over all that it holds.
    pub(super) fn open(
        folder: PathBuf,
        magic: EntryMagic,
        durability: Durability,
        options: WalOptions,
        visit: &mut dyn FnMut(Replayed<'_>, Option<Place>),
    ) -> io::Result<Wal> {
        files::make_folder(&folder)?;
        let entries = files::options().read(true).open(&folder)?;
        let ready = Ready::new(folder.clone(), options.segment_bytes, durability == Durability::Fsync)?;
        let (full, ordinal) = replay::replay(&folder, magic, visit)?;
        Ok(Wal {
            folder,
            magic,
            durability,
            options,
            full: full.into(),
            current: None,
            at: 0,
            ordinal,
            synced: ordinal,
            ready,
            entries,
            head: Vec::new(),
        })
    }

    /// Bytes of all its segments.
    pub(super) fn bytes(&self) -> u64 {
        self.full.iter().map(|full| full.bytes).sum::<u64>() + self.at
    }

    /// The oldest segment, unless it is the one that is written to.
    pub(super) fn oldest(&self) -> Option<&Arc<Segment>> {
        self.full.front().map(|full| &full.segment)
    }

    /// Whether the oldest segment should go: it holds nothing that is needed, or there are too many.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        let is_much = || self.bytes() > self.options.bytes_max || self.full.len() > self.options.segments_max;
        self.oldest().is_some_and(|oldest| oldest.is_dead() || is_much())
    }

    /// Whether it has grown so much that writers should wait for the checkpoint.
    pub(super) fn is_too_large(&self) -> bool {
        let is_too_many = self.full.len() > self.options.segments_max.saturating_mul(2);
        !self.full.is_empty() && (is_too_many || self.bytes() > self.options.bytes_max.saturating_mul(2))
    }

    /// Writes an entry at the end, and returns a record's place; `last` is the last record's number before it.
    pub(super) fn append(&mut self, entry: Entry<'_>, last: Lsn) -> io::Result<Option<Place>> {
        let current = match &self.current {
            Some(current) if self.at < self.options.segment_bytes => current.clone(),
            _ => self.begin_segment(last)?,
        };
        self.write(&current, entry)
    }

    fn write(&mut self, segment: &Arc<Segment>, entry: Entry<'_>) -> io::Result<Option<Place>> {
        let ordinals = Ordinals { ordinal: self.ordinal + 1, synced: self.synced };
        let bytes = entry.encode(self.magic, ordinals, &mut self.head);
        let [head, body] = entry.data();
        let at = self.at;
        write_all_at(&segment.file, [&self.head, head, body], at)?;
        self.ordinal += 1;
        self.at = padded(at + bytes);
        Ok(match entry {
            Entry::Record(..) => Some(Place::new(segment, at, head.len() + body.len())),
            _ => None,
        })
    }

    /// Makes everything written so far survive what the durability says.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.synced == self.ordinal {
            return Ok(());
        }
        if let Some(current) = self.current.as_ref().filter(|_| self.durability == Durability::Fsync) {
            current.file.sync_data().map_err(lasting)?;
        }
        self.synced = self.ordinal;
        Ok(())
    }

    /// The next entry begins a new segment.
    pub(super) fn end_segment(&mut self) {
        if let Some(segment) = self.current.take() {
            self.full.push_back(Full { segment, bytes: self.at });
            self.at = 0;
        }
    }

    /// Makes everything survive whatever the durability says, at an orderly end.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.current.as_ref().map_or(Ok(()), |current| current.file.sync_data())
    }

    /// Whether everything was synced.
    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.ordinal
    }

    /// Has a file for the next segment ready. An error says that there will be none when it is needed.
    pub(super) fn make_ready(&mut self) -> io::Result<()> {
        self.ready.make()
    }

    fn begin_segment(&mut self, last: Lsn) -> io::Result<Arc<Segment>> {
        self.sync()?;
        let path = self.folder.join(segment_name(self.ordinal + 1));
        let file = self.ready.take(&path)?;
        if self.durability == Durability::Fsync {
            self.entries.sync_all().map_err(lasting)?;
        }
        let segment = Arc::new(Segment { file, path, live: AtomicU64::new(0) });
        let end = std::mem::replace(&mut self.at, 0);
        if let Err(error) = self.write(&segment, Entry::Start(last)) {
            // It is as if it had not been begun; the next attempt has the same name.
            self.at = end;
            return Err(error);
        }
        if let Some(full) = self.current.replace(segment.clone()) {
            self.full.push_back(Full { segment: full, bytes: end });
        }
        Ok(segment)
    }

    /// Takes the oldest segment away, whose entries are not needed any more.
    pub(super) fn drop_oldest(&mut self) -> io::Result<()> {
        let Some(Full { segment, .. }) = self.full.pop_front() else { return Ok(()) };
        let path = segment.path.clone();
        // A thread may be about to read a record that has just been discarded.
        let unread = Arc::into_inner(segment).map(|segment| segment.file);
        self.ready.give(&path, unread)
    }
}

/// Segments are named by the ordinal of their first entry, so that names are in order.
fn segment_name(first: u64) -> String {
    format!("{first:016x}.wal")
}

fn first_ordinal(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    u64::from_str_radix(name, 16).ok().filter(|first| (1..=NUMBER_MAX).contains(first))
}

fn write_all_at(file: &File, mut pieces: [&[u8]; 3], mut at: u64) -> io::Result<()> {
    while pieces.iter().any(|piece| !piece.is_empty()) {
        let mut written = match rustix::io::pwritev(file, &pieces.map(IoSlice::new), at) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            written => written?,
        };
        at += written as u64;
        for piece in &mut pieces {
            let taken = written.min(piece.len());
            *piece = &piece[taken..];
            written -= taken;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MAGIC: EntryMagic = *b"\x9dwal";

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        records: Vec<(u64, Vec<u8>)>,
        discarded: Vec<u64>,
        damaged: u64,
    }

    fn open(folder: &Path) -> (Wal, Seen) {
        let options = WalOptions {
            segment_bytes: 1024,
            bytes_max: 4096,
            in_background: false,
            ..WalOptions::default()
        };
        let mut seen = Seen::default();
        let wal =
            Wal::open(
                folder.to_owned(),
                MAGIC,
                Durability::Fsync,
                options,
                &mut |entry, place| match entry {
                    Replayed::Record(lsn) => {
                        let record = place.unwrap().reader().read(MAGIC, lsn).unwrap();
                        seen.records.push((lsn.0, record.to_vec()));
                    }
                    Replayed::Discard(lsns) => seen.discarded.extend(lsns.iter().map(|lsn| lsn.0)),
                    Replayed::Damaged(entries) => seen.damaged += entries,
                    Replayed::Start(_) | Replayed::Changes(..) => {}
                },
            );
        (wal.unwrap(), seen)
    }

    fn append(wal: &mut Wal, lsn: u64) -> Place {
        let body = [lsn as u8; 100];
        wal.append(Entry::Record(Lsn(lsn), b"head", &body), Lsn(lsn - 1)).unwrap().unwrap()
    }

    fn numbers(seen: &Seen) -> Vec<u64> {
        seen.records.iter().map(|(lsn, _)| *lsn).collect()
    }

    fn last_segment(wal: &Wal) -> PathBuf {
        wal.current.as_ref().unwrap().path.clone()
    }

    fn damage(path: &Path, at: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"\xff\xff\xff\xff", at).unwrap();
    }

    #[test]
    fn what_was_written_is_replayed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut wal, seen) = open(folder.path());
        assert_eq!(seen, Seen::default());
        for lsn in 1..=30 {
            append(&mut wal, lsn);
        }
        wal.append(Entry::Discard(&[Lsn(3), Lsn(29)]), Lsn(30)).unwrap();
        assert!(wal.full.len() > 2 && wal.is_too_large() == (wal.bytes() > 8192));
        let (mut wal, seen) = open(folder.path());
        assert_eq!(numbers(&seen), (1..=30).collect::<Vec<_>>());
        assert_eq!((&seen.records[8].1[..4], seen.records[8].1[4]), (&b"head"[..], 9));
        assert_eq!((seen.discarded, seen.damaged), (vec![3, 29], 0));
        append(&mut wal, 31);
        assert_eq!(numbers(&open(folder.path()).1).len(), 31);
    }

    #[test]
    fn a_torn_end_is_forgotten_even_when_it_has_holes() {
        for torn in [0, 150, 300] {
            let folder = tempfile::tempdir().unwrap();
            let (mut wal, _) = open(folder.path());
            append(&mut wal, 1);
            append(&mut wal, 2);
            wal.sync().unwrap();
            let end = wal.at;
            for lsn in 3..=5 {
                append(&mut wal, lsn);
            }
            damage(&last_segment(&wal), end + torn);
            drop(wal);
            let kept = 2 + torn / 144;
            let (mut wal, seen) = open(folder.path());
            assert_eq!((numbers(&seen).len() as u64, seen.damaged), (kept, 0), "torn at {torn}");
            // What was behind the hole does not come back when it is filled.
            append(&mut wal, kept + 1);
            let (_, seen) = open(folder.path());
            assert_eq!((numbers(&seen).len() as u64, seen.damaged), (kept + 1, 0), "torn at {torn}");
        }
    }

    #[test]
    fn what_was_synced_and_is_not_there_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(folder.path());
        for lsn in 1..=5 {
            append(&mut wal, lsn);
            wal.sync().unwrap();
        }
        damage(&last_segment(&wal), 300);
        drop(wal);
        let (_, seen) = open(folder.path());
        assert_eq!((numbers(&seen), seen.damaged), (vec![1, 3, 4, 5], 1));
    }

    #[test]
    fn a_segment_is_used_again_and_its_past_is_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(folder.path());
        for lsn in 1..=200 {
            append(&mut wal, lsn).release();
            while wal.is_checkpoint_due() {
                wal.drop_oldest().unwrap();
            }
        }
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert!(files <= 3, "{files} files");
        let (_, seen) = open(folder.path());
        let found = numbers(&seen);
        assert_eq!(found, (201 - found.len() as u64..=200).collect::<Vec<_>>());
        assert!((1..=8).contains(&found.len()) && seen.damaged == 0, "{seen:?}");
    }

    #[test]
    fn a_record_that_is_being_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (mut wal, _) = open(folder.path());
        let place = append(&mut wal, 1);
        let reader = place.reader();
        place.release();
        for lsn in 2..=100 {
            append(&mut wal, lsn).release();
            while wal.is_checkpoint_due() {
                wal.drop_oldest().unwrap();
            }
        }
        assert_eq!(reader.read(MAGIC, Lsn(1)).unwrap()[4], 1);
    }
}
