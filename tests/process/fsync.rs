//! A confirm is behind the fsync: the system calls of a real broker, as strace sees them. A lone publisher sends one message
//! after the other; between the broker's reading of each and the next thing it writes to the publisher, it has to have
//! written the message to the write-ahead log and to have synced that.
//!
//! Needs strace; says loudly that it was skipped where there is none, or it may not trace.

use leveret_conformance::Transport;
use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::amqp_client::{Client, method, number, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::volume::{run, skipped};
use std::path::Path;
use std::process::Command;

const TEST: &str = "fsync";
const MESSAGES: u64 = 40;

#[test]
fn no_confirm_precedes_the_fsync_that_covers_it() {
    if let Err(reason) = run("strace", &["-o", "/dev/null", "true"]) {
        return skipped(TEST, &format!("no system calls can be traced here: {reason}"));
    }
    let folder = folder_of(TEST);
    let (trace, log) = (folder.join("trace"), folder.join("stderr.log"));
    let calls =
        "trace=read,readv,recvfrom,write,writev,sendto,sendmsg,pwritev,fsync,fdatasync,sync_file_range";
    let mut command = Command::new("strace");
    command.args(["-f", "-yy", "-s", "120", "-e", calls, "-e", "signal=none", "-o"]).arg(&trace);
    // With -D our child is the broker itself. strace holds its standard output too, so that the output ends when the trace
    // is complete.
    command.args(["-D", env!("CARGO_BIN_EXE_leveret")]);
    let broker = BrokerProcess::start_command(command, &folder.join("data"), &log);
    publish_one_by_one(&mut Tcp::to(&broker.address()));
    drop(broker);
    check(&trace);
    std::fs::remove_dir_all(folder).unwrap();
}

fn marker(message: u64) -> String {
    format!("<message {message}>")
}

fn publish_one_by_one(transport: &mut dyn Transport) {
    let mut client = Client::connect(transport).unwrap();
    client.open_channel(transport, 1).unwrap();
    let declare = [("queue", text("q")), ("durable", Wire::Bit(true))];
    client.call(transport, 1, &method("queue.declare", &declare)).unwrap();
    client.call(transport, 1, &method("confirm.select", &[])).unwrap();
    for message in 1..=MESSAGES {
        let mut publish = Vec::new();
        let properties = [("delivery_mode", Wire::Int(2))];
        client.put_publish(&mut publish, 1, ("", "q"), &properties, marker(message).as_bytes());
        client.send_bytes(transport, &publish);
        let came = client.wait(transport).unwrap();
        assert_eq!(came.len(), 1);
        assert_eq!((came[0].1.spec.name, number(&came[0].1, "delivery_tag")), ("basic.ack", message));
    }
}

/// Follows the trace: read, written, synced, confirmed; each message in this order.
fn check(trace: &Path) {
    let trace = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    let mut message = 0;
    let (mut is_written, mut is_synced, mut confirmed) = (false, false, 0);
    for line in finished_calls(&trace) {
        let is_socket = line.contains("<TCP");
        let is_log = line.contains(".wal>");
        let is_read = ["read(", "readv(", "recvfrom("].iter().any(|call| line.starts_with(call));
        if is_socket && is_read && line.contains(&marker(message + 1)) {
            assert!(message == confirmed, "message {message} was not confirmed before the next");
            message += 1;
            (is_written, is_synced) = (false, false);
        } else if is_log && line.starts_with("pwritev(") {
            is_written = true;
            is_synced = false;
        } else if is_log && (line.starts_with("fsync(") || line.starts_with("fdatasync(")) {
            is_synced |= is_written && line.ends_with("= 0");
        } else if is_socket && !is_read && message > confirmed {
            assert!(is_written && is_synced, "message {message} is confirmed unsynced: {line}");
            confirmed = message;
        }
    }
    assert_eq!(confirmed, MESSAGES, "strace did not see all");
}

/// Every call where it returned, without its process. Where strace shows a call in two parts, they are joined; a write to a
/// socket counts from its beginning.
fn finished_calls(trace: &str) -> Vec<String> {
    let mut unfinished: Vec<(&str, String)> = Vec::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            let is_write = ["write", "send"].iter().any(|name| begun.starts_with(name));
            if is_write {
                calls.push(begun.to_owned());
            } else {
                unfinished.push((process, begun.to_owned()));
            }
        } else if call.starts_with("<... ") {
            let rest = call.split_once("resumed>").map_or("", |(_, rest)| rest);
            if let Some(at) = unfinished.iter().position(|(other, _)| *other == process) {
                calls.push(format!("{}{rest}", unfinished.remove(at).1));
            }
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}
