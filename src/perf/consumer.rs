//! A connection that consumes.

use super::Failure;
use super::client::{Client, check_closed};
use super::content::stamp_of;
use super::meter::Meter;
use super::plan::Plan;
use super::run::Clock;
use super::wire::{BODY, Frame, HEADER, METHOD, put_frame};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// A consumer that has asked for its deliveries.
#[derive(Debug)]
pub(super) struct Consumer {
    client: Client,
    deliveries: Deliveries,
    acks: Option<Acks>,
    meter: Arc<Mutex<Meter>>,
}

impl Consumer {
    /// Connects the consumer of that number.
    pub(super) async fn open(
        plan: &Plan,
        number: usize,
        meter: Arc<Mutex<Meter>>,
    ) -> Result<Consumer, Failure> {
        let mut client = Client::open(&plan.target).await?;
        if plan.prefetch > 0 {
            client.set_prefetch(plan.prefetch).await?;
        }
        for queue in plan.queues_of_consumer(number) {
            client.put_consume(queue, plan.ack_every.is_none(), plan.consumer_arguments.clone());
        }
        let acks = plan.ack_every.map(Acks::new);
        Ok(Consumer { client, deliveries: Deliveries::default(), acks, meter })
    }

    /// Takes what comes until it is stopped.
    pub(super) async fn run(mut self, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        while !*stop.borrow() {
            tokio::select! {
                moved = self.client.wire.move_bytes(None) => moved?,
                _ = stop.changed() => {}
            }
            self.take_deliveries(clock.now_us())?;
        }
        if let Some(acks) = &mut self.acks {
            acks.put_rest(&mut self.client.wire.output);
        }
        self.client.close().await;
        Ok(())
    }

    fn take_deliveries(&mut self, now_us: u64) -> Result<(), Failure> {
        let mut meter = self.meter.lock();
        while let Some(frame) = self.client.wire.input.frame()? {
            let Some(delivery) = self.deliveries.take(&frame)? else { continue };
            meter.last_us = now_us;
            meter.counts.received += 1;
            meter.counts.redelivered += u64::from(delivery.redelivered);
            if let Some(sent) = delivery.stamp {
                meter.delivery.record(now_us.saturating_sub(sent));
            }
            if let Some(acks) = &mut self.acks {
                acks.put(&mut self.client.wire.output, delivery.tag);
            }
        }
        Ok(())
    }
}

/// Takes a whole message: counts it, and acknowledges if it is time to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delivery {
    tag: u64,
    redelivered: bool,
    /// When it was sent, if it says so.
    stamp: Option<u64>,
}

/// Puts method, header and bodies together.
#[derive(Debug, Default)]
struct Deliveries {
    delivery: Delivery,
    /// How much of the body is to come; nothing while no message is.
    body_left: u64,
    body_began: bool,
}

impl Deliveries {
    /// Takes a frame; returns the message that it completes.
    fn take(&mut self, frame: &Frame<'_>) -> Result<Option<Delivery>, Failure> {
        match frame.kind {
            METHOD => self.take_method(frame).map(|()| None),
            HEADER => {
                let size = frame.payload.get(4..).and_then(|rest| rest.first_chunk());
                let size = size.ok_or_else(|| Failure::Lost("the broker sent half a header".to_owned()))?;
                self.body_left = u64::from_be_bytes(*size);
                self.body_began = false;
                Ok((self.body_left == 0).then_some(self.delivery))
            }
            BODY => {
                if !self.body_began {
                    self.delivery.stamp = stamp_of(frame.payload);
                    self.body_began = true;
                }
                self.body_left = self.body_left.saturating_sub(frame.payload.len() as u64);
                Ok((self.body_left == 0).then_some(self.delivery))
            }
            _ => Ok(None),
        }
    }

