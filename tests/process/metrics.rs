//! Metrics: what they say after some work, and that Prometheus' own tools take them.

use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::amqp_client::{Client, method, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The body of a page.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    body.to_owned()
}

/// The samples of a page, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// A broker that has done something: 3 published; 2 fetched, 1 of them acknowledged; 1 fetched in vain.
fn worked(test: &str) -> (BrokerProcess, Tcp, Client, String) {
    let broker = BrokerProcess::start_with(test, &[], None);
    let address = broker.address_of_metrics();
    let mut transport = Tcp::to(&broker.address());
    let mut client = Client::connect(&mut transport).unwrap();
    client.open_channel(&mut transport, 1).unwrap();
    client.call(&mut transport, 1, &method("confirm.select", &[])).unwrap();
    let declare = [("queue", text("a \"b\"\\")), ("durable", Wire::Bit(true))];
    client.call(&mut transport, 1, &method("queue.declare", &declare)).unwrap();
    client.call(&mut transport, 1, &method("queue.declare", &[("queue", text("empty"))])).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        client.put_publish(&mut bytes, 1, ("", "a \"b\"\\"), &[("delivery_mode", Wire::Int(2))], b"12345");
    }
    client.send_bytes(&mut transport, &bytes);
    let mut confirmed = 0;
    while confirmed < 3 {
        let ack = client.answer(&mut transport, 1, "basic.ack").unwrap();
        confirmed = leveret_test_support::amqp_client::number(&ack, "delivery_tag");
    }
    for _ in 0..2 {
        client.send(&mut transport, 1, &method("basic.get", &[("queue", text("a \"b\"\\"))]));
        client.answer(&mut transport, 1, "basic.get-ok").unwrap();
    }
    client.send(&mut transport, 1, &method("basic.ack", &[("delivery_tag", Wire::Int(1))]));
    client.send(&mut transport, 1, &method("basic.get", &[("queue", text("empty"))]));
    client.answer(&mut transport, 1, "basic.get-empty").unwrap();
    (broker, transport, client, address)
}

#[test]
fn everything_together() {
    let (_broker, _transport, _client, address) = worked("metrics-together");
    // Publishers get their confirms before the commit is counted.
    let page = loop {
        let page = samples(&get(&address, "/metrics"));
        if page["leveret_confirm_latency_seconds_count"] > 0.0 && page["leveret_journal_messages"] > 0.0 {
            break page;
        }
    };
    let of = |name: &str| *page.get(name).unwrap_or_else(|| panic!("{name} is not among {page:#?}"));
    for (name, value) in [
        ("rabbitmq_connections", 1.0),
        ("rabbitmq_channels", 1.0),
        ("rabbitmq_queues", 2.0),
        ("rabbitmq_auth_attempts_total{protocol=\"amqp091\"}", 1.0),
        ("rabbitmq_auth_attempts_failed_total{protocol=\"amqp091\"}", 0.0),
        ("rabbitmq_consumers", 0.0),
        ("rabbitmq_connections_opened_total", 1.0),
        ("rabbitmq_queues_created_total", 2.0),
        ("rabbitmq_queue_messages_ready", 1.0),
        ("rabbitmq_queue_messages_unacked", 1.0),
        ("rabbitmq_queue_messages", 2.0),
        ("rabbitmq_queue_messages_ready_bytes", 5.0),
        ("rabbitmq_channel_messages_published_total", 3.0),
        ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"100\"}", 3.0),
        ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"+Inf\"}", 3.0),
        ("rabbitmq_message_size_bytes_count{protocol=\"amqp091\"}", 3.0),
        ("rabbitmq_message_size_bytes_sum{protocol=\"amqp091\"}", 15.0),
        ("rabbitmq_channel_get_ack_total", 2.0),
        ("rabbitmq_global_messages_received_total{protocol=\"amqp091\"}", 3.0),
        ("rabbitmq_global_messages_received_confirm_total{protocol=\"amqp091\"}", 3.0),
        ("rabbitmq_global_messages_routed_total{protocol=\"amqp091\"}", 3.0),
        ("rabbitmq_queue_messages_published_total", 3.0),
        ("rabbitmq_global_messages_confirmed_total{protocol=\"amqp091\"}", 3.0),
        ("rabbitmq_global_publishers{protocol=\"amqp091\"}", 1.0),
        ("rabbitmq_alarms_free_disk_space_watermark", 0.0),
        ("leveret_queue_messages_acked_total", 1.0),
    ] {
        assert_eq!(of(name), value, "{name}");
    }
    let classic = "{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}";
    for (name, value) in [
        ("rabbitmq_global_messages_delivered_get_manual_ack_total", 2.0),
        ("rabbitmq_global_messages_acknowledged_total", 1.0),
        ("rabbitmq_global_messages_get_empty_total", 1.0),
    ] {
        assert_eq!(of(&format!("{name}{classic}")), value, "{name}");
    }
    for name in [
        "rabbitmq_process_resident_memory_bytes",
        "rabbitmq_process_open_fds",
        "rabbitmq_process_max_fds",
        "rabbitmq_disk_space_available_bytes",
        "rabbitmq_disk_space_available_limit_bytes",
        "rabbitmq_resident_memory_limit_bytes",
        "rabbitmq_io_sync_ops_total",
        "rabbitmq_io_write_bytes_total",
        "leveret_confirm_latency_seconds_count",
        "leveret_fsync_duration_seconds_count",
        "leveret_commit_size_bytes_sum",
        "leveret_journal_messages",
    ] {
        assert!(of(name) > 0.0, "{name}");
    }
    let identity = page.keys().find(|name| name.starts_with("rabbitmq_identity_info")).unwrap();
    assert!(identity.contains("rabbitmq_node=\"leveret@localhost\",rabbitmq_cluster=\"leveret@localhost\""));
    assert!(!page.keys().any(|name| name.contains("vhost=")), "nothing is told one by one");
}

