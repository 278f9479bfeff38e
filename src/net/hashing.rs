//! The threads that check passwords whose hashes are slow: a bounded number at once, with a bounded queue before them.

use crate::broker::access::logins::{Work, Workers};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Room for those that wait is made at once.
const WAITING_MAX: u32 = 65_536;

/// Starts `threads` threads, for which `waiting_max` passwords may wait. They end when what is returned is dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start_hashing(threads: u32, waiting_max: u32) -> io::Result<Workers> {
    let (sender, receiver) = sync_channel::<Work>(waiting_max.clamp(1, WAITING_MAX) as usize);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..threads {
        let receiver = receiver.clone();
        std::thread::Builder::new().name(format!("passwords-{number}")).spawn(move || work(&receiver))?;
    }
    Ok(Box::new(move |work| sender.try_send(work).is_ok()))
}

fn work(receiver: &Mutex<Receiver<Work>>) {
    loop {
        // The lock is given back before the work begins.
        let Ok(work) = receiver.lock().recv() else { return };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("checking a password failed, please report this");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn so_many_are_done_at_once_and_so_many_wait() {
        let workers = start_hashing(1, 1).unwrap();
        let (begun, has_begun) = channel();
        let (go, gone) = channel::<()>();
        let (done, is_done) = channel();
        let finished = done.clone();
        assert!(workers(Box::new(move || {
            begun.send(()).unwrap();
            let _ = gone.recv();
            finished.send(1).unwrap();
        })));
        has_begun.recv().unwrap();
        assert!(workers(Box::new(move || done.send(2).unwrap())));
        assert!(!workers(Box::new(|| ())), "one is done and one waits");
        drop(go);
        assert_eq!((is_done.recv(), is_done.recv()), (Ok(1), Ok(2)));
    }
}
