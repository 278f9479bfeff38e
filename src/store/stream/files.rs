//! Where the bytes of streams are: files in a data directory, or in memory.
//!
//! A file is named by its stream, by the offset that it begins with, and by what is in it. [`StreamFiles`] is all that the log of a
//! stream needs of the system, so that tests can have files that lose what was not synced.

use crate::files;
use crate::message::QueueId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Chunks: `.seg`.
    Segment,
    /// Where some of them begin: `.idx`.
    Index,
    /// What is remembered of those who use the stream by name, in two files that are written in turn: `.trk`.
    Tracking,
}

impl FileKind {
    fn ending(self) -> &'static str {
        match self {
            FileKind::Segment => "seg",
            FileKind::Index => "idx",
            FileKind::Tracking => "trk",
        }
    }
}

/// A file of a stream: the first offset that it may have, and what is in it.
pub type FileName = (u64, FileKind);

/// A file that is open.
pub trait StreamFile: Send + Sync {
    /// Reads what there is at a place, fewer bytes only at the end of the file; returns how many.
    ///
    /// # Errors
    /// When the system refuses.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of it at a place.
    ///
    /// # Errors
    /// When the system refuses; some of it may have been written then.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts the file off.
    ///
    /// # Errors
    /// When the system refuses.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// How long it is, in bytes.
    ///
    /// # Errors
    /// When the system does not say.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Has all that was written survive a loss of power.
    ///
    /// # Errors
    /// When it may not; then nothing that was not synced before can be relied on.
    fn sync(&self) -> io::Result<()>;
}

/// The files of all streams.
pub trait StreamFiles: Send + Sync {
    /// The streams of which there is something.
    ///
    /// # Errors
    /// When they can't be listed.
    fn streams(&self) -> io::Result<Vec<QueueId>>;

    /// The files of a stream, in order.
    ///
    /// # Errors
    /// When they can't be listed.
    fn names(&self, stream: QueueId) -> io::Result<Vec<FileName>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// When it is not, or the system refuses.
    fn open(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>>;

    /// Opens a file, and makes it if it is not there.
    ///
    /// # Errors
    /// When the system refuses.
    fn create(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>>;

    /// Has the names of a stream's files survive a loss of power.
    ///
    /// # Errors
    /// When they may not.
    fn sync_names(&self, stream: QueueId) -> io::Result<()>;

    /// Removes a file; who has it open can still read it.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove(&self, stream: QueueId, name: FileName) -> io::Result<()>;

    /// Removes all that there is of a stream.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove_stream(&self, stream: QueueId) -> io::Result<()>;
}

/// Streams in a folder: each has one of its own, named by its id in hexadecimal digits.
#[derive(Debug)]
pub(in crate::store) struct FolderFiles {
    folder: PathBuf,
    /// Whether what is synced has to survive a loss of power.
    syncs: bool,
}

impl FolderFiles {
    pub(in crate::store) fn new(folder: PathBuf, syncs: bool) -> FolderFiles {
        FolderFiles { folder, syncs }
    }

    fn folder_of(&self, stream: QueueId) -> PathBuf {
        self.folder.join(format!("{:016x}", stream.0))
    }

    fn path(&self, stream: QueueId, (first, kind): FileName) -> PathBuf {
        self.folder_of(stream).join(format!("{first:020}.{}", kind.ending()))
    }
}

struct OsFile {
    file: File,
    syncs: bool,
}

impl StreamFile for OsFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.file.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }
}

/// The entries of a folder that may not be there.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let names = read.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    names.collect()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl StreamFiles for FolderFiles {
    fn streams(&self) -> io::Result<Vec<QueueId>> {
        let mut streams: Vec<QueueId> = entries(&self.folder)?
            .iter()
            .filter(|name| name.len() == 16)
            .filter_map(|name| u64::from_str_radix(name, 16).ok().map(QueueId))
            .collect();
        streams.sort_unstable();
        Ok(streams)
    }

    fn names(&self, stream: QueueId) -> io::Result<Vec<FileName>> {
        let parse = |name: &String| {
            let (first, ending) = name.split_once('.')?;
            let kinds = [FileKind::Segment, FileKind::Index, FileKind::Tracking];
            let kind = kinds.into_iter().find(|kind| kind.ending() == ending)?;
            Some((first.parse().ok().filter(|_| first.len() == 20)?, kind))
        };
        let mut names: Vec<FileName> = entries(&self.folder_of(stream))?.iter().filter_map(parse).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>> {
        let file = files::options().read(true).write(true).open(self.path(stream, name))?;
        Ok(Arc::new(OsFile { file, syncs: self.syncs }))
    }

    fn create(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>> {
        let path = self.path(stream, name);
        let open = || files::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::make_folder(&self.folder_of(stream))?;
                if self.syncs {
                    sync_folder(&self.folder)?;
                    self.folder.parent().map_or(Ok(()), sync_folder)?;
                }
                open()?
            }
            file => file?,
        };
        Ok(Arc::new(OsFile { file, syncs: self.syncs }))
    }

    fn sync_names(&self, stream: QueueId) -> io::Result<()> {
        if self.syncs { sync_folder(&self.folder_of(stream)) } else { Ok(()) }
    }

    fn remove(&self, stream: QueueId, name: FileName) -> io::Result<()> {
        gone(fs::remove_file(self.path(stream, name)))
    }

    fn remove_stream(&self, stream: QueueId) -> io::Result<()> {
        gone(fs::remove_dir_all(self.folder_of(stream)))
    }
}

