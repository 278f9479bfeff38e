//! Publishing that loses nothing, with lapin: confirms for what the broker has, returns for what no queue takes.
//!
//! All messages are in flight at once and their confirms are awaited afterwards: that is many times faster than
//! waiting for each. A message marked mandatory comes back when no queue is bound for it.
//!
//! Run `cargo run --example publish_confirm_lapin`; it ends by itself. `AMQP_URL` names another broker.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, Result};

const MESSAGES: usize = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2F".into());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.queue_declare("confirmed".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;

    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let mut in_flight = Vec::new();
    for number in 0..MESSAGES {
        let key = if number == 7 { "no such queue" } else { "confirmed" };
        let body = number.to_string();
        let confirm = channel
            .basic_publish("".into(), key.into(), options, body.as_bytes(), persistent.clone())
            .await?;
        in_flight.push(confirm);
    }

    let mut stored = 0;
    for confirm in in_flight {
        match confirm.await? {
            Confirmation::Ack(None) => stored += 1,
            Confirmation::Ack(Some(returned)) => {
                println!(
                    "returned: message {} ({})",
                    String::from_utf8_lossy(&returned.delivery.data),
                    returned.reply_text
                );
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                println!("not stored: publish it again later")
            }
        }
    }
    println!("confirmed: {stored} of {MESSAGES}");

    channel.queue_delete("confirmed".into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await
}
