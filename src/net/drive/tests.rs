//! Peers that flood, that never read, that are silent.

use super::*;
use crate::clock::TestClock;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// A peer that never stops sending.
struct Flood;

impl AsyncRead for Flood {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(&[0; 100]);
        Poll::Ready(Ok(()))
    }
}

impl Input for Flood {
    async fn hung_up(&self) {
        std::future::pending().await
    }
}

impl Input for tokio::io::ReadHalf<tokio::io::DuplexStream> {
    async fn hung_up(&self) {
        std::future::pending().await
    }
}

impl Output for tokio::io::WriteHalf<tokio::io::DuplexStream> {}

/// A peer that never reads.
struct Full;

impl Output for Full {}

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Lets a second pass with every read. Says something once, if it is to.
struct Counting {
    clock: TestClock,
    says: &'static [u8],
    timeout_at: Option<Millis>,
    shutdown: Option<Shutdown>,
    closed: bool,
}

impl Session for Counting {
    fn handle_input(&mut self, input: &mut BytesMut, _: Millis) -> bool {
        input.clear();
        self.clock.advance(1000);
        assert!(self.clock.now() < 1_000_000, "nothing else got its turn");
        self.shutdown.iter().for_each(Shutdown::begin);
        false
    }

    fn handle_timeout(&mut self, _: Millis) {
        self.closed = true;
    }

    fn handle_disconnect(&mut self, _: Option<&str>, _: Millis) {}

    fn handle_shutdown(&mut self, _: Millis) {
        self.closed = true;
    }

    fn poll_transmit(&mut self, out: &mut Transmit, _: Millis) -> Flow {
        out.put(std::mem::take(&mut self.says));
        if self.closed { Flow::Closed } else { Flow::Open }
    }

    fn poll_timeout(&self) -> Option<Millis> {
        self.timeout_at
    }
}

async fn drive_under_flood(session: impl FnOnce(TestClock) -> Counting) -> io::Result<()> {
    let clock = TestClock::at(0);
    let session = session(clock.clone());
    let limits = DriveLimits { transmit_bytes: 1000, write_stall_timeout_ms: 30_000 };
    let shutdown = session.shutdown.clone().unwrap_or_default();
    drive(session, Flood, Full, &Notify::new(), &clock, limits, &shutdown).await
}

#[tokio::test]
async fn a_peer_that_never_pauses_keeps_nothing_from_its_turn() {
    let quiet = |clock| Counting { clock, says: b"", timeout_at: None, shutdown: None, closed: false };
    let timed = |clock| Counting { timeout_at: Some(10_000), ..quiet(clock) };
    assert!(drive_under_flood(timed).await.is_ok());
    let stopped = |clock| Counting { shutdown: Some(Shutdown::default()), ..quiet(clock) };
    assert!(drive_under_flood(stopped).await.is_ok());
    let stalled = |clock| Counting { says: b"unread", ..quiet(clock) };
    assert_eq!(drive_under_flood(stalled).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Has nothing to say, and counts how often it is asked.
struct Silent(Arc<AtomicUsize>);

impl Session for Silent {
    fn handle_input(&mut self, input: &mut BytesMut, _: Millis) -> bool {
        input.clear();
        false
    }

    fn handle_timeout(&mut self, _: Millis) {}

    fn handle_disconnect(&mut self, _: Option<&str>, _: Millis) {}

    fn handle_shutdown(&mut self, _: Millis) {}

    fn poll_transmit(&mut self, _: &mut Transmit, _: Millis) -> Flow {
        self.0.fetch_add(1, Ordering::Relaxed);
        Flow::Open
    }

    fn poll_timeout(&self) -> Option<Millis> {
        None
    }
}

/// Follows tokio's paused time.
struct PausedClock(TestClock, Instant);

impl Clock for PausedClock {
    fn now(&self) -> Millis {
        self.0.now() + u64::try_from(self.1.elapsed().as_millis()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_left_alone() {
    let polls = Arc::new(AtomicUsize::new(0));
    let (mut peer, socket) = tokio::io::duplex(64);
    let (reader, writer) = tokio::io::split(socket);
    let limits = DriveLimits { transmit_bytes: 1024, write_stall_timeout_ms: 1000 };
    let clock = PausedClock(TestClock::at(1), Instant::now());
    let (wake, shutdown) = (Notify::new(), Shutdown::default());
    let driven = drive(Silent(polls.clone()), reader, writer, &wake, &clock, limits, &shutdown);
    let hour = async {
        peer.write_all(b"something").await.unwrap();
        sleep(Duration::from_secs(3600)).await;
        drop(peer);
    };
    let (ended, ()) = tokio::join!(driven, hour);
    ended.unwrap();
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls < 10, "an hour of silence took {polls} turns");
}
