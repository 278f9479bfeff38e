//! A connection that publishes.

use super::Failure;
use super::client::{Client, check_closed, short_string};
use super::content::Encoder;
use super::meter::Meter;
use super::outstanding::Outstanding;
use super::pace::Pace;
use super::plan::Plan;
use super::run::Clock;
use super::sizes::Sizes;
use super::wire::{Frame, method_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How much is encoded ahead of the socket.
const BATCH_BYTES: usize = 128 * 1024;

/// A publisher, ready to go.
#[derive(Debug)]
pub(super) struct Producer {
    client: Client,
    /// basic.publish with each of its routing keys, which take turns.
    publishes: Vec<Vec<u8>>,
    encoder: Encoder,
    sizes: Sizes,
    pace: Pace,
    /// How many messages there are to be.
    count: Option<u64>,
    /// How many may be unconfirmed; `None` without confirms.
    window: Option<usize>,
    outstanding: Outstanding,
    sent: u64,
    meter: Arc<Mutex<Meter>>,
}

impl Producer {
    /// Connects the producer of that number.
    pub(super) async fn open(
        plan: &Plan,
        number: usize,
        meter: Arc<Mutex<Meter>>,
    ) -> Result<Producer, Failure> {
        let mut client = Client::open(&plan.target).await?;
        if plan.confirm.is_some() {
            client.select_confirms().await?;
        }
        let publish = |key: String| {
            let publish = basic::Publish {
                exchange: plan.exchange.as_str().into(),
                routing_key: key.into(),
                mandatory: plan.mandatory,
                immediate: false,
            };
            method_frame(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)))
        };
        Ok(Producer {
            publishes: plan.routing_keys(number).into_iter().map(publish).collect(),
            encoder: Encoder::new(plan.sizes.largest(), plan.persistent, client.frame_max),
            client,
            sizes: plan.sizes.clone(),
            pace: Pace::new(plan.rate),
            count: plan.count,
            window: plan.confirm,
            outstanding: Outstanding::default(),
            sent: 0,
            meter,
        })
    }

    /// Publishes until all is sent and confirmed, or until it is stopped.
    pub(super) async fn run(mut self, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let started = Instant::now();
        while !*stop.borrow() {
            let next = self.fill(started.elapsed(), clock.now_us());
            if self.is_done() {
                break;
            }
            tokio::select! {
                moved = self.client.wire.move_bytes(next.map(|due| started + due)) => moved?,
                _ = stop.changed() => {}
            }
            self.take_answers(clock.now_us())?;
        }
        // Whatever was published before is with the broker when it answers this.
        self.client.close().await;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.sent >= count)
            && self.outstanding.len() == 0
            && self.client.wire.unwritten() == 0
    }

    /// Encodes what may go now. Says when the next message is due, if it is that which has to be waited for.
    fn fill(&mut self, elapsed: Duration, now_us: u64) -> Option<Duration> {
        let before = self.sent;
        let due = self.pace.due(elapsed);
        let all = self.count.unwrap_or(u64::MAX);
        while self.sent < all && self.sent < due && self.has_room() {
            let publish = &self.publishes[(self.sent % self.publishes.len() as u64) as usize];
            self.client.wire.output.extend_from_slice(publish);
            self.encoder.put(&mut self.client.wire.output, self.sizes.of(self.sent), now_us);
            if self.window.is_some() {
                self.outstanding.push(now_us);
            }
            self.sent += 1;
        }
        if self.sent > before {
            let mut meter = self.meter.lock();
            meter.counts.published += self.sent - before;
            meter.last_us = now_us;
        }
        (self.sent >= due && self.sent < all).then(|| self.pace.next(self.sent)).flatten()
    }

    fn has_room(&self) -> bool {
        self.client.wire.unwritten() < BATCH_BYTES
            && self.window.is_none_or(|window| self.outstanding.len() < window)
    }

    fn take_answers(&mut self, now_us: u64) -> Result<(), Failure> {
        let mut meter = self.meter.lock();
        while let Some(frame) = self.client.wire.input.frame()? {
            match frame.method() {
                (60, 80) => {
                    meter.last_us = now_us;
                    let confirm = &mut meter.confirm;
                    let record = |sent| confirm.record(now_us.saturating_sub(sent));
                    meter.counts.confirmed += settle(&mut self.outstanding, &frame, record);
                }
                (60, 120) => {
                    meter.last_us = now_us;
                    meter.counts.rejected += settle(&mut self.outstanding, &frame, |_| {});
                }
                (60, 50) => meter.counts.returned += 1,
                (10, 60) => meter.blocked = short_string(frame.arguments()),
                (10, 61) => meter.blocked = None,
                _ => check_closed(&frame)?,
            }
        }
        Ok(())
    }
}

/// Takes basic.ack or basic.nack: a delivery tag, and in the lowest bit behind it whether it stands for all before it too.
fn settle(outstanding: &mut Outstanding, frame: &Frame<'_>, each: impl FnMut(u64)) -> u64 {
    match frame.arguments().split_first_chunk() {
        Some((tag, rest)) => {
            let multiple = rest.first().is_some_and(|bits| bits & 1 == 1);
            outstanding.settle(u64::from_be_bytes(*tag), multiple, each)
        }
        None => 0,
    }
}
