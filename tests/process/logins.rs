//! Logging in: who guesses waits before the password is looked at, over AMQP and over HTTP, and passwords that take long to check.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_conformance::case::Case;
use leveret_conformance::{Broker as Kind, Options, Outcome, run};
use leveret_test_support::amqp_client::Client;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::in_memory::InMemory;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

const CAPABLE: &str = "locale=en_US client_properties={capabilities={authentication_failure_close=true}}";

fn play(steps: &str) {
    let case = Case::parse("logins", steps).unwrap();
    let options = Options { broker: Some(Kind::Leveret), ..Options::default() };
    if let Outcome::Failed(failure) = run(&case, &mut InMemory::new(), &options) {
        panic!("line {}: {}, got {:?}\n{steps}", failure.line, failure.reason, failure.got);
    }
}

fn attempt(steps: &mut String, line: char, password: &str) {
    writeln!(steps, "start {line}").unwrap();
    writeln!(
        steps,
        "{line}> connection.start-ok mechanism=PLAIN response=\"\\0$user\\0{password}\" {CAPABLE}"
    )
    .unwrap();
}

const REFUSED: &str = "connection.close 403 0.0 \"ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                       For details see the broker logfile.\"";

#[test]
fn after_five_failures_not_even_the_right_password_is_answered_at_once() {
    let mut steps = "# Guessing.\n\n".to_owned();
    for line in 'a'..='e' {
        attempt(&mut steps, line, "wrong");
        writeln!(steps, "{line}< {REFUSED}").unwrap();
    }
    attempt(&mut steps, 'f', "$password");
    attempt(&mut steps, 'g', "wrong");
    // What comes behind the login waits with it.
    let tuned = "connection.tune channel_max=2047 frame_max=131072 heartbeat=60";
    writeln!(steps, "f> connection.tune-ok channel_max=2047 frame_max=131072 heartbeat=0").unwrap();
    writeln!(steps, "f> connection.open virtual_host=/").unwrap();
    writeln!(steps, "f< nothing\ng< nothing\nadvance 2999ms\nf< nothing\ng< nothing\nadvance 1ms").unwrap();
    writeln!(steps, "f< {tuned}\nf< connection.open-ok\ng< {REFUSED}").unwrap();
    // Within a minute it stays so, and then it is forgotten.
    attempt(&mut steps, 'h', "$password");
    writeln!(steps, "h< nothing\nadvance 3s\nh< {tuned}\nadvance 57s").unwrap();
    attempt(&mut steps, 'i', "$password");
    writeln!(steps, "i< {tuned}").unwrap();
    play(&steps);
}

#[test]
fn of_one_address_so_many_wait_and_the_others_are_turned_away() {
    let mut steps = "# Guessing with many connections.\n\n".to_owned();
    for line in 'a'..='e' {
        attempt(&mut steps, line, "wrong");
        writeln!(steps, "{line}< {REFUSED}").unwrap();
    }
    // Those that got an answer have hung up.
    steps.push_str("advance 3s\n");
    for line in 'f'..='u' {
        attempt(&mut steps, line, "wrong");
        writeln!(steps, "{line}< nothing").unwrap();
    }
    attempt(&mut steps, 'v', "$password");
    writeln!(steps, "v< closed\nadvance 3s").unwrap();
    for line in 'f'..='u' {
        writeln!(steps, "{line}< {REFUSED}").unwrap();
    }
    play(&steps);
}

