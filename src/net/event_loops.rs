//! The threads that connections run on: one for each processor, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given when it came. A runtime that moves tasks between its threads would let a
//! publisher and its consumer take turns on one processor, or wake a sleeping thread with each turn to take one of them over.

use super::drive::bell::Sleep;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How many tasks a loop runs before it polls for events of sockets and other threads.
const LOOK_EVERY: u32 = 4;

/// The threads that connections run on; see the module.
pub struct EventLoops {
    loops: Vec<EventLoop>,
}

struct EventLoop {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    sleep: Arc<Sleep>,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A connection's place on a loop, for as long as it lives.
pub(super) struct Seat {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    sleep: Arc<Sleep>,
}

impl EventLoops {
    /// How many there will be.
    pub fn count() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Starts a thread for each processor that this process may use.
    ///
    /// # Errors
    /// When the system gives no more threads or files.
    pub fn start() -> io::Result<EventLoops> {
        Ok(EventLoops { loops: (0..EventLoops::count()).map(EventLoop::start).collect::<io::Result<_>>()? })
    }

    /// A place on the loop with the fewest connections.
    pub(super) fn seat(&self) -> Seat {
        let count = |one: &&EventLoop| one.connections.load(Ordering::Relaxed);
        let emptiest = self.loops.iter().min_by_key(count).expect("there is one for each processor");
        emptiest.connections.fetch_add(1, Ordering::Relaxed);
        let EventLoop { handle, connections, sleep, .. } = emptiest;
        Seat { handle: handle.clone(), connections: connections.clone(), sleep: sleep.clone() }
    }
}

impl EventLoop {
    fn start(number: usize) -> io::Result<EventLoop> {
        let sleep = Arc::new(Sleep::default());
        let (begins, ends) = (sleep.clone(), sleep.clone());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || begins.begin())
            .on_thread_unpark(move || ends.end())
            .event_interval(LOOK_EVERY)
            .global_queue_interval(LOOK_EVERY)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
            // An error means that the other end is gone, which is what is waited for.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(EventLoop { handle, connections: Arc::default(), sleep, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that connections run on failed, please report this");
        }
    }
}

impl Seat {
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The sleep of its loop.
    pub(super) fn sleep(&self) -> &Arc<Sleep> {
        &self.sleep
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_gets_a_place_where_there_are_fewest() {
        let loops = EventLoops { loops: (0..3).map(|number| EventLoop::start(number).unwrap()).collect() };
        let counts = || -> Vec<usize> {
            loops.loops.iter().map(|one| one.connections.load(Ordering::Relaxed)).collect()
        };
        let mut seats: Vec<Seat> = (0..6).map(|_| loops.seat()).collect();
        assert_eq!(counts(), [2, 2, 2]);
        drop(seats.remove(1));
        assert_eq!(counts(), [2, 1, 2]);
        seats.push(loops.seat());
        assert_eq!(counts(), [2, 2, 2]);
    }

    #[test]
    fn what_runs_on_a_loop_runs_on_its_thread() {
        let loops = EventLoops { loops: vec![EventLoop::start(7).unwrap()] };
        let (name, named) = std::sync::mpsc::channel();
        loops.seat().handle().spawn(async move {
            tokio::task::yield_now().await;
            name.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        assert_eq!(named.recv().unwrap().as_deref(), Some("connections-7"));
    }
}
