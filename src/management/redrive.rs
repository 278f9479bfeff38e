//! Moving messages: dead letters back to where they came from, or everything into a queue that is named.

use super::answer::{Answer, ApiError};
use super::browse::{HeadersFilter, SCANNED_AT_ONCE, SCANNED_BYTES, cursor, place};
use super::messages::{Durable, durable};
use super::queues;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, Move, MoveReport};
use crate::broker::VirtualHost;
use crate::broker::access::permissions::Access;
use crate::broker::error::Resource;
use crate::broker::observe::browse::{Cursor, Moved};
use crate::broker::queue::{QueueHandle, SeenMessage};
use crate::message::{FieldTable, Message, Value as Argument};
use std::sync::Arc;
use std::time::Duration;

pub(super) const ROUTES: &[Route] = &[
    Route::post(
        "/api/queues/{vhost}/{name}/redrive",
        Needs::UseVhost,
        redrive,
        "Sends dead letters back to the queues that dead-lettered them first, or to target; with headers, limit, rate (a \
         second), dry_run, after and scan",
    ).takes::<api::Move>().answers::<api::MoveReport>(),
    Route::post(
        "/api/queues/{vhost}/{name}/move",
        Needs::UseVhost,
        move_all,
        "Moves messages into the queue target; with headers, limit, rate (a second), dry_run, after and scan",
    ).takes::<api::Move>().answers::<api::MoveReport>(),
];

/// The most that is moved between two looks at the clock, and how often that is.
const BATCH_MAX: u64 = 100;
const BATCHES_A_SECOND: u64 = 10;

fn redrive(request: &Request) -> Result<Answer, ApiError> {
    Task::of(request, request.body()?)?.run()
}

fn move_all(request: &Request) -> Result<Answer, ApiError> {
    Task::of(request, request.body_with(&["target"])?)?.run()
}

/// What is to move, and where.
struct Task<'a> {
    request: &'a Request,
    vhost: Arc<VirtualHost>,
    source: Arc<QueueHandle>,
    /// Without one each message goes back to the queue that x-first-death-queue names.
    target: Option<Arc<QueueHandle>>,
    filter: HeadersFilter,
    limit: u64,
    /// How many messages a second are moved at most.
    rate: Option<u64>,
    /// Only what is behind that place, as an earlier answer named it.
    after: Option<Cursor>,
    /// How many messages are looked at, at most.
    scan: u64,
    report: MoveReport,
    /// When the last of them is durable.
    durable: Option<Durable>,
}

