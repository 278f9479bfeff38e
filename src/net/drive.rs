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
use driven::State;
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
    let (mut timer, mut now) = (Timer::new(), clock.now());
    let mut arrived = Arrived::new(now);
    let mut stopping = false;
    let mut shutdown_begun = pin!(shutdown.begun());
    loop {
        let polled = poll_session(driven, writer, &mut timer, &arrived, limits, now)?;
        let Some(Next { has_sent_all, may_read, goes_on, paused }) = polled else { return Ok(()) };
        if may_read {
            arrived.make_room();
        }
        tokio::select! {
            biased;
            () = &mut shutdown_begun, if !stopping => {
                stopping = true;
                driven.lock().session.handle_shutdown(clock.now());
            }
            written = send(driven, writer), if !has_sent_all => has_written(driven, written?, clock)?,
            // What has been said already goes out, before what else has come is handled.
            () = std::future::ready(()), if goes_on => {}
            read = receive(driven, reader, &mut arrived.input, paused), if may_read || paused => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                arrived.handle(driven, read, clock.now());
                if read >= LARGE_TURN_BYTES {
                    tokio::task::yield_now().await;
                }
            }
            () = driven.bell.rung() => {}
            () = timer.fired() => {}
        }
        if goes_on {
            // Others of the thread have their turn first.
            tokio::task::yield_now().await;
        }
        now = clock.now();
        let state = &mut *driven.lock();
        if goes_on {
            arrived.unhandled = state.session.handle_input(&mut arrived.input, now);
        } else {
            check_stall(state, writer, limits, now)?;
            arrived.shrink(now);
        }
        if state.session.poll_timeout().is_some_and(|at| at <= now) {
            state.session.handle_timeout(now);
        }
    }
}

/// What a session waits for after it has been polled.
struct Next {
    /// Nothing waits to be written.
    has_sent_all: bool,
    may_read: bool,
    /// It has left frames in the input, and there is room for what they are answered with.
    goes_on: bool,
    /// Nothing is read, but the end of the peer.
    paused: bool,
}

/// Has the session say what is to be sent, and sets the timer. `None` when the session is over.
fn poll_session<S: Session, W: Output>(
    driven: &Driven<S>,
    writer: &mut W,
    timer: &mut Timer,
    arrived: &Arrived,
    limits: DriveLimits,
    now: Millis,
) -> io::Result<Option<Next>> {
    let state = &mut *driven.lock();
    if state.failed {
        return Err(io::Error::other("its session has failed"));
    }
    let had_sent_all = state.out.is_empty() && !writer.holds_bytes();
    state.flow = state.session.poll_transmit(&mut state.out, now);
    if had_sent_all {
        state.last_written = now;
    }
    let has_sent_all = state.out.is_empty() && !writer.holds_bytes();
    if state.flow == Flow::Reset {
        writer.reset();
        return Ok(None);
    }
    if state.flow == Flow::Closed && has_sent_all {
        return Ok(None);
    }
    let has_room = matches!(state.flow, Flow::Open | Flow::More) && state.out.len() < limits.transmit_bytes;
    let stalled_at = (!has_sent_all).then_some(state.last_written + limits.write_stall_timeout_ms);
    let deadlines = [state.session.poll_timeout(), stalled_at, arrived.idle_at()];
    timer.arm(deadlines.into_iter().flatten().min(), now);
    state.looks_at = timer.at;
    Ok(Some(Next {
        has_sent_all,
        may_read: has_room && !arrived.unhandled,
        goes_on: has_room && arrived.unhandled,
        paused: state.flow == Flow::Paused,
    }))
}

/// Ends a connection whose peer does not read. Looked at every time: a peer that never pauses would keep the timer from its turn.
fn check_stall<S, W: Output>(
    state: &State<S>,
    writer: &mut W,
    limits: DriveLimits,
    now: Millis,
) -> io::Result<()> {
    let waits = !state.out.is_empty() || writer.holds_bytes();
    if waits && state.last_written + limits.write_stall_timeout_ms <= now {
        writer.reset();
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it is sent"));
    }
    Ok(())
}

/// What has been read and not been handled.
struct Arrived {
    input: BytesMut,
    last_read: Millis,
    /// Whether the session has left frames in the input until there is room for what they are answered with.
    unhandled: bool,
    /// Whether the input has the small buffer of a silent connection.
    idle: bool,
}

impl Arrived {
    fn new(now: Millis) -> Arrived {
        Arrived { input: BytesMut::new(), last_read: now, unhandled: false, idle: true }
    }

    /// When the buffer is given back, if nothing comes until then.
    fn idle_at(&self) -> Option<Millis> {
        (self.input.is_empty() && !self.idle).then_some(self.last_read + IDLE_MS)
    }

    /// Makes room for a read.
    fn make_room(&mut self) {
        let read_bytes = if self.idle { IDLE_READ_BYTES } else { READ_BYTES };
        // An empty buffer begins anew: with 50 of them that wander through their memory each read meets cold lines.
        if self.input.is_empty() || self.input.capacity() - self.input.len() < read_bytes / 2 {
            self.input.reserve(read_bytes);
        }
    }

    /// Has the session handle what a read of `read` bytes has brought.
    fn handle<S: Session>(&mut self, driven: &Driven<S>, read: usize, now: Millis) {
        self.last_read = now;
        if self.input.is_empty() {
            driven.lock().session.handle_own_room(read, now);
        } else {
            // What fills a small buffer has more behind it. A login does not, nor does a consumer that acknowledges.
            self.idle &= self.input.len() < self.input.capacity();
            self.unhandled = driven.handle_input(&mut self.input, read, now);
        }
    }

    /// Gives the buffer back when it has long been empty.
    fn shrink(&mut self, now: Millis) {
        if !self.idle && self.input.is_empty() && self.last_read + IDLE_MS <= now {
            self.input = BytesMut::new();
            self.idle = true;
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
