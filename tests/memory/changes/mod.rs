//! Changes of definitions and the answers to them, on a broker in memory whose store can be held up: what waits for a sync and what
//! does not, how many syncs there are, and what is there after a crash.

mod simulation;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, channel, connection, queue};
use leveret::broker::BrokerLimits;
use leveret::clock::TestClock;
use leveret::store::{Faults, FaultyStore, JournalOptions};
use leveret_conformance::frame::{METHOD, encode};
use leveret_conformance::method::{Method, Wire};
use leveret_conformance::{Arrived, ConnectionId, Transport};
use leveret_test_support::amqp_client::{Client, method, text};
use leveret_test_support::in_memory::InMemory;
use leveret_test_support::in_memory::manage::runtime;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

const ON: Wire = Wire::Bit(true);

/// A broker on a store that only the test commits to, with nothing left to commit.
fn broker() -> (InMemory, FaultyStore) {
    let store = FaultyStore::default();
    (broker_on(&store), store)
}

fn broker_on(store: &FaultyStore) -> InMemory {
    broker_with(store, JournalOptions::default())
}

fn broker_with(store: &FaultyStore, options: JournalOptions) -> InMemory {
    let (clock, limits) = (TestClock::at(1_700_000_000_000), BrokerLimits::default());
    let (mut broker, losses) = InMemory::open(Box::new(store.clone()), options, limits, clock).unwrap();
    assert_eq!(losses, []);
    broker.broker().commit_changes().unwrap();
    broker.commit_nothing();
    broker
}

fn client(broker: &mut InMemory) -> Client {
    let mut client = Client::connect(broker).unwrap();
    client.open_channel(broker, 1).unwrap();
    client
}

fn commit(broker: &mut InMemory) {
    broker.broker().journal().commit().unwrap();
    broker.settle();
}

/// Syncs are held until it is dropped, also by a test that fails.
struct Held<'a>(&'a FaultyStore);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set_faults(Faults::default());
    }
}

/// Runs `meanwhile` while a commit hangs in its sync.
fn while_a_sync_hangs(broker: &mut InMemory, store: &FaultyStore, meanwhile: impl FnOnce(&mut InMemory)) {
    store.set_faults(Faults { syncs_held: true, ..Faults::default() });
    let journal = broker.broker().journal().clone();
    std::thread::scope(|scope| {
        let committing = scope.spawn(move || journal.commit().map(drop));
        let held = Held(store);
        store.wait_for_held_sync();
        meanwhile(broker);
        drop(held);
        committing.join().unwrap().unwrap();
    });
    broker.settle();
}

fn declare(queue: &str) -> Method {
    method("queue.declare", &[("queue", text(queue)), ("durable", ON)])
}

fn declare_transient(queue: &str) -> Method {
    method("queue.declare", &[("queue", text(queue))])
}

fn declare_exclusive(queue: &str) -> Method {
    method("queue.declare", &[("queue", text(queue)), ("exclusive", ON)])
}

fn bind(queue: &str, exchange: &str, key: &str) -> Method {
    let ends = [("queue", text(queue)), ("exchange", text(exchange)), ("routing_key", text(key))];
    method("queue.bind", &ends)
}

fn delete(queue: &str) -> Method {
    method("queue.delete", &[("queue", text(queue))])
}

/// The names of the methods that have come.
fn came(client: &mut Client, broker: &mut InMemory) -> Vec<&'static str> {
    client.take(broker).unwrap().iter().map(|(_, method, _)| method.spec.name).collect()
}

