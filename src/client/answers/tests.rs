//! Answers, with a socket that takes as many bytes as a test allows, in an encoding that shows them.

use super::*;
use crate::client::Publishes;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;

/// What this protocol answers.
#[derive(Debug)]
enum Said {
    Confirm(Publishes),
    Done,
}

impl Answer for Said {
    fn joins(&self, next: &Said) -> bool {
        matches!((self, next), (Said::Confirm(_), Said::Confirm(_)))
    }

    fn join(&mut self, next: Said) {
        if let (Said::Confirm(publishes), Said::Confirm(next)) = (self, next) {
            publishes.join(next);
        }
    }

    fn confirms(&self) -> Option<PublishId> {
        match self {
            Said::Confirm(publishes) => Some(publishes.last),
            Said::Done => None,
        }
    }

    fn count(&self, _: LinkId, _: &mut Progress) {}

    fn put(self, link: LinkId, out: &mut Transmit) {
        let link = link.0 as u8;
        match self {
            Said::Confirm(publishes) => {
                if let Some((last, multiple)) = publishes.ack() {
                    out.put(&ack(link, last.0 as u8, multiple.into()));
                }
            }
            Said::Done => out.put(&done(link)),
        }
    }
}

fn ack(link: u8, last: u8, multiple: u8) -> [u8; 4] {
    [b'a', link, last, multiple]
}

fn done(link: u8) -> [u8; 2] {
    [b'd', link]
}

/// Takes a number of bytes, and lets the session try to send meanwhile.
#[derive(Default)]
struct Socket {
    takes: AtomicUsize,
    written: Mutex<Vec<u8>>,
    session: Mutex<Weak<Answers<Said>>>,
}

impl DirectWrite for Socket {
    fn write_now(&self, bytes: &[u8]) -> usize {
        let takes = self.takes.load(Ordering::Relaxed).min(bytes.len());
        self.written.lock().extend_from_slice(&bytes[..takes]);
        if let Some(answers) = self.session.lock().upgrade() {
            let (mut replies, mut out) = (Transmit::default(), Transmit::default());
            replies.put(b"reply");
            assert!(!answers.begin(Lsn(9), &mut replies, &mut out, &mut Answered::default()));
            assert_eq!((replies.len(), out.len()), (5, 0));
        }
        takes
    }
}

struct Fixture {
    answers: Arc<Answers<Said>>,
    socket: Arc<Socket>,
    wakes: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Fixture {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let outbox = Arc::new(Outbox::new(Box::new(count), Arc::default()));
        let socket = Arc::new(Socket { takes: AtomicUsize::new(usize::MAX), ..Socket::default() });
        let answers = Arc::new(Answers::new(outbox, Some(socket.clone())));
        Fixture { answers, socket, wakes }
    }

    /// A turn that publishes, after which nothing is left to send.
    fn publish(&self, link: u32, tags: std::ops::RangeInclusive<u64>, lsn: u64) {
        self.answers.add(LinkId(link), Lsn(lsn), confirm(tags, &[]), false);
        self.send(0);
        assert!(self.answers.finish(true));
    }

    /// What the session sends.
    fn send(&self, durable: u64) -> (Vec<u8>, Answered) {
        let (mut out, mut answered) = (Transmit::default(), Answered::default());
        assert!(self.answers.begin(Lsn(durable), &mut Transmit::default(), &mut out, &mut answered));
        (out.chunk().to_vec(), answered)
    }

    fn written(&self) -> Vec<u8> {
        std::mem::take(&mut self.socket.written.lock())
    }

    fn wakes(&self) -> usize {
        self.wakes.swap(0, Ordering::Relaxed)
    }
}

fn confirm(tags: std::ops::RangeInclusive<u64>, refused: &[u64]) -> Said {
    let refused = refused.iter().copied().map(PublishId).collect();
    Said::Confirm(Publishes { first: PublishId(*tags.start()), last: PublishId(*tags.end()), refused })
}

#[test]
fn each_link_gets_one_ack_for_all_that_is_durable() {
    let Fixture { answers, .. } = Fixture::new();
    let acks = |durable| {
        let mut out = Transmit::default();
        assert!(answers.begin(Lsn(durable), &mut Transmit::default(), &mut out, &mut Answered::default()));
        out.chunk().to_vec()
    };
    for (link, tags, lsn) in [(1, 1..=3, 1), (2, 1..=1, 1), (1, 4..=4, 1), (1, 5..=6, 2)] {
        answers.add(LinkId(link), Lsn(lsn), confirm(tags, &[]), false);
    }
    assert!(acks(0).is_empty());
    assert_eq!(acks(1), [ack(1, 4, 1), ack(2, 1, 0)].concat());
    assert!(acks(1).is_empty());
    // What waits for no record is confirmed at once, and so on a link where nothing else waits.
    answers.add(LinkId(2), Lsn(0), confirm(2..=2, &[]), false);
    assert_eq!(acks(1), ack(2, 2, 0));
    assert_eq!(acks(9), ack(1, 6, 1));
}

