//! What applications do, done with lapin.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind, Event,
    ExchangeKind, Result,
};

use leveret_test_support::broker_process::BrokerProcess;

/// A name that no other test or run uses.
fn unique(word: &str) -> ShortString {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{word}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)).into()
}

async fn connect(broker: &BrokerProcess) -> Result<Connection> {
    Connection::connect(&broker.url, ConnectionProperties::default()).await
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Declares a queue that goes with its connection, and yields the name the server gave it.
async fn exclusive_queue<const N: usize>(
    channel: &Channel,
    arguments: [(&str, AMQPValue); N],
) -> Result<ShortString> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    Ok(channel.queue_declare("".into(), options, table(arguments)).await?.name().clone())
}

/// Declares an exchange that goes with its last binding.
async fn exchange(channel: &Channel, kind: ExchangeKind) -> Result<ShortString> {
    let name = unique("exchange");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(name.clone(), kind, options, FieldTable::default()).await?;
    Ok(name)
}

async fn bind(channel: &Channel, queue: &ShortString, exchange: &ShortString, key: &str) -> Result<()> {
    let arguments = FieldTable::default();
    channel
        .queue_bind(queue.clone(), exchange.clone(), key.into(), QueueBindOptions::default(), arguments)
        .await
}

/// Publishes and waits for the confirm, if the channel is in confirm mode.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<Confirmation> {
    publish_with(channel, exchange, key, body, BasicProperties::default()).await
}

async fn publish_with(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Result<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    consumer.next().await.expect("the consumer was not cancelled")
}

/// The bodies of all messages that are ready.
async fn drain(channel: &Channel, queue: &ShortString) -> Result<Vec<String>> {
    let mut bodies = Vec::new();
    while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await? {
        bodies.push(String::from_utf8_lossy(&message.delivery.data).into_owned());
    }
    Ok(bodies)
}

/// How many messages are ready, or the error that says why this is unknown.
async fn ready(channel: &Channel, queue: &ShortString) -> Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    Ok(channel.queue_declare(queue.clone(), options, FieldTable::default()).await?.message_count())
}

/// The code and text of the AMQP exception that a call ended in.
fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (u16, String) {
    let error = result.expect_err("the broker refuses this");
    match error.kind() {
        ErrorKind::ProtocolError(refused) => (refused.get_id(), refused.get_message().to_string()),
        other => panic!("not an AMQP exception: {other:?}"),
    }
}