#[test]
fn while_a_change_is_synced_others_go_on() {
    let (mut broker, store) = broker();
    let (mut changing, mut other) = (client(&mut broker), client(&mut broker));
    other.call(&mut broker, 1, &declare_transient("work")).unwrap();
    other.call(&mut broker, 1, &method("basic.consume", &[("queue", text("work")), ("no_ack", ON)])).unwrap();
    changing.call(&mut broker, 1, &declare_exclusive("mine")).unwrap();
    changing
        .call(&mut broker, 1, &method("basic.consume", &[("queue", text("mine")), ("no_ack", ON)]))
        .unwrap();
    changing.send(&mut broker, 1, &declare("kept"));
    // The second change comes while the first one is being synced.
    let mut second = client(&mut broker);
    while_a_sync_hangs(&mut broker, &store, |broker| {
        second.send(broker, 1, &declare("kept too"));
        // Logging in, declaring, publishing, consuming, getting: all of it answered.
        let mut third = client(broker);
        third.call(broker, 1, &declare_transient("new")).unwrap();
        let exchange = [("exchange", text("ex")), ("type", text("topic"))];
        third.call(broker, 1, &method("exchange.declare", &exchange)).unwrap();
        third.call(broker, 1, &bind("new", "ex", "#")).unwrap();
        third.call(broker, 1, &declare_exclusive("own")).unwrap();
        third.call(broker, 1, &delete("own")).unwrap();
        let mut bytes = Vec::new();
        for to in [("ex", "a"), ("", "work"), ("", "mine")] {
            third.put_publish(&mut bytes, 1, to, &[], b"hello");
        }
        third.send_bytes(broker, &bytes);
        third.call(broker, 1, &method("basic.get", &[("queue", text("new"))])).unwrap();
        assert_eq!(came(&mut other, broker), ["basic.deliver"]);
        // The one that waits is delivered to, and is not answered.
        assert_eq!(came(&mut changing, broker), ["basic.deliver"]);
        assert_eq!(came(&mut second, broker), [""; 0]);
        // A new queue can be used by others before its declaration is answered.
        third.call(broker, 1, &method("queue.purge", &[("queue", text("kept"))])).unwrap();
    });
    assert_eq!(came(&mut changing, &mut broker), ["queue.declare-ok"]);
    assert_eq!(came(&mut second, &mut broker), [""; 0]);
    commit(&mut broker);
    assert_eq!(came(&mut second, &mut broker), ["queue.declare-ok"]);
}

/// How many syncs that takes.
fn syncs(store: &FaultyStore, act: impl FnOnce()) -> u64 {
    let before = store.syncs();
    act();
    store.syncs() - before
}

#[test]
fn changes_that_come_together_share_a_commit() {
    let (mut broker, store) = broker();
    let mut clients: Vec<Client> = (0..4).map(|_| client(&mut broker)).collect();
    for (number, client) in (0..).zip(&mut clients) {
        let mut bytes = Vec::new();
        for queue in 0..100 {
            let queue = format!("q{number}-{queue}");
            for method in [declare(&queue), bind(&queue, "amq.topic", &queue)] {
                bytes.extend(encode(METHOD, 1, &method.encode()));
            }
        }
        client.send_bytes(&mut broker, &bytes);
    }
    assert!(clients.iter_mut().all(|client| came(client, &mut broker).is_empty()));
    assert_eq!(syncs(&store, || commit(&mut broker)), 1);
    for client in &mut clients {
        assert_eq!(came(client, &mut broker), ["queue.declare-ok", "queue.bind-ok"].repeat(100));
    }
    // What is there already is answered at once, whatever others wait for.
    let (mut first, mut last) = (clients.swap_remove(0), clients.pop().unwrap());
    first.send(&mut broker, 1, &declare("another"));
    last.call(&mut broker, 1, &declare("q0-1")).unwrap();
    last.call(&mut broker, 1, &bind("q0-1", "amq.topic", "q0-1")).unwrap();
    last.send(&mut broker, 1, &declare("another"));
    assert_eq!(came(&mut last, &mut broker), [""; 0], "it is there, and might go with a crash");
    commit(&mut broker);
    assert_eq!(came(&mut first, &mut broker), ["queue.declare-ok"]);
    assert_eq!(came(&mut last, &mut broker), ["queue.declare-ok"]);
}