impl<'a> Task<'a> {
    fn of(request: &'a Request, wanted: Move) -> Result<Task<'a>, ApiError> {
        let (vhost, source) = queues::find_to_use(request, Access::Read)?;
        let at_least_one = |number: Option<i64>, name: &str| match number.map(u64::try_from) {
            None => Ok(None),
            Some(Ok(number @ 1..)) => Ok(Some(number)),
            Some(_) => Err(ApiError::bad_value("not_positive", name)),
        };
        let target = match &wanted.target {
            None => None,
            Some(name) => Some(vhost.accessible_queue(name, request.actor())?),
        };
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &source)) {
            return Err(ApiError::bad_request("a queue can't be moved into itself"));
        }
        // As who publishes to a queue by its name.
        request.check_access(Access::Write, &Resource::exchange(vhost.name(), "amq.default"))?;
        let headers = wanted.headers.into_iter();
        let headers = headers.map(|(name, value)| (name, (!value.is_null()).then_some(value)));
        Ok(Task {
            request,
            filter: HeadersFilter(headers.collect()),
            limit: at_least_one(wanted.limit, "limit")?.unwrap_or(u64::MAX),
            rate: at_least_one(wanted.rate, "rate")?,
            after: wanted.after.as_deref().map(cursor).transpose()?,
            scan: at_least_one(wanted.scan, "scan")?.unwrap_or(u64::MAX),
            report: MoveReport { dry_run: wanted.dry_run, ..MoveReport::default() },
            durable: None,
            vhost,
            source,
            target,
        })
    }

    fn run(mut self) -> Result<Answer, ApiError> {
        // What comes in meanwhile stays, also what comes back.
        let there = (self.source.counts().ready as u64).min(self.scan);
        let mut after = self.after;
        let batch = self.rate.map_or(BATCH_MAX, |rate| (rate / BATCHES_A_SECOND).clamp(1, BATCH_MAX));
        let mut in_batch = 0;
        'looking: while self.report.scanned < there && self.report.moved < self.limit {
            let seen = self.vhost.browse(&self.source, after, SCANNED_AT_ONCE, SCANNED_BYTES)?;
            if seen.is_empty() {
                self.report.next = None;
                break;
            }
            for seen in seen {
                if self.report.scanned == there || self.report.moved == self.limit {
                    break 'looking;
                }
                after = Some((seen.priority, seen.position));
                self.report.next = Some(place(&seen));
                self.report.scanned += 1;
                if !self.filter.wants(&seen.message) {
                    continue;
                }
                self.handle(&seen);
                in_batch += 1;
                if in_batch == batch {
                    in_batch = 0;
                    if !self.pause(batch) {
                        break 'looking;
                    }
                }
            }
        }
        if let Some(durable) = self.durable.take() {
            durable.wait()?;
        }
        tracing::info!(
            "user '{}' moved {} messages out of {}{}",
            self.request.user.name,
            self.report.moved,
            self.source.definition().resource(),
            if self.report.dry_run { ", for a trial" } else { "" }
        );
        Answer::of(&self.report)
    }

    /// Waits as long as a batch may take. False when the broker stops.
    fn pause(&self, batch: u64) -> bool {
        let shutdown = &self.request.settings().shutdown;
        if let (Some(rate), false) = (self.rate, self.report.dry_run) {
            let pause = Duration::from_micros(batch * 1_000_000 / rate);
            let stopped = async { tokio::time::timeout(pause, shutdown.begun()).await.is_ok() };
            return !tokio::runtime::Handle::current().block_on(stopped);
        }
        !shutdown.has_begun()
    }

    fn handle(&mut self, seen: &SeenMessage) {
        let (target, message) = match &self.target {
            Some(target) => (target.clone(), seen.message.clone()),
            None => match self.way_back(seen) {
                Ok(way) => way,
                Err(why) => return self.skip(why),
            },
        };
        let name = target.definition().name.to_string();
        let moved = if self.report.dry_run {
            if target.would_refuse(&message) { Moved::Refused } else { Moved::Done }
        } else {
            let (waiter, durable) = durable();
            let (vhost, source) = (&self.vhost, &self.source);
            let moved = self.request.in_turn(|turn| {
                turn.waiter = Some(waiter);
                let moved = vhost.move_message(source, seen, &target, message, turn);
                turn.waiter = None;
                moved
            });
            if moved == Moved::Done && (seen_is_kept(source, seen) || seen_is_kept(&target, seen)) {
                self.durable = Some(durable);
            }
            moved
        };
        match moved {
            Moved::Done => {
                self.report.moved += 1;
                *self.report.targets.entry(name).or_default() += 1;
            }
            Moved::Gone => self.skip("gone"),
            Moved::Refused => self.skip("target_full"),
        }
    }

    fn skip(&mut self, why: &str) {
        *self.report.skipped.entry(why.to_owned()).or_default() += 1;
    }

    /// The queue that a message was first dead-lettered in, and the message as it was published.
    fn way_back(&self, seen: &SeenMessage) -> Result<(Arc<QueueHandle>, Message), &'static str> {
        let headers = seen.message.headers().ok_or("not_dead_lettered")?;
        let name =
            headers.field("x-first-death-queue").and_then(Argument::as_str).ok_or("not_dead_lettered")?;
        let target = self.vhost.queue(name).ok_or("no_such_queue")?;
        if Arc::ptr_eq(&target, &self.source) {
            return Err("same_queue");
        }
        if target.definition().exclusive_owner.is_some() {
            return Err("exclusive_queue");
        }
        let message = as_published(&seen.message, &headers);
        Ok((target, message))
    }
}

/// Whether the journal knows of the message in that queue.
fn seen_is_kept(queue: &QueueHandle, seen: &SeenMessage) -> bool {
    queue.definition().journals(&seen.message)
}

/// The longest name of an exchange, and the longest routing key.
const SHORT_STR_BYTES_MAX: usize = 255;

/// With the exchange and the routing key that it had before it was first dead-lettered. Its history stays. One that a client made up may be
/// any: what can't have been so is not believed.
fn as_published(message: &Message, headers: &FieldTable) -> Message {
    let Some(Argument::Array(rows)) = headers.field("x-death") else { return message.clone() };
    // The latest death stands first.
    let Some(Argument::Table(first)) = rows.last() else { return message.clone() };
    let exchange = first.field("exchange").and_then(Argument::as_str).unwrap_or_default();
    let routing_key = match first.field("routing-keys") {
        Some(Argument::Array(keys)) => keys.first().and_then(Argument::as_str).unwrap_or_default(),
        _ => return message.clone(),
    };
    if exchange.len().max(routing_key.len()) > SHORT_STR_BYTES_MAX {
        return message.clone();
    }
    message.rewritten(exchange, routing_key.as_bytes(), &message.decode_properties())
}
