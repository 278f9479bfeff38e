//! What the system is out of now, and may have again: room on the disk, descriptors, memory.

use std::io;

/// Whether an error says so. It never is about an fsync: what that could not write is lost.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, StorageFull};
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.kind(), OutOfMemory | QuotaExceeded | StorageFull)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// An error after which nothing may be tried again, whatever it says, such as one of an fsync.
pub(super) fn lasting(error: io::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_is_waited_for_and_never_after_an_fsync() {
        for errno in [
            rustix::io::Errno::NOSPC,
            rustix::io::Errno::DQUOT,
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
        ] {
            let error = io::Error::from(errno);
            assert!(is_exhaustion(&error), "{error}");
            let text = error.to_string();
            let lasting = lasting(error);
            assert!(!is_exhaustion(&lasting));
            assert_eq!(lasting.to_string(), text);
        }
        assert!(!is_exhaustion(&rustix::io::Errno::IO.into()));
    }
}
