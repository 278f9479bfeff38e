//! amqprs.

use std::time::Duration;

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::*;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, Close, CloseChannel, FieldTable, FieldValue, Nack, Return};
use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the broker says without being asked, as a line of text.
#[derive(Clone)]
struct Told(UnboundedSender<String>);

impl Told {
    fn hear(&self, what: String) {
        // Nobody listens any more once the check is over.
        let _ = self.0.send(what);
    }
}

#[async_trait]
impl ConnectionCallback for Told {
    async fn close(&mut self, _: &Connection, close: Close) -> Result<(), amqprs::error::Error> {
        self.hear(format!("connection {} {}", close.reply_code(), close.reply_text()));
        Ok(())
    }
    async fn blocked(&mut self, _: &Connection, reason: String) {
        self.hear(format!("blocked {reason}"));
    }
    async fn unblocked(&mut self, _: &Connection) {
        self.hear("unblocked".into());
    }
    async fn secret_updated(&mut self, _: &Connection) {}
}

#[async_trait]
impl ChannelCallback for Told {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), amqprs::error::Error> {
        self.hear(format!("channel {} {}", close.reply_code(), close.reply_text()));
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), amqprs::error::Error> {
        self.hear(format!("cancel {}", cancel.consumer_tag()));
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.hear(format!("ack {}", ack.delivery_tag()));
    }
    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.hear(format!("nack {}", nack.delivery_tag()));
    }
    async fn publish_return(&mut self, _: &Channel, returned: Return, _: BasicProperties, _: Vec<u8>) {
        self.hear(format!("return {} {}", returned.reply_code(), returned.reply_text()));
    }
}

/// A connection, one channel of it, and what the broker says.
struct Client {
    connection: Connection,
    channel: Channel,
    told: UnboundedReceiver<String>,
    teller: Told,
}

fn arguments() -> OpenConnectionArguments {
    let url = std::env::var("AMQP_URL").expect("AMQP_URL names the broker");
    let mut arguments = OpenConnectionArguments::try_from(url.as_str()).expect("AMQP_URL is a URL of AMQP");
    // It takes the path as it stands there.
    let vhost = arguments.get_virtual_host().replace("%2F", "/");
    arguments.virtual_host(&vhost).finish()
}

impl Client {
    async fn open(arguments: &OpenConnectionArguments) -> Outcome<Client> {
        let connection = Connection::open(arguments).await?;
        let (sender, told) = unbounded_channel();
        let teller = Told(sender);
        connection.register_callback(teller.clone()).await?;
        let channel = connection.open_channel(None).await?;
        channel.register_callback(teller.clone()).await?;
        Ok(Client { connection, channel, told, teller })
    }

    /// A queue that goes with its connection.
    async fn declared(&self, name: &str, arguments: FieldTable) -> Outcome<String> {
        let queue = QueueDeclareArguments::new(name).exclusive(true).arguments(arguments).finish();
        Ok(self.channel.queue_declare(queue).await?.expect("it was no no-wait").0)
    }

    async fn ready(&self, queue: &str) -> Outcome<u32> {
        let passive = QueueDeclareArguments::new(queue).passive(true).finish();
        Ok(self.channel.queue_declare(passive).await?.expect("it was no no-wait").1)
    }

    async fn publish(&self, queue: &str, body: &[u8], properties: BasicProperties) -> Outcome {
        Ok(self
            .channel
            .basic_publish(properties, body.to_vec(), BasicPublishArguments::new("", queue))
            .await?)
    }

    async fn get(&self, queue: &str) -> Outcome<Option<(BasicProperties, Vec<u8>)>> {
        let get = BasicGetArguments::new(queue).no_ack(true).finish();
        Ok(self.channel.basic_get(get).await?.map(|(_, properties, body)| (properties, body)))
    }

    async fn text(&self, queue: &str) -> Outcome<String> {
        let got = self.get(queue).await?;
        Ok(got.map_or("nothing".into(), |(_, body)| String::from_utf8_lossy(&body).into_owned()))
    }

