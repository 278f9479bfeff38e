//! A topology with everything in it that answers speak of, built over HTTP and AMQP on any broker.

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, Consumer};
use leveret_test_support::api_client::{AS_GUEST, ask};
use std::net::SocketAddr;
use tokio::runtime::Runtime;

/// What is made over HTTP, in this order; it is deleted in the other.
const MADE: &[(&str, &str)] = &[
    ("/api/users/fields", r#"{"password":"fields","tags":"monitoring"}"#),
    ("/api/users/fields-alone", r#"{"password":"fields","tags":""}"#),
    ("/api/user-limits/fields/max-connections", r#"{"value":100}"#),
    ("/api/permissions/%2F/fields", r#"{"configure":".*","write":".*","read":".*"}"#),
    ("/api/topic-permissions/%2F/fields", r#"{"exchange":"amq.topic","write":".*","read":".*"}"#),
    ("/api/vhost-limits/%2F/max-queues", r#"{"value":1000}"#),
    ("/api/global-parameters/fields", r#"{"value":{"a":1}}"#),
    (
        "/api/policies/%2F/fields",
        r#"{"pattern":"^fields$","definition":{"max-length":1000},"priority":1,"apply-to":"all"}"#,
    ),
    (
        "/api/operator-policies/%2F/fields",
        r#"{"pattern":"^fields$","definition":{"max-length":500},"apply-to":"queues"}"#,
    ),
    ("/api/exchanges/%2F/fields-alternate", r#"{"type":"fanout","durable":true}"#),
    (
        "/api/exchanges/%2F/fields",
        r#"{"type":"topic","durable":true,"arguments":{"alternate-exchange":"fields-alternate"}}"#,
    ),
    ("/api/queues/%2F/fields", r#"{"durable":true,"arguments":{"x-message-ttl":3600000}}"#),
    ("/api/queues/%2F/fields-unused", r#"{"auto_delete":true}"#),
    ("/api/queues/%2F/fields-quorum", r#"{"durable":true,"arguments":{"x-queue-type":"quorum"}}"#),
];

const BOUND: &[(&str, &str)] = &[
    ("/api/bindings/%2F/e/fields/q/fields", r#"{"routing_key":"key"}"#),
    ("/api/bindings/%2F/e/fields/q/fields", r#"{"routing_key":"other","arguments":{"a":1}}"#),
    ("/api/bindings/%2F/e/fields/q/fields-quorum", r#"{"routing_key":"quorum"}"#),
    ("/api/bindings/%2F/e/fields/e/fields-alternate", r#"{"routing_key":"alternate"}"#),
];

/// See the module. The clients stay until it is dropped.
pub(crate) struct Topology {
    runtime: Runtime,
    connection: Connection,
    /// They cancel when they are dropped.
    _consumers: [Consumer; 2],
}

impl Topology {
    pub(crate) fn build(http: SocketAddr, amqp: SocketAddr) -> Topology {
        for (path, body) in MADE {
            let status = ask(http, "PUT", path, &[AS_GUEST], body.as_bytes()).status;
            assert!([201, 204].contains(&status), "PUT {path}: {status}");
        }
        for (path, body) in BOUND {
            let status = ask(http, "POST", path, &[AS_GUEST], body.as_bytes()).status;
            assert_eq!(status, 201, "POST {path}");
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = format!("amqp://guest:guest@{amqp}/%2f");
        let (connection, _consumers) = runtime.block_on(use_it(&url)).unwrap();
        Topology { runtime, connection, _consumers }
    }

    /// Closes the connection and deletes what was made.
    pub(crate) fn end(self, http: SocketAddr) {
        self.runtime.block_on(self.connection.close(200, "done".into())).unwrap();
        for (path, _) in MADE.iter().rev() {
            ask(http, "DELETE", path, &[AS_GUEST], b"");
        }
    }
}

/// Does each thing once that is counted somewhere, and leaves a consumer with a message behind.
async fn use_it(url: &str) -> lapin::Result<(Connection, [Consumer; 2])> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let publisher = connection.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let persistent = || BasicProperties::default().with_delivery_mode(2).with_timestamp(1_700_000_000);
    for key in ["key", "key", "key", "key", "quorum", "quorum", "unroutable"] {
        let options = BasicPublishOptions::default();
        let confirm = publisher.basic_publish("fields".into(), key.into(), options, b"body", persistent());
        confirm.await?.await?;
    }
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    publisher.basic_publish("".into(), "none".into(), mandatory, b"body", persistent()).await?.await?;
    for queue in ["fields", "fields-quorum"] {
        let getter = connection.create_channel().await?;
        let got = getter.basic_get(queue.into(), BasicGetOptions::default()).await?.unwrap();
        got.acker.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
        getter.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await?;
        getter.basic_get("fields-unused".into(), BasicGetOptions { no_ack: true }).await?;
    }
    let consumer = connection.create_channel().await?;
    consumer.basic_qos(1, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        consumer.basic_consume("fields".into(), "tag".into(), options, FieldTable::default()).await?;
    let delivery = deliveries.next().await.unwrap()?;
    delivery.acker.ack(BasicAckOptions::default()).await?;
    deliveries.next().await.unwrap()?;
    let auto = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let unused = "fields-unused".into();
    let auto = consumer.basic_consume(unused, "auto".into(), auto, FieldTable::default()).await?;
    publisher
        .basic_publish(
            "".into(),
            "fields-unused".into(),
            BasicPublishOptions::default(),
            b"body",
            persistent(),
        )
        .await?
        .await?;
    // Answered after all that was sent before it.
    consumer.basic_qos(1, BasicQosOptions::default()).await?;
    Ok((connection, [deliveries, auto]))
}