/// Beside a log whose streams are kept elsewhere.
pub(in crate::store) struct NoStreams;

impl NoStreams {
    fn refused<T>() -> io::Result<T> {
        Err(io::Error::other("this log has no streams, please report this"))
    }
}

impl StreamFiles for NoStreams {
    fn streams(&self) -> io::Result<Vec<QueueId>> {
        Ok(Vec::new())
    }

    fn names(&self, _: QueueId) -> io::Result<Vec<FileName>> {
        Ok(Vec::new())
    }

    fn open(&self, _: QueueId, _: FileName) -> io::Result<Arc<dyn StreamFile>> {
        NoStreams::refused()
    }

    fn create(&self, _: QueueId, _: FileName) -> io::Result<Arc<dyn StreamFile>> {
        NoStreams::refused()
    }

    fn sync_names(&self, _: QueueId) -> io::Result<()> {
        NoStreams::refused()
    }

    fn remove(&self, _: QueueId, _: FileName) -> io::Result<()> {
        NoStreams::refused()
    }

    fn remove_stream(&self, _: QueueId) -> io::Result<()> {
        NoStreams::refused()
    }
}

/// Streams in memory, for brokers that keep nothing and for tests: clones are handles of the same files.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    files: Arc<Mutex<FilesByName>>,
}

type FilesByName = BTreeMap<(QueueId, FileName), Arc<MemoryFile>>;

#[derive(Debug, Default)]
struct MemoryFile {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many of them survive a crash.
    synced: usize,
}

impl MemoryFiles {
    /// Loses power: of each file what was synced is left, and the first `kept` bytes of what came at its end since.
    pub fn crash(&self, kept: usize) {
        for file in self.files.lock().values() {
            let mut content = file.content.lock();
            let left = content.synced.saturating_add(kept);
            content.bytes.truncate(left);
            content.synced = content.bytes.len();
        }
    }

    /// Changes one byte of a file.
    pub fn damage(&self, stream: QueueId, name: FileName, at: usize) {
        if let Some(file) = self.files.lock().get(&(stream, name)) {
            file.content.lock().bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 0x40);
        }
    }
}

impl StreamFile for MemoryFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(content.bytes.len());
        let bytes = into.len().min(content.bytes.len() - from);
        into[..bytes].copy_from_slice(&content.bytes[from..from + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut content = self.content.lock();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at + bytes.len();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut content = self.content.lock();
        content.bytes.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        content.synced = content.synced.min(content.bytes.len());
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.content.lock();
        content.synced = content.bytes.len();
        Ok(())
    }
}

impl StreamFiles for MemoryFiles {
    fn streams(&self) -> io::Result<Vec<QueueId>> {
        let mut streams: Vec<QueueId> = self.files.lock().keys().map(|(stream, _)| *stream).collect();
        streams.dedup();
        Ok(streams)
    }

    fn names(&self, stream: QueueId) -> io::Result<Vec<FileName>> {
        let files = self.files.lock();
        Ok(files.keys().filter(|(of, _)| *of == stream).map(|(_, name)| *name).collect())
    }

    fn open(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>> {
        let file = self.files.lock().get(&(stream, name)).cloned();
        file.map(|file| file as Arc<dyn StreamFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, stream: QueueId, name: FileName) -> io::Result<Arc<dyn StreamFile>> {
        Ok(self.files.lock().entry((stream, name)).or_default().clone())
    }

    fn sync_names(&self, _: QueueId) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, stream: QueueId, name: FileName) -> io::Result<()> {
        self.files.lock().remove(&(stream, name));
        Ok(())
    }

    fn remove_stream(&self, stream: QueueId) -> io::Result<()> {
        self.files.lock().retain(|(of, _), _| *of != stream);
        Ok(())
    }
}