    fn take_method(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        match frame.method() {
            (60, 60) => {
                let rest = frame.arguments();
                let tag_at = 1 + rest.first().map_or(0, |length| usize::from(*length));
                let Some((tag, rest)) = rest.get(tag_at..).and_then(|rest| rest.split_first_chunk()) else {
                    return Err(Failure::Lost("the broker sent half a basic.deliver".to_owned()));
                };
                let redelivered = rest.first().is_some_and(|bits| bits & 1 == 1);
                self.delivery = Delivery { tag: u64::from_be_bytes(*tag), redelivered, stamp: None };
                Ok(())
            }
            (60, 30) => Err(Failure::Lost("the broker cancelled a consumer: is its queue gone?".to_owned())),
            _ => check_closed(frame),
        }
    }
}

/// Acknowledges deliveries: each, or several at once.
#[derive(Debug)]
struct Acks {
    every: u64,
    unacked: u64,
    last: u64,
}

impl Acks {
    fn new(every: u64) -> Acks {
        Acks { every, unacked: 0, last: 0 }
    }

    fn put(&mut self, out: &mut Vec<u8>, tag: u64) {
        self.unacked += 1;
        self.last = tag;
        if self.unacked >= self.every {
            self.put_rest(out);
        }
    }

    /// Acknowledges what was not yet.
    fn put_rest(&mut self, out: &mut Vec<u8>) {
        if self.unacked > 0 {
            let multiple = u8::from(self.unacked > 1);
            put_frame(out, METHOD, 1, &[&[0, 60, 0, 80], &self.last.to_be_bytes(), &[multiple]]);
            self.unacked = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Encoder;
    use super::super::wire::cut;
    use super::*;

    fn deliver(out: &mut Vec<u8>, tag: u64, redelivered: bool, body_bytes: usize) {
        let method = [&[0, 60, 0, 60, 1, b't'][..], &tag.to_be_bytes(), &[u8::from(redelivered), 0, 0]];
        put_frame(out, METHOD, 1, &method);
        Encoder::new(100, false, 40).put(out, body_bytes, 7);
    }

    fn taken(bytes: &[u8]) -> Vec<Delivery> {
        let (mut rest, mut deliveries, mut found) = (bytes, Deliveries::default(), Vec::new());
        while let Some(frame) = cut(rest).unwrap() {
            found.extend(deliveries.take(&frame).unwrap());
            rest = &rest[frame.payload.len() + 8..];
        }
        found
    }

    #[test]
    fn deliveries_are_put_together() {
        let mut bytes = Vec::new();
        deliver(&mut bytes, 1, false, 100);
        deliver(&mut bytes, 2, true, 0);
        deliver(&mut bytes, 3, false, 12);
        let delivery = |tag, redelivered, stamp| Delivery { tag, redelivered, stamp };
        assert_eq!(
            taken(&bytes),
            [delivery(1, false, Some(7)), delivery(2, true, None), delivery(3, false, Some(7))]
        );
    }

    #[test]
    fn acknowledgements_are_single_or_multiple() {
        let (mut out, mut acks) = (Vec::new(), Acks::new(1));
        acks.put(&mut out, 1);
        assert_eq!(out[7..out.len() - 1], [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        let (mut out, mut acks) = (Vec::new(), Acks::new(3));
        acks.put(&mut out, 1);
        acks.put(&mut out, 2);
        assert!(out.is_empty());
        acks.put(&mut out, 3);
        assert_eq!(out[7..out.len() - 1], [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 3, 1]);
        acks.put_rest(&mut out);
        assert_eq!(out.len(), 21, "nothing was left");
    }

    #[test]
    fn an_end_is_told() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, METHOD, 1, &[&[0, 20, 0, 40, 1, 0x94, 2, b'n', b'o', 0, 0, 0, 0]]);
        let frame = cut(&bytes).unwrap().unwrap();
        let failure = Deliveries::default().take(&frame).unwrap_err();
        assert_eq!(failure.to_string(), "the broker refused: 404 no");
    }
}
