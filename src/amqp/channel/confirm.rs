//! Class confirm, RabbitMQ's extension: publisher confirms.

use super::confirms::Confirms;
use super::{Channel, Context, Mode, unimplemented};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::put_method;
use crate::message::{DeliveryTag, Lsn};
use crate::session::Transmit;
use amq_protocol::protocol::{AMQPClass, basic, confirm};

impl Channel {
    pub(super) fn handle_confirm(
        &mut self,
        method: &confirm::AMQPMethod,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let confirm::AMQPMethod::Select(select) = method else { return Err(unimplemented()) };
        match self.mode {
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
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

    /// Whether publishes wait for their confirm, or commits for their answer.
    pub(in crate::amqp) fn awaits_confirmation(&self) -> bool {
        !self.commits.is_empty()
            || matches!(&self.mode, Mode::Confirm(confirms) if confirms.has_unconfirmed())
    }

    /// The turn is over.
    pub(in crate::amqp) fn end_turn(&mut self) {
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.end_turn();
        }
    }

    /// Confirms what is durable.
    pub(in crate::amqp) fn confirm_up_to(&mut self, durable: Lsn, out: &mut Transmit) {
        if self.closing {
            return;
        }
        self.answer_commits(durable, out);
        let Mode::Confirm(confirms) = &mut self.mode else { return };
        let unconfirmed = confirms.unconfirmed();
        let confirmation = confirms.up_to(durable);
        self.stats.confirm += unconfirmed - confirms.unconfirmed();
        if let Some(confirmation) = confirmation {
            let ack = basic::Ack { delivery_tag: confirmation.tag.0, multiple: confirmation.multiple };
            put_method(out, self.number, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
        }
    }

    /// Numbers a publish, in confirm mode.
    pub(super) fn number_publish(&mut self) -> Option<DeliveryTag> {
        match &mut self.mode {
            Mode::Confirm(confirms) => Some(confirms.publish()),
            _ => None,
        }
    }

    /// Tells the publisher that a queue refused its message.
    pub(super) fn nack_publish(&mut self, tag: DeliveryTag, context: &mut Context<'_>) {
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.nack(tag);
            let nack = basic::Nack { delivery_tag: tag.0, multiple: false, requeue: false };
            put_method(context.out, self.number, AMQPClass::Basic(basic::AMQPMethod::Nack(nack)));
        }
    }
}
