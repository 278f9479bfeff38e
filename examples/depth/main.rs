//! Measures a broker with a very deep queue: memory, rates, restart, disk, purge and delete.
//!
//! ```text
//! cargo build --release
//! cargo run --release --example depth -- target/release/leveret DIRECTORY [MESSAGES] [BODY_BYTES] [transient]
//! ```
//! It starts the binary on a data directory below DIRECTORY, which it removes again, and speaks AMQP to it over
//! loopback: messages, persistent unless asked otherwise, with confirms into one durable queue. Every message carries its number, and the drain
//! checks that all come back once and in order.
#![allow(clippy::print_stdout, reason = "printing figures is what it does")]

mod broker;
mod client;

use broker::{BrokerProcess, Ended};
use client::{Client, QUEUE};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How often there is a look at the clock.
const TENTHS: u64 = 10;

/// What is published.
#[derive(Clone, Copy, Debug)]
struct Load {
    messages: u64,
    body_bytes: usize,
    persistent: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, directory, rest @ ..] = &arguments[..] else {
        return Err("usage: depth LEVERET DIRECTORY [MESSAGES] [BODY_BYTES] [transient]".into());
    };
    let number = |at: usize, usual: u64| rest.get(at).map_or(Ok(usual), |text: &String| text.parse());
    let load = Load {
        messages: number(0, 10_000_000)?,
        body_bytes: number(1, 100)? as usize,
        persistent: rest.get(2).is_none_or(|word| word != "transient"),
    };
    let data = PathBuf::from(directory).join("depth-data");
    if data.exists() {
        return Err(
            format!("{} is there already; remove it or name another directory", data.display()).into()
        );
    }
    println!("{load:?}");
    let result = measure(binary, &data, load);
    let _ = std::fs::remove_dir_all(&data);
    result
}

fn measure(binary: &str, data: &Path, load: Load) -> Result<()> {
    let mut broker = BrokerProcess::start(binary, data, &[])?;
    println!("started on nothing: {}", broker.state());
    Client::connect(broker.address)?.declare()?;
    fill(&broker, load)?;
    if load.persistent {
        restart(&mut broker, binary, data)?;
    }
    drain(&broker, load.messages)?;
    settle(&broker);
    println!("drained and left alone: {}", broker.state());

    for (what, end) in
        [("purge", Client::purge as fn(&mut Client) -> Result<u64>), ("delete", Client::delete)]
    {
        println!("once more, for {what}:");
        fill(&broker, load)?;
        let mut client = Client::connect(broker.address)?;
        let began = Instant::now();
        let gone = end(&mut client)?;
        println!("{what} of {gone} messages answered after {:.1?}", began.elapsed());
        let began = Instant::now();
        client.declare()?;
        println!("the next declaration was answered after {:.1?}", began.elapsed());
        settle(&broker);
        println!("left alone: {}", broker.state());
    }
    broker.end(Ended::Terminated)
}

/// Backs up, and starts anew on what is there.
fn restart(broker: &mut BrokerProcess, binary: &str, data: &Path) -> Result<()> {
    let backup = data.with_extension("backup");
    let began = Instant::now();
    let made = Command::new(binary).arg("backup").arg(&backup).arg("--data-dir").arg(data).output()?;
    println!("{}{}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    println!("that took {:.1?}: {}", began.elapsed(), broker.state());
    let _ = std::fs::remove_dir_all(&backup);
    for how in [Ended::Terminated, Ended::Killed] {
        let began = Instant::now();
        broker.end(how)?;
        let ended = began.elapsed();
        let began = Instant::now();
        *broker = BrokerProcess::start(binary, data, &[])?;
        let ready = Client::connect(broker.address)?.declare()?;
        println!(
            "{how:?} in {ended:.1?}, then ready with {ready} messages after {:.2?}: {}",
            began.elapsed(),
            broker.state()
        );
    }
    Ok(())
}

/// Publishes, and says how fast by tenths.
fn fill(broker: &BrokerProcess, load: Load) -> Result<()> {
    let mut client = Client::connect(broker.address)?;
    let mut publisher = client.publisher(load.body_bytes, load.persistent)?;
    let messages = load.messages;
    let (began, processor) = (Instant::now(), broker.processor_time());
    let mut rates = Vec::new();
    for tenth in 1..=TENTHS {
        let (from, started) = (publisher.published(), Instant::now());
        publisher.publish_up_to(messages * tenth / TENTHS)?;
        let rate = (publisher.published() - from) as f64 / started.elapsed().as_secs_f64();
        rates.push(rate);
        println!("published {}: {rate:.0} a second, {}", publisher.published(), broker.state());
    }
    publisher.finish()?;
    println!(
        "published and confirmed at {:.0} a second ({:.2} us of the broker's processor time each); the last tenth at {:.0}% of the first",
        messages as f64 / began.elapsed().as_secs_f64(),
        (broker.processor_time() - processor).as_secs_f64() * 1e6 / messages as f64,
        100.0 * rates[rates.len() - 1] / rates[0],
    );
    Ok(())
}

fn drain(broker: &BrokerProcess, messages: u64) -> Result<()> {
    let mut client = Client::connect(broker.address)?;
    let (began, processor) = (Instant::now(), broker.processor_time());
    client.consume()?;
    let mut most = 0;
    for tenth in 1..=TENTHS {
        let started = Instant::now();
        client.receive_up_to(messages * tenth / TENTHS)?;
        most = most.max(broker.resident_mib());
        if tenth == 1 || tenth == TENTHS {
            let rate = messages as f64 / TENTHS as f64 / started.elapsed().as_secs_f64();
            println!("tenth {tenth} of the drain at {rate:.0} a second, {}", broker.state());
        }
    }
    client.declare()?;
    println!(
        "drained at {:.0} a second ({:.2} us of the broker's processor time each), {QUEUE} in order and whole, at most {most} MiB",
        messages as f64 / began.elapsed().as_secs_f64(),
        (broker.processor_time() - processor).as_secs_f64() * 1e6 / messages as f64,
    );
    Ok(())
}

/// Waits until the broker has nothing left to tidy up: its processor time stands still.
fn settle(broker: &BrokerProcess) {
    let began = Instant::now();
    let mut before = broker.processor_time();
    while began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_secs(1));
        let now = broker.processor_time();
        if now - before <= Duration::from_millis(20) {
            break;
        }
        before = now;
    }
    println!("tidied up for {:.0?}", began.elapsed());
}
