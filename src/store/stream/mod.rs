//! The log of a stream: segments of chunks, beside the journal.
//!
//! What is published to a stream is a record of the journal first, like all that has to survive: one sync covers queues and streams.
//! [`StreamLog`] has what was moved out of the journal into segments since, for as long as the stream's retention says. What a
//! segment was synced with the journal may forget, and only that; so after a crash the two together have everything, and what
//! both have is recognised by its offset.
//!
//! ```text
//! streams/<id>/<first offset>.seg   chunks, one behind another (chunk.rs)
//! streams/<id>/<first offset>.idx   where some of them begin, and up to where the segment was synced (index.rs)
//! streams/<id>/<0 or 1>.trk             what is remembered of those who use it by name (tracking.rs)
//! ```
//! A segment is sealed when it is long or old enough, and then never changes; retention removes sealed ones, the oldest first. The
//! newest one may be empty: its name says which offset comes next.

mod chunk;
mod copying;
mod files;
mod index;
mod reading;
mod recovery;
mod retention;
mod tracking;

pub use chunk::StreamEntry;
pub use copying::copy_all;
pub use files::{FileKind, FileName, MemoryFiles, StreamFile, StreamFiles};
pub(in crate::store) use files::{FolderFiles, NoStreams};
pub use reading::{ReadAt, ReadEntries};
pub use retention::Retention;
pub use tracking::{CommittedOffset, NAME_BYTES_MAX, PublisherSequence, TrackingChange, TrackingNotes};

use crate::message::{Millis, QueueId, StoredShape};
use chunk::{ChunkWriter, ENTRIES_MAX};
use index::{Extent, IndexEntry, Record};
use reading::BlockCache;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// How large the parts of a stream may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLogOptions {
    /// Bytes after which a segment is sealed.
    pub segment_bytes: u64,
    /// Bytes of entries after which a chunk ends; a larger entry has one of its own.
    pub chunk_bytes: usize,
    /// Bytes between two chunks that the index has.
    pub index_every_bytes: u64,
}

impl Default for StreamLogOptions {
    fn default() -> StreamLogOptions {
        StreamLogOptions { segment_bytes: 64 << 20, chunk_bytes: 256 << 10, index_every_bytes: 64 << 10 }
    }
}

/// A segment, as far as it is known without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// The first offset that it may have.
    first: u64,
    /// What it has.
    extent: Extent,
    /// When its first entry was published.
    first_at: Millis,
}

impl Segment {
    fn is_empty(&self) -> bool {
        self.extent.entries == 0
    }
}

/// The segment that is written to.
struct Active {
    file: Arc<dyn StreamFile>,
    index: Arc<dyn StreamFile>,
    chunks: Vec<IndexEntry>,
    /// How many of them its file has.
    chunks_written: usize,
    /// Bytes of that file.
    index_bytes: u64,
}

/// The log of one stream; see the module. It knows no lock, and what it is asked for it does at once, on the disk.
pub struct StreamLog {
    files: Arc<dyn StreamFiles>,
    stream: QueueId,
    options: StreamLogOptions,
    /// The oldest first; there is one at least once something was written.
    segments: VecDeque<Segment>,
    active: Option<Active>,
    /// Of the newest segment: what is synced.
    synced: Extent,
    writer: ChunkWriter,
    cache: BlockCache,
    /// Chunks that could not be read.
    damaged: u64,
}

