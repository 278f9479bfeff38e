//! What a channel is in the middle of, since it takes longer than a turn may. It is gone on with in the connection's next turns, and
//! no other frame is handled before it is done. When the connection ends meanwhile, the broker goes on with what others rely on.

use super::publish::{Finding, Spreading};
use super::{Channel, Context, Handled};
use crate::amqp::answers::Answer;
use crate::amqp::error::AmqpError;
use crate::amqp::frame::put_method;
use crate::amqp::method;
use crate::broker::chores::Chore;
use crate::client::{Committing, Returning, SETTLE_STEPS, Settling, Taken, part_of};
use crate::session::Transmit;
use amq_protocol::protocol::{AMQPClass, basic, channel};
use bytes::Buf;

/// Work that takes longer than a turn may, see the module.
#[derive(Debug)]
pub(super) enum Underway {
    /// A message whose route is being found.
    Finding(Finding),
    /// A message that very many queues get.
    Spreading(Spreading),
    /// basic.get, which has found nothing but messages that have expired.
    Getting(basic::Get),
    /// Very many deliveries that were judged at once.
    Settling(Settling),
    /// tx.commit of very much.
    Committing(Box<Committing>),
    /// channel.close, or the error that closes the channel: very many consumers end before it does.
    Ending(Option<AmqpError>),
    /// channel.close: very many deliveries go back.
    Closing(Returning),
}

const GET: (u16, u16) = (60, 70);
const ACK: (u16, u16) = (60, 80);
const COMMIT: (u16, u16) = (90, 20);

impl Channel {
    /// Does more of what a frame asked for.
    pub(in crate::amqp) fn go_on(&mut self, context: &mut Context<'_>) -> Result<Handled, AmqpError> {
        let Some(underway) = self.underway.take() else { return Ok(Handled::Open) };
        let (method, done) = match *underway {
            Underway::Finding(finding) => (method::PUBLISH, self.go_on_finding(finding, context)),
            Underway::Spreading(spreading) => {
                self.go_on_spreading(spreading, context);
                (method::PUBLISH, Ok(()))
            }
            Underway::Getting(get) => (GET, self.basic_get(&get, context)),
            Underway::Settling(settling) => {
                self.go_on_settling(settling, context);
                (ACK, Ok(()))
            }
            Underway::Committing(committing) => (COMMIT, self.go_on_committing(*committing, context)),
            Underway::Ending(error) => return Ok(self.go_on_ending(error, context)),
            Underway::Closing(returning) => return Ok(self.go_on_closing(returning, context)),
        };
        match done {
            Ok(()) => Ok(self.progress()),
            Err(error) => self.fail_at(method, error, context),
        }
    }

    #[inline]
    pub(super) fn progress(&self) -> Handled {
        if self.underway.is_some() { Handled::Busy } else { Handled::Open }
    }

    /// Something takes longer than this turn.
    pub(super) fn goes_on_with(&mut self, underway: Underway) {
        self.underway = Some(Box::new(underway));
    }

    /// Tells the queues of a part of the deliveries that were judged.
    pub(super) fn go_on_settling(&mut self, settling: Settling, context: &mut Context<'_>) {
        let mut is_more = true;
        while is_more && !context.turn.is_spent() {
            let mut taken = Taken::default();
            let part = part_of(settling.outcome);
            is_more = self.unacked.take_part(settling.up_to, part, &mut taken);
            context.turn.spend(SETTLE_STEPS * taken.entries());
            self.carry_out(taken, settling.outcome, context);
            context.vhost.apply_effects(context.turn);
        }
        if is_more {
            self.goes_on_with(Underway::Settling(settling));
        }
    }

    pub(super) fn go_on_closing(&mut self, mut returning: Returning, context: &mut Context<'_>) -> Handled {
        let is_done = returning.go_on(context.turn);
        context.vhost.apply_effects(context.turn);
        if !is_done {
            self.goes_on_with(Underway::Closing(returning));
            return Handled::Busy;
        }
        let ok = AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
        let Some(record) = self.record_before_reply(context) else {
            put_method(context.out, self.number, ok);
            return Handled::Closed;
        };
        // A commit is answered before.
        let mut reply = Transmit::default();
        put_method(&mut reply, self.number, ok);
        let reply = Answer::Behind(reply.copy_to_bytes(reply.remaining()));
        context.answers.add(self.number.into(), record, reply, !context.out.is_empty());
        Handled::ClosedBehind
    }

    /// Ends consumers before the channel is closed: by its client, or by an error of its own.
    pub(super) fn go_on_ending(&mut self, error: Option<AmqpError>, context: &mut Context<'_>) -> Handled {
        if !self.end_consumers(context) {
            self.goes_on_with(Underway::Ending(error));
            return Handled::Busy;
        }
        match error {
            Some(error) => {
                self.fail(&error, context);
                Handled::Open
            }
            None => {
                let returning = self.release(context);
                self.go_on_closing(returning, context)
            }
        }
    }

    /// The channel ends in the middle of something. Returns what the client has said of deliveries.
    pub(super) fn leave_underway(&mut self, context: &mut Context<'_>) -> Option<Settling> {
        match *self.underway.take()? {
            Underway::Spreading(spreading) => context.leave(spreading.spread),
            Underway::Committing(committing) => context.leave(*committing),
            Underway::Closing(returning) => context.leave(returning),
            Underway::Settling(settling) => return Some(settling),
            // None of them has done anything that could be left.
            Underway::Finding(_) | Underway::Getting(_) | Underway::Ending(_) => {}
        }
        None
    }
}
