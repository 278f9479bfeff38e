//! Class confirm, RabbitMQ's extension: publisher confirms.

use super::{Channel, Context, Mode, unimplemented};
use crate::amqp::answers::Answer;
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::put_method;
use crate::client::Confirms;
use crate::message::PublishId;
use amq_protocol::protocol::{AMQPClass, basic, confirm};

impl Channel {
    pub(super) fn handle_confirm(
        &mut self,
        method: &confirm::AMQPMethod,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let confirm::AMQPMethod::Select(select) = method else { return Err(unimplemented()) };
        match self.mode {
            Mode::Plain => {
                self.mode = Mode::Confirm(Confirms::default());
                self.tally.await_confirms(&self.stats);
            }
            Mode::Confirm(_) => {}
            Mode::Tx(_) => {
                let text = "cannot switch from tx to confirm mode";
                return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
            }
        }
        if !select.nowait {
            self.reply(AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})), context);
        }
        Ok(())
    }

    /// The turn is over. Returns whether something waits for what it did to be durable.
    pub(in crate::amqp) fn end_turn(&mut self, context: &mut Context<'_>) -> bool {
        self.content.count(context.broker().memory());
        let commits = self.commits.drain(..).map(|(lsn, answer)| (answer, lsn));
        let publishes = match &mut self.mode {
            Mode::Confirm(confirms) => confirms.end_turn(),
            _ => None,
        };
        let publishes = publishes.map(|(publishes, lsn)| (Answer::Confirm(publishes), lsn));
        let mut waits = false;
        for (answer, lsn) in commits.chain(publishes).filter(|_| !self.closing) {
            let has_unsent = !context.out.is_empty() || context.waiting.len() > 0;
            context.answers.add(self.number.into(), lsn, answer, has_unsent);
            waits = true;
        }
        waits
    }

    /// The channel ends: what of its answers does not have to wait any longer is said before.
    pub(super) fn confirm_done(&mut self, context: &mut Context<'_>) {
        if self.closing {
            return;
        }
        self.end_turn(context);
        let durable = context.broker().journal().durable();
        if let Some(last) = context.answers.answer_link(self.number.into(), durable, context.out) {
            self.confirmed(last);
        }
    }

    /// All publishes up to that one have been confirmed.
    pub(in crate::amqp) fn confirmed(&mut self, last: PublishId) {
        if let Mode::Confirm(confirms) = &mut self.mode {
            let publishes = confirms.confirm(last);
            self.stats.confirm += publishes;
            self.tally.confirmed(publishes);
        }
    }

    /// Numbers a publish, in confirm mode.
    pub(super) fn number_publish(&mut self) -> Option<PublishId> {
        match &mut self.mode {
            Mode::Confirm(confirms) => Some(confirms.publish()),
            _ => None,
        }
    }

    /// Sends the publisher a nack, since a queue refused its message.
    pub(super) fn nack_publish(&mut self, publish: PublishId, context: &mut Context<'_>) {
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.refuse(publish);
            let nack = basic::Nack { delivery_tag: publish.0, multiple: false, requeue: false };
            put_method(context.out, self.number, AMQPClass::Basic(basic::AMQPMethod::Nack(nack)));
        }
    }
}