    async fn consume(&self, queue: &str, no_ack: bool) -> Outcome<UnboundedReceiver<ConsumerMessage>> {
        let consume = BasicConsumeArguments::new(queue, "").manual_ack(!no_ack).finish();
        Ok(self.channel.basic_consume_rx(consume).await?.1)
    }

    async fn ack(&self, message: &Message) -> Outcome {
        Ok(self.channel.basic_ack(BasicAckArguments::new(message.tag, false)).await?)
    }

    async fn reject(&self, message: &Message, requeue: bool) -> Outcome {
        Ok(self.channel.basic_reject(BasicRejectArguments::new(message.tag, requeue)).await?)
    }

    /// Waits until the broker says something that begins with this.
    async fn hear(&mut self, beginning: &str) -> Outcome<String> {
        loop {
            let what =
                tokio::time::timeout(PATIENCE, self.told.recv()).await?.ok_or("nobody talks any more")?;
            if what.starts_with(beginning) {
                return Ok(what);
            }
        }
    }
}

struct Message {
    tag: u64,
    redelivered: bool,
    properties: BasicProperties,
    body: String,
}

async fn take(inbox: &mut UnboundedReceiver<ConsumerMessage>) -> Outcome<Message> {
    let message = tokio::time::timeout(PATIENCE, inbox.recv()).await?.ok_or("the consumer is gone")?;
    let deliver = message.deliver.ok_or("no deliver")?;
    Ok(Message {
        tag: deliver.delivery_tag(),
        redelivered: deliver.redelivered(),
        properties: message.basic_properties.ok_or("no properties")?,
        body: String::from_utf8(message.content.ok_or("no body")?)?,
    })
}

/// A name that no other check and no other run uses.
fn name(word: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{word}-amqprs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key.try_into().expect("a short key"), value);
    }
    table
}