/// Queue, reason and count of each row of the x-death header, newest first.
fn deaths(delivery: &Delivery) -> Vec<(String, String, i64)> {
    let headers = delivery.properties.headers().as_ref();
    let Some(AMQPValue::FieldArray(rows)) = headers.and_then(|headers| headers.inner().get("x-death")) else {
        return Vec::new();
    };
    let row = |row: &AMQPValue| {
        let AMQPValue::FieldTable(row) = row else { panic!("not a table: {row:?}") };
        let field = |key| match row.inner().get(key) {
            Some(AMQPValue::LongString(value)) => value.to_string(),
            other => panic!("{key} is {other:?}"),
        };
        let Some(AMQPValue::LongLongInt(count)) = row.inner().get("count") else {
            panic!("no count: {row:?}")
        };
        (field("queue"), field("reason"), *count)
    };
    rows.as_slice().iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetch_and_requeue_in_a_work_queue() -> Result<()> {
    let broker = BrokerProcess::start("work_queue");
    let (first, second) = (connect(&broker).await?, connect(&broker).await?);
    let (worker, other) = (first.create_channel().await?, second.create_channel().await?);
    let queue = unique("tasks");
    other.queue_declare(queue.clone(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    other.confirm_select(ConfirmSelectOptions::default()).await?;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    for body in [b"1", b"2"] {
        assert_eq!(
            publish_with(&other, "", queue.as_str(), body, persistent.clone()).await?,
            Confirmation::Ack(None)
        );
    }

    worker.basic_qos(1, BasicQosOptions::default()).await?;
    let mut lost = consume(&worker, queue.as_str(), false).await?;
    assert_eq!(next(&mut lost).await?.data, b"1");
    assert_eq!(ready(&other, &queue).await?, 1, "prefetch 1 leaves the second task in the queue");

    other.basic_qos(1, BasicQosOptions::default()).await?;
    let mut tasks = consume(&other, queue.as_str(), false).await?;
    let task = next(&mut tasks).await?;
    assert_eq!((&task.data[..], task.redelivered), (&b"2"[..], false));
    first.close(200, "gone without an ack".into()).await?;
    task.ack(BasicAckOptions::default()).await?;
    let again = next(&mut tasks).await?;
    assert_eq!((&again.data[..], again.redelivered), (&b"1"[..], true));
    again.ack(BasicAckOptions::default()).await?;
    assert_eq!(other.queue_delete(queue, QueueDeleteOptions::default()).await?, 0);
    second.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_of_exchanges() -> Result<()> {
    let broker = BrokerProcess::start("exchanges");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;

    let fanout = exchange(&channel, ExchangeKind::Fanout).await?;
    let direct = exchange(&channel, ExchangeKind::Direct).await?;
    let topic = exchange(&channel, ExchangeKind::Topic).await?;
    let (mut subscribers, mut patterns) = (Vec::new(), Vec::new());
    for (level, pattern) in [("info", "orders.*.new"), ("error", "orders.#"), ("error", "#.new")] {
        let (subscriber, matched) =
            (exclusive_queue(&channel, []).await?, exclusive_queue(&channel, []).await?);
        bind(&channel, &subscriber, &fanout, "").await?;
        bind(&channel, &subscriber, &direct, level).await?;
        bind(&channel, &matched, &topic, pattern).await?;
        subscribers.push(subscriber);
        patterns.push(matched);
    }
    publish(&channel, fanout.as_str(), "any", b"to all").await?;
    publish(&channel, direct.as_str(), "error", b"to two").await?;
    for key in ["orders.eu.new", "orders", "new", "orders.eu.old.new"] {
        publish(&channel, topic.as_str(), key, key.as_bytes()).await?;
    }
    assert_eq!(drain(&channel, &subscribers[0]).await?, ["to all"]);
    assert_eq!(drain(&channel, &subscribers[1]).await?, ["to all", "to two"]);
    assert_eq!(drain(&channel, &subscribers[2]).await?, ["to all", "to two"]);
    assert_eq!(drain(&channel, &patterns[0]).await?, ["orders.eu.new"]);
    assert_eq!(drain(&channel, &patterns[1]).await?, ["orders.eu.new", "orders", "orders.eu.old.new"]);
    assert_eq!(drain(&channel, &patterns[2]).await?, ["orders.eu.new", "new", "orders.eu.old.new"]);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_exchange_matches() -> Result<()> {
    let broker = BrokerProcess::start("headers");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let headers = exchange(&channel, ExchangeKind::Headers).await?;
    let (all, any) = (exclusive_queue(&channel, []).await?, exclusive_queue(&channel, []).await?);
    let pages = AMQPValue::LongInt(3);
    for (queue, mode) in [(&all, "all"), (&any, "any")] {
        let wanted = table([("x-match", text(mode)), ("format", text("pdf")), ("pages", pages.clone())]);
        channel
            .queue_bind(queue.clone(), headers.clone(), "".into(), QueueBindOptions::default(), wanted)
            .await?;
    }
    for (body, sent) in [
        ("both", table([("format", text("pdf")), ("pages", pages.clone())])),
        ("one", table([("format", text("pdf"))])),
        ("none", table([("format", text("txt"))])),
    ] {
        let properties = BasicProperties::default().with_headers(sent);
        publish_with(&channel, headers.as_str(), "", body.as_bytes(), properties).await?;
    }
    assert_eq!(drain(&channel, &all).await?, ["both"]);
    assert_eq!(drain(&channel, &any).await?, ["both", "one"]);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_over_direct_reply_to() -> Result<()> {
    let broker = BrokerProcess::start("rpc");
    let (serving, asking) = (connect(&broker).await?, connect(&broker).await?);
    let (server, client) = (serving.create_channel().await?, asking.create_channel().await?);
    let queue = unique("rpc");
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    server.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    let mut requests = consume(&server, queue.as_str(), true).await?;

    let mut answers = consume(&client, "amq.rabbitmq.reply-to", true).await?;
    let asked = BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_correlation_id("call 1".into());
    publish_with(&client, "", queue.as_str(), b"ping", asked).await?;

    let request = next(&mut requests).await?;
    let reply_to = request.properties.reply_to().clone().expect("the request says where to reply");
    let id = request.properties.correlation_id().clone().expect("the request has an id");
    assert!(reply_to.as_str().starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    let properties = BasicProperties::default().with_correlation_id(id);
    publish_with(&server, "", reply_to.as_str(), b"pong", properties).await?;

    let answer = next(&mut answers).await?;
    assert_eq!(answer.data, b"pong");
    assert_eq!(answer.properties.correlation_id(), &Some("call 1".into()));
    asking.close(200, "".into()).await?;
    serving.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_and_expired_messages_are_dead_lettered() -> Result<()> {
    let broker = BrokerProcess::start("dead_letter");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let dead = exclusive_queue(&channel, []).await?;
    let route = || [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(dead.as_str()))];
    let work = exclusive_queue(&channel, route()).await?;
    let [exchange, key] = route();
    let brief = exclusive_queue(&channel, [exchange, key, ("x-message-ttl", AMQPValue::LongInt(20))]).await?;

    let mut dead_letters = consume(&channel, dead.as_str(), true).await?;
    let mut tasks = consume(&channel, work.as_str(), false).await?;
    publish(&channel, "", work.as_str(), b"bad").await?;
    next(&mut tasks).await?.reject(BasicRejectOptions { requeue: false }).await?;
    let rejected = next(&mut dead_letters).await?;
    assert_eq!(deaths(&rejected), [(work.to_string(), "rejected".to_owned(), 1)]);

    publish(&channel, "", brief.as_str(), b"late").await?;
    let expired = next(&mut dead_letters).await?;
    assert_eq!(expired.data, b"late");
    assert_eq!(deaths(&expired), [(brief.to_string(), "expired".to_owned(), 1)]);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_queue_brings_a_message_back() -> Result<()> {
    let broker = BrokerProcess::start("retry");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let (work, retry) = (unique("work"), unique("retry"));
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let to = |queue: &ShortString| {
        [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(queue.as_str()))]
    };
    let [exchange, key] = to(&work);
    let back = table([exchange, key, ("x-message-ttl", AMQPValue::LongInt(20))]);
    channel.queue_declare(work.clone(), options, table(to(&retry))).await?;
    channel.queue_declare(retry.clone(), options, back).await?;

    let mut tasks = consume(&channel, work.as_str(), false).await?;
    publish(&channel, "", work.as_str(), b"task").await?;
    for round in 0..3 {
        let task = next(&mut tasks).await?;
        let row = |queue: &ShortString, reason: &str| (queue.to_string(), reason.to_owned(), round);
        let expected = if round == 0 { vec![] } else { vec![row(&retry, "expired"), row(&work, "rejected")] };
        assert_eq!(deaths(&task), expected);
        task.nack(BasicNackOptions { requeue: false, ..Default::default() }).await?;
    }
    assert_eq!(next(&mut tasks).await?.data, b"task");
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_gives_up_at_its_delivery_limit() -> Result<()> {
    let broker = BrokerProcess::start("delivery_limit");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let (work, dead) = (unique("work"), exclusive_queue(&channel, []).await?);
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongInt(1)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(dead.as_str())),
    ]);
    channel.queue_declare(work.clone(), QueueDeclareOptions::durable(), arguments).await?;
    let mut dead_letters = consume(&channel, dead.as_str(), true).await?;
    let mut tasks = consume(&channel, work.as_str(), false).await?;
    publish(&channel, "", work.as_str(), b"poison").await?;
    for redelivered in [false, true] {
        let task = next(&mut tasks).await?;
        assert_eq!(task.redelivered, redelivered);
        task.reject(BasicRejectOptions { requeue: true }).await?;
    }
    let given_up = next(&mut dead_letters).await?;
    assert_eq!(deaths(&given_up), [(work.to_string(), "delivery_limit".to_owned(), 1)]);
    channel.queue_delete(work, QueueDeleteOptions::default()).await?;
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_and_returns() -> Result<()> {
    let broker = BrokerProcess::start("confirms");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = exclusive_queue(&channel, []).await?;
    let (options, persistent) =
        (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
    let mut confirms = Vec::new();
    for _ in 0..500 {
        let body = b"in flight";
        confirms
            .push(channel.basic_publish("".into(), queue.clone(), options, body, persistent.clone()).await?);
    }
    for confirm in confirms {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    assert_eq!(ready(&channel, &queue).await?, 500);

    let nowhere = unique("nowhere");
    let returned = publish(&channel, "", nowhere.as_str(), b"lost").await?.take_message();
    let returned = returned.expect("a mandatory message that no queue takes comes back");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.delivery.routing_key, &returned.delivery.data[..]), (nowhere, &b"lost"[..]));
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_is_committed_or_rolled_back() -> Result<()> {
    let broker = BrokerProcess::start("transactions");
    let connection = connect(&broker).await?;
    let (channel, observer) = (connection.create_channel().await?, connection.create_channel().await?);
    let queue = exclusive_queue(&channel, []).await?;
    channel.tx_select().await?;
    publish(&channel, "", queue.as_str(), b"undone").await?;
    channel.tx_rollback().await?;
    publish(&channel, "", queue.as_str(), b"done").await?;
    assert_eq!(ready(&observer, &queue).await?, 0);
    channel.tx_commit().await?;
    assert_eq!(drain(&observer, &queue).await?, ["done"]);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_decides_the_order() -> Result<()> {
    let broker = BrokerProcess::start("priorities");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive_queue(&channel, [("x-max-priority", AMQPValue::LongInt(9))]).await?;
    for priority in [0, 9, 4, 9] {
        let properties = BasicProperties::default().with_priority(priority);
        publish_with(&channel, "", queue.as_str(), priority.to_string().as_bytes(), properties).await?;
    }
    assert_eq!(drain(&channel, &queue).await?, ["9", "9", "4", "0"]);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_and_missing_and_cancelled() -> Result<()> {
    let broker = BrokerProcess::start("queues");
    let (owner, other) = (connect(&broker).await?, connect(&broker).await?);
    let (owning, watching) = (owner.create_channel().await?, other.create_channel().await?);

    let mine = exclusive_queue(&owning, []).await?;
    let (code, message) = refusal(ready(&watching, &mine).await);
    assert_eq!(code, 405);
    assert!(
        message.starts_with("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"),
        "{message}"
    );
    let watching = other.create_channel().await?;

    let passing = unique("passing");
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    watching.queue_declare(passing.clone(), options, FieldTable::default()).await?;
    let mut consumer = consume(&owning, passing.as_str(), true).await?;
    watching.queue_delete(passing.clone(), QueueDeleteOptions::default()).await?;
    assert!(consumer.next().await.is_none(), "a consumer is cancelled when its queue is deleted");

    owner.close(200, "".into()).await?;
    for gone in [mine, passing] {
        let channel = other.create_channel().await?;
        let expected = (404, format!("NOT_FOUND - no queue '{gone}' in vhost '/'"));
        assert_eq!(refusal(ready(&channel, &gone).await), expected);
    }
    assert!(other.status().connected() && watching.status().connected());
    exclusive_queue(&watching, []).await?;
    other.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_many_channels() -> Result<()> {
    let broker = BrokerProcess::start("large");
    let connection = connect(&broker).await?;
    assert_eq!(connection.configuration().heartbeat(), 60);
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = exclusive_queue(&channel, []).await?;
    let large: Vec<u8> =
        (0..5 * 1024 * 1024_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    publish(&channel, "", queue.as_str(), &large).await?;
    let mut consumer = consume(&channel, queue.as_str(), true).await?;
    assert!(next(&mut consumer).await?.data == large);

    let mut channels = Vec::new();
    for _ in 0..200 {
        channels.push(connection.create_channel().await?);
    }
    let results = exclusive_queue(&channel, []).await?;
    for each in &channels {
        publish(each, "", results.as_str(), each.id().to_string().as_bytes()).await?;
        // The answer says that this channel's message has been handled.
        each.basic_qos(1, BasicQosOptions::default()).await?;
    }
    let ids: Vec<String> = channels.iter().map(|each| each.id().to_string()).collect();
    assert_eq!(drain(&channel, &results).await?, ids);
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn login_is_refused_with_a_wrong_password() -> Result<()> {
    let broker = BrokerProcess::start("login");
    let wrong = broker.url.replacen(":guest@", ":wrong@", 1);
    let (code, message) = refusal(Connection::connect(&wrong, ConnectionProperties::default()).await);
    assert_eq!(code, 403);
    assert!(message.starts_with("ACCESS_REFUSED - Login was refused"), "{message}");
    connect(&broker).await?.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn order_of_many_messages() -> Result<()> {
    let broker = BrokerProcess::start("order");
    let connection = connect(&broker).await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive_queue(&channel, []).await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut messages = consume(&channel, queue.as_str(), false).await?;
    for number in 0..2000 {
        publish(&channel, "", queue.as_str(), number.to_string().as_bytes()).await?;
    }
    for number in 0..2000 {
        let message = next(&mut messages).await?;
        assert_eq!(message.data, number.to_string().as_bytes());
        message.ack(BasicAckOptions::default()).await?;
    }
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeat_keeps_an_idle_connection() -> Result<()> {
    let broker = BrokerProcess::start("heartbeat");
    let url = format!("{}?heartbeat=1", broker.url);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    assert_eq!(connection.configuration().heartbeat(), 1);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let channel = connection.create_channel().await?;
    exclusive_queue(&channel, []).await?;
    connection.close(200, "".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnect_and_blocked_events() -> Result<()> {
    let broker = BrokerProcess::start("reconnect");
    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(&broker.url, properties).await?;
    let mut events = connection.events_listener();
    let channel = connection.create_channel().await?;
    let queue = unique("robust");
    channel.queue_declare(queue.clone(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    // What asks for immediate delivery is refused with connection.close 540.
    let immediate = BasicPublishOptions { immediate: true, ..Default::default() };
    let body = b"x";
    let published =
        channel.basic_publish("".into(), queue.clone(), immediate, body, BasicProperties::default());
    // What is asked behind it is not answered any more, should the refusal not have come by then.
    let declared = async {
        published.await?;
        channel.queue_declare(queue.clone(), QueueDeclareOptions::default(), FieldTable::default()).await
    };
    let refusal = declared.await.expect_err("the broker closes the connection");
    assert!(refusal.to_string().contains("immediate=true"), "{refusal}");
    channel.wait_for_recovery(refusal).await?;
    loop {
        match events.next().await.expect("the connection tells what happens to it") {
            Event::Connected => break,
            Event::ConnectionBlocked(reason) => panic!("blocked: {reason}"),
            _ => {}
        }
    }
    let channel = connection.create_channel().await?;
    publish(&channel, "", queue.as_str(), b"after").await?;
    assert_eq!(drain(&channel, &queue).await?, ["after"]);
    assert!(!connection.status().blocked());
    channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
    connection.close(200, "".into()).await
}
