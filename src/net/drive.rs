//! Drives one session over one socket: reads what is there, lets the session handle it, writes what it has to say.

use super::Shutdown;
use crate::clock::Clock;
use crate::message::Millis;
use crate::session::{Flow, Session, Transmit};
use bytes::BytesMut;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// How much is read at once. A read is a turn: large ones make batches.
const READ_BYTES: usize = 128 * 1024;

/// After so long without input the read buffer is given back.
const IDLE_MS: u64 = 1000;

/// Limits on what a connection may keep the broker waiting for.
#[derive(Clone, Copy, Debug)]
pub struct DriveLimits {
    /// While more than this waits to be sent, nothing is read.
    pub transmit_bytes: usize,
    /// How long a peer may leave what it is sent unread before its connection is dropped.
    pub write_stall_timeout_ms: u64,
}

/// Runs the session until either end closes. Whatever happens, the session is disconnected at the end.
pub(super) async fn drive<S, R, W>(
    mut session: S,
    mut reader: R,
    mut writer: W,
    wake: &Notify,
    clock: &dyn Clock,
    limits: DriveLimits,
    shutdown: &Shutdown,
) -> io::Result<()>
where
    S: Session,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let result = turns(&mut session, &mut reader, &mut writer, wake, clock, limits, shutdown).await;
    session.handle_disconnect(clock.now());
    // The peer may be gone already.
    let _ = writer.shutdown().await;
    result
}

async fn turns<S, R, W>(
    session: &mut S,
    reader: &mut R,
    writer: &mut W,
    wake: &Notify,
    clock: &dyn Clock,
    limits: DriveLimits,
    shutdown: &Shutdown,
) -> io::Result<()>
where
    S: Session,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut input = BytesMut::new();
    let mut out = Transmit::default();
    let mut timer = Timer::new();
    let mut now = clock.now();
    let (mut last_written, mut last_read) = (now, now);
    let mut stopping = false;
    loop {
        let was_empty = out.is_empty();
        let flow = session.poll_transmit(&mut out, now);
        if was_empty {
            last_written = now;
        }
        if flow == Flow::Closed && out.is_empty() {
            return Ok(());
        }
        let may_read = matches!(flow, Flow::Open | Flow::More) && out.len() < limits.transmit_bytes;
        if may_read && input.capacity() - input.len() < READ_BYTES / 2 {
            input.reserve(READ_BYTES);
        }
        let stalled_at = (!out.is_empty()).then_some(last_written + limits.write_stall_timeout_ms);
        let idle_at = (input.is_empty() && input.capacity() > 0).then_some(last_read + IDLE_MS);
        timer.arm([session.poll_timeout(), stalled_at, idle_at].into_iter().flatten().min(), now);
        tokio::select! {
            biased;
            written = writer.write_buf(&mut out), if !out.is_empty() => {
                if written? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                now = clock.now();
                last_written = now;
            }
            read = reader.read_buf(&mut input), if may_read => {
                if read? == 0 {
                    return Ok(());
                }
                now = clock.now();
                last_read = now;
                session.handle_input(&mut input, now);
            }
            () = wake.notified() => now = clock.now(),
            () = timer.fired() => {
                now = clock.now();
                if stalled_at.is_some_and(|at| at <= now) {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it is sent"));
                }
                if idle_at.is_some_and(|at| at <= now) {
                    input = BytesMut::new();
                }
                if session.poll_timeout().is_some_and(|at| at <= now) {
                    session.handle_timeout(now);
                }
            }
            () = shutdown.begun(), if !stopping => {
                stopping = true;
                now = clock.now();
                session.handle_shutdown(now);
            }
        }
    }
}

/// A timer that is set anew only when it has to ring earlier: deadlines mostly move away, and one look too many is cheap.
struct Timer {
    sleep: std::pin::Pin<Box<Sleep>>,
    at: Option<Millis>,
}

impl Timer {
    fn new() -> Timer {
        Timer { sleep: Box::pin(sleep(Duration::ZERO)), at: None }
    }

    fn arm(&mut self, at: Option<Millis>, now: Millis) {
        let Some(at) = at else { return };
        if self.at.is_none_or(|armed| at < armed) {
            self.at = Some(at);
            self.sleep.as_mut().reset(Instant::now() + Duration::from_millis(at.saturating_sub(now)));
        }
    }

    async fn fired(&mut self) {
        if self.at.is_none() {
            return std::future::pending().await;
        }
        self.sleep.as_mut().await;
        self.at = None;
    }
}