#[test]
fn what_was_never_kept_is_not_removed_from_the_store() {
    let (mut broker, store) = broker();
    let mut owner = client(&mut broker);
    let exchange = [("exchange", text("kept")), ("type", text("topic")), ("durable", ON)];
    owner.send(&mut broker, 1, &method("exchange.declare", &exchange));
    commit(&mut broker);
    let before = store.syncs();
    owner.call(&mut broker, 1, &declare_exclusive("mine")).unwrap();
    for key in 0..300 {
        owner.call(&mut broker, 1, &bind("mine", "kept", &format!("key.{key}"))).unwrap();
    }
    owner.call(&mut broker, 1, &delete("mine")).unwrap();
    for number in 0..50 {
        let name = format!("mine.{number}");
        owner.call(&mut broker, 1, &declare_exclusive(&name)).unwrap();
        owner.call(&mut broker, 1, &bind(&name, "kept", "#")).unwrap();
    }
    owner.hang_up(&mut broker);
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 0);
    assert_eq!((store.syncs() - before, store.unsynced()), (0, 0));
    broker.broker().commit_changes().unwrap();
    assert_eq!((store.syncs() - before, store.unsynced()), (0, 0));
}

#[test]
fn what_goes_with_a_queue_or_an_exchange_is_one_commit() {
    let (mut broker, store) = broker();
    let mut client = client(&mut broker);
    let queue = ("queue", text("q"));
    client.send(&mut broker, 1, &declare("q"));
    let auto_delete =
        [("exchange", text("passing")), ("type", text("topic")), ("durable", ON), ("auto_delete", ON)];
    client.send(&mut broker, 1, &method("exchange.declare", &auto_delete));
    let mut bytes = Vec::new();
    for key in 0..300 {
        for exchange in ["amq.topic", "passing"] {
            bytes.extend(encode(METHOD, 1, &bind("q", exchange, &format!("key.{key}")).encode()));
        }
    }
    client.send_bytes(&mut broker, &bytes);
    commit(&mut broker);
    assert_eq!(came(&mut client, &mut broker).len(), 602);
    client.send(&mut broker, 1, &method("queue.delete", &[queue]));
    assert_eq!(syncs(&store, || commit(&mut broker)), 1);
    assert_eq!(came(&mut client, &mut broker), ["queue.delete-ok"]);
    let vhost = broker.broker().vhost("/").unwrap();
    assert_eq!((vhost.bindings().len(), vhost.exchange("passing").is_none()), (0, true));
    // Nothing of it comes back.
    drop(broker);
    store.crash(0);
    let broker = broker_on(&store);
    let vhost = broker.broker().vhost("/").unwrap();
    assert_eq!(
        (vhost.bindings().len(), vhost.queue_count(), vhost.exchange("passing").is_none()),
        (0, 0, true)
    );
}

#[test]
fn definitions_are_imported_in_one_commit() {
    let (mut broker, store) = broker();
    let queues: Vec<String> = (0..50)
        .map(|n| format!(r#"{{"name":"q{n}","vhost":"v","durable":true,"auto_delete":false}}"#))
        .collect();
    let bindings: Vec<String> = (0..50)
        .map(|n| {
            format!(
                r#"{{"source":"amq.direct","vhost":"v","destination":"q{n}","destination_type":"queue","routing_key":"k"}}"#
            )
        })
        .collect();
    let document = format!(
        r#"{{"users":[{{"name":"app","password_hash":"","hashing_algorithm":"rabbit_password_hashing_sha256","tags":""}}],
            "vhosts":[{{"name":"v"}}],
            "permissions":[{{"user":"app","vhost":"v","configure":"","write":"","read":""}}],
            "policies":[{{"vhost":"v","name":"p","pattern":"q","definition":{{"max-length":5}}}}],
            "queues":[{}],"bindings":[{}]}}"#,
        queues.join(","),
        bindings.join(",")
    );
    assert_eq!(syncs(&store, || broker.manage("POST", "/api/definitions", &document).unwrap()), 1);
    assert_eq!(syncs(&store, || broker.manage("DELETE", "/api/vhosts/v", "").unwrap()), 1);
    assert_eq!(syncs(&store, || broker.manage("DELETE", "/api/users/app", "").unwrap()), 1);
    drop(broker);
    store.crash(0);
    assert!(broker_on(&store).broker().vhost("v").is_none());
}