#[test]
fn what_was_refused_is_not_acked() {
    let Fixture { answers, .. } = Fixture::new();
    for (tags, refused, acked) in
        [(1..=3, &[2, 3][..], Some(ack(1, 1, 0))), (4..=5, &[4, 5], None), (6..=8, &[7], Some(ack(1, 8, 1)))]
    {
        answers.add(LinkId(1), Lsn(1), confirm(tags.clone(), refused), false);
        let (mut out, mut answered) = (Transmit::default(), Answered::default());
        assert!(answers.begin(Lsn(1), &mut Transmit::default(), &mut out, &mut answered));
        assert_eq!(out.chunk(), acked.map_or(vec![], |acked| acked.to_vec()));
        assert_eq!(answered.confirmed, [(LinkId(1), PublishId(*tags.end()))]);
    }
}

#[test]
fn a_silent_session_is_not_woken() {
    let fixture = Fixture::new();
    fixture.publish(1, 1..=2, 5);
    fixture.publish(2, 1..=1, 6);
    fixture.answers.durable(Lsn(4), false);
    assert_eq!((fixture.written(), fixture.wakes()), (vec![], 0));
    fixture.answers.durable(Lsn(5), false);
    fixture.answers.durable(Lsn(7), false);
    assert_eq!(fixture.written(), [ack(1, 2, 1), ack(2, 1, 0)].concat());
    assert_eq!(fixture.wakes(), 0);
    let (sent, answered) = fixture.send(7);
    assert!(sent.is_empty());
    let confirmed = vec![(LinkId(1), PublishId(2)), (LinkId(2), PublishId(1))];
    assert_eq!(answered, Answered { confirmed, sent_bytes: 8, sent_count: 2 });
    assert!(!fixture.answers.finish(true), "nothing waits");
}

#[test]
fn a_session_that_has_something_to_send_answers_itself() {
    let fixture = Fixture::new();
    fixture.publish(1, 1..=1, 5);
    // A message comes back before the publish behind it is confirmed.
    fixture.answers.add(LinkId(1), Lsn(6), confirm(2..=3, &[]), true);
    fixture.answers.durable(Lsn(6), false);
    assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
    assert_eq!(fixture.send(6).0, ack(1, 3, 1));
    // Nor is its socket written to while the peer has not taken everything.
    fixture.answers.add(LinkId(1), Lsn(7), confirm(4..=4, &[]), false);
    assert!(fixture.answers.finish(false));
    fixture.answers.durable(Lsn(7), false);
    assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
}

#[test]
fn a_committer_in_a_hurry_only_wakes_the_session() {
    let fixture = Fixture::new();
    fixture.publish(1, 1..=1, 5);
    fixture.answers.durable(Lsn(5), true);
    assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
    assert_eq!(fixture.send(5).0, ack(1, 1, 0));
}

#[test]
fn what_the_socket_does_not_take_goes_first() {
    for takes in [0, 2] {
        let fixture = Fixture::new();
        fixture.socket.takes.store(takes, Ordering::Relaxed);
        fixture.publish(1, 1..=1, 5);
        fixture.publish(1, 2..=2, 6);
        fixture.answers.durable(Lsn(5), false);
        assert_eq!((fixture.written(), fixture.wakes()), (ack(1, 1, 0)[..takes].to_vec(), 1));
        fixture.answers.durable(Lsn(6), false);
        assert_eq!((fixture.written(), fixture.wakes()), (vec![], 1));
        let mut replies = Transmit::default();
        replies.put(b"reply");
        let mut out = Transmit::default();
        assert!(fixture.answers.begin(Lsn(6), &mut replies, &mut out, &mut Answered::default()));
        let rest = &ack(1, 1, 0)[takes..];
        assert_eq!(out.chunk(), [rest, &b"reply"[..], &ack(1, 2, 0)].concat());
    }
}

#[test]
fn a_session_waits_for_the_committer_to_write_and_is_woken_then() {
    let fixture = Fixture::new();
    fixture.publish(1, 1..=1, 5);
    *fixture.socket.session.lock() = Arc::downgrade(&fixture.answers);
    fixture.answers.durable(Lsn(5), false);
    assert_eq!((fixture.written(), fixture.wakes()), (ack(1, 1, 0).to_vec(), 1));
    assert!(fixture.send(5).0.is_empty());
}

#[test]
fn what_has_ended_is_not_answered() {
    let fixture = Fixture::new();
    fixture.publish(1, 1..=1, 5);
    fixture.publish(2, 1..=1, 5);
    fixture.answers.forget(LinkId(1));
    fixture.answers.durable(Lsn(5), false);
    assert_eq!(fixture.written(), ack(2, 1, 0));
    fixture.publish(2, 2..=2, 6);
    fixture.answers.end();
    fixture.answers.durable(Lsn(6), false);
    assert!(fixture.written().is_empty());
    assert_eq!(Arc::strong_count(&fixture.socket), 1, "the socket is released");
}

#[test]
fn commits_are_answered_in_order() {
    let fixture = Fixture::new();
    fixture.answers.add(LinkId(3), Lsn(1), Said::Done, false);
    fixture.answers.add(LinkId(3), Lsn(2), Said::Done, false);
    fixture.send(0);
    assert!(fixture.answers.finish(true));
    fixture.answers.durable(Lsn(1), false);
    assert_eq!(fixture.written(), done(3));
    fixture.answers.durable(Lsn(2), false);
    assert_eq!((fixture.written(), fixture.wakes()), (done(3).to_vec(), 0));
}

#[test]
fn a_store_that_fails_wakes_the_session() {
    let fixture = Fixture::new();
    assert!(!fixture.answers.store_failed());
    fixture.answers.failed(&StoreError::Failed("full".to_owned()));
    assert!(fixture.answers.store_failed() && fixture.wakes() == 1);
}
