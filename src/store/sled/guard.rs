//! What sled does on its way that a broker must not: it panics where it could return an error, and its threads may hold a file
//! for a moment after it was closed.

use std::any::Any;
use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

thread_local! {
    static IS_CALLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is calling an engine whose panic becomes an error and is reported as such: the panic itself need not be.
pub fn takes_panics() -> bool {
    IS_CALLING.get()
}

/// What was called, or the text that it panicked with.
pub(super) fn unpanicked<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let was_calling = IS_CALLING.replace(true);
    let called = catch_unwind(AssertUnwindSafe(call));
    IS_CALLING.set(was_calling);
    called.map_err(|panic| format!("sled stopped on it: {}", text(&*panic)))
}

/// Calls sled, whose panics become errors like any other.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, String> {
    unpanicked(call)?.map_err(|error| format!("sled says: {error}"))
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

/// Waits until no process holds sled's file: sled itself would fail at once, with an error that looks like damage.
pub(super) fn wait_until_released(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        tracing::warn!("{} is locked; waiting until the process that holds it releases it", path.display());
        file.lock()?;
    }
    file.unlock()
}
