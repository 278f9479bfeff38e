//! Drives one session over one socket: reads what is there, lets the session handle it, writes what it has to say.

pub(super) mod bell;
mod driven;
#[cfg(test)]
mod tests;

use super::Shutdown;
use crate::clock::Clock;
use crate::message::Millis;
use crate::session::{Flow, Room, Session};
use bytes::{BufMut, BytesMut};
pub(super) use driven::Driven;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
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

    /// Has whatever the peer sends next fail, where a close would have it go nowhere, and what waits for the peer forgotten.
    fn reset(&mut self);
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
    driven: &Driven<S>,
    mut reader: R,
    mut writer: W,
    clock: &dyn Clock,
    limits: DriveLimits,
    shutdown: &Shutdown,
) -> io::Result<()>
where
    S: Session,
    R: Input,
    W: Output,
{
    let result = turns(driven, &mut reader, &mut writer, clock, limits, shutdown).await;
    let fault = result.as_ref().err().map(io::Error::to_string);
    {
        let mut state = driven.lock();
        state.flow = Flow::Closed;
        state.session.handle_disconnect(fault.as_deref(), clock.now());
    }
    // The peer may be gone already, or not read the farewell of TLS.
    let patience = Duration::from_millis(limits.write_stall_timeout_ms);
    let _ = tokio::time::timeout(patience, writer.shutdown()).await;
    result
}

async fn turns<S, R, W>(
    driven: &Driven<S>,
    reader: &mut R,
    writer: &mut W,
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
    let mut timer = Timer::new();
    let mut now = clock.now();
    let mut last_read = now;
    // Whether the session has left frames in `input` until there is room for what they are answered with.
    let mut unhandled = false;
    let (mut idle, mut stopping) = (true, false);
    let mut shutdown_begun = pin!(shutdown.begun());
    loop {
        let (has_sent_all, may_read, goes_on, paused);
        {
            let state = &mut *driven.lock();
            if state.failed {
                return Err(io::Error::other("its session has failed"));
            }
            let had_sent_all = state.out.is_empty() && !writer.holds_bytes();
            state.flow = state.session.poll_transmit(&mut state.out, now);
            if had_sent_all {
                state.last_written = now;
            }
            has_sent_all = state.out.is_empty() && !writer.holds_bytes();
            if state.flow == Flow::Reset {
                writer.reset();
                return Ok(());
            }
            if state.flow == Flow::Closed && has_sent_all {
                return Ok(());
            }
            paused = state.flow == Flow::Paused;
            let has_room =
                matches!(state.flow, Flow::Open | Flow::More) && state.out.len() < limits.transmit_bytes;
            goes_on = unhandled && has_room;
            may_read = has_room && !unhandled;
            let stalled_at = (!has_sent_all).then_some(state.last_written + limits.write_stall_timeout_ms);
            let idle_at = (input.is_empty() && !idle).then_some(last_read + IDLE_MS);
            timer.arm([state.session.poll_timeout(), stalled_at, idle_at].into_iter().flatten().min(), now);
            state.looks_at = timer.at;
        }
        if goes_on {
            // What is said already goes out, and others of the thread have their turn, before what else has come is handled.
            tokio::select! {
                biased;
                () = &mut shutdown_begun, if !stopping => {
                    stopping = true;
                    driven.lock().session.handle_shutdown(clock.now());
                }
                written = send(driven, writer), if !has_sent_all => has_written(driven, written?, clock)?,
                () = std::future::ready(()) => {}
            }
            tokio::task::yield_now().await;
            now = clock.now();
            let mut state = driven.lock();
            unhandled = state.session.handle_input(&mut input, now);
            if state.session.poll_timeout().is_some_and(|at| at <= now) {
                state.session.handle_timeout(now);
            }
            continue;
        }
        let read_bytes = if idle { IDLE_READ_BYTES } else { READ_BYTES };
        // An empty buffer begins anew: with 50 of them that wander through their memory each read meets cold lines.
        if may_read && (input.is_empty() || input.capacity() - input.len() < read_bytes / 2) {
            input.reserve(read_bytes);
        }
        tokio::select! {
            biased;
            () = &mut shutdown_begun, if !stopping => {
                stopping = true;
                driven.lock().session.handle_shutdown(clock.now());
            }
            written = send(driven, writer), if !has_sent_all => has_written(driven, written?, clock)?,
            read = receive(driven, reader, &mut input, paused), if may_read || paused => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                last_read = clock.now();
                if input.is_empty() {
                    driven.lock().session.handle_own_room(read, last_read);
                } else {
                    // What fills a small buffer has more behind it. A login does not, nor does a consumer that acknowledges.
                    idle &= input.len() < input.capacity();
                    unhandled = driven.handle_input(&mut input, read, last_read);
                }
                if read >= LARGE_TURN_BYTES {
                    tokio::task::yield_now().await;
                }
            }
            () = driven.bell.rung() => {}
            () = timer.fired() => {}
        }
        now = clock.now();
        let mut state = driven.lock();
        // Looked at every time: a peer that never pauses would keep the timer from its turn.
        let waits = !state.out.is_empty() || writer.holds_bytes();
        if waits && state.last_written + limits.write_stall_timeout_ms <= now {
            writer.reset();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it is sent"));
        }
        if !idle && input.is_empty() && last_read + IDLE_MS <= now {
            input = BytesMut::new();
            idle = true;
        }
        if state.session.poll_timeout().is_some_and(|at| at <= now) {
            state.session.handle_timeout(now);
        }
    }
}

fn has_written<S: Session>(driven: &Driven<S>, bytes: usize, clock: &dyn Clock) -> io::Result<()> {
    if bytes == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    driven.lock().last_written = clock.now();
    Ok(())
}

/// Reads what is there, into the input or to where the session wants it, or only waits for the end.
async fn receive<S: Session, R: Input>(
    driven: &Driven<S>,
    reader: &mut R,
    input: &mut BytesMut,
    paused: bool,
) -> io::Result<usize> {
    if paused {
        reader.hung_up().await;
        return Ok(0);
    }
    poll_fn(|context| {
        let state = &mut *driven.lock();
        match if input.is_empty() { state.session.room() } else { Room::Input } {
            Room::Input => pin!(reader.read_buf(input)).poll(context),
            Room::Short(bytes) => pin!(reader.read_buf(&mut input.limit(bytes))).poll(context),
            Room::Own(mut room) => pin!(reader.read_buf(&mut room)).poll(context),
        }
    })
    .await
}

/// Writes what there is to send, or flushes what the layer below still buffers. Returns how many bytes left.
async fn send<S: Session, W: Output>(driven: &Driven<S>, writer: &mut W) -> io::Result<usize> {
    if driven.lock().out.is_empty() {
        writer.flush().await?;
        return Ok(1);
    }
    poll_fn(|context| pin!(writer.write_buf(&mut driven.lock().out)).poll(context)).await
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
