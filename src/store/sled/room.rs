//! Room for the database's file to grow into. sled fails for good with the first write that finds none, so its file is given blocks
//! behind its end before sled is handed anything: when there are none to be had, the checkpoint can wait.

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much there has to be, beside what is handed over now: a few of the segments that sled writes in, for what it tidies up on
/// the way.
const ROOM_BYTES: u64 = 16 << 20;

/// On a small volume, the share of it that has to do.
const ROOM_SHARE: u64 = 8;

/// How much is handed over between two looks.
const LOOK_BYTES: usize = 128 << 10;

/// How much sled writes for a byte that it is handed, at most.
const WRITTEN_FOR_A_BYTE: u64 = 4;

/// The room behind the end of the database's file; see the module.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes handed over since the last look.
    unlooked: AtomicUsize,
}

impl Room {
    /// Without having looked at the file yet.
    pub(super) fn new() -> Room {
        Room { unlooked: AtomicUsize::new(LOOK_BYTES) }
    }

    /// Reserves room for that many bytes. Where a filesystem can't give a file blocks ahead, nothing is reserved.
    pub(super) fn make(&self, file: &File, bytes: usize) -> io::Result<()> {
        if self.unlooked.fetch_add(bytes, Ordering::Relaxed) + bytes < LOOK_BYTES {
            return Ok(());
        }
        let volume = rustix::fs::fstatvfs(file)?;
        let room_bytes = ROOM_BYTES.min(volume.f_blocks.saturating_mul(volume.f_frsize) / ROOM_SHARE);
        let wanted_bytes = room_bytes.saturating_add(WRITTEN_FOR_A_BYTE * bytes as u64);
        match fallocate(file, FallocateFlags::KEEP_SIZE, file.metadata()?.len(), wanted_bytes) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => {
                self.unlooked.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn there_is_room_before_anything_is_written_and_the_file_is_no_longer_for_it() {
        let file = tempfile::tempfile().unwrap();
        let room = Room::new();
        room.make(&file, 1).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(blocks * 512 >= ROOM_BYTES || blocks == 0, "{blocks}");
        room.make(&file, LOOK_BYTES - 1).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), blocks, "nobody had to look");
        let error = room.make(&file, usize::MAX / 16).unwrap_err();
        assert!(crate::store::exhausted::is_exhaustion(&error) || error.raw_os_error().is_some(), "{error}");
    }
}
