//! What the configuration declares at start, against what the store already holds.

use leveret::broker::exchange::ExchangeTypes;
use leveret::config::Config;
use leveret::server::Server;
use std::path::Path;

/// Starts a broker on `directory` with this much more than the defaults, and stops it again.
async fn start(directory: &Path, text: &str) -> Result<(), String> {
    let none: [(&str, &str); 0] = [];
    let mut config =
        Config::load_from(text, "leveret.toml", none).map_err(|problems| problems.to_string())?;
    config.data_dir = directory.to_path_buf();
    config.listeners.amqp.bind = "127.0.0.1:0".parse().unwrap();
    config.listeners.http.bind = config.listeners.amqp.bind;
    config.listeners.prometheus.bind = config.listeners.amqp.bind;
    let server =
        Server::start(&config, ExchangeTypes::standard()).await.map_err(|error| error.to_string())?;
    server.shutdown().begin();
    server.run().await.map_err(|error| error.to_string())
}

const TOPOLOGY: &str = r##"
[[exchanges]]
name = "orders"
type = "topic"

[[queues]]
name = "new"
arguments = { x-message-ttl = 1000 }

[[bindings]]
source = "orders"
destination = "new"
routing_key = "#"
"##;

#[tokio::test(flavor = "multi_thread")]
async fn declaring_the_same_again_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        start(directory.path(), TOPOLOGY).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_the_store_shows_both() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path(), TOPOLOGY).await.unwrap();
    let refused = start(directory.path(), &TOPOLOGY.replace("1000", "2000")).await.unwrap_err();
    assert_eq!(
        refused,
        "leveret.toml:6: queues[0]: inequivalent arg 'x-message-ttl' for queue 'new' in vhost '/': received '2000' but \
         current is '1000'"
    );
    let refused = start(directory.path(), &TOPOLOGY.replace("topic", "fanout")).await.unwrap_err();
    assert_eq!(
        refused,
        "leveret.toml:2: exchanges[0]: inequivalent arg 'type' for exchange 'orders' in vhost '/': received 'fanout' but \
         current is 'topic'"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once_and_what_follows_from_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path(), TOPOLOGY).await.unwrap();
    let other = TOPOLOGY.replace("topic", "nonsense").replace("1000", "-1");
    let refused = start(directory.path(), &other).await.unwrap_err();
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(lines.len(), 2, "{refused}");
    assert!(
        lines[0].starts_with("leveret.toml:2: exchanges[0]: unknown exchange type 'nonsense'"),
        "{refused}"
    );
    assert!(lines[1].starts_with("leveret.toml:6: queues[0]: inequivalent arg 'x-message-ttl'"), "{refused}");
    let fresh = tempfile::tempdir().unwrap();
    let refused = start(fresh.path(), &other).await.unwrap_err();
    assert_eq!(refused.lines().count(), 2, "the binding is not to blame: {refused}");
}
