//! A client of few words: it logs in, opens one channel, and asks one thing at a time. Producers and consumers go on from there
//! with the bytes themselves.

use super::Failure;
use super::target::Target;
use super::wire::{Frame, Wire, is_of_tls, method_frame};
use crate::trust;
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a broker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to let us in, and to say farewell.
const BRIEF: Duration = Duration::from_secs(10);

/// The largest frames that we ask for, in bytes.
const FRAME_MAX: u32 = 128 * 1024;

const NOT_ALLOWED: u16 = 530;
const ACCESS_REFUSED: u16 = 403;

/// A connection with channel 1 open.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) wire: Wire,
    /// The largest frame that may be sent.
    pub(super) frame_max: usize,
    /// What the broker calls itself.
    pub(super) product: String,
}

impl Client {
    /// Connects and logs in.
    pub(super) async fn open(target: &Target) -> Result<Client, Failure> {
        let unreachable = |reason: String| Failure::Unreachable { address: target.address.clone(), reason };
        let wire = match timeout(BRIEF, Wire::connect(&target.address, target.tls.as_ref())).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(error)) if is_of_tls(&error) => {
                let reason = trust::plain_reason(&error);
                return Err(Failure::Tls { address: target.address.clone(), reason });
            }
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("nothing came back in {} s", BRIEF.as_secs()))),
        };
        let mut client = Client { wire, frame_max: FRAME_MAX as usize, product: String::new() };
        match timeout(BRIEF, client.shake_hands(target)).await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(Failure::Refused { code: ACCESS_REFUSED | NOT_ALLOWED, text })) => {
                Err(Failure::Login { address: target.address.clone(), text })
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(unreachable(format!("the login was not answered in {} s", BRIEF.as_secs()))),
        }
    }

    async fn shake_hands(&mut self, target: &Target) -> Result<(), Failure> {
        self.wire.output.extend_from_slice(b"AMQP\x00\x00\x09\x01");
        let start = self.answer().await.map_err(|failure| self.not_a_broker(target, failure))?;
        let AMQPClass::Connection(connection::AMQPMethod::Start(start)) = start else {
            return Err(unexpected("connection.start", &start));
        };
        self.product = product(&start.server_properties);
        let start_ok = connection::StartOk {
            client_properties: client_properties(),
            mechanism: "PLAIN".into(),
            response: format!("\0{}\0{}", target.user, target.password).into(),
            locale: "en_US".into(),
        };
        self.put(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)));
        let tune = match self.answer().await {
            // Some brokers report a wrong password in no other way.
            Err(Failure::Lost(text)) => return Err(Failure::Refused { code: ACCESS_REFUSED, text }),
            tune => tune?,
        };
        let AMQPClass::Connection(connection::AMQPMethod::Tune(tune)) = tune else {
            return Err(unexpected("connection.tune", &tune));
        };
        let frame_max = if tune.frame_max == 0 { FRAME_MAX } else { tune.frame_max.min(FRAME_MAX) };
        self.frame_max = frame_max as usize;
        // Without heartbeats, which a broker under load might miss.
        let tune_ok = connection::TuneOk { channel_max: tune.channel_max, frame_max, heartbeat: 0 };
        self.put(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)));
        let open = connection::Open { virtual_host: target.vhost.as_str().into() };
        self.put(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)));
        match self.answer().await? {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(_)) => {}
            other => return Err(unexpected("connection.open-ok", &other)),
        }
        self.put(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
        match self.answer().await? {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => Ok(()),
            other => Err(unexpected("channel.open-ok", &other)),
        }
    }

    /// What went wrong before a broker had said anything that makes sense.
    fn not_a_broker(&self, target: &Target, failure: Failure) -> Failure {
        if let Some(reason) = &self.wire.tls_fault {
            return Failure::Tls { address: target.address.clone(), reason: reason.clone() };
        }
        let reason = match failure {
            _ if self.wire.input.is_protocol_header() => "it asks for another version of AMQP".to_owned(),
            Failure::Lost(reason) | Failure::Garbled { reason, .. } => reason,
            other => return other,
        };
        Failure::Garbled { address: target.address.clone(), protocol: "AMQP 0-9-1", reason }
    }

    /// Puts a method behind what is to be written.
    pub(super) fn put(&mut self, channel: u16, method: AMQPClass) {
        self.wire.output.extend_from_slice(&method_frame(channel, method));
    }

    /// Writes, and waits for the next method, which ought to be an answer.
    async fn answer(&mut self) -> Result<AMQPClass, Failure> {
        loop {
            while let Some(frame) = self.wire.input.frame()? {
                check_closed(&frame)?;
                // Heartbeats, and that publishers are blocked, are no answers.
                if !matches!(frame.method(), (0, 0) | (10, 60) | (10, 61)) {
                    return frame.class();
                }
            }
            self.wire.move_bytes(None).await?;
        }
    }

    async fn call(&mut self, method: AMQPClass) -> Result<AMQPClass, Failure> {
        self.put(1, method);
        match timeout(PATIENCE, self.answer()).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Lost(format!("no answer came in {} s", PATIENCE.as_secs()))),
        }
    }

    /// Declares a queue, or with `passive` asks for one. Says how many messages are ready in it.
    pub(super) async fn declare_queue(
        &mut self,
        name: &str,
        arguments: FieldTable,
        durable: bool,
        passive: bool,
    ) -> Result<u32, Failure> {
        let declare = queue::Declare {
            queue: name.into(),
            passive,
            durable,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments,
        };
        match self.call(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))).await? {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Ok(ok.message_count),
            other => Err(unexpected("queue.declare-ok", &other)),
        }
    }

    /// Declares an exchange; without a type it has to be there.
    pub(super) async fn declare_exchange(
        &mut self,
        name: &str,
        kind: Option<&str>,
        durable: bool,
    ) -> Result<(), Failure> {
        let declare = exchange::Declare {
            exchange: name.into(),
            kind: kind.unwrap_or("direct").into(),
            passive: kind.is_none(),
            durable,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        match self.call(AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare))).await? {
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)) => Ok(()),
            other => Err(unexpected("exchange.declare-ok", &other)),
        }
    }

    pub(super) async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Failure> {
        let bind = queue::Bind {
            queue: queue.into(),
            exchange: exchange.into(),
            routing_key: key.into(),
            nowait: false,
            arguments: FieldTable::default(),
        };
        match self.call(AMQPClass::Queue(queue::AMQPMethod::Bind(bind))).await? {
            AMQPClass::Queue(queue::AMQPMethod::BindOk(_)) => Ok(()),
            other => Err(unexpected("queue.bind-ok", &other)),
        }
    }

    pub(super) async fn delete_queue(&mut self, name: &str) -> Result<(), Failure> {
        let delete = queue::Delete { queue: name.into(), if_unused: false, if_empty: false, nowait: false };
        self.call(AMQPClass::Queue(queue::AMQPMethod::Delete(delete))).await.map(drop)
    }

    pub(super) async fn delete_exchange(&mut self, name: &str) -> Result<(), Failure> {
        let delete = exchange::Delete { exchange: name.into(), if_unused: false, nowait: false };
        self.call(AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete))).await.map(drop)
    }

    pub(super) async fn select_confirms(&mut self) -> Result<(), Failure> {
        let select = confirm::Select { nowait: false };
        self.call(AMQPClass::Confirm(confirm::AMQPMethod::Select(select))).await.map(drop)
    }

    pub(super) async fn set_prefetch(&mut self, prefetch_count: u16) -> Result<(), Failure> {
        let qos = basic::Qos { prefetch_count, global: false };
        self.call(AMQPClass::Basic(basic::AMQPMethod::Qos(qos))).await.map(drop)
    }

    /// Asks for deliveries, without waiting for the answer, which deliveries of another queue might precede.
    pub(super) fn put_consume(&mut self, queue: &str, no_ack: bool, arguments: FieldTable) {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: format!("perf-{queue}").chars().take(60).collect::<String>().into(),
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: true,
            arguments,
        };
        self.put(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
    }

    /// Closes the connection, after all that was put before, and waits for the broker's answer. A broker that is gone by then is
    /// no error.
    pub(super) async fn close(mut self) {
        let close =
            connection::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        self.put(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)));
        let until = Instant::now() + BRIEF;
        while Instant::now() < until {
            while let Ok(Some(frame)) = self.wire.input.frame() {
                if frame.method() == (10, 51) {
                    return;
                }
            }
            if self.wire.move_bytes(Some(until)).await.is_err() {
                return;
            }
        }
    }
}

