//! Users who may only log in from this machine, over real sockets: in a network namespace of its own a machine has an address
//! that is no loopback.
//!
//! Needs root, `unshare` and `ip`; says loudly that it was skipped where it can't have them.

use leveret_test_support::amqp_client::Client;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::volume::{run, skipped};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Set in the test's second process, which is in the namespace.
const INSIDE: &str = "LEVERET_TEST_NAMESPACE";

/// The machine's address that is no loopback.
const OUTER: &str = "10.77.7.7";

fn in_namespace(test: &str, act: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]).unwrap();
        run("ip", &["address", "add", &format!("{OUTER}/32"), "dev", "lo"]).unwrap();
        return act();
    }
    if let Err(reason) = run("unshare", &["--net", "ip", "link", "set", "lo", "up"]) {
        return skipped(test, &format!("no network namespace can be made here: {reason}"));
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(program)
        .args(["--exact", &format!("loopback::{test}"), "--nocapture"])
        .env(INSIDE, "1");
    assert!(command.status().unwrap().success(), "failed in the namespace, see above");
}

/// A broker that listens on all addresses of IPv4.
fn start(test: &str, config: &str) -> BrokerProcess {
    start_on("0.0.0.0", test, config)
}

fn start_on(host: &str, test: &str, config: &str) -> BrokerProcess {
    let folder = folder_of(test);
    let file = folder.join("leveret.toml");
    std::fs::write(&file, config).unwrap();
    let listeners =
        format!("LEVERET__LISTENERS__AMQP__BIND='{host}:0' LEVERET__LISTENERS__HTTP__BIND='{host}:0'");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{listeners} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_leveret")]);
    command.arg("--config").arg(&file);
    BrokerProcess::start_command(command, &folder.join("data"), &folder.join("stderr.log"))
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

fn log_in(broker: &BrokerProcess, from: &str, user: &str) -> Result<(), String> {
    let mut transport = Tcp::to(&format!("{from}:{}", port_of(&broker.address())));
    let response = format!("\0{user}\0{user}");
    Client::log_in(&mut transport, "PLAIN", &response).map(drop).map_err(|gone| gone.0)
}

/// The status and the body of what is answered to that user.
fn whoami(address: &str, login: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "GET /api/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic";
    stream.write_all(format!("{head} {login}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {body}", head.split(' ').nth(1).unwrap())
}

const USERS: &str = r#"
[[users]]
name = "guest"
password = "guest"
tags = ["administrator"]
[[users]]
name = "app"
password = "app"
[[permissions]]
user = "guest"
configure = ".*"
write = ".*"
read = ".*"
[[permissions]]
user = "app"
configure = ".*"
write = ".*"
read = ".*"
"#;

#[test]
fn guest_logs_in_from_this_machine_alone() {
    in_namespace("guest_logs_in_from_this_machine_alone", || {
        let broker = start("loopback", USERS);
        let http = broker.management();
        assert_eq!(log_in(&broker, "127.0.0.1", "guest"), Ok(()));
        assert_eq!(log_in(&broker, OUTER, "app"), Ok(()));
        let refusal = "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                       broker logfile.";
        assert_eq!(log_in(&broker, OUTER, "guest"), Err(refusal.to_owned()));
        broker.wait_for_log("user 'guest' can only connect via localhost");
        let guest = "Z3Vlc3Q6Z3Vlc3Q=";
        let here = whoami(&http, guest);
        assert_eq!(here, r#"200 {"name":"guest","tags":["administrator"]}"#);
        let there = whoami(&format!("{OUTER}:{}", port_of(&http)), guest);
        assert_eq!(there, r#"401 {"error":"not_authorised","reason":"User can only log in via localhost"}"#);
    });
}

/// A socket of both versions sees 127.0.0.1 as ::ffff:127.0.0.1.
#[test]
fn this_machine_is_known_by_its_ipv4_address_on_a_socket_of_ipv6() {
    let test = "this_machine_is_known_by_its_ipv4_address_on_a_socket_of_ipv6";
    if let Err(reason) = std::net::TcpListener::bind("[::]:0") {
        return skipped(test, &format!("no IPv6 here: {reason}"));
    }
    in_namespace(test, || {
        let broker = start_on("[::]", "loopback-ipv6", USERS);
        let http = format!("127.0.0.1:{}", port_of(&broker.management()));
        assert_eq!(log_in(&broker, "127.0.0.1", "guest"), Ok(()));
        assert!(log_in(&broker, OUTER, "guest").is_err());
        assert_eq!(whoami(&http, "Z3Vlc3Q6Z3Vlc3Q="), r#"200 {"name":"guest","tags":["administrator"]}"#);
        broker.wait_for_log("name=\"127.0.0.1:");
    });
}

#[test]
fn the_list_of_those_who_stay_here_can_be_empty() {
    in_namespace("the_list_of_those_who_stay_here_can_be_empty", || {
        let broker = start("loopback-nobody", &format!("access.loopback_users = []\n{USERS}"));
        assert_eq!(log_in(&broker, OUTER, "guest"), Ok(()));
    });
}
