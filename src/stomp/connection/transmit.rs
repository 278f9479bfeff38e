//! What goes to the socket: answers first, then receipts that waited for the journal, then deliveries out of the outbox, as far as
//! there is room.

use super::close::put_end;
use super::{Connection, HOLD_BACK_MS, Open, Stage};
use crate::broker::delivery::{Entry, Outgoing};
use crate::broker::memory::{MemoryUse, count_much};
use crate::broker::observe::trace::Delivered;
use crate::broker::queue::QueueHandle;
use crate::client::{Unacked, properties_of_entry};
use crate::message::{ConsumerId, DeliveryTag, Message, Millis};
use crate::session::{Flow, Transmit};
use std::collections::VecDeque;
use std::sync::Arc;

/// Deliveries that were put on the wire, to be reported to their queue.
struct Sent {
    queue: Arc<QueueHandle>,
    consumer: ConsumerId,
    messages: u32,
    bytes: usize,
}

impl Connection {
    pub(super) fn transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        self.take_login_outcome(now);
        self.check_asked_to_close(now);
        self.answer_inquiries();
        self.check_unblocked(now);
        let had = out.len();
        self.put_receipts(now);
        self.say_last_words(now);
        out.append(&mut self.out);
        let flow = self.put_rest(out, now);
        let sent = out.len() - had;
        if sent > 0 {
            self.heartbeat.sent(now);
        }
        self.traffic.sent(sent);
        let memory = self.stomp.broker.memory();
        count_much(&mut self.transmitted, memory, MemoryUse::TransmitBuffers, out.len());
        self.report(now);
        self.settle_turn();
        flow
    }

    /// What was done while sending goes to the journal.
    fn settle_turn(&mut self) {
        self.apply_effects();
        let record = self.turn.append_to(self.stomp.broker.journal());
        self.receipts.note(record);
        self.await_receipts();
        self.stomp.broker.end_turn(&mut self.turn);
    }

    fn put_rest(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        match self.stage {
            Stage::Closed if self.given_up => return Flow::Reset,
            Stage::Closed => return Flow::Closed,
            Stage::Disconnecting if self.receipts.count() == 0 => {
                self.stage = Stage::Closed;
                return Flow::Closed;
            }
            // Who hangs up now is not logged in at all.
            Stage::LoggingIn | Stage::Disconnecting | Stage::Failing => return Flow::Paused,
            Stage::Connecting | Stage::Lingering { .. } => return Flow::Open,
            Stage::Running => {}
        }
        let more = !self.must_deliveries_wait(now) && self.put_deliveries(out, now);
        // A cancelled subscription may have ended the connection.
        out.append(&mut self.out);
        // What comes next waits for receipts, and those for the journal.
        let must_wait = self.receipts.bytes() >= self.stomp.settings.transmit_bytes;
        match (self.blocked, self.is_held_back(now) || must_wait, more) {
            (true, ..) => Flow::Paused,
            (_, true, _) => Flow::Slowed,
            (.., true) => Flow::More,
            _ => Flow::Open,
        }
    }

    /// Whether a publisher that is too fast still has to wait: for a moment, and for as long as the journal is behind.
    fn is_held_back(&mut self, now: Millis) -> bool {
        let Some(until) = self.held_back_until else { return false };
        if until <= now && self.stomp.broker.journal().is_behind() {
            self.held_back_until = Some(now + HOLD_BACK_MS);
        } else if until <= now {
            self.held_back_until = None;
        }
        self.held_back_until.is_some()
    }

    /// The alarm may be over that kept a message waiting.
    fn check_unblocked(&mut self, now: Millis) {
        if self.blocked && self.stomp.broker.alarms().reason().is_none() {
            self.blocked = false;
            // It was not read from.
            self.heartbeat.received(now);
            self.traffic.touch();
        }
    }

    /// Whether deliveries have to wait: for the journal to catch up with what this connection paged out, or for the receipt of a
    /// SUBSCRIBE, which comes before the first message.
    fn must_deliveries_wait(&mut self, now: Millis) -> bool {
        self.is_spilling &= self.stomp.broker.journal().is_behind();
        if self.is_spilling {
            self.held_back_until = Some(now + HOLD_BACK_MS);
        }
        self.is_spilling || self.receipts.hold_deliveries()
    }

    /// Encodes deliveries until `out` is full or nothing waits. True when something still waits.
    fn put_deliveries(&mut self, out: &mut Transmit, now: Millis) -> bool {
        let room = self.stomp.settings.transmit_bytes;
        loop {
            if out.len() >= room {
                return true;
            }
            let mut taken = std::mem::take(&mut self.taken);
            self.outbox.take(&mut taken, room);
            if taken.is_empty() || self.stage != Stage::Running {
                self.taken = taken;
                return false;
            }
            let mut sent = Vec::new();
            for outgoing in taken.drain(..) {
                self.send_one(outgoing, out, &mut sent, now);
            }
            self.taken = taken;
            self.tell_queues_of_sent(sent);
        }
    }

    /// Sends things now that were taken from the outbox, before something else is said.
    pub(super) fn send_now(&mut self, waiting: VecDeque<Outgoing>) {
        let (mut sent, now) = (Vec::new(), self.turn.now);
        let mut out = std::mem::take(&mut self.out);
        for outgoing in waiting {
            self.send_one(outgoing, &mut out, &mut sent, now);
        }
        out.append(&mut self.out);
        self.out = out;
        self.tell_queues_of_sent(sent);
    }

    fn send_one(&mut self, outgoing: Outgoing, out: &mut Transmit, sent: &mut Vec<Sent>, now: Millis) {
        match outgoing {
            Outgoing::Deliver { consumer, entry, .. } => self.deliver(consumer, entry, out, sent),
            Outgoing::Cancelled { consumer, .. } => {
                if let Some(error) = self.cancelled(consumer) {
                    self.fail(error, now);
                }
            }
            // Consumers have no limit in common, no time to acknowledge, no direct replies, nothing to drain, and take no chunks.
            Outgoing::CreditFreed { .. }
            | Outgoing::TimeoutChanged { .. }
            | Outgoing::Drained { .. }
            | Outgoing::Chunk { .. }
            | Outgoing::Activated { .. }
            | Outgoing::Resolved { .. }
            | Outgoing::Reply { .. } => {}
        }
    }

    fn deliver(&mut self, id: ConsumerId, entry: Entry, out: &mut Transmit, sent: &mut Vec<Sent>) {
        // The connection may have failed with something that was taken together with this one.
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        let tag = DeliveryTag(self.next_delivery_tag);
        self.next_delivery_tag += 1;
        let properties = properties_of_entry(&entry, &subscription.queue);
        if let Some(Open { vhost, live, .. }) = self.open.as_ref().filter(|open| open.vhost.is_traced()) {
            let queue = subscription.queue.definition().name.as_bytes();
            let (message, properties) = (&entry.message, &*properties);
            let delivered = Delivered { queue, message, properties, redelivered: entry.redelivered };
            vhost.trace_delivery(super::progress::party(live), delivered, &mut self.turn);
        }
        subscription.head.write(&entry, tag.0, &properties, &mut self.head);
        out.put(&self.head);
        self.head.clear();
        put_body(&entry.message, out);
        put_end(out, self.stomp.settings.trailing_lf);
        let bytes = entry.message.size_bytes();
        match sent.last_mut() {
            Some(last) if last.consumer == id => {
                last.messages += 1;
                last.bytes += bytes;
            }
            _ => {
                let queue = subscription.queue.clone();
                let name = &queue.definition().name;
                self.traffic.tally.turn_to_queue(name, &self.traffic.stats);
                sent.push(Sent { queue, consumer: id, messages: 1, bytes });
            }
        }
        self.traffic.stats.redeliver += u64::from(entry.redelivered);
        if subscription.is_auto() {
            self.traffic.stats.deliver_no_ack += 1;
        } else {
            self.traffic.stats.deliver += 1;
            let (queue, delivered_at) = (subscription.queue.clone(), self.turn.now);
            self.unacked.push(Unacked { tag, consumer: Some(id), queue, entry, delivered_at });
        }
    }

    /// Queues hear what has left the outbox, and may put more into it.
    fn tell_queues_of_sent(&mut self, sent: Vec<Sent>) {
        for Sent { queue, consumer, messages, bytes } in sent {
            queue.sent(consumer, messages, bytes, &mut self.turn);
        }
        if self.stomp.broker.is_short_of_memory() {
            self.spill_unacked();
        }
        self.apply_effects();
    }

    /// Releases the messages from memory that wait for an acknowledgement.
    pub(super) fn spill_unacked(&mut self) {
        self.is_spilling |= self.unacked.spill(&mut self.turn);
        self.apply_effects();
    }
}

fn put_body(message: &Message, out: &mut Transmit) {
    out.put_shared(message.body_slice(0..message.body_bytes()));
}
