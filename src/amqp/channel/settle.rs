//! basic.ack, basic.nack, basic.reject, basic.recover (0-9-1 sections 1.8.3.13 to 1.8.3.16).

use super::{Channel, Context, Mode, read};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::broker::outcome::Outcome;
use crate::client::{Settling, Taken, credit_of, part, part_of, settle, tell_queues};
use crate::message::DeliveryTag;
use amq_protocol::protocol::{AMQPClass, basic};
use std::sync::Arc;

/// Acknowledged deliveries of this turn, on their way to the queues together.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    acked: Taken,
}

impl Channel {
    pub(super) fn basic_ack(&mut self, arguments: &[u8], context: &mut Context<'_>) -> Result<(), AmqpError> {
        let (tag, multiple) = read(arguments, |reader| Ok((reader.u64()?, reader.u8()? & 1 != 0)))?;
        if let Mode::Tx(_) = self.mode {
            return self.judge(DeliveryTag(tag), multiple, Outcome::Accept, context);
        }
        // What was published before comes before what the acknowledgement makes room for.
        self.flush_publishes(context);
        if multiple && self.unacked.len() > part() {
            return self.judge_many(DeliveryTag(tag), Outcome::Accept, context);
        }
        if self.unacked.take(DeliveryTag(tag), multiple, &mut self.settlements.acked) {
            return Ok(());
        }
        Err(unknown_delivery_tag(tag))
    }

    pub(super) fn basic_nack(
        &mut self,
        nack: &basic::Nack,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        // A refusal that wants the message back is no failed delivery, but see basic.reject.
        let outcome = if nack.requeue { Outcome::Release } else { Outcome::Reject };
        self.judge(DeliveryTag(nack.delivery_tag), nack.multiple, outcome, context)
    }

    pub(super) fn basic_reject(
        &mut self,
        reject: &basic::Reject,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let outcome = if reject.requeue { Outcome::FAILED } else { Outcome::Reject };
        self.judge(DeliveryTag(reject.delivery_tag), false, outcome, context)
    }

    fn judge(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let is_tx = matches!(self.mode, Mode::Tx(_));
        if !is_tx && multiple && self.unacked.len() > part_of(outcome) {
            return self.judge_many(tag, outcome, context);
        }
        let mut taken = Taken::default();
        if !self.unacked.take(tag, multiple, &mut taken) {
            return Err(unknown_delivery_tag(tag.0));
        }
        if let Mode::Tx(transaction) = &mut self.mode {
            return Ok(transaction.settle(taken, outcome, context.settings().tx_limits())?);
        }
        self.carry_out(taken, outcome, context);
        context.vhost.apply_effects(context.turn);
        Ok(())
    }

    /// Judges all up to a tag, which may be more than a turn has time for.
    fn judge_many(
        &mut self,
        tag: DeliveryTag,
        outcome: Outcome,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let up_to = match tag {
            DeliveryTag(0) => DeliveryTag(u64::MAX),
            tag if self.unacked.knows(tag) => tag,
            tag => return Err(unknown_delivery_tag(tag.0)),
        };
        self.go_on_settling(Settling { up_to: self.so_far(up_to), outcome }, context);
        Ok(())
    }

    /// What is delivered from now on is not meant.
    fn so_far(&self, tag: DeliveryTag) -> DeliveryTag {
        tag.min(DeliveryTag(self.next_delivery_tag - 1))
    }

    /// Reports to the queues what became of their messages.
    pub(super) fn carry_out(&mut self, taken: Taken, outcome: Outcome, context: &mut Context<'_>) {
        if outcome == Outcome::Accept {
            self.settlements.acked.extend(taken);
            return self.flush_settlements(context);
        }
        // Credit comes last, so that a consumer without it is first given what went back, and then what is behind that.
        let credit = credit_of(&taken);
        tell_queues(taken, outcome, context.turn);
        self.release_credit(credit, context);
    }

    /// Hands the gathered acknowledgements to their queues.
    pub(super) fn flush_settlements(&mut self, context: &mut Context<'_>) {
        if self.settlements.acked.is_empty() {
            return;
        }
        let mut acked = std::mem::take(&mut self.settlements.acked);
        for run in acked.here.chunk_by(|one, other| Arc::ptr_eq(&one.queue, &other.queue)) {
            self.tally.turn_to_queue(&run[0].queue.definition().name, &self.stats);
            self.stats.ack += run.len() as u64;
        }
        for held in &acked.paged {
            self.tally.turn_to_queue(&held.queue.definition().name, &self.stats);
            self.stats.ack += held.run.count;
        }
        settle(&acked, context.turn);
        self.release_credit(credit_of(&acked), context);
        acked.here.clear();
        acked.paged.clear();
        self.settlements.acked = acked;
    }

    /// Gives credit of the channel's own limit back, and lets consumers that waited for it have their turns.
    fn release_credit(&self, count: u32, context: &mut Context<'_>) {
        if self.credit.release(count) {
            self.resume_consumers(context);
        }
    }

    /// Asks the queues whose consumers wait for the channel's credit, one after the other, for as long as there is some.
    pub(super) fn resume_consumers(&self, context: &mut Context<'_>) {
        while let Some(id) = self.credit.next_waiting() {
            if let Some(consumer) = self.consumers.get(&id) {
                consumer.queue.resume(id, context.turn);
            }
        }
    }

    pub(super) fn basic_recover(
        &mut self,
        requeue: bool,
        answers: bool,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        if !requeue {
            return Err(AmqpError::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        let up_to = self.so_far(DeliveryTag(u64::MAX));
        if answers {
            // What comes back may be delivered again at once, which comes behind this.
            self.reply(AMQPClass::Basic(basic::AMQPMethod::RecoverOk(basic::RecoverOk {})), context);
        }
        self.go_on_settling(Settling { up_to, outcome: Outcome::Release }, context);
        Ok(())
    }
}

fn unknown_delivery_tag(tag: u64) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
}
