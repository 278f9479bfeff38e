//! What one seed is about: a handful of exchanges and queues with their arguments, and channels with their habits. Steps
//! mostly declare and use these as planned, so that much of what happens is valid. Used by [`super::generate`].
//!
//! A plan leaves out what has no defined outcome: two sources that dead-letter into one queue at the same time, a limit that
//! consumers of several queues share, messages that expire while something else is done.

use super::random::Random;
use crate::case::Place;

/// The queue that is a quorum queue, if one is.
pub(crate) const QUORUM: &str = "$q4";

/// How one seed treats its channels and its clock.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Queues: `$q1` and so on are routed to, `$d1` and so on get dead letters.
    pub(crate) queues: Vec<Queue>,
    /// Exchanges: `$x1` and so on, `$dead` gets dead letters of one queue.
    pub(crate) exchanges: Vec<Exchange>,
    /// The channels it works on.
    pub(crate) places: Vec<(Place, Habit)>,
    /// One queue is a quorum queue. Those of RabbitMQ 3.10.8 have no priorities, so messages have none.
    pub(crate) quorum: bool,
    /// Messages and queues expire; then every step lets time pass at its end, so that what is due has happened.
    pub(crate) clock: bool,
}

/// A queue as it is mostly declared.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) arguments: Vec<String>,
}

/// An exchange as it is mostly declared.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) arguments: Vec<String>,
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Habit {
    /// Anything.
    Plain,
    /// Publishes with confirms.
    Confirm,
    /// Transactions.
    Tx,
    /// All its consumers are of this queue, and share one prefetch.
    Shared(usize),
    /// Mostly mistakes.
    Mistakes,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let clock = random.chance(12);
        let quorum = random.chance(8);
        let queues = (1..=4).map(|number| queue(random, number, clock, quorum)).collect();
        let mut queues: Vec<Queue> = queues;
        for number in 1..=2 {
            queues.push(dead(random, number, clock));
        }
        let mut exchanges: Vec<Exchange> = (1..=4).map(|number| exchange(random, number)).collect();
        let kind = random.pick(&["fanout", "direct", "topic"]);
        exchanges.push(Exchange { name: "$dead".into(), kind, flags: Vec::new(), arguments: Vec::new() });
        let habit = |random: &mut Random| match random.below(10) {
            0..=4 => Habit::Plain,
            5 | 6 => Habit::Confirm,
            7 | 8 => Habit::Tx,
            _ => Habit::Shared(random.below(3)),
        };
        let places = [('a', 1), ('a', 2), ('b', 1), ('b', 2)].map(|place| (place, habit(random)));
        let places = places.into_iter().chain([(('c', 1), Habit::Mistakes)]).collect();
        Self { queues, exchanges, places, quorum, clock }
    }
}

fn queue(random: &mut Random, number: usize, clock: bool, quorum: bool) -> Queue {
    let name = format!("$q{number}");
    if quorum && name == QUORUM {
        // Without a limit, and where that is reached, the brokers differ as declared.
        let arguments = vec!["x-queue-type=quorum".to_string(), "x-delivery-limit=i:1000".to_string()];
        return Queue { name, flags: vec!["durable"], arguments };
    }
    let mut flags = Vec::new();
    for (percent, flag) in [(40, "durable"), (10, "exclusive"), (15, "auto_delete")] {
        if random.chance(percent) {
            flags.push(flag);
        }
    }
    let mut arguments = Vec::new();
    if random.chance(25) {
        arguments.push(format!("x-max-length=i:{}", random.below(4)));
    } else if random.chance(10) {
        arguments.push(format!("x-max-length-bytes=i:{}", 2 + random.below(12)));
    }
    if random.chance(20) {
        arguments.push(format!(
            "x-overflow={}",
            random.pick(&["drop-head", "reject-publish", "reject-publish-dlx"])
        ));
    }
    if random.chance(15) {
        arguments.push(format!("x-max-priority=i:{}", 1 + random.below(5)));
    }
    if random.chance(12) {
        arguments.push("x-single-active-consumer=true".into());
    }
    if random.chance(10) {
        arguments.push(random.pick(&["x-queue-mode=lazy", "x-queue-version=i:2", "x-unknown=i:1"]).into());
    }
    let lives = if clock { 60 } else { 20 };
    if random.chance(lives) {
        let time = random.pick(if clock { &["30", "30", "0"] } else { &["0", "60000", "3600000"] });
        arguments.push(format!("x-message-ttl=i:{time}"));
    }
    if clock && random.chance(15) {
        arguments.push("x-expires=i:60".into());
    }
    match number {
        1 if random.chance(60) => {
            arguments.push("x-dead-letter-exchange=\"\"".into());
            arguments.push("x-dead-letter-routing-key=$d1".into());
        }
        2 if random.chance(60) => arguments.push("x-dead-letter-exchange=$dead".into()),
        3 if random.chance(20) => arguments.push("x-dead-letter-exchange=$none".into()),
        _ => {}
    }
    Queue { name, flags, arguments }
}

/// A queue of dead letters; some send them back, after a time or when they are rejected.
fn dead(random: &mut Random, number: usize, clock: bool) -> Queue {
    let mut arguments = Vec::new();
    if random.chance(40) {
        arguments.push("x-dead-letter-exchange=\"\"".into());
        arguments.push(format!("x-dead-letter-routing-key=$q{number}"));
    }
    if clock && random.chance(50) {
        arguments.push("x-message-ttl=i:30".into());
    }
    let flags = if random.chance(50) { vec!["durable"] } else { Vec::new() };
    Queue { name: format!("$d{number}"), flags, arguments }
}

fn exchange(random: &mut Random, number: usize) -> Exchange {
    let kind = random.pick(&["direct", "fanout", "topic", "headers", "topic", "direct"]);
    let mut flags = Vec::new();
    for (percent, flag) in [(40, "durable"), (20, "auto_delete"), (8, "internal")] {
        if random.chance(percent) {
            flags.push(flag);
        }
    }
    let mut arguments = Vec::new();
    if random.chance(20) {
        let to = random.pick(&["$x1", "$x2", "$x3", "$none"]);
        arguments.push(format!("alternate-exchange={to}"));
    }
    Exchange { name: format!("$x{number}"), kind, flags, arguments }
}