#[test]
fn the_api_answers_when_a_change_is_durable_and_others_before() {
    let (broker, _) = broker();
    let core = broker.broker();
    let publish = r#"{"properties":{},"routing_key":"kept","payload":"x","payload_encoding":"string"}"#;
    runtime().block_on(async {
        let mut put = pin!(broker.ask("PUT", "/api/queues/%2F/kept", r#"{"durable":true}"#));
        while core.vhost("/").unwrap().queue("kept").is_none() {
            assert!(so_far(put.as_mut()).await.is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(broker.ask("GET", "/api/queues/%2F/kept", "").await.0, 200);
        assert_eq!(broker.ask("POST", "/api/exchanges/%2F/amq.default/publish", publish).await.0, 200);
        // The same again waits as well: what is there may go with a crash.
        let mut again = pin!(broker.ask("PUT", "/api/queues/%2F/kept", r#"{"durable":true}"#));
        for _ in 0..1000 {
            assert!(so_far(put.as_mut()).await.is_none() && so_far(again.as_mut()).await.is_none());
            tokio::task::yield_now().await;
        }
        core.journal().commit().unwrap();
        assert_eq!((put.await.0, again.await.0), (201, 204));
    });
}

/// What it has come to so far.
async fn so_far<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A client of which every frame that comes is of interest.
struct Raw {
    id: ConnectionId,
    received: Vec<u8>,
}

impl Raw {
    /// With channels 1 and 2.
    fn connect(broker: &mut InMemory, heartbeat_s: u16) -> Raw {
        let mut raw = Raw { id: broker.open().unwrap(), received: Vec::new() };
        let mut bytes = leveret_test_support::frames::handshake();
        let tune_ok = |heartbeat| {
            let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat };
            leveret_test_support::frames::method(
                0,
                AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)),
            )
        };
        let (without, with) = (tune_ok(0), tune_ok(heartbeat_s));
        let at = bytes.windows(without.len()).position(|window| window == without).unwrap();
        bytes[at..at + with.len()].copy_from_slice(&with);
        bytes.extend(leveret_test_support::frames::channel_open(1));
        bytes.extend(leveret_test_support::frames::channel_open(2));
        broker.send(raw.id, &bytes);
        assert_eq!(raw.frames(broker).len(), 5);
        raw
    }

    fn send(&self, broker: &mut InMemory, methods: &[(u16, Method)]) {
        let bytes: Vec<u8> =
            methods.iter().flat_map(|(channel, method)| encode(METHOD, *channel, &method.encode())).collect();
        broker.send(self.id, &bytes);
    }

    fn frames(&mut self, broker: &mut InMemory) -> Vec<AMQPFrame> {
        while broker.receive(self.id, Duration::ZERO, &mut self.received) == Arrived::Data {}
        let (frames, used) = leveret_test_support::frames::cut(&self.received);
        self.received.drain(..used);
        frames
    }

    fn is_closed(&mut self, broker: &mut InMemory) -> bool {
        broker.receive(self.id, Duration::ZERO, &mut self.received) == Arrived::Closed
    }
}

/// What a frame is, for comparing.
fn name_of(frame: &AMQPFrame) -> String {
    match frame {
        AMQPFrame::Method(number, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))) => {
            format!("{number} declare-ok {}", ok.queue)
        }
        AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
            format!("{number} close {}", close.reply_code)
        }
        AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(close))) => {
            format!("end {}", close.reply_code)
        }
        AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))) => {
            format!("{number} close-ok")
        }
        AMQPFrame::Heartbeat => "heartbeat".to_owned(),
        other => format!("{other:?}"),
    }
}

fn names(raw: &mut Raw, broker: &mut InMemory) -> Vec<String> {
    raw.frames(broker).iter().map(name_of).collect()
}

