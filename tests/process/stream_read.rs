//! `leveret ctl stream read`, as a process against a broker in memory.

use leveret_test_support::api_client::TestBroker;
use serde_json::{Value, json};
use std::process::Command;

/// Runs a command, and returns how it ended, what it printed and what it complained of.
fn run(broker: &TestBroker, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("ctl").args(arguments).env("LEVERET_URL", format!("http://{}", broker.http));
    command.env("AMQP_URL", format!("amqp://guest:guest@{}", broker.amqp));
    let output = command.output().expect("the built program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it prints is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a command prints that ends well.
fn out(broker: &TestBroker, arguments: &[&str]) -> String {
    let (code, out, errors) = run(broker, arguments);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

#[test]
fn a_stream_is_read_from_any_place_on() {
    let broker = TestBroker::start();
    out(&broker, &["declare", "queue", "visits", "--type", "stream"]);
    assert_eq!(out(&broker, &["stream", "read", "visits"]), "", "there is nothing yet");
    for (page, filter) in [("/", "eu"), ("/prices", "us"), ("/order", "eu")] {
        let header = format!("x-stream-filter-value={filter}");
        out(&broker, &["publish", "-k", "visits", "--header", &header, page]);
    }
    let read = |more: &[&str]| out(&broker, &[&["stream", "read", "visits"], more].concat());
    assert_eq!(read(&[]), "0  visits  /\n1  visits  /prices\n2  visits  /order\n");
    assert_eq!(read(&["--from", "1", "--format", "body"]), "/prices\n/order\n");
    assert_eq!(read(&["--from", "1h", "--limit", "1"]), "0  visits  /\n");
    assert_eq!(read(&["--filter", "eu", "--format", "body"]), "/\n/order\n");
    assert_eq!(read(&["--from", "next"]), "");
    assert_eq!(
        read(&["--from", "first", "--follow", "--limit", "3", "--format", "body"]),
        "/\n/prices\n/order\n"
    );
    let message: Value = serde_json::from_str(&read(&["--from", "2", "--format", "json"])).unwrap();
    assert_eq!(
        (&message["offset"], &message["payload"], &message["properties"]["headers"]),
        (&json!(2), &json!("/order"), &json!({ "x-stream-filter-value": "eu" }))
    );
}

#[test]
fn what_can_not_be_read_is_said() {
    let broker = TestBroker::start();
    out(&broker, &["declare", "queue", "plain"]);
    out(&broker, &["declare", "queue", "visits", "--type", "stream"]);
    let errors = |arguments: &[&str], code| {
        let (ended, out, errors) = run(&broker, arguments);
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{errors}");
        errors
    };
    let text = errors(&["stream", "read", "plain"], 1);
    assert!(text.contains("queue 'plain' in vhost '/' is no stream; leveret ctl browse plain"), "{text}");
    assert!(
        errors(&["stream", "read", "nothing"], 1).contains("stream 'nothing' in vhost '/' can't be read")
    );
    out(&broker, &["publish", "-k", "visits", "x"]);
    let text = errors(&["stream", "read", "visits", "--from", "yesterday"], 2);
    assert!(text.contains("'yesterday' is no place in a stream: say first, last, next"), "{text}");
    for looking in ["browse", "get"] {
        let text = errors(&[looking, "visits"], 1);
        assert!(text.contains("leveret ctl stream read visits --from first"), "{looking}: {text}");
    }
}
