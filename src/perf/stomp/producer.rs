//! A connection that sends.

use super::frame::{self, Frame};
use super::{Client, destination};
use crate::perf::Failure;
use crate::perf::content::Body;
use crate::perf::meter::Meter;
use crate::perf::outstanding::Outstanding;
use crate::perf::pace::Pace;
use crate::perf::plan::Plan;
use crate::perf::run::Clock;
use crate::perf::sizes::Sizes;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How much is encoded ahead of the socket.
const BATCH_BYTES: usize = 128 * 1024;

/// A publisher, ready to go.
#[derive(Debug)]
pub(in crate::perf) struct Producer {
    client: Client,
    /// The beginning of SEND for each of its destinations, which take turns.
    sends: Vec<Vec<u8>>,
    body: Body,
    sizes: Sizes,
    pace: Pace,
    /// How many messages there are to be.
    count: Option<u64>,
    /// How many may be without a receipt; `None` if none is asked for.
    window: Option<usize>,
    outstanding: Outstanding,
    sent: u64,
    meter: Arc<Mutex<Meter>>,
}

impl Producer {
    /// Connects the producer of that number.
    pub(in crate::perf) async fn open(
        plan: &Plan,
        address: &str,
        number: usize,
        meter: Arc<Mutex<Meter>>,
    ) -> Result<Producer, Failure> {
        let persistent = if plan.persistent { "persistent:true\n" } else { "" };
        let send = |key: String| {
            let destination = destination(&plan.exchange, &key);
            format!("SEND\ndestination:{destination}\n{persistent}content-length:").into_bytes()
        };
        Ok(Producer {
            client: Client::open(address, &plan.target).await?,
            sends: plan.routing_keys(number).into_iter().map(send).collect(),
            body: Body::new(plan.sizes.largest()),
            sizes: plan.sizes.clone(),
            pace: Pace::new(plan.rate),
            count: plan.count,
            window: plan.confirm,
            outstanding: Outstanding::default(),
            sent: 0,
            meter,
        })
    }

    /// Publishes until all is sent and has its receipt, or until it is stopped.
    pub(in crate::perf) async fn run(
        mut self,
        clock: Clock,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
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
            self.put_send(now_us);
            self.sent += 1;
        }
        if self.sent > before {
            let mut meter = self.meter.lock();
            meter.counts.published += self.sent - before;
            meter.last_us = now_us;
        }
        (self.sent >= due && self.sent < all).then(|| self.pace.next(self.sent)).flatten()
    }

    /// Puts the next message. Receipts are numbers, from 1 on.
    fn put_send(&mut self, now_us: u64) {
        let (out, bytes) = (&mut self.client.wire.output, self.sizes.of(self.sent));
        out.extend_from_slice(&self.sends[(self.sent % self.sends.len() as u64) as usize]);
        let head = match self.window {
            Some(_) => {
                self.outstanding.push(now_us);
                write!(out, "{bytes}\nreceipt:{}\n\n", self.sent + 1)
            }
            None => write!(out, "{bytes}\n\n"),
        };
        head.expect("writing to a Vec can't fail");
        self.body.put(out, bytes, now_us);
        out.push(0);
    }

    fn has_room(&self) -> bool {
        self.client.wire.unwritten() < BATCH_BYTES
            && self.window.is_none_or(|window| self.outstanding.len() < window)
    }

    fn take_answers(&mut self, now_us: u64) -> Result<(), Failure> {
        let mut meter = self.meter.lock();
        while let Some(frame) = self.client.wire.input.next(frame::cut)? {
            frame.check()?;
            if let Some(number) = receipt(&frame) {
                meter.last_us = now_us;
                let confirm = &mut meter.confirm;
                let record = |sent| confirm.record(now_us.saturating_sub(sent));
                meter.counts.confirmed += self.outstanding.settle(number, false, record);
            }
        }
        Ok(())
    }
}

/// The number of the message that a receipt is for.
fn receipt(frame: &Frame<'_>) -> Option<u64> {
    std::str::from_utf8(frame.header(b"receipt-id")?).ok()?.parse().ok()
}
