//! The durable exchanges and queues that the workload uses, and those that come and go.

use crate::amqp_client::{Client, Gone, integer, method, string, table, text};
use leveret_conformance::Transport;
use leveret_conformance::field::Field;
use leveret_conformance::method::Wire;

/// The way of one copy of a message: the queue it is published to, and the queue it moves on to, if any.
pub struct Line {
    pub queues: &'static [&'static str],
    /// Why the dead-letter history says that it moved; empty where a transaction moves it.
    pub reason: &'static str,
}

const fn line(queues: &'static [&'static str], reason: &'static str) -> Line {
    Line { queues, reason }
}

pub const LINES: [Line; 9] = [
    line(&["jobs"], ""),
    line(&["jobs.quorum"], ""),
    line(&["urgent"], ""),
    line(&["news.1"], ""),
    line(&["news.2"], ""),
    line(&["news.3"], ""),
    line(&["short-lived", "expired"], "expired"),
    line(&["picky", "refused"], "rejected"),
    line(&["orders", "invoices"], ""),
];

/// Where publishers publish, and the lines that a message goes to.
pub struct Target {
    pub exchange: &'static str,
    pub routing_key: &'static str,
    pub lines: &'static [usize],
}

pub const TARGETS: [Target; 7] = [
    Target { exchange: "work", routing_key: "jobs", lines: &[0] },
    Target { exchange: "work", routing_key: "jobs.quorum", lines: &[1] },
    Target { exchange: "", routing_key: "urgent", lines: &[2] },
    Target { exchange: "news", routing_key: "", lines: &[3, 4, 5] },
    Target { exchange: "work", routing_key: "short-lived", lines: &[6] },
    Target { exchange: "work", routing_key: "picky", lines: &[7] },
    Target { exchange: "work", routing_key: "orders", lines: &[8] },
];

/// The queues with priorities (a quorum queue always has them), and how many there are.
pub const PRIORITY_QUEUES: [&str; 2] = ["urgent", "jobs.quorum"];
pub const PRIORITIES: u64 = 4;

/// The queue that the workload purges.
pub const PURGED: (&str, usize) = ("news.3", 5);

/// How long a message of `short-lived` lives.
pub const SHORT_LIFE_MS: u64 = 40;

/// The line that a queue belongs to, and its place there.
pub fn place_of(queue: &str) -> (usize, usize) {
    let place = |(at, line): (usize, &Line)| Some((at, line.queues.iter().position(|name| *name == queue)?));
    LINES.iter().enumerate().find_map(place).unwrap()
}

/// All queues, those that messages move on to behind those that they come from.
pub fn queues() -> impl Iterator<Item = &'static str> {
    LINES.iter().flat_map(|line| line.queues.iter().copied())
}

fn arguments(queue: &str) -> Vec<(&'static str, Field)> {
    let dead_letters = |key: &str| {
        vec![("x-dead-letter-exchange", string("graves")), ("x-dead-letter-routing-key", string(key))]
    };
    match queue {
        "urgent" => vec![("x-max-priority", integer(PRIORITIES.into()))],
        "jobs.quorum" => vec![("x-queue-type", string("quorum"))],
        "short-lived" => {
            let mut arguments = dead_letters("expired");
            arguments.push(("x-message-ttl", integer(SHORT_LIFE_MS.into())));
            arguments
        }
        "picky" => dead_letters("refused"),
        _ => Vec::new(),
    }
}

const EXCHANGES: [(&str, &str); 3] = [("work", "direct"), ("news", "fanout"), ("graves", "direct")];

/// Declares everything. With `exists`, it has to be there already, and to be the same.
pub fn declare(client: &mut Client, transport: &mut dyn Transport, exists: bool) -> Result<(), Gone> {
    for passive in if exists { &[true, false][..] } else { &[false] } {
        for (name, kind) in EXCHANGES {
            let declare = [
                ("exchange", text(name)),
                ("type", text(kind)),
                ("durable", Wire::Bit(true)),
                ("passive", Wire::Bit(*passive)),
            ];
            client.call(transport, 1, &method("exchange.declare", &declare))?;
        }
        for name in queues() {
            declare_queue(client, transport, name, *passive, &arguments(name))?;
        }
    }
    if exists {
        return Ok(());
    }
    for name in queues() {
        let exchange = match name {
            "urgent" => continue,
            "expired" | "refused" => "graves",
            _ if name.starts_with("news") => "news",
            _ => "work",
        };
        bind(client, transport, name, exchange)?;
    }
    Ok(())
}

