//! A remote procedure call with lapin: a server that squares numbers, and a client that asks it.
//!
//! The client takes its answers over direct reply-to: it consumes from `amq.rabbitmq.reply-to`, which needs no
//! queue, and the broker routes each answer to the channel that asked.
//!
//! Run `cargo run --example rpc_lapin`; it ends after three calls. `AMQP_URL` names another broker.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use futures_lite::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Result};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

async fn publish(channel: &Channel, key: &str, body: &str, properties: BasicProperties) -> Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), key.into(), options, body.as_bytes(), properties).await.map(drop)
}

async fn serve(channel: Channel, mut requests: Consumer) -> Result<()> {
    while let Some(request) = requests.next().await {
        let request = request?;
        let asked = &request.properties;
        let (Some(reply_to), Some(id)) = (asked.reply_to(), asked.correlation_id()) else { continue };
        let number: i64 = String::from_utf8_lossy(&request.data).parse().unwrap_or_default();
        let properties = BasicProperties::default().with_correlation_id(id.clone());
        publish(&channel, reply_to.as_str(), &(number * number).to_string(), properties).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2F".into());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;

    let (server, client) = (connection.create_channel().await?, connection.create_channel().await?);
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    server.queue_declare("square".into(), options, FieldTable::default()).await?;
    let requests = consume(&server, "square").await?;
    tokio::spawn(serve(server, requests));

    let mut answers = consume(&client, REPLY_TO).await?;
    for number in [3, 12, 144] {
        let properties = BasicProperties::default()
            .with_reply_to(REPLY_TO.into())
            .with_correlation_id(number.to_string().into());
        publish(&client, "square", &number.to_string(), properties).await?;
        let Some(answer) = answers.next().await else { break };
        println!("{number} squared is {}", String::from_utf8_lossy(&answer?.data));
    }
    connection.close(200, "done".into()).await
}
