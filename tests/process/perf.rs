//! `leveret perf` against the built broker: what it counts, what it leaves behind, and how it fails.

use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

fn perf(url: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["perf", "--url", url]).args(options).output().expect("the built program can be run")
}

/// The figures of a run that has gone well.
fn figures(url: &str, options: &[&str]) -> Value {
    let output = perf(url, &[options, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else")
}

/// Exit status and what was said.
fn failure(url: &str, options: &[&str]) -> (Option<i32>, String) {
    let output = perf(url, options);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_fixed_count_is_published_confirmed_and_consumed() {
    let broker = BrokerProcess::start("perf-count");
    let folder = folder_of("perf-charts");
    let (svg, html) = (folder.join("chart.svg"), folder.join("chart.html"));
    let path = |path: &std::path::Path| path.to_str().expect("our own paths are UTF-8").to_owned();
    let options = "--producers 2 --consumers 3 --queues 5 --count 2000 --confirm 100 --multi-ack 7 --prefetch 50 --durable \
                   --persistent --size 0-400 --chart";
    let options: Vec<&str> = options.split_whitespace().collect();
    let found = figures(&broker.url, &[options.as_slice(), &[&path(&svg)]].concat());
    for (name, count) in
        [("published", 4000), ("confirmed", 4000), ("received", 4000), ("rejected", 0), ("redelivered", 0)]
    {
        assert_eq!(found[name], count, "{name} of {found:#}");
    }
    assert!(found["confirm_us"]["p99"].as_u64() >= found["confirm_us"]["p50"].as_u64());
    assert!(found["delivery_us"]["max"].as_u64() > Some(0) && found["published_per_s"].as_f64() > Some(0.0));
    assert!(!found["samples"].as_array().expect("there is one at least").is_empty());
    let chart = fs::read_to_string(&svg).expect("the chart was written");
    assert!(
        chart.starts_with("<svg ") && chart.contains("confirm, 99%") && !chart.contains("NaN"),
        "{chart}"
    );

    // Bodies that are larger than frames, and automatic acknowledgements.
    let options = "--count 20 --size 300k --auto-ack --chart";
    let options: Vec<&str> = options.split_whitespace().collect();
    let found = figures(&broker.url, &[options.as_slice(), &[&path(&html)]].concat());
    assert_eq!((&found["published"], &found["received"]), (&20.into(), &20.into()));
    assert!(found["confirm_us"].is_null());
    assert!(fs::read_to_string(&html).expect("the page was written").starts_with("<!doctype html>"));
    fs::remove_dir_all(folder).expect("it is ours");
}

/// Nobody listens where AMQP would be, and nobody has to.
#[test]
fn a_load_over_stomp_needs_nothing_else() {
    let settings = [("LEVERET__LISTENERS__STOMP__BIND", "127.0.0.1:0")];
    let broker = BrokerProcess::start_with("perf-stomp", &settings, None);
    let address = broker.address_of_protocol("stomp");
    let over_stomp = |options: &str| {
        let options = options.split_whitespace();
        let options = ["--protocol", "stomp", "--stomp-address", &address].into_iter().chain(options);
        figures("amqp://127.0.0.1:1", &options.collect::<Vec<_>>())
    };
    let found = over_stomp(
        "--producers 2 --consumers 3 --queues 5 --count 2000 --confirm 100 --multi-ack 7 --prefetch 50",
    );
    for (name, count) in [("published", 4000), ("confirmed", 4000), ("received", 4000), ("redelivered", 0)] {
        assert_eq!(found[name], count, "{name} of {found:#}");
    }
    assert_eq!(found["broker"]["address"], address.as_str());
    let found = over_stomp("--consumers 0 --count 10 --confirm 1");
    assert_eq!((&found["published"], &found["confirmed"]), (&10.into(), &10.into()));

    let queues = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["ctl", "list", "queues", "--json"])
        .env("LEVERET_URL", format!("http://{}", broker.address_of_http()))
        .output()
        .expect("the built program can be run");
    assert_eq!(
        String::from_utf8_lossy(&queues.stdout).trim(),
        "[]",
        "they went with their consumers: {queues:?}"
    );

    // What a queue is made with goes over AMQP, as does what is bound.
    let options = ["--protocol", "stomp", "--stomp-address", &address, "--queue-argument", "x-max-length=1"];
    let (code, text) = failure("amqp://127.0.0.1:1", &options);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no broker answers at 127.0.0.1:1"), "{text}");
}

#[test]
fn routing_is_counted_and_what_was_made_is_gone() {
    let broker = BrokerProcess::start("perf-routing");
    let options = "--exchange-type topic --queues 3 --consumers 3 --count 100 --confirm 10 --mandatory \
                   --routing-key a.x,b.y --binding-key a.#";
    let found = figures(&broker.url, &options.split_whitespace().collect::<Vec<_>>());
    for (name, count) in [("published", 100), ("confirmed", 100), ("returned", 50), ("received", 150)] {
        assert_eq!(found[name], count, "{name} of {found:#}");
    }
    // What it made would be named after its process.
    let exchange = found["load"]["exchange"].as_str().expect("it has a name");
    let (code, text) = failure(&broker.url, &["--exchange", exchange, "--count", "1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the broker refused: 404 NOT_FOUND - no exchange"), "{text}");
    let queue = format!("{exchange}-1");
    let (code, text) = failure(&broker.url, &["--queue", &queue, "--count", "1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the broker refused: 404 NOT_FOUND - no queue"), "{text}");
}

#[test]
fn people_get_lines_and_a_summary() {
    let broker = BrokerProcess::start("perf-lines");
    let output = perf(&broker.url, &["--time", "1.2", "--rate", "50"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for part in
        ["Leveret 0", "1 producer, 1 consumer, 1 queue", "published/s", "delivery p50", "\npublished  "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn failures_say_what_is_wrong() {
    let broker = BrokerProcess::start("perf-failures");
    let (code, text) = failure(&broker.url.replace("guest:guest", "guest:wrong"), &["--time", "1"]);
    assert_eq!(code, Some(4));
    assert!(text.contains("does not let the user in") && text.contains("ACCESS_REFUSED"), "{text}");
    assert!(!text.contains("wrong"), "a password is never shown: {text}");
    let (code, text) = failure(&broker.url.replace("%2F", "elsewhere"), &["--time", "1"]);
    assert_eq!(code, Some(4));
    assert!(text.contains("vhost elsewhere not found"), "{text}");
    let (code, text) = failure(&broker.url, &["--multi-ack", "2000"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--multi-ack 2000 waits for ever at --prefetch 1000"), "{text}");
}

#[test]
fn what_is_no_broker_is_told_apart_from_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a port");
    let url = format!("amqp://{}", listener.local_addr().expect("it is bound"));
    let answering = thread::spawn(move || {
        for answer in [&b"AMQP\0\x01\0\0"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
            let (mut socket, _) = listener.accept().expect("it connects");
            socket.write_all(answer).expect("it listens");
        }
    });
    let (code, text) = failure(&url, &["--time", "1"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("does not speak AMQP 0-9-1: it asks for another version"), "{text}");
    let (code, text) = failure(&url, &["--time", "1"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("does not speak AMQP 0-9-1"), "{text}");
    answering.join().expect("both were answered");
    let (code, text) = failure(&url, &["--time", "1"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("no broker answers at 127.0.0.1:"), "{text}");
}

#[test]
fn a_broker_that_goes_away_ends_the_run() {
    let broker = BrokerProcess::start_with("perf-gone", &[], None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["perf", "--url", &broker.url, "--rate", "100"]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run");
    let lines = BufReader::new(run.stdout.take().expect("it is piped")).lines();
    let is_heading = |line: &String| line.contains("published/s");
    // It holds the pipe open, so that the run can go on.
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| is_heading(&line)), "it runs");
    broker.kill();
    lines.for_each(drop);
    let output = run.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the connection to the broker was lost: "), "{text}");
}

/// Runs the comparison with the built program as its load.
fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.args(["benches/compare.py", "--leveret", env!("CARGO_BIN_EXE_leveret")]).args(arguments);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("there is Python 3")
}

#[test]
fn brokers_are_compared_under_the_same_loads() {
    let broker = BrokerProcess::start("perf-compare");
    let (first, second) = (format!("first={}", broker.url), format!("second={}", broker.url));
    let only = "durable-confirm-1k,topic-1000-bindings,latency-5k-per-s";
    let output = compare(&[&first, &second, "--rounds", "1", "--seconds", "0.3", "--only", only]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "first second x second us first us second");
    for (row, name) in rows[1..].iter().zip(only.split(',')) {
        assert_eq!(row[0].trim_end_matches(','), name);
        // What was measured of each, their ratio, and no processor times, since no process was named.
        let cells = &row[row.len() - 5..];
        let numbers: Vec<f64> =
            cells[..3].iter().map(|cell| cell.replace(',', "").parse().expect("a number")).collect();
        assert!(numbers.iter().all(|number| *number > 0.0) && cells[3..] == ["-", "-"], "{text}");
    }
    assert_eq!(rows.len(), 4, "{text}");
}

#[test]
fn a_comparison_says_what_failed() {
    let broker = BrokerProcess::start("perf-compare-failures");
    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("the system has a port").local_addr().expect("it is bound");
    let (first, second) = (format!("first={}", broker.url), format!("second=amqp://guest:guest@{nobody}"));
    let output =
        compare(&[&first, &second, "--rounds", "1", "--seconds", "0.3", "--only", "transient-autoack"]);
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("transient-autoack: second: ") && said.contains("no broker answers at"), "{said}");
    let row: Vec<&str> = text.lines().nth(1).expect("it has its row").split_whitespace().collect();
    assert!(row.len() == 6 && row[2..] == ["-", "-", "-", "-"], "{text}");
    let output = compare(&[&first, "--only", "fastest"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no load is called fastest; there are transient-autoack, "), "{said}");
}

#[test]
fn a_chart_that_can_not_be_written_is_told_before_the_run() {
    let (code, said) = failure("amqp://127.0.0.1:1", &["--chart", "/nonexistent/chart.svg", "--time", "5"]);
    assert!(code == Some(1) && said.contains("/nonexistent/chart.svg can't be written"), "{code:?} {said}");
}

#[test]
fn what_was_measured_is_told_although_the_broker_stops() {
    let broker = BrokerProcess::start_with("perf-stops", &[], None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command
        .args(["perf", "--url", &broker.url, "--confirm", "10"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the built program can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    // Three lines: the title, the heading, and the first second.
    for _ in 0..3 {
        assert!(lines.next().is_some());
    }
    broker.kill();
    let rest: Vec<String> = lines.map(|line| line.expect("it is text")).collect();
    assert!(rest.iter().any(|line| line.starts_with("published ")), "{rest:?}");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_stream_is_read_whole_by_each_consumer() {
    let broker = BrokerProcess::start("perf-stream");
    let options = "--stream --producers 2 --consumers 2 --count 3000 --confirm 100 --multi-ack 50 --stream-offset first";
    let found = figures(&broker.url, &options.split_whitespace().collect::<Vec<_>>());
    for (name, count) in [("published", 6000), ("confirmed", 6000), ("received", 12_000), ("redelivered", 0)]
    {
        assert_eq!(found[name], count, "{name} of {found:#}");
    }
    let (status, text) = failure(&broker.url, &["--stream", "--stream-offset", "yesterday"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("'yesterday' is no place in a stream"), "{text}");
}