fn bind(client: &mut Client, transport: &mut dyn Transport, queue: &str, exchange: &str) -> Result<(), Gone> {
    let bind = [("queue", text(queue)), ("exchange", text(exchange)), ("routing_key", text(queue))];
    client.call(transport, 1, &method("queue.bind", &bind)).map(|_| ())
}

fn declare_queue(
    client: &mut Client,
    transport: &mut dyn Transport,
    name: &str,
    passive: bool,
    arguments: &[(&str, Field)],
) -> Result<(), Gone> {
    let declare = [
        ("queue", text(name)),
        ("durable", Wire::Bit(true)),
        ("passive", Wire::Bit(passive)),
        ("arguments", table(arguments)),
    ];
    client.call(transport, 1, &method("queue.declare", &declare)).map(|_| ())
}

/// A queue with an exchange of its own and several bindings, which comes and goes.
#[derive(Debug, Default)]
pub struct Passing {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    /// Being made or deleted when the connection went.
    Unknown,
    Present,
}

const PASSING: (&str, &str) = ("passing", "passing");

impl Passing {
    /// Makes it, or deletes it.
    pub fn change(&mut self, client: &mut Client, transport: &mut dyn Transport) -> Result<(), Gone> {
        let was = std::mem::replace(&mut self.state, State::Unknown);
        let (exchange, queue) = PASSING;
        if was == State::Present {
            client.call(transport, 1, &method("queue.delete", &[("queue", text(queue))]))?;
            client.call(transport, 1, &method("exchange.delete", &[("exchange", text(exchange))]))?;
            self.state = State::Absent;
            return Ok(());
        }
        let declare = [("exchange", text(exchange)), ("type", text("topic")), ("durable", Wire::Bit(true))];
        client.call(transport, 1, &method("exchange.declare", &declare))?;
        declare_queue(client, transport, queue, false, &[])?;
        for key in ["a.*", "b.#", "c"] {
            let bind = [("queue", text(queue)), ("exchange", text(exchange)), ("routing_key", text(key))];
            client.call(transport, 1, &method("queue.bind", &bind))?;
        }
        self.state = State::Present;
        Ok(())
    }

    /// After a crash: what was there is there, with all its bindings; what was deleted is not.
    pub fn check(&mut self, client: &mut Client, transport: &mut dyn Transport) -> Result<(), Gone> {
        match self.state {
            State::Present => {
                declare_queue(client, transport, PASSING.1, true, &[])?;
                // A missing binding shows: the message comes back.
                for key in ["a.b", "b", "c"] {
                    let mut publish = Vec::new();
                    client.put_publish(&mut publish, 1, (PASSING.0, key), &[], b"hello");
                    client.send_bytes(transport, &publish);
                }
                let purge = method("queue.purge", &[("queue", text(PASSING.1))]);
                let purged = client.call(transport, 1, &purge)?;
                assert_eq!(purged.arg("message_count"), Some(&Wire::Int(3)), "bindings of {PASSING:?}");
            }
            State::Absent => {
                // Made with other arguments: that is refused if it is still there.
                let declare = [("queue", text(PASSING.1)), ("auto_delete", Wire::Bit(true))];
                client.call(transport, 1, &method("queue.declare", &declare))?;
                client.call(transport, 1, &method("queue.delete", &[("queue", text(PASSING.1))]))?;
            }
            State::Unknown => {
                client.call(transport, 1, &method("queue.delete", &[("queue", text(PASSING.1))]))?;
                client.call(transport, 1, &method("exchange.delete", &[("exchange", text(PASSING.0))]))?;
                self.state = State::Absent;
            }
        }
        Ok(())
    }
}
