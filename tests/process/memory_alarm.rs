//! The memory alarm of a real process: publishers send more than the limit lets in, are blocked, and go on when consumers have
//! made room. Every message arrives once, in order, and is confirmed. And a consumer that takes all there is and acknowledges
//! nothing: the process does not grow by it.

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, Consumer};
use leveret_test_support::broker_process::BrokerProcess;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// More than a broker takes that has nothing to do, and less than the messages take together.
const LIMIT_BYTES: &str = "80000000";
const MESSAGES: usize = 1500;
const MESSAGE_BYTES: usize = 64 << 10;

/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn publishers_wait_for_consumers_and_nothing_is_lost() {
    let variables = [
        ("LEVERET__LIMITS__MEMORY_HIGH_WATERMARK", LIMIT_BYTES),
        ("LEVERET__STORE__ENGINE", "memory"),
        ("LEVERET__STORE__MEMORY_BUDGET_BYTES", "4000000000"),
    ];
    let broker = BrokerProcess::start_with("memory-alarm", &variables, None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, exchange(&broker.url)).await.expect("it ends in time") });
    assert!(broker.log().contains("no longer low on memory"), "{}", broker.log());
}

async fn exchange(url: &str) {
    let publisher = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publishing = tokio::spawn(async move {
        let mut confirms = Vec::new();
        for number in 0..MESSAGES {
            let properties = BasicProperties::default();
            let options = BasicPublishOptions::default();
            let body = body(number);
            confirms.push(
                channel.basic_publish("".into(), "q".into(), options, &body, properties).await.unwrap(),
            );
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    });
    while !publisher.status().blocked() {
        sleep(Duration::from_millis(10)).await;
    }
    let (_connection, mut consumer) = consume(url, 50).await;
    for number in 0..MESSAGES {
        let delivery: Delivery = consumer.next().await.unwrap().unwrap();
        assert!(delivery.data == body(number), "message {number} is another one");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    publishing.await.unwrap();
    while publisher.status().blocked() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Consumes on a connection of its own, with a prefetch count or without.
async fn consume(url: &str, prefetch_count: u16) -> (Connection, Consumer) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(prefetch_count, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer =
        channel.basic_consume("q".into(), "c".into(), options, FieldTable::default()).await.unwrap();
    (connection, consumer)
}

/// A message that no other one is like.
fn body(number: usize) -> Vec<u8> {
    let mut body = vec![b'.'; MESSAGE_BYTES];
    body[..8].copy_from_slice(&(number as u64).to_be_bytes());
    body
}

/// Three times what the process may take then.
const TAKEN: usize = 6000;
const TAKEN_LIMIT_BYTES: u64 = 120 << 20;

#[test]
fn what_a_consumer_takes_and_does_not_acknowledge_is_not_kept_in_memory() {
    let variables = [
        ("LEVERET__LIMITS__MEMORY_HIGH_WATERMARK", "0"),
        ("LEVERET__STORE__MEMORY_BUDGET_BYTES", "8000000"),
        ("LEVERET__STORE__DURABILITY", "none"),
    ];
    let broker = BrokerProcess::start_with("memory-unacked", &variables, None);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        timeout(PATIENCE, take_and_give_back(&broker)).await.expect("it ends in time");
    });
}

async fn take_and_give_back(broker: &BrokerProcess) {
    let publisher = Connection::connect(&broker.url, ConnectionProperties::default()).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("q".into(), durable, FieldTable::default()).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut confirms = Vec::new();
    for number in 0..TAKEN {
        // Every fourth is in the journal only when it leaves memory.
        let mode = if number % 4 == 0 { 1 } else { 2 };
        let properties = BasicProperties::default().with_delivery_mode(mode);
        let options = BasicPublishOptions::default();
        let body = body(number);
        let published = channel.basic_publish("".into(), "q".into(), options, &body, properties);
        confirms.push(published.await.unwrap());
        if confirms.len() == 100 {
            for confirm in confirms.drain(..) {
                assert!(confirm.await.unwrap().is_ack());
            }
        }
    }
    let (greedy, mut consumer) = consume(&broker.url, 0).await;
    for number in 0..TAKEN {
        let delivery: Delivery = consumer.next().await.unwrap().unwrap();
        assert!(delivery.data == body(number) && !delivery.redelivered, "message {number}");
    }
    let resident_bytes = resident_bytes(broker);
    assert!(resident_bytes < TAKEN_LIMIT_BYTES, "{} MiB are resident", resident_bytes >> 20);
    greedy.close(200, "".into()).await.unwrap();
    let (_connection, mut consumer) = consume(&broker.url, 50).await;
    for number in 0..TAKEN {
        let delivery: Delivery = consumer.next().await.unwrap().unwrap();
        assert!(delivery.data == body(number) && delivery.redelivered, "message {number} again");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
}

/// What the broker takes of the machine's memory.
fn resident_bytes(broker: &BrokerProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}