#[test]
fn one_by_one_and_only_some() {
    let (_broker, _transport, _client, address) = worked("metrics-each");
    let page = samples(&get(&address, "/metrics/per-object"));
    let labels = r#"{vhost="/",queue="a \"b\"\\"}"#;
    assert_eq!(page[&format!("rabbitmq_queue_messages_ready{labels}")], 1.0);
    assert_eq!(page["rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"empty\"}"], 0.0);
    assert_eq!(page[&format!("leveret_queue_messages_acked_total{labels}")], 1.0);
    assert!(page.contains_key(&format!("leveret_queue_oldest_message_age_seconds{labels}")));

    let path =
        "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count&vhost=%2F&queue=empty";
    let page = samples(&get(&address, path));
    let names: Vec<&str> =
        page.keys().map(String::as_str).filter(|name| name.starts_with("rabbitmq_detailed_")).collect();
    let expected = ["queue_consumers", "queue_messages_ready", "queue_messages_unacked", "queue_messages"]
        .map(|name| format!("rabbitmq_detailed_{name}{{vhost=\"/\",queue=\"empty\"}}"));
    assert_eq!(names, expected);
    let none = samples(&get(&address, "/metrics/detailed?family=queue_coarse_metrics&vhost=other"));
    assert!(none.keys().all(|name| !name.starts_with("rabbitmq_detailed_")));
    let unknown = get(&address, "/metrics/detailed?family=nothing%0Aat_all");
    assert!(unknown.ends_with("\n# there is no family \"nothing\\nat_all\"\n"), "{unknown}");
    let own = samples(&get(&address, "/metrics/detailed?family=queue_delivery_metrics&queue=empty"));
    assert!(own.contains_key("leveret_detailed_queue_messages_acked_total{vhost=\"/\",queue=\"empty\"}"));

    let exist = "/metrics/detailed?family=vhost_status&family=exchange_names&family=exchange_bindings";
    let exist = samples(&get(&address, exist));
    for name in [
        "rabbitmq_cluster_vhost_status{vhost=\"/\"}",
        "rabbitmq_cluster_exchange_name{vhost=\"/\",exchange=\"amq.topic\",type=\"topic\"}",
    ] {
        assert_eq!(exist[name], 1.0, "{name}");
    }
    assert_eq!(
        exist["rabbitmq_cluster_exchange_bindings{vhost=\"/\",exchange=\"amq.topic\",type=\"topic\"}"],
        0.0
    );

    let memory = samples(&get(&address, "/metrics/memory-breakdown"));
    assert!(memory["rabbitmq_process_resident_memory_bytes"] > memory["leveret_memory_messages_bytes"]);
}

#[test]
fn what_comes_into_a_queue_is_told_by_exchange() {
    let (_broker, _transport, _client, address) = worked("metrics-by-exchange");
    let page = get(&address, "/metrics/per-object");
    let line = "rabbitmq_queue_messages_published_total{queue_vhost=\"/\",queue=\"a \\\"b\\\"\\\\\",exchange_vhost=\"/\",exchange=\"\"} 3";
    assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
}

