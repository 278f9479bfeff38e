//! Connections that are closed over HTTP.

use lapin::{Connection, ConnectionProperties, Event};
use leveret_test_support::api_client::{AS_GUEST, TestBroker};
use serde_json::json;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a connection, and returns what its client gets when it ends.
async fn connect(broker: &TestBroker) -> (Connection, Receiver<String>) {
    let url = format!("amqp://guest:guest@{}/%2f", broker.amqp);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let (tell, told) = channel();
    let mut events = connection.events_listener();
    tokio::spawn(async move {
        while let Some(event) = futures_lite::StreamExt::next(&mut events).await {
            if let Event::Error(error) = event {
                let _ = tell.send(error.to_string());
            }
        }
    });
    (connection, told)
}

#[test]
fn a_client_is_told_why_its_connection_is_closed() {
    let broker = TestBroker::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (reason, text) in [
        (Some("X-Reason: moved to another broker"), "CONNECTION_FORCED - moved to another broker"),
        (None, "CONNECTION_FORCED - Closed via management plugin"),
    ] {
        let (_connection, told) = runtime.block_on(connect(&broker));
        let name = broker.get("/api/connections")[0]["name"].as_str().unwrap().to_owned();
        let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
        let headers: Vec<&str> = reason.into_iter().chain([AS_GUEST]).collect();
        assert_eq!(broker.ask_with("DELETE", &path, &headers, "").status, 204);
        let error = told.recv_timeout(PATIENCE).unwrap();
        // That is how lapin writes the code 320.
        assert_eq!(error, format!("protocol error: AMQP hard error: CONNECTION-FORCED: {text}"));
        while broker.get("/api/connections") != json!([]) {
            std::thread::yield_now();
        }
        assert_eq!(broker.ask_with("DELETE", &path, &headers, "").status, 404);
    }
}
