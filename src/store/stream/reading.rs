//! Reading a stream: from any offset on, or from a time on. A reader keeps a place, so that it goes on where it was.

use super::chunk::{EntryReader, HEADER_BYTES, Header, StreamEntry};
use super::index::{self, Index, IndexEntry};
use super::{FileKind, Segment, StreamFile, StreamLog};
use crate::message::Millis;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Where a reader is.
#[derive(Clone, Debug, Default)]
pub struct ReadAt {
    /// The offset that it wants next.
    pub next: u64,
    /// The segment and the position of the chunk that has it, as far as known.
    place: Option<(u64, u64)>,
}

impl ReadAt {
    /// A reader that wants that offset next.
    pub fn offset(next: u64) -> ReadAt {
        ReadAt { next, place: None }
    }
}

/// What a reader got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadEntries {
    /// The entries, in order.
    pub entries: Vec<StreamEntry>,
    /// Whether there is nothing more now.
    pub is_at_end: bool,
}

/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// How many blocks are kept in memory: readers at the same place share them.
const BLOCKS_MAX: usize = 8;

/// Blocks of segments that were read lately.
#[derive(Debug, Default)]
pub(super) struct BlockCache {
    blocks: VecDeque<Block>,
}

#[derive(Debug)]
struct Block {
    segment: u64,
    at: u64,
    bytes: Bytes,
}

impl BlockCache {
    /// The bytes of a segment from a place on: those of a whole chunk, if there is one.
    fn read(
        &mut self,
        segment: &Segment,
        at: u64,
        open: impl FnOnce() -> io::Result<Arc<dyn StreamFile>>,
    ) -> io::Result<Bytes> {
        let found = self.blocks.iter().find(|block| {
            block.segment == segment.first && (block.at..block.at + block.bytes.len() as u64).contains(&at)
        });
        if let Some(block) = found {
            let bytes = block.bytes.slice((at - block.at) as usize..);
            let is_whole =
                Header::read(&bytes).is_some_and(|header| header.chunk_bytes() <= bytes.len() as u64);
            if is_whole {
                return Ok(bytes);
            }
        }
        let file = open()?;
        let left = segment.extent.bytes.saturating_sub(at);
        let mut bytes = vec![0; BLOCK_BYTES.min(usize::try_from(left).unwrap_or(BLOCK_BYTES))];
        let mut read = file.read_at(&mut bytes, at)?;
        bytes.truncate(read);
        if let Some(header) = Header::read(&bytes)
            && header.chunk_bytes() > read as u64
            && header.chunk_bytes() <= left
        {
            bytes.resize(header.chunk_bytes() as usize, 0);
            read = file.read_at(&mut bytes, at)?;
            bytes.truncate(read);
        }
        let bytes = Bytes::from(bytes);
        self.blocks.push_front(Block { segment: segment.first, at, bytes: bytes.clone() });
        self.blocks.truncate(BLOCKS_MAX);
        Ok(bytes)
    }
}

