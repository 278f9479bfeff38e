//! A broker inside a program, with an exchange type of its own: `x-json-field` looks into bodies. A binding names a field
//! in its argument `field` and the value that it wants there in its routing key; every other body passes it by.
//!
//! Run `cargo run --example custom_exchange`. It keeps nothing, needs no other broker, and ends by itself.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lapin::options::{BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use leveret::broker::exchange::{Binding, Envelope, ExchangeType, ExchangeTypes, Matches, Refusal};
use leveret::config::{Config, Engine};
use leveret::server::Server;
use serde_json::Value;
use std::error::Error;
use std::sync::Arc;

/// The index of one exchange of the type. A type is asked for nothing but its matches: auto-delete, alternate exchanges,
/// bindings between exchanges and the list of bindings are the same for all types, and done by the broker.
#[derive(Default)]
struct JsonField {
    /// Each with its field.
    bindings: Vec<(String, Arc<Binding>)>,
}

/// The field that a binding asks for. Arguments are kept encoded: what is asked for each message is better kept beside them.
fn field(binding: &Binding) -> Option<String> {
    binding.arguments.field("field")?.as_str().map(str::to_owned)
}

impl ExchangeType for JsonField {
    /// What is refused here closes the client's channel with 406 and this text.
    fn check_binding(&self, binding: &Binding) -> Result<(), Refusal> {
        let refusal =
            || Refusal::Because("x-json-field needs the name of a field in the argument 'field'".to_owned());
        field(binding).map(drop).ok_or_else(refusal)
    }

    fn bind(&mut self, binding: &Arc<Binding>) {
        self.bindings.extend(field(binding).map(|field| (field, binding.clone())));
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        self.bindings.retain(|(_, other)| !Arc::ptr_eq(other, binding));
    }

    /// Runs for every message, and may be given anything: a body that is no JSON object matches nothing.
    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        let Ok(body) = serde_json::from_slice::<Value>(envelope.message.body()) else { return };
        for (field, binding) in &self.bindings {
            let found = body.get(field).and_then(Value::as_str);
            if found.is_some_and(|found| found.as_bytes() == binding.routing_key.as_bytes()) {
                matches.push(binding);
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut types = ExchangeTypes::standard();
    types.register("x-json-field", |_arguments| Ok(Box::new(JsonField::default())));
    let mut config = Config::default();
    config.store.engine = Engine::Memory;
    config.listeners.amqp.bind = ([127, 0, 0, 1], 0).into(); // The system chooses the ports.
    config.listeners.http.bind = config.listeners.amqp.bind;
    config.listeners.prometheus.bind = config.listeners.amqp.bind;
    let server = Server::start(&config, types).await?;
    let (address, shutdown) = (server.address()?, server.shutdown());
    let running = tokio::spawn(server.run());

    let url = format!("amqp://guest:guest@{address}/%2F");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let kind = ExchangeKind::Custom("x-json-field".into());
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare("orders".into(), kind, options, FieldTable::default()).await?;
    let bindings = [("domestic", "de"), ("abroad", "fr"), ("abroad", "se")];
    for (queue, country) in bindings {
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("field".into(), AMQPValue::LongString("country".into()));
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), "orders".into(), country.into(), options, arguments).await?;
    }
    for body in [r#"{"country":"se"}"#, r#"{"country":"de"}"#, r#"{"country":"no"}"#, "no JSON"] {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        channel.basic_publish("orders".into(), "".into(), options, body.as_bytes(), properties).await?;
    }
    for queue in ["domestic", "abroad"] {
        while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await? {
            println!("{queue} got {}", String::from_utf8_lossy(&message.delivery.data));
        }
    }
    connection.close(200, "done".into()).await?;
    shutdown.begin();
    Ok(running.await??)
}
