//! The thread that does what streams have to do: it moves what is durable into their logs, reads from these for consumers that are
//! further back, and removes what is not kept any more. It may wait for the disk, which no event loop may.

use crate::broker::Broker;
use crate::clock::Clock;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest time that it sleeps; then it sees whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// The streams' thread, see the module.
pub struct StreamWorker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StreamWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(broker: Arc<Broker>, clock: Arc<dyn Clock>) -> io::Result<StreamWorker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("streams".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let durable = broker.journal().durable();
                broker.streams().wait(clock.now(), durable, PATIENCE);
                // A stream that fails so does not end the others.
                if catch_unwind(AssertUnwindSafe(|| broker.run_streams(clock.now()))).is_err() {
                    tracing::error!("the streams' thread failed, please report this");
                }
            }
        })?;
        Ok(StreamWorker { stop, thread: Some(thread) })
    }

    /// Ends the thread, and waits until it has.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the streams' thread failed at its end, please report this");
        }
    }
}

impl Drop for StreamWorker {
    /// One that is not stopped ends with its owner.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