#[test]
fn what_a_channel_does_is_told_by_queue_and_by_exchange() {
    let (_broker, _transport, _client, address) = worked("metrics-apart");
    for (path, prefix) in [
        ("/metrics/per-object", "rabbitmq_"),
        (
            "/metrics/detailed?family=channel_queue_metrics&family=channel_exchange_metrics",
            "rabbitmq_detailed_",
        ),
    ] {
        // The connection reports a confirm when it has sent it.
        let page = loop {
            let page = samples(&get(&address, path));
            let confirms = format!("{prefix}channel_messages_confirmed_total");
            if page.iter().any(|(name, value)| name.starts_with(&confirms) && *value == 3.0) {
                break page;
            }
        };
        for (name, label, value) in [
            ("messages_published_total", "exchange=\"\"", 3.0),
            ("messages_confirmed_total", "exchange=\"\"", 3.0),
            ("messages_unroutable_dropped_total", "exchange=\"\"", 0.0),
            ("get_ack_total", "queue=\"a \\\"b\\\"\\\\\"", 2.0),
            ("messages_acked_total", "queue=\"a \\\"b\\\"\\\\\"", 1.0),
            ("get_empty_total", "queue=\"empty\"", 1.0),
            ("get_ack_total", "queue=\"empty\"", 0.0),
        ] {
            let head = format!("{prefix}channel_{name}{{vhost=\"/\",channel=\"127.0.0.1:");
            let found: Vec<_> = page
                .iter()
                .filter(|(name, _)| name.starts_with(&head) && name.ends_with(&format!(",{label}}}")))
                .map(|(_, value)| *value)
                .collect();
            assert_eq!(found, [value], "{name} of {label} in {page:#?}");
        }
    }
}

#[test]
fn names_and_types_are_those_of_rabbitmq() {
    let (_broker, _transport, _client, address) = worked("metrics-names");
    let page = get(&address, "/metrics/per-object");
    let heads: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for line in include_str!("metrics.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line.split_once(" - ") {
            None => assert!(heads.contains(&line), "{line} is missing"),
            Some((head, _)) => assert!(!heads.contains(&head), "{head} is there, and declared as left out"),
        }
    }
}

const ALL_FAMILIES: &str = "/metrics/detailed?family=connection_churn_metrics&family=node_coarse_metrics\
    &family=node_metrics&family=node_persister_metrics&family=auth_attempt_metrics&family=queue_coarse_metrics\
    &family=queue_metrics&family=queue_delivery_metrics&family=queue_age_metrics&family=channel_metrics\
    &family=channel_exchange_metrics&family=channel_queue_metrics&family=channel_queue_exchange_metrics\
    &family=connection_coarse_metrics&family=connection_metrics&family=exchange_metrics&family=vhost_status\
    &family=exchange_names&family=exchange_bindings";

