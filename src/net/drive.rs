//! Drives one session over one socket: reads what is there, lets the session handle it, writes what it has to say.

#[cfg(test)]
mod tests;

use super::Shutdown;
use crate::clock::Clock;
use crate::message::Millis;
use crate::session::{Flow, Room, Session, Transmit};
use bytes::{BufMut, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// How much is read at once. A read is a turn: large ones make batches.
const READ_BYTES: usize = 128 * 1024;

/// After a turn with so much input the other connections of the thread get theirs.
const LARGE_TURN_BYTES: usize = 16 * 1024;

/// After so long without input the read buffer is given back, for one of this size.
const IDLE_MS: u64 = 1000;
const IDLE_READ_BYTES: usize = 512;

/// The side of a socket that is read from.
pub(super) trait Input: AsyncRead + Unpin {
    /// Waits until the peer has hung up, without reading what it sent before.
    async fn hung_up(&self);
}

/// The side of a socket that is written to.
pub(super) trait Output: AsyncWrite + Unpin {
    /// Whether bytes that it has taken still have to be flushed.
    fn holds_bytes(&self) -> bool {
        false
    }
}

/// Waits until the peer of a socket has hung up.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) async fn hung_up(socket: &TcpStream) {
    // Asked for data that is urgent, of which AMQP has none, tokio says that the peer has closed and not that there is
    // something to read.
    let ready = socket.ready(tokio::io::Interest::PRIORITY).await;
    if !ready.is_ok_and(|ready| ready.is_read_closed()) {
        std::future::pending().await
    }
}

/// Here it is noticed when a heartbeat can't be written.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) async fn hung_up(_: &TcpStream) {
    std::future::pending().await
}

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
    R: Input,
    W: Output,
{
    let result = turns(&mut session, &mut reader, &mut writer, wake, clock, limits, shutdown).await;
    let fault = result.as_ref().err().map(io::Error::to_string);
    session.handle_disconnect(fault.as_deref(), clock.now());
    // The peer may be gone already, or not read the farewell of TLS.
    let patience = Duration::from_millis(limits.write_stall_timeout_ms);
    let _ = tokio::time::timeout(patience, writer.shutdown()).await;
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
    R: Input,
    W: Output,
{
    let mut input = BytesMut::new();
    let mut out = Transmit::default();
    let mut timer = Timer::new();
    let mut now = clock.now();
    let (mut last_written, mut last_read) = (now, now);
    // Whether the session has left frames in `input` until there is room for what they are answered with.
    let mut unhandled = false;
    let (mut idle, mut stopping) = (true, false);
    let mut shutdown_begun = std::pin::pin!(shutdown.begun());
    loop {
        let had_sent_all = out.is_empty() && !writer.holds_bytes();
        let flow = session.poll_transmit(&mut out, now);
        if had_sent_all {
            last_written = now;
        }
        let has_sent_all = out.is_empty() && !writer.holds_bytes();
        if flow == Flow::Closed && has_sent_all {
            return Ok(());
        }
        let paused = flow == Flow::Paused;
        let has_room = matches!(flow, Flow::Open | Flow::More) && out.len() < limits.transmit_bytes;
        if unhandled && has_room {
            unhandled = session.handle_input(&mut input, now);
            continue;
        }
        let may_read = has_room && !unhandled;
        let read_bytes = if idle { IDLE_READ_BYTES } else { READ_BYTES };
        // An empty buffer begins anew: with 50 of them that wander through their memory each read meets cold lines.
        if may_read && (input.is_empty() || input.capacity() - input.len() < read_bytes / 2) {
            input.reserve(read_bytes);
        }
        let stalled_at = (!has_sent_all).then_some(last_written + limits.write_stall_timeout_ms);
        let idle_at = (input.is_empty() && !idle).then_some(last_read + IDLE_MS);
        timer.arm([session.poll_timeout(), stalled_at, idle_at].into_iter().flatten().min(), now);
        tokio::select! {
            biased;
            () = &mut shutdown_begun, if !stopping => {
                stopping = true;
                session.handle_shutdown(clock.now());
            }
            written = send(writer, &mut out), if !has_sent_all => {
                if written? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                last_written = clock.now();
            }
            read = receive(session, reader, &mut input, paused), if may_read || paused => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                last_read = clock.now();
                if input.is_empty() {
                    session.handle_own_room(read, last_read);
                } else {
                    // What fills a small buffer has more behind it. A login does not, nor does a consumer that acknowledges.
                    idle &= input.len() < input.capacity();
                    unhandled = session.handle_input(&mut input, last_read);
                }
                if read >= LARGE_TURN_BYTES {
                    tokio::task::yield_now().await;
                }
            }
            () = wake.notified() => {}
            () = timer.fired() => {}
        }
        now = clock.now();
        // Looked at every time: a peer that never pauses would keep the timer from its turn.
        let waits = !out.is_empty() || writer.holds_bytes();
        if waits && last_written + limits.write_stall_timeout_ms <= now {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it is sent"));
        }
        if !idle && input.is_empty() && last_read + IDLE_MS <= now {
            input = BytesMut::new();
            idle = true;
        }
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
    }
}

/// Reads what is there, into the input or to where the session wants it, or only waits for the end.
async fn receive<S: Session, R: Input>(
    session: &mut S,
    reader: &mut R,
    input: &mut BytesMut,
    paused: bool,
) -> io::Result<usize> {
    if paused {
        reader.hung_up().await;
        return Ok(0);
    }
    match if input.is_empty() { session.room() } else { Room::Input } {
        Room::Input => reader.read_buf(input).await,
        Room::Short(bytes) => reader.read_buf(&mut input.limit(bytes)).await,
        Room::Own(mut room) => reader.read_buf(&mut room).await,
    }
}

/// Writes what there is, or lets go out what has been written.
async fn send<W: Output>(writer: &mut W, out: &mut Transmit) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(1);
    }
    writer.write_buf(out).await
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
