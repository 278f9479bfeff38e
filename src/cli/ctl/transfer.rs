//! Moving messages: dead letters back to where they came from, or from one queue to another. Piece by piece, so that a user who waits
//! sees how far it is, and can stop it.

use super::super::client::Client;
use super::super::output::printable;
use super::super::path::path;
use super::super::{About, Failure};
use super::Vhost;
use clap::Args;
use leveret::api::{self, Lengths, MoveReport};
use std::io::{IsTerminal, Write};
use std::str::FromStr;

/// What one request looks at: some tenths of a second.
const PIECE: u64 = 20_000;

/// For how many seconds one request moves messages at a rate.
const PIECE_S: u64 = 2;

/// A header that messages have to have: `KEY`, or `KEY=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct Header {
    name: String,
    value: Option<String>,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("write KEY, or KEY=VALUE, such as retry=3".to_owned());
        }
        Ok(Header { name: name.to_owned(), value })
    }
}

impl Header {
    /// As the query of the management API has it.
    pub(super) fn in_query(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Which messages, how many, how fast.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Only those that have this header, with this value if one is said; may be said more than once
    #[arg(long = "header", value_name = "KEY[=VALUE]")]
    headers: Vec<Header>,
    /// How many, at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How many a second, at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Only says what would be done
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vhost: Vhost,
}

/// Sends dead letters back to the queues in which they were dead-lettered first
///
/// Each gets the exchange and routing key back that it had before; x-death stays, so that what is dead-lettered again can be recognised. What is no
/// dead letter, and what has no queue to go back to, stays where it is and is counted.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl redrive dead --dry-run                         says what would go where
  leveret ctl redrive dead
  leveret ctl redrive dead --limit 10                        a few at first
  leveret ctl redrive dead --header x-first-death-queue=orders --rate 100
  leveret ctl redrive dead --to orders                       all of them into one queue
  leveret ctl browse dead                                    shows what is in there")]
pub(super) struct Redrive {
    /// The queue that has them
    queue: String,
    /// Where all of them go, instead of where each came from
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// Moves messages from a queue into another one
///
/// Each leaves the one and enters the other in one step, whatever happens meanwhile. What a full queue does not take stays.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl move orders parked                             all that is there now
  leveret ctl move orders parked --header tenant=9 --dry-run
  leveret ctl move parked orders --rate 500                  slowly, so that consumers keep up
  leveret ctl browse orders --header tenant=9                shows what would be moved")]
pub(super) struct Move {
    /// The queue that has them
    queue: String,
    /// The queue that is to have them
    target: String,
    #[command(flatten)]
    which: Which,
}

impl Redrive {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        self.which.carry_out(client, out, "redrive", &self.queue, self.to.as_deref())
    }
}

impl Move {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        self.which.carry_out(client, out, "move", &self.queue, Some(&self.target))
    }
}

/// Adds what a piece came to.
fn add(tally: &mut MoveReport, piece: MoveReport) {
    tally.scanned += piece.scanned;
    tally.moved += piece.moved;
    for (into, counts) in [(&mut tally.targets, piece.targets), (&mut tally.skipped, piece.skipped)] {
        for (name, count) in counts {
            *into.entry(name).or_default() += count;
        }
    }
}

impl Which {
    fn carry_out(
        &self,
        client: &mut Client,
        out: &mut dyn Write,
        what: &str,
        queue: &str,
        target: Option<&str>,
    ) -> Result<(), Failure> {
        let vhost = &self.vhost.name;
        let about = |done: u64| {
            let queue = printable(queue);
            let so_far = if done > 0 { format!(", {done} were before") } else { String::new() };
            format!("no messages were moved out of queue '{queue}' in vhost '{vhost}'{so_far}")
        };
        let found: Lengths = client.get(&path(&["queues", vhost, queue])).about(|| about(0))?;
        // What comes in meanwhile stays, also what is dead-lettered again.
        let there = found.messages_ready;
        let mut tally = MoveReport { dry_run: self.dry_run, ..MoveReport::default() };
        let mut after = None;
        let shows_progress = !self.json && std::io::stderr().is_terminal();
        while tally.scanned < there && self.limit.is_none_or(|limit| tally.moved < limit) {
            let body = self.body(target, &tally, there, after.take());
            let place = path(&["queues", vhost, queue, what]);
            let mut answer: MoveReport = client.post(&place, &body).about(|| about(tally.moved))?;
            after = answer.next.take();
            add(&mut tally, answer);
            if after.is_none() {
                break;
            }
            if shows_progress {
                let MoveReport { scanned, moved, .. } = tally;
                crate::terminal::complain(format_args!("{scanned} of {there} looked at, {moved} moved"));
            }
        }
        if self.json {
            let mut told = api::object(&tally);
            told.shift_remove("next");
            return Ok(writeln!(out, "{}", api::written(&told))?);
        }
        self.tell(out, &tally, queue)
    }

    fn body(&self, target: Option<&str>, tally: &MoveReport, there: u64, after: Option<String>) -> api::Move {
        let header = |header: &Header| (header.name.clone(), header.value.clone().into());
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let of_piece = self.rate.filter(|_| !self.dry_run).map(|rate| rate.saturating_mul(PIECE_S));
        let left = self.limit.map(|limit| limit - tally.moved);
        api::Move {
            headers: self.headers.iter().map(header).collect(),
            dry_run: self.dry_run,
            scan: Some(number((there - tally.scanned).min(PIECE))),
            limit: left.into_iter().chain(of_piece).min().map(number),
            target: target.map(str::to_owned),
            rate: self.rate.map(number),
            after,
        }
    }

    fn tell(&self, out: &mut dyn Write, tally: &MoveReport, queue: &str) -> Result<(), Failure> {
        let MoveReport { scanned, moved, targets, skipped, .. } = tally;
        let verb = if self.dry_run { "would be moved" } else { "moved" };
        writeln!(
            out,
            "{moved} of {scanned} messages {verb} out of queue '{}' in vhost '{}'",
            printable(queue),
            self.vhost.name
        )?;
        for (target, count) in targets {
            writeln!(out, "  {count} into queue '{}'", printable(target))?;
        }
        for (reason, count) in skipped {
            writeln!(out, "  {count} stay: {}", why(reason))?;
        }
        Ok(())
    }
}

/// Why messages stay, for people.
fn why(reason: &str) -> &str {
    match reason {
        "gone" => "a consumer had them first",
        "target_full" => "the queue that they would go to is full",
        "not_dead_lettered" => "they are no dead letters; --to or leveret ctl move send them somewhere",
        "no_such_queue" => "the queue that they come from is not there any more; --to sends them elsewhere",
        "same_queue" => "they come from this queue",
        "exclusive_queue" => "the queue that they come from belongs to a connection",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_typed_with_and_without_value() {
        let header: Header = "a=b=c".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_deref(), header.in_query().as_str()),
            ("a", Some("b=c"), "a=b=c")
        );
        assert_eq!("a".parse::<Header>().unwrap().value, None);
        assert!("=b".parse::<Header>().is_err());
    }
}
