//! What a channel is in the middle of, since it takes longer than a turn may. It is gone on with in the connection's next turns, and
//! no other frame is handled before it is done. When the connection ends meanwhile, the broker goes on with what others rely on.

use super::publish::{Finding, Spreading};
use super::settle::{self, Verdict};
use super::unacked::{Taken, Unacked, UnackedList};
use super::{Channel, Context, Handled};
use crate::amqp::error::AmqpError;
use crate::amqp::frame::put_method;
use crate::amqp::method;
use crate::broker::Turn;
use crate::broker::chores::Chore;
use crate::message::DeliveryTag;
use crate::steps;
use amq_protocol::protocol::{AMQPClass, basic, channel};
use std::collections::VecDeque;

/// Work that takes longer than a turn may, see the module.
#[derive(Debug)]
pub(super) enum Underway {
    /// A message whose route is being found.
    Finding(Finding),
    /// A message that very many queues get.
    Spreading(Spreading),
    /// basic.get, which has found nothing but messages that have died of age.
    Getting(basic::Get),
    /// Very many deliveries that were judged at once.
    Settling(Settling),
    /// channel.close: very many deliveries go back.
    Closing(Returning),
}

/// Deliveries up to a tag about which the client has said something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    pub(super) up_to: DeliveryTag,
    pub(super) verdict: Verdict,
}

const GET: (u16, u16) = (60, 70);
const ACK: (u16, u16) = (60, 80);

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
            is_more = self.unacked.take_part(settling.up_to, part(), &mut taken);
            context.turn.spend(SETTLE_STEPS * taken.entries());
            self.carry_out(taken, settling.verdict, context);
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
        let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
        put_method(context.out, self.number, AMQPClass::Channel(ok));
        Handled::Closed
    }

    /// The channel ends in the middle of something. Returns what the client has said of deliveries.
    pub(super) fn leave_underway(&mut self, context: &mut Context<'_>) -> Option<Settling> {
        match *self.underway.take()? {
            Underway::Spreading(spreading) => context.leave(spreading.spread),
            Underway::Closing(returning) => context.leave(returning),
            Underway::Settling(settling) => return Some(settling),
            // Neither has done anything so far.
            Underway::Finding(_) | Underway::Getting(_) => {}
        }
        None
    }
}

/// Deliveries that are settled or requeued between two looks at what the turn has taken.
const PART: usize = 1024;

pub(super) fn part() -> usize {
    steps::at_once(PART)
}

/// What it takes to tell a queue of one that is settled or comes back, in steps.
const SETTLE_STEPS: usize = 30;

/// What a channel that has ended still has of its queues' messages.
#[derive(Debug)]
pub(in crate::amqp) struct Returning {
    unacked: UnackedList,
    /// What its client has said of some of them before.
    settled: Option<Settling>,
    /// Deliveries that it was never sent.
    waiting: VecDeque<Unacked>,
}

impl Returning {
    pub(super) fn new(unacked: UnackedList, settled: Option<Settling>, waiting: Vec<Unacked>) -> Returning {
        Returning { unacked, settled, waiting: waiting.into() }
    }
}

impl Chore for Returning {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        while !turn.is_spent() {
            let mut taken = Taken::default();
            if let Some(Settling { up_to, verdict }) = self.settled {
                if !self.unacked.take_part(up_to, part(), &mut taken) {
                    self.settled = None;
                }
                turn.spend(SETTLE_STEPS * taken.entries());
                settle::tell_queues(taken, verdict, turn);
                continue;
            }
            let is_more = self.unacked.take_part(DeliveryTag(u64::MAX), part(), &mut taken);
            if !is_more {
                let room = part().saturating_sub(taken.entries()).min(self.waiting.len());
                taken.here.extend(self.waiting.drain(..room));
            }
            if taken.is_empty() {
                return true;
            }
            turn.spend(SETTLE_STEPS * taken.entries());
            settle::tell_queues(taken, Verdict::Requeue { failed: true }, turn);
        }
        self.settled.is_none() && self.unacked.len() == 0 && self.waiting.is_empty()
    }
}
