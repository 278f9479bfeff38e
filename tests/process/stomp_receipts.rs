//! `kill -9` below a publisher over STOMP, again and again on the same data: what it got a receipt for is there afterwards, once.
//!
//! `LEVERET_CRASHES` asks for more rounds than the usual ones, `LEVERET_SEED` for certain moments.

use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use leveret_test_support::durability::Random;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

const ROUNDS: u64 = 5;

/// The longest life of a broker.
const LIFE_MS: u64 = 500;

/// Messages that are sent ahead of their receipts.
const WINDOW: u64 = 200;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: [(&str, &str); 3] = [
    ("LEVERET__LISTENERS__STOMP__BIND", "127.0.0.1:0"),
    ("LEVERET__STORE__COMMIT_BYTES_MAX", "16384"),
    ("LEVERET__STORE__WAL_BYTES_MAX", "1048576"),
];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A connection that is logged in.
struct Stomp {
    stream: BufReader<TcpStream>,
}

impl Stomp {
    fn connect(broker: &BrokerProcess) -> std::io::Result<Stomp> {
        let stream = TcpStream::connect(broker.address_of_protocol("stomp"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Stomp { stream: BufReader::new(stream) };
        client.send("CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0")?;
        assert!(client.frame()?.starts_with("CONNECTED\n"));
        Ok(client)
    }

    fn send(&mut self, frames: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(frames.as_bytes())
    }

    /// The next frame, whose body holds no NUL.
    fn frame(&mut self) -> std::io::Result<String> {
        let mut frame = Vec::new();
        self.stream.read_until(0, &mut frame)?;
        match frame.pop() {
            Some(0) => Ok(String::from_utf8(frame).unwrap().trim_start().to_owned()),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The value of a header.
fn header<'a>(frame: &'a str, name: &str) -> Option<&'a str> {
    frame
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Sends numbers from `next` on until the broker is gone, and takes receipts.
fn publish(client: &mut Stomp, next: &mut u64, promised: &mut Vec<u64>) -> std::io::Result<()> {
    let mut receipts = *next;
    loop {
        let mut frames = String::new();
        while *next < receipts + WINDOW {
            let filler = "x".repeat((*next % 300) as usize);
            frames.push_str(&format!(
                "SEND\ndestination:/queue/receipts\npersistent:true\nreceipt:{next}\n\n{next} {filler}\0"
            ));
            *next += 1;
        }
        client.send(&frames)?;
        let frame = client.frame()?;
        assert!(frame.starts_with("RECEIPT\n"), "{frame}");
        let receipt: u64 = header(&frame, "receipt-id").unwrap().parse().unwrap();
        assert_eq!(receipt, receipts, "receipts come in the order of what they are for");
        promised.push(receipt);
        receipts += 1;
    }
}

fn start(folder: &Path) -> BrokerProcess {
    BrokerProcess::start_on(&folder.join("data"), &folder.join("stderr.log"), &SETTINGS)
}

#[test]
fn a_receipt_means_durable() {
    let (seed, rounds) =
        (variable("LEVERET_SEED").unwrap_or(7), variable("LEVERET_CRASHES").unwrap_or(ROUNDS));
    eprintln!("a_receipt_means_durable: LEVERET_SEED={seed}, {rounds} rounds");
    let folder = folder_of("stomp-receipts");
    let mut random = Random::new(seed);
    let (mut next, mut promised) = (0, Vec::new());
    for _ in 0..rounds {
        let broker = start(&folder);
        let life = Duration::from_micros(random.below(LIFE_MS * 1000));
        let client = Stomp::connect(&broker);
        // The time is no wait for anything: when it is over is what the seed picks.
        let killer = thread::spawn(move || {
            thread::sleep(life);
            broker.kill();
        });
        let ended = client.and_then(|mut client| publish(&mut client, &mut next, &mut promised));
        assert!(ended.is_err());
        killer.join().unwrap();
    }
    let broker = start(&folder);
    let mut client = Stomp::connect(&broker).unwrap();
    client.send("SUBSCRIBE\nid:1\ndestination:/queue/receipts\n\n\0").unwrap();
    client.send("SEND\ndestination:/queue/receipts\n\nend\0").unwrap();
    let mut came = BTreeMap::<u64, u64>::new();
    loop {
        let frame = client.frame().unwrap();
        let body = frame.split_once("\n\n").unwrap().1;
        if body == "end" {
            break;
        }
        *came.entry(body.split(' ').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    let lost: Vec<_> = promised.iter().filter(|number| !came.contains_key(number)).collect();
    let twice: Vec<_> = came.iter().filter(|(_, count)| **count > 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "of {} lost {lost:?}, twice {twice:?}", promised.len());
    eprintln!("{} receipts, {} messages", promised.len(), came.len());
    assert!(!promised.is_empty());
}
