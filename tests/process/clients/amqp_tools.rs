//! Debian's command-line tools, which are rabbitmq-c in C.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use leveret_test_support::broker_process::BrokerProcess;

/// False, with a line that says so, where amqp-tools is not installed.
fn installed() -> bool {
    let found = Command::new("amqp-publish").arg("--help").stdout(Stdio::null()).status().is_ok();
    if !found {
        // Not eprintln!, which the test harness would swallow.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: amqp-tools is not installed (apt-get install amqp-tools)");
    }
    found
}

/// Runs one tool to its end with `input`.
fn run(broker: &BrokerProcess, tool: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(tool)
        .args(["--url", &broker.url])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    child.stdin.take().expect("standard input is piped").write_all(input).expect("the tool reads its input");
    child.wait_with_output().expect("our own child can be waited for")
}

/// Runs one tool and yields what it prints; it must succeed.
fn output(broker: &BrokerProcess, tool: &str, arguments: &[&str], input: &[u8]) -> String {
    let output = run(broker, tool, arguments, input);
    assert!(output.status.success(), "{tool} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("the tools print UTF-8 here")
}

#[test]
fn topology_and_order_of_what_the_tools_publish_get_and_consume() {
    if !installed() {
        return;
    }
    let broker = BrokerProcess::start("amqp_tools");
    let queue = format!("amqp-tools-{}", std::process::id());
    let from = ["--queue", &queue];
    assert_eq!(output(&broker, "amqp-declare-queue", &["--queue", &queue, "--durable"], b"").trim(), queue);

    let to = ["--routing-key", queue.as_str(), "--persistent"];
    output(&broker, "amqp-publish", &[&to[..], &["--body", "given"]].concat(), b"");
    output(
        &broker,
        "amqp-publish",
        &[&to[..], &["--header", "level: high", "--line-buffered"]].concat(),
        b"a\nb\n",
    );
    assert_eq!(output(&broker, "amqp-get", &from, b""), "given");
    let consumed = output(&broker, "amqp-consume", &[&from[..], &["--count", "2", "cat"]].concat(), b"");
    assert_eq!(consumed, "a\nb\n");
    assert_eq!(run(&broker, "amqp-get", &from, b"").status.code(), Some(2), "2 says that the queue is empty");

    output(&broker, "amqp-publish", &[&to[..], &["--body", "left"]].concat(), b"");
    let refused = run(&broker, "amqp-delete-queue", &[&from[..], &["--if-empty"]].concat(), b"");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("not empty"), "{said}");
    assert_eq!(output(&broker, "amqp-delete-queue", &from, b"").trim(), "1");
}

#[test]
fn prefetch_and_requeue_of_a_task_whose_command_fails() {
    if !installed() {
        return;
    }
    let broker = BrokerProcess::start("amqp_consume");
    let queue = format!("amqp-consume-{}", std::process::id());
    let from = ["--queue", &queue];
    output(&broker, "amqp-declare-queue", &from, b"");
    output(&broker, "amqp-publish", &["--routing-key", &queue, "--body", "task"], b"");

    // amqp-consume acknowledges only what its command succeeded with, then drops the connection.
    let once = [&from[..], &["--count", "1", "--prefetch-count", "1", "--"]].concat();
    let failed = run(&broker, "amqp-consume", &[&once[..], &["sh", "-c", "cat; exit 1"]].concat(), b"");
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "task");
    assert_eq!(output(&broker, "amqp-consume", &[&once[..], &["cat"]].concat(), b""), "task");
    assert_eq!(output(&broker, "amqp-delete-queue", &from, b"").trim(), "0");
}

#[test]
fn login_and_missing_and_large_bodies() {
    if !installed() {
        return;
    }
    let broker = BrokerProcess::start("amqp_get");
    let queue = format!("amqp-get-{}", std::process::id());
    let from = ["--queue", &queue];
    let missing = run(&broker, "amqp-get", &from, b"");
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("NOT_FOUND - no queue"), "{said}");

    // The tools take no password besides a URL, whose last word counts.
    let wrong = broker.url.replacen(":guest@", ":wrong@", 1);
    let refused = run(&broker, "amqp-declare-queue", &["--url", &wrong, "--queue", &queue], b"");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("ACCESS_REFUSED"), "{said}");

    output(&broker, "amqp-declare-queue", &from, b"");
    let body = "large ".repeat(1_000_000);
    output(&broker, "amqp-publish", &["--routing-key", &queue], body.as_bytes());
    assert!(output(&broker, "amqp-get", &from, b"") == body, "a large body comes back as it was");
    output(&broker, "amqp-delete-queue", &from, b"");
}