/// Asks for what is at that path, and reads the answer when it is wanted.
fn ask(address: &str, login: &str, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let (login, length) = (STANDARD.encode(login), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Authorization: Basic {login}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn over_http_as_over_amqp_and_hanging_up_is_worth_nothing() {
    let broker = BrokerProcess::start_with("logins-http", &[], None);
    let api = broker.management();
    for _ in 0..5 {
        assert_eq!(answer(ask(&api, "guest:wrong", "GET", "/api/whoami", "")).0, 401);
    }
    // They hang up before they are answered, so they are not looked at.
    for _ in 0..5 {
        drop(ask(&api, "guest:wrong", "GET", "/api/whoami", ""));
    }
    // What comes then waits, the right password too, and of one address no more than 16 at a time.
    let asked: Vec<_> = (0..24).map(|_| ask(&api, "guest:guest", "GET", "/api/whoami", "")).collect();
    let statuses: Vec<u16> = asked.into_iter().map(|stream| answer(stream).0).collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(count(200) + count(429), 24, "{statuses:?}");
    assert!(count(429) > 0, "{statuses:?}");
    assert!(broker.log().contains("was not looked at"), "{}", broker.log());
}

fn start(folder: &std::path::Path) -> BrokerProcess {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("--config").arg(folder.join("leveret.toml"));
    BrokerProcess::start_command(command, &folder.join("data"), &folder.join("log"))
}

fn over_amqp(broker: &BrokerProcess, password: &str) -> bool {
    let mut transport = Tcp::to(&broker.address());
    Client::log_in(&mut transport, "PLAIN", &format!("\0app\0{password}")).is_ok()
}

#[test]
fn passwords_are_taken_over_into_argon2id_at_the_next_login() {
    let folder = folder_of("logins-argon2id");
    let config = "vhosts = [{ name = '/' }]\n\
         users = [{ name = 'op', password = 'op', tags = ['administrator'] }]\n\
         permissions = [{ user = 'op', vhost = '/', configure = '.*', write = '.*', read = '.*' }]\n\
         [access]\npassword_hash = 'argon2id'\n";
    fs::write(folder.join("leveret.toml"), config).unwrap();
    let broker = start(&folder);
    let api = broker.management();
    let user = |api: &str, name: &str| -> Value {
        let (status, body) = answer(ask(api, "op:op", "GET", &format!("/api/users/{name}"), ""));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    const ARGON2ID: &str = "leveret_password_hashing_argon2id";
    assert_eq!(user(&api, "op")["hashing_algorithm"], ARGON2ID);
    // RabbitMQ's example: test12.
    let imported = r#"{"users":[{"name":"app","password_hash":"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
        "hashing_algorithm":"rabbit_password_hashing_sha256","tags":"management"}],
        "permissions":[{"user":"app","vhost":"/","configure":"","write":"","read":""}]}"#;
    assert_eq!(answer(ask(&api, "op:op", "POST", "/api/definitions", imported)).0, 204);
    assert!(!over_amqp(&broker, "wrong"));
    assert_eq!(user(&api, "app")["hashing_algorithm"], "rabbit_password_hashing_sha256");
    assert!(over_amqp(&broker, "test12"));
    broker.wait_for_log("the password of user 'app' is kept as leveret_password_hashing_argon2id now");
    let kept = user(&api, "app");
    assert_eq!(kept["hashing_algorithm"], ARGON2ID);
    assert!(kept["password_hash"].as_str().unwrap().starts_with("$argon2id$v=19$"), "{kept}");
    assert!(over_amqp(&broker, "test12") && !over_amqp(&broker, "test13"));
    let (_, exported) = answer(ask(&api, "op:op", "GET", "/api/definitions", ""));
    drop(broker);

    // It outlives a restart, and what is exported can be imported again.
    let broker = start(&folder);
    assert!(over_amqp(&broker, "test12") && !over_amqp(&broker, "test13"));
    let api = broker.management();
    assert_eq!(answer(ask(&api, "app:test12", "GET", "/api/whoami", "")).0, 200);
    assert_eq!(answer(ask(&api, "op:op", "DELETE", "/api/users/app", "")).0, 204);
    assert!(!over_amqp(&broker, "test12"));
    assert_eq!(answer(ask(&api, "op:op", "POST", "/api/definitions", &exported)).0, 204);
    assert!(over_amqp(&broker, "test12"));
    let costly = r#"{"password_hash":"$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "hashing_algorithm":"leveret_password_hashing_argon2id","tags":""}"#;
    let (status, body) = answer(ask(&api, "op:op", "PUT", "/api/users/costly", costly));
    assert!(status == 400 && body.contains("more than 64 MiB"), "{status} {body}");
    drop(broker);
    fs::remove_dir_all(folder).unwrap();
}
