//! Peers that flood, that never read, that are silent; and sessions that others have send.

use super::bell::{Bell, SendNow, Sleep};
use super::*;
use crate::clock::TestClock;
use crate::net::socket::SharedWriteHalf;
use crate::session::{DirectWrite, Transmit};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};

/// A session that no other event loop sends for.
fn alone<S: Session>(session: S) -> Driven<S> {
    Driven::new(session, Arc::new(Bell::new(Arc::default())), None, 0)
}

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

impl Output for tokio::io::WriteHalf<tokio::io::DuplexStream> {
    fn reset(&mut self) {}
}

/// A peer that never reads.
struct Full;

impl Output for Full {
    fn reset(&mut self) {}
}

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
    drive(&alone(session), Flood, Full, &clock, limits, &shutdown).await
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

/// Ignores what it reads, and says what its function puts there.
struct Speaking<F>(F);

impl<F: FnMut(&mut Transmit) -> Flow + Send> Session for Speaking<F> {
    fn handle_input(&mut self, input: &mut BytesMut, _: Millis) -> bool {
        input.clear();
        false
    }

    fn handle_timeout(&mut self, _: Millis) {}

    fn handle_disconnect(&mut self, _: Option<&str>, _: Millis) {}

    fn handle_shutdown(&mut self, _: Millis) {}

    fn poll_transmit(&mut self, out: &mut Transmit, _: Millis) -> Flow {
        self.0(out)
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
    let mut polls = 0;
    let silent = Speaking(|_: &mut Transmit| {
        polls += 1;
        Flow::Open
    });
    let (mut peer, socket) = tokio::io::duplex(64);
    let (reader, writer) = tokio::io::split(socket);
    let limits = DriveLimits { transmit_bytes: 1024, write_stall_timeout_ms: 1000 };
    let clock = PausedClock(TestClock::at(1), Instant::now());
    let (session, shutdown) = (alone(silent), Shutdown::default());
    let driven = drive(&session, reader, writer, &clock, limits, &shutdown);
    let hour = async {
        peer.write_all(b"something").await.unwrap();
        sleep(Duration::from_secs(3600)).await;
        drop(peer);
    };
    let (ended, ()) = tokio::join!(driven, hour);
    ended.unwrap();
    drop(session);
    assert!(polls < 10, "an hour of silence took {polls} turns");
}

/// Says what it is given to say.
#[derive(Clone, Default)]
struct Given(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    says: Vec<u8>,
    flow: Option<Flow>,
    timeout_at: Option<Millis>,
    panics: bool,
    /// The last time it was asked it had nothing more to say.
    knows_all_sent: bool,
}

impl Session for Given {
    fn handle_input(&mut self, _: &mut BytesMut, _: Millis) -> bool {
        false
    }

    fn handle_timeout(&mut self, _: Millis) {}

    fn handle_disconnect(&mut self, _: Option<&str>, _: Millis) {}

    fn handle_shutdown(&mut self, _: Millis) {}

    fn poll_transmit(&mut self, out: &mut Transmit, _: Millis) -> Flow {
        let script = &mut *self.0.lock();
        assert!(!script.panics, "it was asked to fail");
        script.knows_all_sent = script.says.is_empty() && out.is_empty();
        out.put(&std::mem::take(&mut script.says));
        script.flow.unwrap_or(Flow::Open)
    }

    fn poll_timeout(&self) -> Option<Millis> {
        self.0.lock().timeout_at
    }
}

/// A peer that has sent nothing.
struct Quiet;

impl AsyncRead for Quiet {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Input for Quiet {
    async fn hung_up(&self) {
        std::future::pending().await
    }
}

/// A socket that takes some bytes.
#[derive(Clone, Default)]
struct Taking {
    room: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Taking {
    fn take(&self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.room.fetch_sub(taken, Ordering::Relaxed);
        self.taken.lock().extend_from_slice(&bytes[..taken]);
        taken
    }

    /// What it has taken since this was asked last.
    fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.taken.lock())).unwrap()
    }
}