#[test]
fn every_page_says_which_it_is() {
    let (_broker, _transport, _client, address) = worked("metrics-identity");
    for (path, endpoint) in [
        ("/metrics", "aggregated"),
        ("/metrics/", "aggregated"),
        ("/metrics/per-object", "per-object"),
        ("/metrics/per-object/", "per-object"),
        ("/metrics/detailed", "detailed"),
        ("/metrics/memory-breakdown/", "memory-breakdown"),
    ] {
        let page = get(&address, path);
        let line = page.lines().find(|line| line.starts_with("rabbitmq_identity_info{")).unwrap();
        assert!(line.contains(&format!("rabbitmq_endpoint=\"{endpoint}\"}} 1")), "{path}: {line}");
        assert!(page.contains("erlang_version=\"none\""), "{path}");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    if !is_there("promtool") {
        return;
    }
    let (_broker, _transport, _client, address) = worked("metrics-promtool");
    for path in ["/metrics", "/metrics/per-object", ALL_FAMILIES, "/metrics/memory-breakdown"] {
        let mut command = Command::new("promtool");
        command
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = command.spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(get(&address, path).as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{path}: {}", String::from_utf8_lossy(&said));
    }
}

fn is_there(program: &str) -> bool {
    let is_there =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if is_there.is_err() {
        eprintln!(
            "WARNING: no {program}, so this test is skipped. On Debian or Ubuntu: apt-get install prometheus"
        );
    }
    is_there.is_ok()
}

/// The samples that a page calls counters, those of histograms too.
fn counters(page: &str) -> BTreeMap<String, f64> {
    let kinds: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let mut counters = samples(page);
    counters.retain(|sample, _| {
        let name = sample.split('{').next().unwrap();
        let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
        kinds.contains(&&*format!("{name} counter"))
            || parts.into_iter().any(|name| kinds.contains(&&*format!("{name} histogram")))
    });
    counters
}

#[test]
fn no_counter_falls_when_things_go() {
    let (broker, mut transport, mut client, address) = worked("metrics-fall");
    let declare = [("exchange", text("counted")), ("type", text("fanout"))];
    client.call(&mut transport, 1, &method("exchange.declare", &declare)).unwrap();
    let bind = [("exchange", text("counted")), ("queue", text("empty"))];
    client.call(&mut transport, 1, &method("queue.bind", &bind)).unwrap();
    let mut bytes = Vec::new();
    client.put_publish(&mut bytes, 1, ("counted", ""), &[], b"12345");
    client.send_bytes(&mut transport, &bytes);
    client.answer(&mut transport, 1, "basic.ack").unwrap();
    let before = counters(&get(&address, "/metrics"));
    assert!(before.len() > 60, "{before:?}");
    assert_eq!(before["leveret_exchange_messages_published_in_total"], 4.0);
    assert!(before["rabbitmq_connection_incoming_bytes_total"] > 100.0);
    let delete = [("exchange", text("counted"))];
    client.call(&mut transport, 1, &method("exchange.delete", &delete)).unwrap();
    client.call(&mut transport, 1, &method("queue.delete", &[("queue", text("a \"b\"\\"))])).unwrap();
    client.hang_up(&mut transport);
    drop(transport);
    let after = loop {
        let page = get(&address, "/metrics");
        if samples(&page)["rabbitmq_connections"] == 0.0 {
            break counters(&page);
        }
    };
    for (name, count) in &before {
        assert!(after[name] >= *count, "{name} was {count} and is {}", after[name]);
    }
    drop(broker);
}

/// A Prometheus, which ends with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_prometheus_scrapes_all_pages() {
    if !is_there("prometheus") {
        return;
    }
    let (_broker, _transport, _client, address) = worked("metrics-scraped");
    let folder = folder_of("metrics-prometheus");
    let jobs: String = ["/metrics", "/metrics/per-object", "/metrics/memory-breakdown"]
        .iter()
        .map(|path| {
            format!(
                "- job_name: {path}\n  metrics_path: {path}\n  static_configs: [{{targets: ['{address}']}}]\n"
            )
        })
        .collect();
    let config =
        format!("global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n{jobs}");
    fs::write(folder.join("prometheus.yml"), config).unwrap();
    // Prometheus does not say which port the system picked, so one is picked here.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let web = format!("127.0.0.1:{port}");
    let log = fs::File::create(folder.join("log")).unwrap();
    let child = Command::new("prometheus")
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address={web}"))
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let _prometheus = Prometheus(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    let up = loop {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(folder.join("log")).unwrap());
        if TcpStream::connect(&web).is_ok() {
            // It says that it is not ready in words of its own.
            let targets: Value =
                serde_json::from_str(&plain_get(&web, "/api/v1/targets")).unwrap_or_default();
            let targets = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            if targets.len() == 3 && targets.iter().all(|target| target["health"] != "unknown") {
                break targets;
            }
        }
        thread::sleep(Duration::from_millis(50));
    };
    for target in up {
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
    }
    let ask = |query: &str| {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = plain_get(&web, &format!("/api/v1/query?query={query}"));
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    for expression in dashboard() {
        let answer = ask(&expression);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    // What every panel of the dashboard for RabbitMQ asks in this form.
    let query = "sum(rabbitmq_queue_messages_ready{job=\"/metrics\"} * on(instance, job) group_left(rabbitmq_cluster) \
                 rabbitmq_identity_info{rabbitmq_cluster=\"leveret@localhost\"})";
    let answer = ask(query);
    assert_eq!(answer["data"]["result"][0]["value"][1], "1", "{answer}");
}

/// The expressions of the dashboard, with something in place of its variables.
fn dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../docker/grafana/dashboards/leveret.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions.map(|text| text.replace("$__rate_interval", "1m").replace("$vhost", ".*")).collect()
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let (_broker, _transport, _client, address) = worked("metrics-dashboard");
    let page = get(&address, "/metrics") + &get(&address, ALL_FAMILIES);
    let expressions = dashboard();
    assert!(expressions.len() > 40);
    for expression in expressions {
        let words = expression.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        for name in words.filter(|word| word.starts_with("rabbitmq_") || word.starts_with("leveret_")) {
            let is_there = page
                .lines()
                .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
            assert!(is_there, "{name} of {expression}");
        }
    }
}

/// As [`get`], by HTTP 1.0, since Prometheus answers in pieces otherwise.
fn plain_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
