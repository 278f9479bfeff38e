//! STOMP on the broker in memory: all cases of `conformance/stomp/`, and what needs the clock, the journal or the limits of a test.

use leveret::broker::access::permissions::Patterns;
use leveret::broker::alarms::Alarm;
use leveret::broker::queue::Got;
use leveret::broker::{BrokerLimits, Turn};
use leveret::clock::TestClock;
use leveret::message::Value;
use leveret::stomp::StompSettings;
use leveret::store::{Faults, FaultyStore, JournalOptions, Store};
use leveret_conformance::{Arrived, Broker as Kind, ConnectionId, Transport, stomp};
use leveret_test_support::in_memory::InMemory;
use std::time::Duration;

#[test]
fn every_case_in_stomp_passes() {
    let scripts = stomp::load(&stomp::folder()).unwrap();
    assert!(scripts.len() > 20, "{} cases", scripts.len());
    let mut failures = Vec::new();
    for script in &scripts {
        let mut broker = InMemory::new();
        broker.speak_stomp(StompSettings::default());
        if let Err(error) = stomp::play(script, &mut broker, Kind::Leveret, "1") {
            failures.push(format!("{}: {error}", script.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn broker(settings: StompSettings) -> InMemory {
    let mut broker = InMemory::new();
    broker.speak_stomp(settings);
    broker
}

fn received(broker: &mut InMemory, connection: ConnectionId) -> String {
    let mut bytes = Vec::new();
    while broker.receive(connection, Duration::ZERO, &mut bytes) == Arrived::Data {}
    String::from_utf8(bytes).unwrap()
}

const CONNECT: &[u8] = b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0";

fn connected(broker: &mut InMemory) -> ConnectionId {
    let connection = broker.open().unwrap();
    broker.send(connection, CONNECT);
    assert!(received(broker, connection).starts_with("CONNECTED\n"));
    connection
}

#[test]
fn a_receipt_comes_when_all_before_it_is_durable_and_not_before() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SEND\ndestination:/queue/q\nreceipt:declared\n\n1\0");
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:declared\n\n\0\n");
    broker.commit_nothing();
    broker.send(client, b"SEND\ndestination:/queue/q\npersistent:true\n\n2\0");
    broker.send(client, b"SEND\ndestination:/queue/q\nreceipt:a\n\n3\0BEGIN\ntransaction:t\nreceipt:b\n\n\0");
    assert_eq!(received(&mut broker, client), "");
    broker.broker().journal().commit().unwrap();
    let receipts = "RECEIPT\nreceipt-id:a\n\n\0\nRECEIPT\nreceipt-id:b\n\n\0\n";
    assert_eq!(received(&mut broker, client), receipts);
    broker.send(client, b"SEND\ndestination:/queue/q\npersistent:true\n\n2\0DISCONNECT\nreceipt:bye\n\n\0");
    assert_eq!(received(&mut broker, client), "");
    broker.broker().journal().commit().unwrap();
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:bye\n\n\0\n");
    assert_eq!(broker.receive(client, Duration::ZERO, &mut Vec::new()), Arrived::Closed);
}

#[test]
fn more_receipts_than_may_wait_are_not_asked_for_before_the_journal_has_caught_up() {
    let mut broker = broker(StompSettings { transmit_bytes: 100, ..StompSettings::default() });
    let client = connected(&mut broker);
    broker.send(client, b"SEND\ndestination:/queue/q\nreceipt:declared\n\n1\0");
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:declared\n\n\0\n");
    broker.commit_nothing();
    for receipt in 1..=4 {
        let send = format!("SEND\ndestination:/queue/q\npersistent:true\nreceipt:r{receipt}\n\n2\0");
        broker.send(client, send.as_bytes());
    }
    let queue = broker.broker().vhost("/").unwrap().queue("q").unwrap();
    assert_eq!(queue.stats().publish, 3, "two receipts take what may wait");
    while queue.stats().publish < 5 {
        broker.broker().journal().commit().unwrap();
        assert_ne!(received(&mut broker, client), "", "there is room again");
    }
}

#[test]
fn an_error_comes_behind_the_receipts_of_what_was_sent_before_it_and_ahead_of_the_end() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SEND\ndestination:/queue/q\nreceipt:declared\n\n1\0");
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:declared\n\n\0\n");
    broker.commit_nothing();
    let send = "SEND\ndestination:/queue/q\npersistent:true\nreceipt:sent\n\n2\0";
    let behind = "SEND\ndestination:/queue/q\nreceipt:never\n\n3\0";
    broker.send(client, format!("{send}SUBSCRIBE\nreceipt:wrong\n\n\0{behind}").as_bytes());
    assert_eq!(received(&mut broker, client), "", "what was sent is not durable");
    broker.broker().journal().commit().unwrap();
    let said = received(&mut broker, client);
    let (receipt, error) = said.split_at("RECEIPT\nreceipt-id:sent\n\n\0\n".len());
    assert_eq!(receipt, "RECEIPT\nreceipt-id:sent\n\n\0\n");
    assert!(error.starts_with("ERROR\nmessage:Missing destination\n") && error.ends_with("\0\n"), "{error}");
    assert!(error.contains("\nreceipt-id:wrong\n"), "{error}");
    assert_eq!(
        broker.receive(client, Duration::ZERO, &mut Vec::new()),
        Arrived::Quiet,
        "it can still be read"
    );
    broker.advance(Duration::from_millis(250));
    assert_eq!(broker.receive(client, Duration::ZERO, &mut Vec::new()), Arrived::Closed);
    let queue = broker.broker().vhost("/").unwrap().queue("q").unwrap();
    assert_eq!(queue.counts().ready, 2, "what came behind the error was not done");
}

#[test]
fn what_the_store_can_not_keep_has_no_receipt_and_ends_the_connection() {
    let store = FaultyStore::default();
    let (limits, clock) = (BrokerLimits::default(), TestClock::at(1_700_000_000_000));
    let engine: Box<dyn Store> = Box::new(store.clone());
    let (mut broker, _) = InMemory::open(engine, JournalOptions::default(), limits, clock).unwrap();
    broker.speak_stomp(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SEND\ndestination:/queue/q\nreceipt:declared\n\n1\0");
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:declared\n\n\0\n");
    broker.commit_nothing();
    broker.send(client, b"SEND\ndestination:/queue/q\npersistent:true\nreceipt:lost\n\n2\0FOO\n\n\0");
    assert_eq!(received(&mut broker, client), "");
    store.set_faults(Faults { syncs_left: Some(0), ..Faults::default() });
    broker.broker().journal().commit().unwrap_err();
    let error = received(&mut broker, client);
    assert!(error.starts_with("ERROR\nmessage:Bad command\n"), "{error}");
}

#[test]
fn keys_and_prefetch_counts_may_be_longer_than_those_of_amqp() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SUBSCRIBE\nid:1\nack:client\nprefetch-count:70000\ndestination:/topic/#\n\n\0");
    let vhost = broker.broker().vhost("/").unwrap();
    assert_eq!(vhost.queues()[0].consumers()[0].prefetch_count, 70_000);
    let key = "k".repeat(1000);
    broker.send(client, format!("SEND\ndestination:/topic/{key}\n\nx\0").as_bytes());
    let message = received(&mut broker, client);
    assert!(message.contains(&format!("\ndestination:/topic/{key}\n")), "{message}");
    let longer = "k".repeat(65_536);
    broker.send(client, format!("SEND\ndestination:/topic/{longer}\n\nx\0").as_bytes());
    let error = received(&mut broker, client);
    assert!(error.contains("a routing key of 65536 bytes is longer than 65535"), "{error}");
}

#[test]
fn messages_with_the_same_head_are_each_looked_at_anew_when_something_has_changed() {
    let mut broker = broker(StompSettings::default());
    let (client, other) = (connected(&mut broker), connected(&mut broker));
    broker.send(other, b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0");
    let send =
        |body: &str| format!("SEND\ndestination:/topic/a\ncolour:blue\ncontent-length:2\n\n{body}\0\n");
    let sent = [send("a1"), send("a\0"), send("a3")].concat();
    // However they are cut.
    let (first, second) = sent.as_bytes().split_at(send("a1").len() + 30);
    broker.send(client, first);
    broker.send(client, second);
    let bodies = |broker: &mut InMemory| -> Vec<String> {
        let messages = received(broker, other);
        let messages = messages.split("MESSAGE\n").skip(1);
        messages
            .map(|message| message.split_once("colour:blue\ncontent-length:2\n\n").unwrap().1.to_owned())
            .collect()
    };
    assert_eq!(bodies(&mut broker), ["a1\0\n", "a\0\0\n", "a3\0\n"]);
    broker.broker().raise_alarm(Alarm::Disk);
    broker.send(client, send("b1").as_bytes());
    assert_eq!(bodies(&mut broker), [""; 0]);
    broker.broker().clear_alarm(Alarm::Disk);
    assert_eq!(received(&mut broker, client), "");
    assert_eq!(bodies(&mut broker), ["b1\0\n"]);
    // One with another body behind the head that it announces is no frame.
    broker.send(client, send("c1").as_bytes());
    broker.send(client, b"SEND\ndestination:/topic/a\ncolour:blue\ncontent-length:2\n\nxyz\0");
    assert!(received(&mut broker, client).contains("there is no zero byte behind the 2 bytes of a body"));
    assert_eq!(bodies(&mut broker), ["c1\0\n"]);
    let client = connected(&mut broker);
    broker.send(client, send("d1").as_bytes());
    let patterns = Patterns::new("", "nothing", "").unwrap();
    broker.broker().set_permissions("guest", "/", patterns).unwrap();
    broker.send(client, send("d2").as_bytes());
    assert!(received(&mut broker, client).contains("ACCESS_REFUSED"));
    assert_eq!(bodies(&mut broker), ["d1\0\n"]);
}

#[test]
fn a_message_that_a_full_queue_refuses_has_no_receipt() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    let declare = b"SUBSCRIBE\nid:1\nack:client\nprefetch-count:1\ndestination:/queue/q\nx-max-length:1\n\
        x-overflow:reject-publish\n\n\0UNSUBSCRIBE\nid:1\n\n\0";
    broker.send(client, declare);
    for receipt in ["1", "2", "3"] {
        let send = format!("SEND\ndestination:/queue/q\nreceipt:{receipt}\n\nx\0");
        broker.send(client, send.as_bytes());
    }
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:1\n\n\0\n");
}

#[test]
fn a_client_that_sends_while_an_alarm_is_up_waits_until_it_is_over() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.broker().raise_alarm(Alarm::Disk);
    broker.send(client, b"BEGIN\ntransaction:t\nreceipt:1\n\n\0SEND\ndestination:/queue/q\nreceipt:2\n\nx\0");
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:1\n\n\0\n");
    broker.broker().clear_alarm(Alarm::Disk);
    assert_eq!(received(&mut broker, client), "RECEIPT\nreceipt-id:2\n\n\0\n");
}

#[test]
fn a_client_that_does_not_log_in_is_dropped() {
    let mut broker = broker(StompSettings::default());
    let client = broker.open().unwrap();
    broker.send(client, b"CONNECT\nlogin:guest\n");
    broker.advance(Duration::from_millis(9_999));
    assert_eq!(broker.receive(client, Duration::ZERO, &mut Vec::new()), Arrived::Quiet);
    broker.advance(Duration::from_millis(1));
    assert_eq!(broker.receive(client, Duration::ZERO, &mut Vec::new()), Arrived::Closed);
}

#[test]
fn a_client_without_a_login_is_the_default_user() {
    let default_login = Some(("guest".to_owned(), "guest".to_owned()));
    let mut broker =
        broker(StompSettings { default_login, implicit_connect: true, ..StompSettings::default() });
    let client = broker.open().unwrap();
    broker.send(client, b"CONNECT\naccept-version:1.1\n\n\0");
    assert!(received(&mut broker, client).contains("version:1.1\n"));
    let other = broker.open().unwrap();
    broker.send(other, b"SEND\ndestination:/queue/q\nreceipt:1\n\nx\0");
    assert_eq!(received(&mut broker, other), "RECEIPT\nreceipt-id:1\n\n\0\n");
}

#[test]
fn subscriptions_and_transactions_have_limits() {
    let settings = StompSettings { subscriptions_max: 2, transactions_max: 2, ..StompSettings::default() };
    let mut broker = broker(settings);
    let client = connected(&mut broker);
    for id in ["1", "2", "3"] {
        let frame = format!("SUBSCRIBE\nid:{id}\ndestination:/topic/t\n\n\0");
        broker.send(client, frame.as_bytes());
    }
    let error = received(&mut broker, client);
    assert!(error.contains("NOT_ALLOWED - reached maximum (2) of subscriptions"), "{error}");
    let client = connected(&mut broker);
    for name in ["1", "2", "3"] {
        broker.send(client, format!("BEGIN\ntransaction:{name}\n\n\0").as_bytes());
    }
    let error = received(&mut broker, client);
    assert!(error.contains("Too many concurrent transactions (limit 2)"), "{error}");
}

#[test]
fn what_a_connection_held_goes_back_when_it_ends() {
    let mut broker = broker(StompSettings::default());
    let (one, two) = (connected(&mut broker), connected(&mut broker));
    broker.send(one, b"SUBSCRIBE\nid:1\nack:client\ndestination:/queue/q\n\n\0");
    broker.send(two, b"SEND\ndestination:/queue/q\n\nx\0");
    assert!(received(&mut broker, one).contains("redelivered:false"));
    broker.send(one, b"SUBSCRIBE\nid:2\ndestination:/topic/t\n\n\0");
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 2);
    broker.close(one);
    assert_eq!(broker.broker().vhost("/").unwrap().queue_count(), 1);
    broker.send(two, b"SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    assert!(received(&mut broker, two).contains("redelivered:true"));
}

#[test]
fn a_shutdown_is_said_and_ends_the_connection() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.shut_down();
    let error = received(&mut broker, client);
    assert!(error.starts_with("ERROR\nmessage:connection_forced\n"), "{error}");
    broker.advance(Duration::from_secs(1));
    assert_eq!(broker.receive(client, Duration::ZERO, &mut Vec::new()), Arrived::Closed);
}

/// What a client gets that may do what the patterns say, and sends that.
fn refused(patterns: [&str; 3], frame: &str) -> String {
    let mut broker = broker(StompSettings::default());
    let admin = connected(&mut broker);
    broker.send(admin, b"SUBSCRIBE\nid:1\ndestination:/queue/there\n\n\0UNSUBSCRIBE\nid:1\n\n\0");
    let [configure, write, read] = patterns;
    let patterns = Patterns::new(configure, write, read).unwrap();
    broker.broker().set_permissions("guest", "/", patterns).unwrap();
    let client = connected(&mut broker);
    broker.send(client, format!("{frame}\nreceipt:r\n\n\0").as_bytes());
    let answer = received(&mut broker, client);
    answer.split("ACCESS_REFUSED - ").nth(1).unwrap_or(&answer).trim_end_matches(['\0', '\n']).to_owned()
}

#[test]
fn each_operation_needs_its_permission() {
    let all = ".*";
    let done = "RECEIPT\nreceipt-id:r";
    let rows = [
        (["^$", all, all], "SEND\ndestination:/queue/new", "configure access to queue 'new'"),
        (["^$", all, all], "SEND\ndestination:/amq/queue/there", done),
        ([all, "^$", all], "SEND\ndestination:/amq/queue/there", "write access to exchange 'amq.default'"),
        (
            [all, "^$", all],
            "SEND\ndestination:/exchange/amq.direct/k",
            "write access to exchange 'amq.direct'",
        ),
        ([all, all, "^$"], "SUBSCRIBE\nid:1\ndestination:/queue/there", "read access to queue 'there'"),
        (["^$", "^$", all], "SUBSCRIBE\nid:1\ndestination:/amq/queue/there", done),
        (
            ["^$", all, all],
            "SUBSCRIBE\nid:1\ndestination:/topic/t",
            "configure access to queue 'stomp-subscription-",
        ),
        (
            [all, "^$", all],
            "SUBSCRIBE\nid:1\ndestination:/topic/t",
            "write access to queue 'stomp-subscription-",
        ),
        (
            [all, all, "^stomp-"],
            "SUBSCRIBE\nid:1\ndestination:/topic/t",
            "read access to exchange 'amq.topic'",
        ),
        (
            [all, "^amq.default$", all],
            "SEND\ndestination:/queue/new\nx-dead-letter-exchange:dlx",
            "write access to exchange 'dlx'",
        ),
    ];
    for (patterns, frame, expected) in rows {
        let answer = refused(patterns, frame);
        assert!(answer.starts_with(expected), "{patterns:?} {frame}: {answer}");
    }
}

#[test]
fn routing_keys_of_topics_are_permitted_one_by_one() {
    let mut broker = broker(StompSettings::default());
    broker.broker().set_topic_permissions("guest", "/", "amq.topic", ("^a", "^b")).unwrap();
    for (frame, is_allowed) in [
        ("SEND\ndestination:/topic/a.x", true),
        ("SEND\ndestination:/topic/b.x", false),
        ("SUBSCRIBE\nid:1\ndestination:/topic/b.x", true),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a.x", false),
    ] {
        let client = connected(&mut broker);
        broker.send(client, format!("{frame}\nreceipt:r\n\n\0").as_bytes());
        let answer = received(&mut broker, client);
        assert_eq!(answer.starts_with("RECEIPT"), is_allowed, "{frame}: {answer}");
        assert!(is_allowed || answer.contains("in exchange 'amq.topic'"), "{answer}");
    }
}

#[test]
fn messages_that_wait_for_an_acknowledgement_can_leave_memory_and_are_acknowledged_all_the_same() {
    let limits = BrokerLimits { memory_budget_bytes: 20_000, ..BrokerLimits::default() };
    let mut broker = InMemory::with(limits);
    broker.speak_stomp(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SUBSCRIBE\nid:1\nack:client\ndestination:/queue/q\n\n\0");
    for _ in 0..50 {
        let send = [&b"SEND\npersistent:true\ndestination:/queue/q\n\n"[..], &[b'x'; 1000], b"\0"].concat();
        broker.send(client, &send);
    }
    let messages = received(&mut broker, client);
    let ids: Vec<&str> = messages.lines().filter_map(|line| line.strip_prefix("ack:")).collect();
    assert_eq!(ids.len(), 50);
    broker.send(client, format!("ACK\nid:{}\n\n\0", ids[29]).as_bytes());
    let queue = broker.broker().vhost("/").unwrap().queue("q").unwrap();
    assert_eq!((queue.counts().ready, queue.counts().unacked), (0, 20));
    broker.send(client, format!("NACK\nid:{}\nrequeue:false\n\n\0", ids[49]).as_bytes());
    assert_eq!((queue.counts().ready, queue.counts().unacked), (0, 0));
    assert_eq!(received(&mut broker, client), "");
}

#[test]
fn what_stomp_sends_amqp_gets_and_the_other_way_round() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    broker.send(client, b"SEND\ndestination:/queue/q\ncontent-type:a/b\npersistent:true\nx:y\n\nbody\0");
    let vhost = broker.broker().vhost("/").unwrap();
    let queue = vhost.queue("q").unwrap();
    let Got::Message { entry, .. } = vhost.get(&queue, true, &mut Turn::at(0)) else { panic!("it is there") };
    let properties = entry.message.decode_properties();
    assert_eq!(properties.content_type.unwrap().as_bytes(), b"a/b");
    assert_eq!(properties.delivery_mode, Some(2));
    assert_eq!(properties.headers.unwrap().field("x"), Some(&Value::LongStr(b"y".to_vec())));
    assert_eq!((entry.message.exchange(), entry.message.routing_key()), (&b""[..], &b"q"[..]));
}

#[test]
fn a_vhost_with_all_its_connections_takes_no_more() {
    let mut broker = broker(StompSettings::default());
    let limit = r#"{"value":1}"#;
    broker.manage("PUT", "/api/vhost-limits/%2F/max-connections", limit).unwrap();
    connected(&mut broker);
    let client = broker.open().unwrap();
    broker.send(client, CONNECT);
    let error = received(&mut broker, client);
    assert!(error.contains("message:Bad CONNECT\n"), "{error}");
    assert!(error.contains("Connection refused: vhost connection limit reached"), "{error}");
}

#[test]
fn the_management_api_can_end_a_connection() {
    let mut broker = broker(StompSettings::default());
    let client = connected(&mut broker);
    let name = broker.broker().connections().list()[0].facts().name.replace(' ', "%20").replace('>', "%3E");
    let (_, shown) = broker.call("GET", "/api/connections", "");
    assert!(shown.contains(r#""protocol":"STOMP 1.2""#), "{shown}");
    broker.manage("DELETE", &format!("/api/connections/{name}"), "").unwrap();
    let error = received(&mut broker, client);
    assert!(error.starts_with("ERROR\nmessage:connection_forced\n"), "{error}");
}