impl DirectWrite for Taking {
    fn write_now(&self, bytes: &[u8]) -> usize {
        self.take(bytes)
    }
}

impl Output for Taking {
    fn reset(&mut self) {}
}

impl AsyncWrite for Taking {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.take(bytes) {
            0 => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const STALL_MS: u64 = 30_000;

/// A session whose task is given turns by hand, and its peer.
struct Rig {
    session: Given,
    socket: Taking,
    clock: TestClock,
    driven: Arc<Driven<Given>>,
    task: Pin<Box<dyn Future<Output = io::Result<()>>>>,
}

impl Rig {
    /// One whose socket takes that much, and whose task has had its first turn.
    fn with_room(bytes: usize) -> Rig {
        let (session, socket, clock) = (Given::default(), Taking::default(), TestClock::at(1000));
        socket.room.store(bytes, Ordering::Relaxed);
        let bell = Arc::new(Bell::new(Arc::default()));
        let driven = Arc::new(Driven::new(session.clone(), bell, Some(Arc::new(socket.clone())), 1000));
        let task = {
            let (driven, socket, clock) = (driven.clone(), socket.clone(), clock.clone());
            async move {
                let limits = DriveLimits { transmit_bytes: 1000, write_stall_timeout_ms: STALL_MS };
                drive(&driven, Quiet, socket, &clock, limits, &Shutdown::default()).await
            }
        };
        let mut rig = Rig { session, socket, clock, driven, task: Box::pin(task) };
        assert!(rig.turn().is_pending());
        rig
    }

    fn says(&self, text: &str) {
        self.session.0.lock().says.extend_from_slice(text.as_bytes());
    }

    /// Has it send on another thread than its own.
    fn send_now(&self) -> bool {
        self.driven.send_now(self.clock.now())
    }