fn text(value: &str) -> FieldValue {
    FieldValue::S(value.try_into().expect("a text"))
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

async fn check(name_of_check: &str) -> Outcome {
    let mut client = Client::open(&arguments()).await?;
    match name_of_check {
        "login" => {
            let mut wrong = arguments();
            wrong.credentials(amqprs::security::SecurityCredentials::new_plain("guest", "wrong"));
            // It does not say that it would read a refusal, so the broker closes the socket.
            assert!(Connection::open(&wrong).await.is_err(), "a wrong password was accepted");
        }
        "topology" => {
            let (exchange, queue) = (name("topic"), client.declared("", FieldTable::new()).await?);
            let declare = ExchangeDeclareArguments::new(&exchange, "topic").auto_delete(true).finish();
            client.channel.exchange_declare(declare).await?;
            client.channel.queue_bind(QueueBindArguments::new(&queue, &exchange, "orders.*")).await?;
            for (key, body) in [("orders.new", "new"), ("bills.new", "other")] {
                let publish = BasicPublishArguments::new(&exchange, key);
                client.channel.basic_publish(plain(), body.into(), publish).await?;
            }
            assert_eq!(client.text(&queue).await?, "new");
            assert_eq!(client.text(&queue).await?, "nothing");
        }
        "confirms" => {
            let queue = client.declared("", FieldTable::new()).await?;
            client.channel.confirm_select(ConfirmSelectArguments::default()).await?;
            for _ in 0..100 {
                client.publish(&queue, b"x", plain().with_delivery_mode(2).finish()).await?;
            }
            client.hear("ack 100").await?;
            assert_eq!(client.ready(&queue).await?, 100);
        }
        "returns" => {
            let nowhere = BasicPublishArguments::new("", &name("nowhere")).mandatory(true).finish();
            client.channel.basic_publish(plain(), b"lost".to_vec(), nowhere).await?;
            assert_eq!(client.hear("return").await?, "return 312 NO_ROUTE");
        }
        "prefetch" => {
            let queue = client.declared("", FieldTable::new()).await?;
            for body in [b"1", b"2", b"3", b"4", b"5"] {
                client.publish(&queue, body, plain()).await?;
            }
            client.channel.basic_qos(BasicQosArguments::new(0, 2, false)).await?;
            let mut inbox = client.consume(&queue, false).await?;
            let (first, second) = (take(&mut inbox).await?, take(&mut inbox).await?);
            assert_eq!(client.ready(&queue).await?, 3);
            client.ack(&first).await?;
            assert_eq!((take(&mut inbox).await?.body, second.body), ("3".into(), "2".into()));
            assert_eq!(client.ready(&queue).await?, 2);
        }
        "requeue" => {
            let queue = client.declared("", FieldTable::new()).await?;
            client.publish(&queue, b"again", plain()).await?;
            let mut inbox = client.consume(&queue, false).await?;
            let message = take(&mut inbox).await?;
            assert!(!message.redelivered);
            client.channel.basic_nack(BasicNackArguments::new(message.tag, false, true)).await?;
            let message = take(&mut inbox).await?;
            assert!(message.redelivered);
            client.reject(&message, false).await?;
            assert_eq!(client.ready(&queue).await?, 0);
        }
        "retry" => {
            let (work, later) = (name("work"), name("later"));
            let to = |queue: &str| {
                [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(queue))]
            };
            client.declared(&work, table(to(&later))).await?;
            let [exchange, key] = to(&work);
            client.declared(&later, table([exchange, key, ("x-message-ttl", FieldValue::I(50))])).await?;
            client.publish(&work, b"task", plain()).await?;
            let mut inbox = client.consume(&work, false).await?;
            let first = take(&mut inbox).await?;
            client.reject(&first, false).await?;
            let again = take(&mut inbox).await?;
            let headers = again.properties.headers().ok_or("no headers")?;
            let deaths = format!("{:?}", headers.get(&"x-death".try_into()?));
            let place = |word: &str| deaths.find(word).ok_or(format!("no {word} in {deaths}"));
            assert!(place("expired")? > 0 && place("rejected")? > 0, "{deaths}");
            client.ack(&again).await?;
        }
        "rpc" => {
            let requests = client.declared("", FieldTable::new()).await?;
            let mut replies = client.consume("amq.rabbitmq.reply-to", true).await?;
            let asked = plain().with_reply_to("amq.rabbitmq.reply-to").with_correlation_id("1").finish();
            client.publish(&requests, b"12", asked).await?;
            let (request, _) = client.get(&requests).await?.ok_or("no request")?;
            let reply_to = request.reply_to().ok_or("no reply_to")?;
            assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
            let id = request.correlation_id().ok_or("no id")?;
            client.publish(reply_to, b"144", plain().with_correlation_id(id).finish()).await?;
            let reply = take(&mut replies).await?;
            assert_eq!(
                (reply.body.as_str(), reply.properties.correlation_id()),
                ("144", Some(&"1".to_string()))
            );
        }
        "priority" => {
            let queue = client.declared("", table([("x-max-priority", FieldValue::I(5))])).await?;
            for number in [1, 5, 3] {
                let properties = plain().with_priority(number).finish();
                client.publish(&queue, number.to_string().as_bytes(), properties).await?;
            }
            for expected in ["5", "3", "1"] {
                assert_eq!(client.text(&queue).await?, expected);
            }
        }
        "transaction" => {
            let queue = client.declared("", FieldTable::new()).await?;
            client.channel.tx_select().await?;
            client.publish(&queue, b"never", plain()).await?;
            client.channel.tx_rollback().await?;
            client.publish(&queue, b"kept", plain()).await?;
            client.channel.tx_commit().await?;
            assert_eq!(client.text(&queue).await?, "kept");
            assert_eq!(client.text(&queue).await?, "nothing");
        }
        "large" => {
            let queue = client.declared("", FieldTable::new()).await?;
            let body: Vec<u8> =
                (0..8_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            client.publish(&queue, &body, plain()).await?;
            assert!(client.get(&queue).await?.ok_or("nothing came")?.1 == body);
        }
        "order" => {
            let queue = client.declared("", FieldTable::new()).await?;
            client.channel.basic_qos(BasicQosArguments::new(0, 100, false)).await?;
            let mut inbox = client.consume(&queue, false).await?;
            for number in 0..2000 {
                client.publish(&queue, number.to_string().as_bytes(), plain()).await?;
            }
            for number in 0..2000 {
                let message = take(&mut inbox).await?;
                assert_eq!(message.body, number.to_string());
                client.ack(&message).await?;
            }
        }
        "heartbeat" => {
            let idle = Client::open(arguments().heartbeat(1)).await?;
            assert_eq!(idle.connection.heartbeat(), 1);
            tokio::time::sleep(Duration::from_secs(3)).await;
            idle.declared("", FieldTable::new()).await?;
            idle.connection.close().await?;
        }
        "reconnect" => {
            let queue = name("robust");
            client.channel.queue_declare(QueueDeclareArguments::new(&queue)).await?;
            assert!(client.channel.basic_qos(BasicQosArguments::new(5, 0, false)).await.is_err());
            assert!(client.hear("connection").await?.starts_with("connection 540 NOT_IMPLEMENTED"));
            let again = Client::open(&arguments()).await?;
            again.publish(&queue, b"after", plain()).await?;
            assert_eq!(again.text(&queue).await?, "after");
            again.channel.queue_delete(QueueDeleteArguments::new(&queue)).await?;
            return Ok(again.connection.close().await?);
        }
        "exclusive" => {
            let queue = client.declared("", FieldTable::new()).await?;
            let mut other = Client::open(&arguments()).await?;
            assert!(other.ready(&queue).await.is_err());
            assert!(other.hear("channel").await?.starts_with("channel 405 RESOURCE_LOCKED"));
            other.connection.close().await?;
        }
        "missing" => {
            assert!(client.ready(&name("missing")).await.is_err());
            assert!(client.hear("channel").await?.starts_with("channel 404 NOT_FOUND - no queue"));
            client.channel = client.connection.open_channel(None).await?;
            client.channel.register_callback(client.teller.clone()).await?;
            client.declared("", FieldTable::new()).await?;
        }
        "cancelled" => {
            let queue = name("going");
            client.channel.queue_declare(QueueDeclareArguments::new(&queue)).await?;
            let consume = BasicConsumeArguments::new(&queue, "watcher");
            let _inbox = client.channel.basic_consume_rx(consume).await?;
            let other = Client::open(&arguments()).await?;
            other.channel.queue_delete(QueueDeleteArguments::new(&queue)).await?;
            other.connection.close().await?;
            assert_eq!(client.hear("cancel").await?, "cancel watcher");
        }
        "blocked" => {
            let queue = client.declared("", FieldTable::new()).await?;
            client.publish(&queue, b"goes", plain()).await?;
            assert_eq!(client.text(&queue).await?, "goes");
            assert!(client.told.try_recv().is_err(), "nothing is told");
        }
        unknown => unreachable!("no check {unknown}"),
    }
    client.connection.close().await?;
    Ok(())
}

const CHECKS: [&str; 18] = [
    "login",
    "topology",
    "confirms",
    "returns",
    "prefetch",
    "requeue",
    "retry",
    "rpc",
    "priority",
    "transaction",
    "large",
    "order",
    "heartbeat",
    "reconnect",
    "exclusive",
    "missing",
    "cancelled",
    "blocked",
];

#[tokio::main]
async fn main() {
    for name in CHECKS {
        // A task of its own, so that a failed assertion ends the check alone.
        match tokio::spawn(tokio::time::timeout(3 * PATIENCE, check(name))).await {
            Ok(Ok(Ok(()))) => println!("ok {name}"),
            Ok(Ok(Err(error))) => println!("failed {name}: {error}"),
            Ok(Err(_)) => println!("failed {name}: it did not end"),
            Err(panicked) => println!("failed {name}: {panicked}"),
        }
    }
}
