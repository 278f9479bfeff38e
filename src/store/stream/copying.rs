//! Copying the files of streams, for a backup.

use super::files::{FileKind, StreamFiles};
use crate::message::QueueId;
use std::io;

/// How much is copied at once.
const COPIED_BYTES: usize = 1 << 20;

/// Copies the files of all streams into empty ones, durably; returns how many bytes they have. What is written meanwhile may be in it
/// or not, and what retention removes meanwhile is not. `goes_on` is asked now and then; when it says no there is no result.
///
/// # Errors
/// When the system refuses.
pub fn copy_all(
    from: &dyn StreamFiles,
    to: &dyn StreamFiles,
    goes_on: &mut dyn FnMut() -> bool,
) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    for stream in from.streams()? {
        let mut names = from.names(stream)?;
        // An index says up to where its segment was synced, so that is copied after it.
        names.sort_by_key(|(first, kind)| (*first, *kind == FileKind::Segment));
        for name in names {
            if !goes_on() {
                return Ok(None);
            }
            bytes += copy(from, to, stream, name)?;
        }
        to.sync_names(stream)?;
    }
    Ok(Some(bytes))
}

fn copy(
    from: &dyn StreamFiles,
    to: &dyn StreamFiles,
    stream: QueueId,
    name: super::FileName,
) -> io::Result<u64> {
    let source = match from.open(stream, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        source => source?,
    };
    let target = to.create(stream, name)?;
    let (mut at, end) = (0, source.len_bytes()?);
    let mut piece = vec![0; COPIED_BYTES];
    while at < end {
        let wanted = COPIED_BYTES.min(usize::try_from(end - at).unwrap_or(COPIED_BYTES));
        let read = source.read_at(&mut piece[..wanted], at)?;
        if read == 0 {
            break;
        }
        target.write_at(&piece[..read], at)?;
        at += read as u64;
    }
    target.sync()?;
    Ok(at)
}
