//! What goes to the socket: answers first, then what waited for the journal, then chunks out of the outbox, as far as there is room.

use super::input::Next;
use super::open::Open;
use super::{Common, Connection, End, Stage};
use crate::broker::delivery::{Outgoing, StreamChunk};
use crate::broker::memory::{MemoryUse, count_much};
use crate::message::{ConsumerId, LinkId, Millis};
use crate::session::{Flow, Transmit};
use crate::stream_protocol::chunk;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{FrameWriter, key};
use bytes::Bytes;
use std::sync::atomic::Ordering;

impl Connection {
    pub(super) fn transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        self.look_at_handshake(now);
        self.go_on_from_handshake(now);
        self.look_at_renewal(now);
        self.check_asked_to_close(now);
        let had = out.len();
        let flow = self.put_all(out, now);
        let sent = out.len() - had;
        if sent > 0 {
            self.common.heartbeat.sent(now);
            self.common.traffic.sent_bytes += sent as u64;
            self.common.traffic.sent_count += 1;
        }
        let memory = self.common.protocol.broker.memory();
        count_much(&mut self.transmitted, memory, MemoryUse::TransmitBuffers, out.len());
        if let Stage::Open(open) = &mut self.stage {
            open.report(&self.common);
            open.answer_inquiries(&self.common);
        }
        self.end_turn();
        flow
    }

    fn put_all(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        let Connection { common, stage, is_given_up, .. } = self;
        out.append(&mut common.out);
        let open = match stage {
            Stage::Closed if *is_given_up => return Flow::Reset,
            Stage::Closed => return Flow::Closed,
            Stage::Handshake(handshake) if handshake.is_logging_in() => return Flow::Paused,
            Stage::Handshake(_) | Stage::Closing { .. } => return Flow::Open,
            Stage::Open(open) => open,
        };
        let journal = common.protocol.broker.journal().clone();
        let publishers = &open.publishers;
        let confirmed = open.waiting.put(journal.durable(), out, |publisher, count| {
            if let Some(publisher) = publishers.get(&publisher) {
                publisher.counts.confirmed.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        open.stats.confirm += confirmed as u64;
        if !open.waiting.is_empty() && journal.failure().is_some() {
            let reason = "the store has failed, nothing can be confirmed any more";
            self.take_next(Next::Close(Code::InternalError, reason), now);
            out.append(&mut self.common.out);
            return Flow::Open;
        }
        open.check_unblocked(common, now);
        let more = open.put_deliveries(out, common);
        out.append(&mut common.out);
        // What comes next waits for confirms, or for a login.
        let must_wait = open.must_wait(&common.protocol.settings);
        let is_held_back = common.is_held_back(now) || must_wait;
        match (open.is_blocked, is_held_back, more) {
            (true, ..) => Flow::Paused,
            (_, true, _) => Flow::Slowed,
            (.., true) => Flow::More,
            _ => Flow::Open,
        }
    }

    /// Ends the connection, if that was asked.
    fn check_asked_to_close(&mut self, now: Millis) {
        let Stage::Open(open) = &self.stage else { return };
        if open.live.is_asked_to_close()
            && let Some(reason) = open.live.take_close_reason()
        {
            self.force_close(&reason, now);
        }
    }

    /// Ends the connection for a reason of the broker's.
    pub(super) fn force_close(&mut self, reason: &str, now: Millis) {
        match self.stage {
            Stage::Open(_) => self.close(End::Orderly, Code::Ok, reason, reason, now),
            _ => self.end(End::Orderly, reason, Stage::Closed),
        }
    }
}

impl Open {
    /// The alarm may be over that kept a publish waiting.
    fn check_unblocked(&mut self, common: &mut Common, now: Millis) {
        if self.is_blocked && common.protocol.broker.alarms().reason().is_none() {
            self.is_blocked = false;
            // It was not read from.
            common.heartbeat.received(now);
        }
    }

    /// Encodes chunks until `out` is full or nothing waits. True when something still waits.
    fn put_deliveries(&mut self, out: &mut Transmit, common: &mut Common) -> bool {
        let room = common.protocol.settings.transmit_bytes;
        let outbox = common.outbox.clone();
        loop {
            if out.len() >= room {
                return true;
            }
            let mut taken = Vec::new();
            outbox.take(&mut taken, room);
            if taken.is_empty() {
                return false;
            }
            for outgoing in taken {
                match outgoing {
                    Outgoing::Chunk { link, consumer, chunk } => {
                        self.deliver(link, consumer, &chunk, out, common)
                    }
                    Outgoing::Activated { consumer, active, .. } => {
                        self.ask_to_update(consumer, active, common)
                    }
                    Outgoing::Resolved { question, offset, .. } => self.resolved(question, offset, common),
                    Outgoing::Cancelled { consumer, .. } => self.stream_gone(consumer, common),
                    // Who takes chunks is given nothing else.
                    Outgoing::Deliver { .. }
                    | Outgoing::CreditFreed { .. }
                    | Outgoing::TimeoutChanged { .. }
                    | Outgoing::Drained { .. }
                    | Outgoing::Reply { .. } => {}
                }
            }
            self.apply_effects(common);
        }
    }

    fn deliver(
        &mut self,
        link: LinkId,
        id: ConsumerId,
        chunk: &StreamChunk,
        out: &mut Transmit,
        common: &mut Common,
    ) {
        // It may have ended since, and another one may have its number.
        let Ok(number) = u8::try_from(link.0) else { return };
        let Some(subscriber) = self.subscribers.get_mut(&number).filter(|one| one.id == id) else { return };
        let mut frame = FrameWriter::new(key::DELIVER, if self.reads_second_deliver { 2 } else { 1 });
        frame.u8(number);
        if self.reads_second_deliver {
            frame.u64(chunk.last_readable);
        }
        chunk::put(chunk, frame.bytes());
        out.put_shared(Bytes::from(frame.finish()));
        subscriber.sent = subscriber.sent.wrapping_add(1);
        self.stats.deliver_no_ack += chunk.messages.len() as u64;
        let stream = subscriber.stream.clone();
        stream.sent(id, 1, chunk.bytes, &mut common.turn);
    }
}