#[test]
fn answers_keep_their_order_and_errors_theirs() {
    let (mut broker, _) = broker();
    let mut raw = Raw::connect(&mut broker, 0);
    let otherwise = method("queue.declare", &[("queue", text("a")), ("durable", ON), ("auto_delete", ON)]);
    raw.send(
        &mut broker,
        &[
            (2, declare_transient("before")),
            (1, declare("a")),
            (2, declare_transient("b")),
            (1, otherwise.clone()),
            (2, declare("c")),
            (2, method("channel.close", &[])),
        ],
    );
    assert_eq!(names(&mut raw, &mut broker), ["2 declare-ok before"]);
    commit(&mut broker);
    let expected = ["1 declare-ok a", "2 declare-ok b", "1 close 406", "2 declare-ok c", "2 close-ok"];
    assert_eq!(names(&mut raw, &mut broker), expected);

    // An error that ends the connection comes behind what was asked before it.
    let mut raw = Raw::connect(&mut broker, 0);
    raw.send(&mut broker, &[(1, declare("d")), (7, declare("e")), (1, declare("f"))]);
    assert_eq!(names(&mut raw, &mut broker), [""; 0]);
    commit(&mut broker);
    assert_eq!(names(&mut raw, &mut broker), ["1 declare-ok d", "end 504"]);
}

#[test]
fn who_waits_is_kept_alive_and_can_go() {
    let (mut broker, store) = broker();
    let mut raw = Raw::connect(&mut broker, 10);
    raw.send(&mut broker, &[(1, declare("a"))]);
    let nowait = [("queue", text("b")), ("durable", ON), ("nowait", ON)];
    raw.send(&mut broker, &[(1, method("queue.declare", &nowait)), (1, method("channel.close", &[]))]);
    // The client's own heartbeats are not read meanwhile, and it is not taken for dead.
    broker.advance(Duration::from_secs(60));
    let beats = names(&mut raw, &mut broker);
    assert!(beats.len() >= 10 && beats.iter().all(|name| name == "heartbeat"), "{beats:?}");
    commit(&mut broker);
    commit(&mut broker);
    assert_eq!(names(&mut raw, &mut broker), ["1 declare-ok a", "1 close-ok"]);
    broker.advance(Duration::from_secs(60));
    assert!(raw.is_closed(&mut broker) || !raw.frames(&mut broker).is_empty(), "it is looked at again");

    // It hangs up.
    let raw = Raw::connect(&mut broker, 0);
    raw.send(&mut broker, &[(1, declare("c"))]);
    broker.close(raw.id);
    // The broker stops.
    let mut raw = Raw::connect(&mut broker, 0);
    raw.send(&mut broker, &[(1, declare("d"))]);
    broker.shut_down();
    assert_eq!(names(&mut raw, &mut broker), ["end 320"]);
    commit(&mut broker);
    assert_eq!(names(&mut raw, &mut broker), [""; 0]);
    assert_eq!(store.unsynced(), 0, "what was asked is done all the same");
}

#[test]
fn who_waits_is_told_that_the_store_failed() {
    for faults in [
        Faults { syncs_left: Some(0), ..Faults::default() },
        Faults { appends_left: Some(0), ..Faults::default() },
    ] {
        let (mut broker, store) = broker();
        let (mut raw, mut late) = (Raw::connect(&mut broker, 0), Raw::connect(&mut broker, 0));
        raw.send(&mut broker, &[(1, declare("a")), (1, declare("b"))]);
        store.set_faults(faults);
        broker.broker().journal().commit().unwrap_err();
        broker.settle();
        assert_eq!(names(&mut raw, &mut broker), ["end 541"]);
        // A new request is answered at once.
        late.send(&mut broker, &[(1, declare("c"))]);
        assert_eq!(names(&mut late, &mut broker), ["end 541"]);
        let (status, text) = broker.call("PUT", "/api/queues/%2F/d", r#"{"durable":true}"#);
        assert_eq!(status, 500, "{text}");
    }
}
