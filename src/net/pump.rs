//! What keeps the core going besides connections: the thread that commits the journal, and the task that watches its timer.

use super::commits::{CommitStats, CommitTimer};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::store::{Journal, StoreError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// The longest time that the committer sleeps without being woken; then it sees whether it is to stop.
const COMMITTER_PATIENCE: Duration = Duration::from_millis(200);

/// How long the committer waits for the store to get what it is out of.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// The thread that commits: while one batch syncs, the next one gathers.
pub struct Committer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread, whose work `stats` counts. `committed` is called after each commit, `short` whenever the store comes to be out
    /// of something, and when it is no more, `failed` when the store has failed and nothing can be confirmed any more.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        journal: Arc<Journal>,
        stats: Arc<CommitStats>,
        committed: impl Fn() + Send + 'static,
        short: impl FnMut(Option<StoreError>) + Send + 'static,
        failed: impl FnOnce(StoreError) + Send + 'static,
    ) -> io::Result<Committer> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
            let mut timer = CommitTimer::new(stats, journal.linger());
            let mut shortage = Shortage { told: false, short };
            while !stopped.load(Ordering::Acquire) {
                timer.wait();
                journal.wait_for_work(COMMITTER_PATIENCE);
                match timer.commit(|| commit(&journal)) {
                    Ok(()) => {
                        committed();
                        shortage.tell(journal.shortage());
                    }
                    Err(error @ StoreError::Exhausted(_)) => {
                        shortage.tell(Some(error));
                        std::thread::park_timeout(SHORTAGE_PAUSE);
                    }
                    Err(error) => return failed(error),
                }
            }
            if let Err(error) = timer.commit(|| commit(&journal)) {
                failed(error);
            }
        })?;
        Ok(Committer { stop, thread: Some(thread) })
    }

    /// Commits what is left, and ends the thread.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer's thread failed, please report this");
        }
    }
}

/// Whether it was called because the store is out of something.
struct Shortage<F> {
    told: bool,
    short: F,
}

impl<F: FnMut(Option<StoreError>)> Shortage<F> {
    fn tell(&mut self, shortage: Option<StoreError>) {
        if shortage.is_some() != std::mem::replace(&mut self.told, shortage.is_some()) {
            (self.short)(shortage);
        }
    }
}

/// Commits. An engine that panics has failed like one that says so: without a committer nothing would ever be confirmed.
fn commit(journal: &Journal) -> Result<(), StoreError> {
    match catch_unwind(AssertUnwindSafe(|| journal.commit())) {
        Ok(committed) => committed.map(|_| ()),
        Err(_) => Err(StoreError::Failed("the engine panicked, see above".to_owned())),
    }
}

impl Drop for Committer {
    /// A committer that is not stopped ends with its owner.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Lets the core do what is due, forever.
pub async fn run_timer(broker: Arc<Broker>, clock: Arc<dyn Clock>) {
    let wake = Arc::new(Notify::new());
    let rung = wake.clone();
    broker.timer().set_waker(Box::new(move || rung.notify_one()));
    loop {
        let now = clock.now();
        broker.handle_timeout(now);
        let next = Duration::from_millis(broker.next_deadline().saturating_sub(now));
        if next.is_zero() {
            // There is more to do than one turn has time for; others have theirs before.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = sleep(next) => {}
        }
    }
}