impl StreamLog {
    /// Reads entries from a reader's place on, until they hold `bytes_max` bytes; one at least, if there is any. What retention has
    /// removed and what is damaged is left out; the reader's place is behind what it got.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read(&mut self, reader: &mut ReadAt, bytes_max: usize) -> io::Result<ReadEntries> {
        let mut read = ReadEntries::default();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((segment, position)) = self.place_of(reader)? else {
                read.is_at_end = true;
                return Ok(read);
            };
            let (files, stream) = (&self.files, self.stream);
            let block = self
                .cache
                .read(&segment, position, || files.open(stream, (segment.first, FileKind::Segment)))?;
            let chunk = Header::read(&block).and_then(|header| {
                let entries = block.get(HEADER_BYTES..header.chunk_bytes() as usize)?;
                header.is_of(entries).then(|| (header, block.slice_ref(entries)))
            });
            let Some((header, entries)) = chunk else {
                self.pass_damage(reader, &segment, position)?;
                continue;
            };
            let mut of_chunk = EntryReader::new(&header, &entries);
            of_chunk.skip_to(reader.next);
            while bytes < bytes_max
                && let Some(placed) = of_chunk.next()
            {
                bytes += placed.bytes.max(1);
                reader.next = placed.offset + 1;
                read.entries.push(of_chunk.entry_at(placed));
            }
            if reader.next >= header.end() || bytes < bytes_max {
                reader.next = reader.next.max(header.end());
                reader.place = Some((segment.first, position + header.chunk_bytes()));
            } else {
                reader.place = Some((segment.first, position));
            }
        }
        Ok(read)
    }

    /// The first offset that was published at a time or later.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn offset_at(&mut self, at: Millis) -> io::Result<u64> {
        let segment =
            self.segments.iter().find(|segment| !segment.is_empty() && segment.extent.last_at >= at);
        let Some(segment) = segment.copied() else { return Ok(self.next_offset()) };
        let chunks = self.chunks_of(&segment)?;
        let Some(begin) = index::before(&chunks, at) else { return Ok(segment.first) };
        let mut reader = ReadAt { next: begin.offset, place: Some((segment.first, begin.position)) };
        loop {
            let read = self.read(&mut reader, BLOCK_BYTES)?;
            if let Some(found) = read.entries.iter().find(|entry| entry.enqueued_at >= at) {
                return Ok(found.offset);
            }
            if read.is_at_end {
                return Ok(reader.next);
            }
        }
    }

    /// The first offset of the last chunk, or the one that comes next when there is none.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn last_chunk(&mut self) -> io::Result<u64> {
        let Some(segment) = self.segments.iter().rev().find(|segment| !segment.is_empty()).copied() else {
            return Ok(self.next_offset());
        };
        let chunks = self.chunks_of(&segment)?;
        let (mut position, mut first) =
            chunks.last().map_or((0, segment.first), |last| (last.position, last.offset));
        while position < segment.extent.bytes {
            let (files, stream) = (&self.files, self.stream);
            let open = || files.open(stream, (segment.first, FileKind::Segment));
            let block = self.cache.read(&segment, position, open)?;
            let Some(header) = Header::read(&block) else { break };
            first = header.first;
            position += header.chunk_bytes();
        }
        Ok(first)
    }

    /// The segment and the position of the chunk that has what a reader wants next, or what follows that. `None` at the end.
    fn place_of(&self, reader: &mut ReadAt) -> io::Result<Option<(Segment, u64)>> {
        if reader.next < self.first_offset() {
            *reader = ReadAt::offset(self.first_offset());
        }
        if let Some((first, position)) = reader.place {
            let at = self.segments.partition_point(|segment| segment.first < first);
            if let Some(segment) = self.segments.get(at).filter(|segment| segment.first == first) {
                if position < segment.extent.bytes {
                    return Ok(Some((*segment, position)));
                }
                let next = self.segments.iter().skip(at + 1).find(|segment| !segment.is_empty());
                return Ok(next.map(|segment| (*segment, 0)));
            }
        }
        let behind = self.segments.partition_point(|segment| segment.first <= reader.next);
        for segment in self.segments.iter().skip(behind.saturating_sub(1)) {
            if segment.is_empty() || segment.extent.end <= reader.next {
                continue;
            }
            let chunks = self.chunks_of(segment)?;
            let position = index::at_or_before(&chunks, reader.next).map_or(0, |entry| entry.position);
            return Ok(Some((*segment, position)));
        }
        Ok(None)
    }

    /// Where some chunks of a segment begin.
    fn chunks_of(&self, segment: &Segment) -> io::Result<Vec<IndexEntry>> {
        let is_newest = self.segments.back().is_some_and(|newest| newest.first == segment.first);
        if let Some(active) = self.active.as_ref().filter(|_| is_newest) {
            return Ok(active.chunks.clone());
        }
        let file = self.files.open(self.stream, (segment.first, FileKind::Index))?;
        Ok(Index::read(&*file)?.chunks)
    }

    /// Goes on behind a chunk that can't be read: with the next one that the index has, or with the next segment.
    fn pass_damage(&mut self, reader: &mut ReadAt, segment: &Segment, position: u64) -> io::Result<()> {
        self.damaged += 1;
        let chunks = self.chunks_of(segment)?;
        let next = chunks.iter().find(|entry| entry.position > position);
        let (offset, place) =
            next.map_or((segment.extent.end, segment.extent.bytes), |entry| (entry.offset, entry.position));
        tracing::error!(
            "a chunk of stream {} at byte {position} of the segment {:020} can't be read. Offsets from {} to {} may be lost",
            self.stream,
            segment.first,
            reader.next,
            offset.saturating_sub(1)
        );
        *reader = ReadAt { next: offset.max(reader.next), place: Some((segment.first, place)) };
        Ok(())
    }
}
