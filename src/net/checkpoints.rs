//! The thread that makes checkpoints of the journal's index, so that neither the committer nor an event loop does.

use crate::store::{Journal, StoreError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked whether one is due.
const PATIENCE: Duration = Duration::from_millis(250);

/// After one that could not be made.
const PAUSE: Duration = Duration::from_secs(60);

/// When the broker stops there is one more if this many bytes of records were written since the last.
const LAST_BYTES_MIN: u64 = 1 << 20;

/// The thread; see the module.
pub struct Checkpoints {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(journal: Arc<Journal>) -> io::Result<Checkpoints> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("index".to_owned()).spawn(move || {
            let mut patience = PATIENCE;
            loop {
                std::thread::park_timeout(patience);
                let is_last = stopped.load(Ordering::Acquire);
                let is_due = match is_last {
                    true => journal.is_checkpoint_due_after(LAST_BYTES_MIN),
                    false => journal.is_checkpoint_due(),
                };
                patience = if is_due && !make(&journal) { PAUSE } else { PATIENCE };
                if is_last {
                    return;
                }
            }
        })?;
        Ok(Checkpoints { stop, thread: Some(thread) })
    }

    /// Makes the last checkpoint, if it is worth it, and ends the thread. For when nothing is written any more.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes checkpoints of the index failed, please report this");
        }
    }
}

impl Drop for Checkpoints {
    /// One that is not stopped ends with its owner.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Whether it was made. Without one the next start takes longer, and nothing else does.
fn make(journal: &Journal) -> bool {
    let made = catch_unwind(AssertUnwindSafe(|| journal.checkpoint()));
    let made = made.unwrap_or_else(|_| Err(StoreError::Failed("it panicked, see above".to_owned())));
    if let Err(error) = &made {
        tracing::warn!(
            "no checkpoint of the index can be made, so that the next start takes longer: {error}"
        );
    }
    made.is_ok()
}
