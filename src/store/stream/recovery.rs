//! Opening the log of a stream: what its files hold. Of sealed segments the end of the index is read; of the newest one what was
//! written since it was last known to be synced, and what is torn there is cut off.

use super::chunk::{ChunkWriter, EntryReader, HEADER_BYTES, Header};
use super::index::{Extent, Index, IndexEntry, RECORD_BYTES, Record};
use super::reading::BlockCache;
use super::{FileKind, FileName, Segment, StreamFile, StreamFiles, StreamLog, StreamLogOptions};
use crate::message::QueueId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

impl StreamLog {
    /// Opens the log of a stream; it is empty when there are no files.
    ///
    /// # Errors
    /// When the files can't be read. What is damaged in them is no error.
    pub fn open(
        files: Arc<dyn StreamFiles>,
        stream: QueueId,
        options: StreamLogOptions,
    ) -> io::Result<StreamLog> {
        let names = files.names(stream)?;
        let mut firsts: Vec<u64> =
            names.iter().filter(|(_, kind)| *kind == FileKind::Segment).map(|(first, _)| *first).collect();
        firsts.sort_unstable();
        let mut segments = VecDeque::with_capacity(firsts.len());
        for (at, &first) in firsts.iter().enumerate() {
            let is_newest = at + 1 == firsts.len();
            segments.push_back(segment(&*files, stream, first, is_newest)?);
        }
        // What an index is without its segment was left by a crash while that was removed.
        let is_left =
            |(first, kind): &FileName| *kind == FileKind::Index && firsts.binary_search(first).is_err();
        for name in names.into_iter().filter(is_left) {
            files.remove(stream, name)?;
        }
        let synced = segments.back().map(|newest: &Segment| newest.extent).unwrap_or_default();
        let mut log = StreamLog {
            files,
            stream,
            options,
            segments,
            active: None,
            synced,
            writer: ChunkWriter::default(),
            cache: BlockCache::default(),
            damaged: 0,
        };
        log.end_newest()?;
        Ok(log)
    }

    /// What the newest segment has was read, and may still be on its way to the disk. One that was sealed is followed by another.
    fn end_newest(&mut self) -> io::Result<()> {
        let Some(newest) = self.segments.back().copied() else { return Ok(()) };
        let file = self.files.open(self.stream, (newest.first, FileKind::Segment))?;
        file.sync()?;
        let index = Index::read(&*self.files.create(self.stream, (newest.first, FileKind::Index))?)?;
        if index.is_sealed {
            self.begin(newest.extent.end)?;
        }
        Ok(())
    }
}

/// What a segment has. The newest one is cut off where it is torn.
fn segment(files: &dyn StreamFiles, stream: QueueId, first: u64, is_newest: bool) -> io::Result<Segment> {
    let index_file = files.create(stream, (first, FileKind::Index))?;
    if !is_newest && let Some(segment) = sealed(&*index_file, first)? {
        return Ok(segment);
    }
    let file = files.open(stream, (first, FileKind::Segment))?;
    let bytes = file.len_bytes()?;
    let mut index = Index::read(&*index_file)?;
    let known = index.synced.filter(|synced| synced.bytes <= bytes && synced.end >= first);
    if known.is_none() {
        // Nothing in it can be relied on.
        index = Index::default();
    }
    let synced = known.unwrap_or(Extent { end: first, ..Extent::default() });
    index.chunks.retain(|entry| entry.position < synced.bytes);
    let first_known = index.chunks.first().map(|entry| entry.timestamp);
    let Scanned { extent, first_at, chunks } = scan(&*file, synced)?;
    if is_newest && extent.bytes < bytes {
        file.truncate(extent.bytes)?;
    }
    index.chunks.extend(chunks);
    rewrite(&*index_file, &index, extent, !is_newest)?;
    Ok(Segment { first, extent, first_at: first_known.or(first_at).unwrap_or_default() })
}

/// A sealed segment, by the ends of its index alone.
fn sealed(index: &dyn StreamFile, first: u64) -> io::Result<Option<Segment>> {
    let Some(last) = index.len_bytes()?.checked_sub(RECORD_BYTES as u64) else { return Ok(None) };
    let record = |at: u64| -> io::Result<Option<Record>> {
        let mut record = [0; RECORD_BYTES];
        let read = index.read_at(&mut record, at)?;
        Ok(Record::decode(&record[..read]))
    };
    Ok(match (record(0)?, record(last)?) {
        (Some(Record::Chunk(begin)), Some(Record::Sealed(extent))) => {
            Some(Segment { first, extent, first_at: begin.timestamp })
        }
        _ => None,
    })
}

/// Brings an index to what was found.
fn rewrite(file: &dyn StreamFile, index: &Index, extent: Extent, is_sealed: bool) -> io::Result<()> {
    let mut bytes = Vec::new();
    index.chunks.iter().for_each(|entry| Record::Chunk(*entry).encode(&mut bytes));
    let is_sealed = is_sealed || index.is_sealed;
    if extent.entries > 0 {
        let last = if is_sealed { Record::Sealed(extent) } else { Record::Synced(extent) };
        last.encode(&mut bytes);
    }
    file.truncate(0)?;
    file.write_at(&bytes, 0)
}

struct Scanned {
    extent: Extent,
    first_at: Option<u64>,
    chunks: Vec<IndexEntry>,
}

/// Bytes that are read at a time.
const SCAN_BYTES: usize = 1 << 20;

/// Reads the chunks of a segment that follow `synced`, up to the first that is not whole.
fn scan(file: &dyn StreamFile, synced: Extent) -> io::Result<Scanned> {
    let mut scanned = Scanned { extent: synced, first_at: None, chunks: Vec::new() };
    loop {
        let at = scanned.extent.bytes;
        let mut block = vec![0; SCAN_BYTES];
        let read = file.read_at(&mut block, at)?;
        block.truncate(read);
        if let Some(header) = Header::read(&block)
            && header.chunk_bytes() > SCAN_BYTES as u64
        {
            // It may say more than there is; the file says how much that is.
            let there = file.len_bytes()?.saturating_sub(at).min(header.chunk_bytes());
            block = vec![0; usize::try_from(there).unwrap_or_default()];
            let read = file.read_at(&mut block, at)?;
            block.truncate(read);
        }
        let block = Bytes::from(block);
        let before = scanned.extent.bytes;
        while scanned.take(&block.slice((scanned.extent.bytes - before) as usize..)) {}
        if scanned.extent.bytes == before {
            return Ok(scanned);
        }
    }
}

impl Scanned {
    /// Takes the chunk that these bytes begin with. False when they begin with none.
    fn take(&mut self, bytes: &Bytes) -> bool {
        let Some(header) = Header::read(bytes).filter(|header| header.first >= self.extent.end) else {
            return false;
        };
        let Some(entries) = bytes.get(HEADER_BYTES..header.chunk_bytes() as usize) else { return false };
        if !header.is_of(entries) {
            return false;
        }
        let entries = bytes.slice_ref(entries);
        let last_at = EntryReader::new(&header, &entries).map(|placed| placed.enqueued_at).max();
        self.chunks.push(IndexEntry {
            offset: header.first,
            timestamp: header.timestamp,
            position: self.extent.bytes,
            entries_before: self.extent.entries,
        });
        self.first_at = self.first_at.or(Some(header.timestamp));
        self.extent = Extent {
            end: header.end(),
            last_at: last_at.unwrap_or(header.timestamp).max(self.extent.last_at),
            bytes: self.extent.bytes + header.chunk_bytes(),
            entries: self.extent.entries + u64::from(header.entries),
        };
        true
    }
}
