//! A connection that subscribes.

use super::frame;
use super::{Client, READY, destination};
use crate::perf::Failure;
use crate::perf::content::stamp_of;
use crate::perf::meter::Meter;
use crate::perf::plan::Plan;
use crate::perf::run::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// A consumer that has asked for its messages.
#[derive(Debug)]
pub(in crate::perf) struct Consumer {
    client: Client,
    acks: Option<Acks>,
    meter: Arc<Mutex<Meter>>,
    /// Whether the broker has taken all its subscriptions.
    is_subscribed: bool,
}

impl Consumer {
    /// Connects the consumer of that number, and waits until it is subscribed.
    pub(in crate::perf) async fn open(
        plan: &Plan,
        address: &str,
        number: usize,
        meter: Arc<Mutex<Meter>>,
        clock: Clock,
    ) -> Result<Consumer, Failure> {
        let mut client = Client::open(address, &plan.target).await?;
        let ack = match plan.ack_every {
            None => "auto",
            Some(1) => "client-individual",
            // An acknowledgement stands for all before it.
            Some(_) => "client",
        };
        let prefetch =
            if plan.prefetch > 0 { format!("prefetch-count:{}\n", plan.prefetch) } else { String::new() };
        for (id, queue) in plan.queues_of_consumer(number).into_iter().enumerate() {
            let destination = destination("", queue);
            let subscribe =
                format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nack:{ack}\n{prefetch}\n\0");
            client.wire.output.extend_from_slice(subscribe.as_bytes());
        }
        client.put_ready();
        let acks = plan.ack_every.map(Acks::new);
        let mut consumer = Consumer { client, acks, meter, is_subscribed: false };
        while !consumer.is_subscribed {
            consumer.client.wire.move_bytes(None).await?;
            consumer.take_messages(clock.now_us())?;
        }
        Ok(consumer)
    }

    /// Takes what comes until it is stopped.
    pub(in crate::perf) async fn run(
        mut self,
        clock: Clock,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        while !*stop.borrow() {
            tokio::select! {
                moved = self.client.wire.move_bytes(None) => moved?,
                _ = stop.changed() => {}
            }
            self.take_messages(clock.now_us())?;
        }
        if let Some(acks) = &mut self.acks {
            acks.put_rest(&mut self.client.wire.output);
        }
        self.client.close().await;
        Ok(())
    }

    fn take_messages(&mut self, now_us: u64) -> Result<(), Failure> {
        let mut meter = self.meter.lock();
        while let Some(frame) = self.client.wire.input.next(frame::cut)? {
            frame.check()?;
            if frame.command != b"MESSAGE" {
                self.is_subscribed |= frame.header(b"receipt-id") == Some(READY);
                continue;
            }
            meter.last_us = now_us;
            meter.counts.received += 1;
            meter.counts.redelivered += u64::from(frame.header(b"redelivered") == Some(b"true"));
            if let Some(sent) = stamp_of(frame.body) {
                meter.delivery.record(now_us.saturating_sub(sent));
            }
            if let Some(acks) = &mut self.acks {
                let id = frame.header(b"ack");
                let id = id.ok_or_else(|| Failure::Lost("a message has no header ack".to_owned()))?;
                acks.put(&mut self.client.wire.output, id);
            }
        }
        Ok(())
    }
}

/// Acknowledges messages: each, or several at once.
#[derive(Debug)]
struct Acks {
    every: u64,
    unacked: u64,
    last: Vec<u8>,
}

impl Acks {
    fn new(every: u64) -> Acks {
        Acks { every, unacked: 0, last: Vec::new() }
    }

    fn put(&mut self, out: &mut Vec<u8>, id: &[u8]) {
        self.unacked += 1;
        self.last.clear();
        self.last.extend_from_slice(id);
        if self.unacked >= self.every {
            self.put_rest(out);
        }
    }

    /// Acknowledges what was not yet.
    fn put_rest(&mut self, out: &mut Vec<u8>) {
        if self.unacked > 0 {
            for piece in [&b"ACK\nid:"[..], &self.last, b"\n\n\0"] {
                out.extend_from_slice(piece);
            }
            self.unacked = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_single_or_for_several() {
        let (mut out, mut acks) = (Vec::new(), Acks::new(2));
        acks.put(&mut out, b"T_0@@s@@1");
        assert!(out.is_empty());
        acks.put(&mut out, b"T_0@@s@@2");
        assert_eq!(out, b"ACK\nid:T_0@@s@@2\n\n\0");
        out.clear();
        acks.put_rest(&mut out);
        assert!(out.is_empty(), "nothing was left");
    }
}
