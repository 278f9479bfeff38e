//! The asynchronous I/O: accepting, the read, handle, flush loop of each connection, the committer, checkpoints, the timer, the
//! watches on the disk and the memory, shutdown.

mod checkpoints;
pub mod commits;
pub mod control;
pub mod descriptors;
mod disk;
mod drive;
mod event_loops;
mod hashing;
mod http;
mod listen;
mod memory;
pub mod pages;
mod process;
pub mod proxy;
mod pump;
mod socket;
mod streams;
pub mod tls;
pub mod websocket;

pub use checkpoints::Checkpoints;
pub use control::Control;
pub use descriptors::Descriptors;
pub use disk::{DiskLimit, DiskWatch, Volume};
pub use drive::DriveLimits;
pub use event_loops::EventLoops;
pub use hashing::start_hashing;
pub use http::{AtWork, Entrance, HttpListener, PeerAddress, Slot};
pub use listen::{Listener, ListenerLimits, Serving, Spoken, Transport};
pub use memory::{MemorySource, MemoryWatch, resident_bytes, total_bytes};
pub use process::Process;
pub use pump::{Committer, run_timer};
pub use streams::StreamWorker;
pub use tls::Tls;
pub use websocket::{Subprotocol, WebSocket};

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// A socket for IPv6 sees a peer of IPv4 as ::ffff:a.b.c.d. It is known by the address that it has, in names as in permissions.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A signal to every task that the broker is to stop.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// Begins the shutdown; further calls change nothing.
    pub fn begin(&self) {
        self.sender.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until the shutdown has begun.
    pub async fn begun(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as self does.
        let _ = receiver.wait_for(|begun| *begun).await;
    }
}
