//! ACK and NACK: which deliveries they stand for, and what becomes of those.

use super::subscribe::AckMode;
use super::underway::Underway;
use super::{Connection, Version};
use crate::client::{SETTLE_STEPS, Settling, Taken, Verdict, part_of, settle, tell_queues};
use crate::message::DeliveryTag;
use crate::stomp::error::StompError;
use crate::stomp::frame::Headers;

/// What stands between the parts of a message's id: the consumer's tag, the session, and the number of the delivery.
pub(super) const SEPARATOR: &str = "@@";

impl Connection {
    pub(super) fn ack(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        // What was sent before comes before what the acknowledgement makes room for.
        self.flush_publishes();
        self.judge(headers, "ACK", Verdict::Ack)
    }

    pub(super) fn nack(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let requeues = headers.flag("requeue").unwrap_or(self.stomp.settings.default_nack_requeue);
        // A refusal that wants the message back is no failed delivery.
        let verdict = if requeues { Verdict::Requeue { failed: false } } else { Verdict::Reject };
        self.judge(headers, "NACK", verdict)
    }

    fn judge(
        &mut self,
        headers: &Headers<'_>,
        command: &'static str,
        verdict: Verdict,
    ) -> Result<(), StompError> {
        let transaction = headers.get("transaction");
        if let Some(transaction) = transaction {
            self.transactions.check(transaction)?;
        }
        let tag = self.delivery_tag(headers, command)?;
        let not_found = || StompError::new("Message not found", format!("unknown delivery tag {}\n", tag.0));
        let consumer = self.unacked.consumer_of(tag).ok_or_else(not_found)?;
        let mode = self.subscriptions.get(consumer).map(|subscription| subscription.mode);
        let is_cumulative = mode == Some(AckMode::Client);
        if transaction.is_none() && is_cumulative && self.unacked.len() > part_of(verdict) {
            self.flush_acks();
            self.go_on_settling(Settling { up_to: tag, verdict });
            return Ok(());
        }
        let mut taken = Taken::default();
        if !self.unacked.take(tag, is_cumulative, &mut taken) {
            return Err(not_found());
        }
        if let Some(transaction) = transaction {
            return self.settle_in_transaction(transaction, taken, verdict);
        }
        self.carry_out(taken, verdict);
        Ok(())
    }

    /// The delivery that an ACK or a NACK names.
    fn delivery_tag(&self, headers: &Headers<'_>, command: &str) -> Result<DeliveryTag, StompError> {
        let name = if self.version == Version::V1_2 { "id" } else { "message-id" };
        let Some(id) = headers.get(name) else {
            let body = format!("\"{command}\" must include the \"{name}\" header\n");
            return Err(StompError::new("Missing header", body));
        };
        let invalid = || {
            let body = format!("\"{command}\" must include a valid \"{name}\" header\n");
            StompError::new("Invalid header", body)
        };
        let id = std::str::from_utf8(id).map_err(|_| invalid())?;
        let (rest, tag) = id.rsplit_once(SEPARATOR).ok_or_else(invalid)?;
        let (_, session) = rest.rsplit_once(SEPARATOR).ok_or_else(invalid)?;
        if session != self.session {
            return Err(invalid());
        }
        tag.parse().map(DeliveryTag).map_err(|_| invalid())
    }

    /// Reports to the queues what became of their messages.
    pub(super) fn carry_out(&mut self, taken: Taken, verdict: Verdict) {
        if verdict == Verdict::Ack {
            self.acked.extend(taken);
            return;
        }
        self.flush_acks();
        tell_queues(taken, verdict, &mut self.turn);
        self.apply_effects();
    }

    /// Hands the gathered acknowledgements to their queues.
    pub(super) fn flush_acks(&mut self) {
        if self.acked.is_empty() {
            return;
        }
        self.traffic.stats.ack += self.acked.len() as u64;
        settle(&self.acked, &mut self.turn);
        self.acked.here.clear();
        self.acked.away.clear();
        self.apply_effects();
        if self.unacked.len() == 0 && self.transactions.is_empty() {
            self.subscriptions.forget_ended();
        }
    }

    /// Tells the queues of a part of the deliveries that were judged at once.
    pub(super) fn go_on_settling(&mut self, settling: Settling) {
        let mut is_more = true;
        while is_more && !self.turn.is_spent() {
            let mut taken = Taken::default();
            is_more = self.unacked.take_part(settling.up_to, part_of(settling.verdict), &mut taken);
            self.turn.spend(SETTLE_STEPS * taken.entries());
            self.carry_out(taken, settling.verdict);
            self.flush_acks();
        }
        if is_more {
            self.underway = Some(Box::new(Underway::Settling(settling)));
        }
    }
}