    /// Its task has a turn, when it is woken.
    fn turn(&mut self) -> Poll<io::Result<()>> {
        let driven = self.driven.clone();
        let bell = &driven.bell;
        Arc::clone(bell).ring();
        self.task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[tokio::test]
async fn a_session_can_be_had_to_send() {
    let mut rig = Rig::with_room(100);
    rig.says("one");
    assert!(rig.send_now());
    assert_eq!(rig.socket.taken(), "one");
    assert!(rig.session.0.lock().knows_all_sent, "the committer may write now");
    assert!(rig.turn().is_pending());
    assert_eq!(rig.socket.taken(), "", "nothing is left to its task");
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_left_to_the_task() {
    let mut rig = Rig::with_room(5);
    rig.clock.advance(STALL_MS * 2);
    rig.says("one two");
    assert!(!rig.send_now());
    rig.says(" three");
    assert!(!rig.send_now(), "what is ahead has to go first");
    assert_eq!(rig.socket.taken(), "one t");
    assert!(rig.turn().is_pending(), "the peer has not been slow for as long as nothing was sent");
    rig.socket.room.store(100, Ordering::Relaxed);
    assert!(!rig.send_now(), "the task is sending");
    assert!(rig.turn().is_pending());
    assert_eq!(rig.socket.taken(), "wo three");
    rig.says(" four");
    assert!(rig.send_now());
    assert_eq!(rig.socket.taken(), " four");
}

#[tokio::test]
async fn a_session_that_is_not_at_rest_is_left_to_its_task() {
    for flow in [Flow::More, Flow::Slowed, Flow::Paused] {
        let mut rig = Rig::with_room(100);
        rig.says("one");
        rig.session.0.lock().flow = Some(flow);
        assert!(!rig.send_now(), "it has become {flow:?}");
        rig.session.0.lock().flow = None;
        assert!(!rig.send_now(), "its task still does as for {flow:?}");
        assert!(rig.turn().is_pending());
        assert_eq!(rig.socket.taken(), "one");
        assert!(rig.send_now(), "it is at rest again");
    }
    let mut rig = Rig::with_room(100);
    rig.says("farewell");
    rig.session.0.lock().flow = Some(Flow::Closed);
    assert!(!rig.send_now());
    assert!(matches!(rig.turn(), Poll::Ready(Ok(()))), "it closes when all is sent");
    assert_eq!(rig.socket.taken(), "farewell");
    rig.session.0.lock().flow = None;
    rig.says("from the grave");
    assert!(!rig.send_now());
    assert_eq!(rig.socket.taken(), "");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_earlier_is_told_to_the_task() {
    let mut rig = Rig::with_room(100);
    rig.session.0.lock().timeout_at = Some(5000);
    assert!(!rig.send_now(), "it had none before");
    assert!(rig.turn().is_pending());
    assert!(rig.send_now());
    rig.session.0.lock().timeout_at = Some(6000);
    assert!(rig.send_now(), "the task looks before that");
    rig.session.0.lock().timeout_at = Some(4000);
    assert!(!rig.send_now());
}

#[tokio::test]
async fn a_session_that_fails_ends_alone() {
    let mut rig = Rig::with_room(100);
    rig.session.0.lock().panics = true;
    assert!(!rig.send_now());
    rig.session.0.lock().panics = false;
    assert!(!rig.send_now(), "it can't be trusted any more");
    assert!(matches!(rig.turn(), Poll::Ready(Err(_))));
}

/// However a task and the threads that send for its session interleave: all bytes arrive, in order, and no task stays asleep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_threads_send_arrives_in_order() {
    const COUNT: u32 = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (reader, writer) = listener.accept().await.unwrap().0.into_split();
    let writer = SharedWriteHalf::new(writer);
    let sleep = Arc::new(Sleep::default());
    sleep.begin();
    let bell = Arc::new(Bell::new(sleep));
    let end = Arc::new(AtomicU32::new(0));
    let (allowed, mut next) = (end.clone(), 0);
    let numbers = Speaking(move |out: &mut Transmit| {
        while next < allowed.load(Ordering::Acquire) {
            if out.len() >= 1000 {
                return Flow::More;
            }
            out.put(&u32::to_be_bytes(next));
            next += 1;
        }
        Flow::Open
    });
    let driven = Arc::new(Driven::new(numbers, bell.clone(), Some(Arc::new(writer.clone())), 0));
    let others = Arc::downgrade(&driven);
    bell.admit(others);
    let task = tokio::spawn(async move {
        let limits = DriveLimits { transmit_bytes: 4000, write_stall_timeout_ms: 30_000 };
        drive(&*driven, reader, writer, &TestClock::at(0), limits, &Shutdown::default()).await
    });
    let waker = std::thread::spawn(move || {
        for number in 1..=COUNT {
            end.store(number, Ordering::Release);
            // Sometimes its own task has to send, sometimes another thread.
            if number % 3 == 0 {
                bell.ring();
            } else {
                bell::in_a_small_turn(|| bell.ring());
            }
        }
    });
    for number in 0..COUNT {
        assert_eq!(peer.read_u32().await.unwrap(), number);
    }
    waker.join().unwrap();
    drop(peer);
    task.await.unwrap().unwrap();
}

/// A socket and its peer, on both of which nothing has been sent.
async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, peer)
}

#[tokio::test]
async fn a_peer_that_is_given_up_can_not_send_any_more() {
    let (socket, mut peer) = socket_pair().await;
    let (reader, writer) = socket.into_split();
    let session = Speaking(|_: &mut Transmit| Flow::Reset);
    let limits = DriveLimits { transmit_bytes: 1000, write_stall_timeout_ms: STALL_MS };
    let writer = SharedWriteHalf::new(writer);
    // Another owner of the socket, such as the committer, does not delay its closing.
    let _held = writer.clone();
    drive(&alone(session), reader, writer, &TestClock::at(0), limits, &Shutdown::default()).await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(peer.write_u8(0).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
