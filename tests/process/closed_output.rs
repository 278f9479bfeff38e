//! The reader of a command's output may be gone, as behind `| head`: commands end quietly then, and the broker goes on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The writing end of a pipe without a reader.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn leveret(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

/// How a command ends whose output and errors have no reader.
fn end_of(line: &str, variables: &[(&str, String)]) -> Option<i32> {
    let mut command = leveret(line);
    command.envs(variables.iter().cloned()).stdout(nobody()).stderr(nobody()).status().unwrap().code()
}

/// A broker whose output has no reader; it is killed when the test fails.
struct Unheard(Child);

impl Drop for Unheard {
    fn drop(&mut self) {
        // It has mostly ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the broker answers there.
fn is_live(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    write!(stream, "GET /health/live HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.0 200")
}

/// Two ports that the system has free. The broker can't say which it was given, since its output is not read.
fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn commands_end_quietly_and_the_broker_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let [amqp, http] = free_ports();
    let http = format!("127.0.0.1:{http}");
    let mut broker = leveret("serve");
    broker
        .env("LEVERET__DATA_DIR", folder.path().join("data"))
        .env("LEVERET__LISTENERS__AMQP__BIND", format!("127.0.0.1:{amqp}"))
        .env("LEVERET__LISTENERS__HTTP__BIND", &http)
        .env("LEVERET__LISTENERS__PROMETHEUS__BIND", "127.0.0.1:0")
        .env("LEVERET__LOG__LEVEL", "trace");
    let mut broker = Unheard(broker.stdout(nobody()).stderr(nobody()).spawn().unwrap());
    while !is_live(&http) {
        assert_eq!(broker.0.try_wait().unwrap(), None, "the broker has ended");
        std::thread::yield_now();
    }
    let there = [("LEVERET_URL", format!("http://{http}"))];
    for line in [
        "ctl list exchanges",
        "ctl list exchanges --json",
        "ctl status",
        "ctl show vhost /",
        "rabbitmqctl list_exchanges",
        "rabbitmqctl status",
        "rabbitmqctl help",
        "definitions export -",
        &format!("perf --url amqp://127.0.0.1:{amqp} --count 1"),
        &format!("perf --url amqp://127.0.0.1:{amqp} --count 1 --json"),
    ] {
        assert_eq!(end_of(line, &there), Some(0), "{line}");
    }
    assert_eq!(end_of("ctl show queue none", &there), Some(1));
    let stopped = Command::new("kill").arg(broker.0.id().to_string()).status().unwrap();
    assert!(stopped.success());
    assert_eq!(broker.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_needs_no_broker_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (file("good.toml", ""), file("bad.toml", "[nope]\n"));
    let data = folder.path().join("data");
    let (data, copy) = (data.display().to_string(), folder.path().join("copy").display().to_string());
    for (line, code) in [
        ("completions fish".to_owned(), 0),
        ("--help".to_owned(), 0),
        ("ctl list --help".to_owned(), 0),
        ("nonsense".to_owned(), 2),
        (format!("check {good}"), 0),
        (format!("check {bad}"), 1),
        (format!("backup {copy} --data-dir {data}"), 1),
        ("ctl --url http://127.0.0.1:1 ping".to_owned(), 3),
        ("perf --url amqp://127.0.0.1:1".to_owned(), 3),
        ("perf --producers 0 --consumers 0".to_owned(), 2),
    ] {
        assert_eq!(end_of(&line, &[]), Some(code), "{line}");
    }
}
