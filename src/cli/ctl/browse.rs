//! Paging through the messages of a queue, ready or unacknowledged ones, without touching them.

use super::super::client::Client;
use super::super::output::{Look, write_table};
use super::super::path::path_with;
use super::super::{About, Failure};
use super::Vhost;
use super::transfer::Header;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Messages that the broker shows at once.
const PAGE_MAX: usize = 500;

/// What a table shows of messages, and beside it of unacknowledged ones.
const COLUMNS: [&str; 8] = [
    "place",
    "exchange",
    "routing_key",
    "delivery_count",
    "payload_bytes",
    "properties.message_id",
    "properties.headers",
    "payload",
];
const UNACKED_COLUMNS: [&str; 2] = ["connection_name", "consumer_tag"];

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Those that wait for a consumer
    Ready,
    /// Those that a consumer has and has not acknowledged
    Unacked,
}

/// Pages through the messages of a queue and touches none
///
/// Nothing is fetched, marked as redelivered or counted; consumers notice nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  leveret ctl browse orders                                    the first 50, in the order of delivery
  leveret ctl browse orders --header retry=3 --header tenant   those with these headers, the first with this value
  leveret ctl browse orders --state unacked                    what consumers have, and who
  leveret ctl browse orders --count 1000000 --json             all of them, with whole bodies
  leveret ctl browse orders --after 0.41                       what is behind the place that a row shows
  leveret ctl move orders parked --header tenant=9             moves some into another queue
  leveret ctl get orders --take                                takes one out")]
pub(super) struct Browse {
    /// The queue
    queue: String,
    /// How many messages, at most
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50)]
    count: usize,
    /// Which of them
    #[arg(long, value_enum, default_value = "ready")]
    state: State,
    /// Only those that have this header, with this value if one is said; may be said more than once
    #[arg(long = "header", value_name = "KEY[=VALUE]")]
    headers: Vec<Header>,
    /// Only those behind this place
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// As JSON, with all that is known of each and its whole body
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vhost: Vhost,
}

/// A page of messages, each with the fields that the broker knows: columns are picked out of them by name.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    pub(super) next: Option<String>,
    pub(super) scanned: u64,
}

impl Browse {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let (mut left, mut after) = (self.count, self.after.clone());
        let (mut shown, mut scanned) = (0, 0);
        let columns: Vec<&str> = match self.state {
            State::Ready => COLUMNS.to_vec(),
            State::Unacked => [&UNACKED_COLUMNS[..], &COLUMNS[..]].concat(),
        };
        let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        if self.json {
            write!(out, "[")?;
        }
        while left > 0 {
            let page = self.page(client, left, after.as_deref())?;
            let items = page.items.as_slice();
            match self.json {
                // One after the other: there may be more than memory has room for.
                true => write_items(out, items, shown == 0)?,
                false if !items.is_empty() => {
                    let look = Look { has_header: shown == 0, ..Look::of_output() };
                    write_table(out, &columns, items, look)?;
                }
                false => {}
            }
            (shown, left) = (shown + items.len(), left.saturating_sub(items.len()));
            scanned += page.scanned;
            after = page.next;
            if after.is_none() {
                break;
            }
            if !self.headers.is_empty() && std::io::stderr().is_terminal() {
                crate::terminal::complain(format_args!("{scanned} looked at, {shown} found"));
            }
        }
        if self.json {
            return Ok(writeln!(out, "\n]")?);
        }
        if shown == 0 {
            return Ok(writeln!(out, "no such messages: {scanned} were looked at")?);
        }
        if let Some(place) = after {
            writeln!(out, "there may be more: --after {place}, or a larger --count")?;
        }
        Ok(())
    }

    fn page(&self, client: &mut Client, count: usize, after: Option<&str>) -> Result<Page, Failure> {
        let count = count.min(PAGE_MAX).to_string();
        let mut parameters = vec![("count", count.as_str())];
        parameters.push(("state", if self.state == State::Ready { "ready" } else { "unacked" }));
        let body_limit = if self.json { u32::MAX } else { 200 }.to_string();
        parameters.push(("body_limit", &body_limit));
        parameters.extend(after.map(|after| ("after", after)));
        let headers: Vec<String> = self.headers.iter().map(Header::in_query).collect();
        parameters.extend(headers.iter().map(|header| ("header", header.as_str())));
        let place = path_with(&["queues", &self.vhost.name, &self.queue, "browse"], &parameters);
        client
            .get(&place)
            .about(|| format!("queue '{}' in vhost '{}' can't be looked into", self.queue, self.vhost.name))
    }
}

fn write_items(out: &mut dyn Write, items: &[Value], is_first: bool) -> Result<(), Failure> {
    for (index, item) in items.iter().enumerate() {
        let comma = if is_first && index == 0 { "" } else { "," };
        write!(out, "{comma}\n{item}")?;
    }
    Ok(())
}