impl std::fmt::Debug for StreamLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamLog").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl StreamLog {
    /// The first offset that is kept, or the one that comes next when nothing is.
    pub fn first_offset(&self) -> u64 {
        let kept = self.segments.iter().find(|segment| !segment.is_empty());
        kept.map_or_else(|| self.next_offset(), |segment| segment.first)
    }

    /// The offset that comes next.
    pub fn next_offset(&self) -> u64 {
        self.segments.back().map_or(0, |newest| newest.extent.end)
    }

    /// The offset behind the last entry that survives a loss of power.
    pub fn synced_offset(&self) -> u64 {
        self.synced.end
    }

    /// Bytes that are written and may not survive a loss of power.
    pub fn unsynced_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |newest| newest.extent.bytes - self.synced.bytes)
    }

    /// How many entries are kept.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.extent.entries).sum()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.extent.bytes).sum()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// When the first entry that is kept was published.
    pub fn first_at(&self) -> Option<Millis> {
        self.segments.iter().find(|segment| !segment.is_empty()).map(|segment| segment.first_at)
    }

    /// Chunks that could not be read since it was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Adds an entry behind the last one; an offset may leave some out. It is written when the chunk is full, or at
    /// [`StreamLog::flush`].
    ///
    /// # Errors
    /// When the system refuses. What was not written is not there; nothing else has changed.
    pub fn append(
        &mut self,
        offset: u64,
        enqueued_at: Millis,
        stored: (&[u8], StoredShape),
    ) -> io::Result<()> {
        let is_full = self.writer.len_bytes() + stored.0.len() > self.options.chunk_bytes
            || self.writer.entries() == ENTRIES_MAX;
        if self.writer.entries() > 0 && (is_full || !self.writer.is_followed_by(offset)) {
            self.flush(enqueued_at)?;
        }
        self.writer.add(offset, enqueued_at, stored);
        Ok(())
    }

    /// Writes the chunk that was begun. `last_at` is when its last entry was published.
    ///
    /// # Errors
    /// When the system refuses; then the chunk is as if it had never been begun.
    pub fn flush(&mut self, last_at: Millis) -> io::Result<()> {
        if self.writer.entries() == 0 {
            return Ok(());
        }
        let mut writer = std::mem::take(&mut self.writer);
        let written = self.write_chunk(&mut writer, last_at);
        writer.clear();
        self.writer = writer;
        written
    }

    fn write_chunk(&mut self, writer: &mut ChunkWriter, last_at: Millis) -> io::Result<()> {
        if self.segments.back().is_some_and(|newest| newest.extent.bytes >= self.options.segment_bytes) {
            self.seal()?;
        }
        let (header, bytes) = writer.finish(0);
        self.open_active(header.first)?;
        let (Some(newest), Some(active)) = (self.segments.back_mut(), &mut self.active) else {
            return Err(io::Error::other("a segment was opened and is not there"));
        };
        active.file.write_at(bytes, newest.extent.bytes)?;
        let is_indexed = active
            .chunks
            .last()
            .is_some_and(|last| newest.extent.bytes < last.position + self.options.index_every_bytes);
        if !is_indexed {
            active.chunks.push(IndexEntry {
                offset: header.first,
                timestamp: header.timestamp,
                position: newest.extent.bytes,
                entries_before: newest.extent.entries,
            });
        }
        if newest.is_empty() {
            newest.first_at = header.timestamp;
        }
        newest.extent = Extent {
            end: header.end(),
            last_at: last_at.max(newest.extent.last_at),
            bytes: newest.extent.bytes + header.chunk_bytes(),
            entries: newest.extent.entries + u64::from(header.entries),
        };
        Ok(())
    }

    /// Opens the newest segment to write to, or begins one with that offset.
    fn open_active(&mut self, first: u64) -> io::Result<()> {
        if self.active.is_some() {
            return Ok(());
        }
        let first = match self.segments.back() {
            Some(newest) => newest.first,
            None => {
                self.begin(first)?;
                first
            }
        };
        let (file, index) = (
            self.files.open(self.stream, (first, FileKind::Segment))?,
            self.files.create(self.stream, (first, FileKind::Index))?,
        );
        let found = index::Index::read(&*index)?;
        let chunks_written = found.chunks.len();
        self.active =
            Some(Active { file, index, chunks: found.chunks, chunks_written, index_bytes: found.bytes });
        Ok(())
    }

    /// Makes an empty segment that begins with that offset, durably.
    fn begin(&mut self, first: u64) -> io::Result<()> {
        self.files.create(self.stream, (first, FileKind::Segment))?;
        self.files.sync_names(self.stream)?;
        let extent = Extent { end: first, ..Extent::default() };
        self.segments.push_back(Segment { first, extent, first_at: 0 });
        self.synced = extent;
        Ok(())
    }

    /// Has all that was written survive a loss of power, and notes that in the index.
    ///
    /// # Errors
    /// When it may not; then nothing that was written since the last time may be relied on.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(newest) = self.segments.back().copied().filter(|_| self.unsynced_bytes() > 0) else {
            return Ok(());
        };
        self.open_active(newest.first)?;
        if let Some(active) = &mut self.active {
            active.file.sync()?;
            active.note(Record::Synced(newest.extent))?;
        }
        self.synced = newest.extent;
        Ok(())
    }

    /// Ends the newest segment, unless it is empty: the next entry goes into another one.
    fn seal(&mut self) -> io::Result<()> {
        let Some(newest) = self.segments.back().copied().filter(|newest| !newest.is_empty()) else {
            return Ok(());
        };
        self.open_active(newest.first)?;
        if let Some(active) = &mut self.active {
            active.file.sync()?;
            active.note(Record::Sealed(newest.extent))?;
            active.index.sync()?;
        }
        self.synced = newest.extent;
        self.begin(newest.extent.end)?;
        self.active = None;
        Ok(())
    }

    /// Closes its files and gives back memory, until something is written or read again.
    pub fn rest(&mut self) {
        if self.unsynced_bytes() == 0 {
            self.active = None;
            self.cache = BlockCache::default();
        }
    }

    /// Removes all of it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&mut self) -> io::Result<()> {
        self.rest();
        self.segments.clear();
        self.active = None;
        self.files.remove_stream(self.stream)
    }
}

impl Active {
    /// Writes the entries that the index does not have yet, and a record behind them.
    fn note(&mut self, record: Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        for entry in &self.chunks[self.chunks_written..] {
            Record::Chunk(*entry).encode(&mut bytes);
        }
        record.encode(&mut bytes);
        self.index.write_at(&bytes, self.index_bytes)?;
        self.index_bytes += bytes.len() as u64;
        self.chunks_written = self.chunks.len();
        Ok(())
    }
}