/// The error that a frame says, if it closes the channel or the connection.
pub(super) fn check_closed(frame: &Frame<'_>) -> Result<(), Failure> {
    match frame.method() {
        (10, 50) | (20, 40) => {
            let code = frame.arguments().first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
            let text = frame.arguments().get(2..).and_then(short_string).unwrap_or_default();
            Err(Failure::Refused { code, text })
        }
        _ => Ok(()),
    }
}

/// The short string at the front.
pub(super) fn short_string(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first()?;
    rest.get(..usize::from(*length)).map(|text| String::from_utf8_lossy(text).into_owned())
}

fn unexpected(wanted: &str, method: &AMQPClass) -> Failure {
    Failure::Lost(format!("the broker sent {method:?} where {wanted} should have come"))
}

/// `RabbitMQ 3.10.8`.
fn product(properties: &FieldTable) -> String {
    let text = |key: &str| match properties.inner().get(key) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    let name = text("product").unwrap_or_else(|| "a broker without a name".to_owned());
    match (text("leveret_version"), text("version")) {
        (Some(version), _) => format!("Leveret {version}"),
        (None, Some(version)) => format!("{name} {version}"),
        (None, None) => name,
    }
}

fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties.insert("product".into(), AMQPValue::LongString("leveret perf".into()));
    properties.insert("version".into(), AMQPValue::LongString(env!("CARGO_PKG_VERSION").into()));
    properties
}
