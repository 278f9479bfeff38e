//! ACK and NACK: which deliveries they stand for, and what becomes of those.

use super::progress::Traffic;
use super::subscribe::AckMode;
use super::underway::Underway;
use super::{Connection, Version};
use crate::broker::outcome::Outcome;
use crate::client::{SETTLE_STEPS, Settling, Taken, part_of, settle, tell_queues};
use crate::message::DeliveryTag;
use crate::stomp::error::StompError;
use crate::stomp::frame::Headers;
use std::sync::Arc;

/// What stands between the parts of a message's id: the consumer's tag, the session, and the number of the delivery.
pub(super) const SEPARATOR: &str = "@@";

impl Connection {
    pub(super) fn ack(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        // What was sent before comes before what the acknowledgement makes room for.
        self.flush_publishes();
        self.judge(headers, "ACK", Outcome::Accept)
    }

    pub(super) fn nack(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let requeues = headers.flag("requeue").unwrap_or(self.stomp.settings.default_nack_requeue);
        // A refusal that wants the message back is no failed delivery.
        let outcome = if requeues { Outcome::Release } else { Outcome::Reject };
        self.judge(headers, "NACK", outcome)
    }

    fn judge(
        &mut self,
        headers: &Headers<'_>,
        command: &'static str,
        outcome: Outcome,
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
        if transaction.is_none() && is_cumulative && self.unacked.len() > part_of(outcome) {
            self.flush_acks();
            self.go_on_settling(Settling { up_to: tag, outcome });
            return Ok(());
        }
        if transaction.is_none() && outcome == Outcome::Accept {
            return if self.unacked.take(tag, is_cumulative, &mut self.acked) {
                Ok(())
            } else {
                Err(not_found())
            };
        }
        let mut taken = Taken::default();
        if !self.unacked.take(tag, is_cumulative, &mut taken) {
            return Err(not_found());
        }
        if let Some(transaction) = transaction {
            return self.settle_in_transaction(transaction, taken, outcome);
        }
        self.carry_out(taken, outcome);
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
        number_of(id, &self.session).map(DeliveryTag).ok_or_else(invalid)
    }

    /// Reports to the queues what became of their messages.
    pub(super) fn carry_out(&mut self, taken: Taken, outcome: Outcome) {
        if outcome == Outcome::Accept {
            self.acked.extend(taken);
            return;
        }
        self.flush_acks();
        tell_queues(taken, outcome, &mut self.turn);
        self.apply_effects();
    }

    /// Hands the gathered acknowledgements to their queues.
    pub(super) fn flush_acks(&mut self) {
        if self.acked.is_empty() {
            return;
        }
        let Traffic { stats, tally, .. } = &mut self.traffic;
        for run in self.acked.here.chunk_by(|one, other| Arc::ptr_eq(&one.queue, &other.queue)) {
            tally.turn_to_queue(&run[0].queue.definition().name, stats);
            stats.ack += run.len() as u64;
        }
        for held in &self.acked.paged {
            tally.turn_to_queue(&held.queue.definition().name, stats);
            stats.ack += held.run.count;
        }
        settle(&self.acked, &mut self.turn);
        self.acked.here.clear();
        self.acked.paged.clear();
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
            is_more = self.unacked.take_part(settling.up_to, part_of(settling.outcome), &mut taken);
            self.turn.spend(SETTLE_STEPS * taken.entries());
            self.carry_out(taken, settling.outcome);
            self.flush_acks();
        }
        if is_more {
            self.underway = Some(Box::new(Underway::Settling(settling)));
        }
    }
}

/// The number of the delivery in a message's id, if that session gave it.
fn number_of(id: &[u8], session: &str) -> Option<u64> {
    let id = std::str::from_utf8(id).ok()?;
    // From the end, a character at a time: it is found within a number's digits.
    let last = id.rfind('@')?;
    let (rest, number) = (id[..=last].strip_suffix(SEPARATOR)?, &id[last + 1..]);
    let tag = rest.strip_suffix(session)?;
    if !tag.ends_with(SEPARATOR) {
        return None;
    }
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_acknowledged_by_an_id_of_its_session() {
        let rows: [(&[u8], Option<u64>); 9] = [
            (b"T_1@@session-a@@7", Some(7)),
            (b"@@session-a@@18446744073709551615", Some(u64::MAX)),
            ("T_\u{e4}@@@@session-a@@1".as_bytes(), Some(1)),
            (b"T_1@@session-b@@7", None),
            (b"T_1@session-a@@7", None),
            (b"T_1@@session-a@7", None),
            (b"T_1@@session-a@@", None),
            (b"session-a@@7", None),
            (b"T_\xff@@session-a@@7", None),
        ];
        for (id, number) in rows {
            assert_eq!(number_of(id, "session-a"), number, "{}", id.escape_ascii());
        }
    }
}
