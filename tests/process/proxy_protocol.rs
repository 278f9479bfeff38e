//! Clients behind a load balancer that speaks the PROXY protocol.

use leveret_conformance::{Arrived, ConnectionId, Transport};
use leveret_test_support::amqp_client::Client;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::broker_process::BrokerProcess;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ENABLED: (&str, &str) = ("LEVERET__LISTENERS__AMQP__PROXY_PROTOCOL", "true");

/// A load balancer before the broker: each connection begins with a header.
struct Balanced {
    tcp: Tcp,
    header: Vec<u8>,
}

impl Transport for Balanced {
    fn open(&mut self) -> Result<ConnectionId, String> {
        let id = self.tcp.open()?;
        // A header that arrives in pieces is put together.
        for byte in &self.header {
            self.tcp.send(id, &[*byte]);
        }
        Ok(id)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.tcp.send(connection, bytes);
    }

    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived {
        self.tcp.receive(connection, wait, into)
    }

    fn advance(&mut self, time: Duration) {
        self.tcp.advance(time);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.tcp.close(connection);
    }

    fn exact(&self) -> bool {
        false
    }
}

fn log_in(broker: &BrokerProcess, header: &[u8]) -> Result<(), String> {
    let mut transport = Balanced { tcp: Tcp::to(&broker.address()), header: header.to_vec() };
    Client::connect(&mut transport).map(|_| ()).map_err(|gone| gone.0)
}

/// A broker with a listener that takes headers from these networks.
fn from_networks(test: &str, networks: &str) -> BrokerProcess {
    let folder = leveret_test_support::broker_process::folder_of(test);
    let config = format!("listeners.amqp = {{ proxy_protocol = true, proxy_networks = {networks} }}\n");
    std::fs::write(folder.join("leveret.toml"), config).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("--config").arg(folder.join("leveret.toml"));
    BrokerProcess::start_command(command, &folder.join("data"), &folder.join("log"))
}

#[test]
fn headers_are_taken_from_the_balancers_alone() {
    let header = b"PROXY TCP4 127.0.0.9 192.0.2.1 40001 5672\r\n";
    let broker = from_networks("proxy-trusted", "['127.0.0.0/8']");
    log_in(&broker, header).unwrap();
    broker.wait_for_log("127.0.0.9:40001 -> 192.0.2.1:5672");
    assert!(log_in(&broker, b"").is_err(), "a balancer says who connects");

    let broker = from_networks("proxy-untrusted", "['192.0.2.0/24', '2001:db8::/32']");
    assert!(log_in(&broker, header).is_err());
    broker.wait_for_log("from its proxy_networks alone");
    // A connection without a header counts with its own address.
    log_in(&broker, b"").unwrap();
    assert!(!broker.log().contains("127.0.0.9"), "{}", broker.log());
}

#[test]
fn the_headers_address_is_the_clients() {
    let broker = BrokerProcess::start_with("proxy-address", &[ENABLED], None);
    log_in(&broker, b"PROXY TCP4 127.0.0.9 192.0.2.1 40001 5672\r\n").unwrap();
    broker.wait_for_log("127.0.0.9:40001 -> 192.0.2.1:5672");
    log_in(&broker, b"PROXY UNKNOWN\r\n").unwrap();

    // guest only logs in from this machine, whatever proxy brings the connection.
    let refused = log_in(&broker, b"PROXY TCP6 2001:db8::7 2001:db8::1 40002 5672\r\n").unwrap_err();
    assert!(refused.starts_with("403 ACCESS_REFUSED"), "{refused}");
    broker.wait_for_log("[2001:db8::7]:40002 -> [2001:db8::1]:5672");

    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let local = [&signature[..], &[0x20, 0, 0, 0]].concat();
    log_in(&broker, &local).unwrap();
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x9c, 0x43, 0x16, 0x28];
    let version_2 = [&signature[..], &[0x21, 0x11, 0, 12], &addresses].concat();
    let refused = log_in(&broker, &version_2).unwrap_err();
    assert!(refused.starts_with("403 ACCESS_REFUSED"), "{refused}");
    broker.wait_for_log("203.0.113.7:40003 -> 192.0.2.1:5672");
}

#[test]
fn stomp_has_the_headers_address_too() {
    let settings = [
        ("LEVERET__LISTENERS__STOMP__BIND", "127.0.0.1:0"),
        ("LEVERET__LISTENERS__STOMP__PROXY_PROTOCOL", "true"),
    ];
    let broker = BrokerProcess::start_with("proxy-stomp", &settings, None);
    let address = broker.address_of_protocol("stomp");
    let answer = |header: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let connect =
            "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0DISCONNECT\nreceipt:1\n\n\0";
        stream.write_all(format!("{header}{connect}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(answer("PROXY TCP4 127.0.0.9 192.0.2.1 40001 61613\r\n").starts_with("CONNECTED\n"));
    broker.wait_for_log("127.0.0.9:40001 -> 192.0.2.1:61613");
    // guest only logs in from this machine, whatever proxy brings the connection.
    let refused = answer("PROXY TCP6 2001:db8::7 2001:db8::1 40002 61613\r\n");
    assert!(refused.starts_with("ERROR\nmessage:Bad CONNECT\n"), "{refused}");
    broker.wait_for_log("[2001:db8::7]:40002 -> [2001:db8::1]:61613");
}

#[test]
fn without_a_good_header_there_is_no_connection() {
    let patience = ("LEVERET__LIMITS__HANDSHAKE_TIMEOUT_MS", "300");
    let broker = BrokerProcess::start_with("proxy-refused", &[ENABLED, patience], None);
    for (bytes, reason) in [
        (
            &b"AMQP\x00\x00\x09\x01AMQP\x00\x00\x09\x01"[..],
            "it does not begin with a header of the PROXY protocol",
        ),
        (b"PROXY TCP4 here there 1 2\r\n", "its PROXY header is wrong"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "its PROXY header is too long"),
        (b"PROXY TCP4 127.0.0.9 ", "no AMQP after 300 ms"),
    ] {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Bytes that were not read make the system end the connection with a reset.
        let answer = stream.read(&mut [0; 8]);
        assert!(answer.is_ok_and(|bytes| bytes == 0) || !reason.starts_with("no AMQP"), "{reason}");
        broker.wait_for_log(reason);
    }
}
