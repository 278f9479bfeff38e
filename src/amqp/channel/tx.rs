//! Class tx (0-9-1 section 1.9): publishes and acknowledgements that happen together or not at all.
//!
//! All of a commit's changes go into one record of the journal, so it is atomic across queues too.

use super::settle::Verdict;
use super::unacked::{Taken, Unacked, UnackedRun};
use super::{Channel, Context, Mode, unimplemented};
use crate::amqp::answers::Answer;
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::{Amqp, AmqpSettings};
use crate::broker::VirtualHost;
use crate::broker::delivery::Entry;
use crate::broker::memory::{Held, MemoryUse};
use crate::broker::queue::{DeadLetter, DeathReason, QueueHandle};
use crate::broker::routing::Route;
use crate::broker::vhost::StagedLetter;
use crate::message::Message;
use amq_protocol::protocol::tx::AMQPMethod::{Commit, CommitOk, Rollback, RollbackOk, Select, SelectOk};
use amq_protocol::protocol::{AMQPClass, tx};
use std::sync::Arc;

/// What has been said since the last commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<Publish>,
    bytes: usize,
    /// The same, in the account of memory.
    held: Option<Held>,
    settlements: Vec<(Taken, Verdict)>,
}

#[derive(Debug)]
struct Publish {
    route: Arc<Route>,
    /// The vhost's topology when the route was found.
    version: u64,
    message: Message,
    mandatory: bool,
}

impl Publish {
    /// Its route as it is now: queues may have gone and come since it was published.
    fn route_now(&self, vhost: &VirtualHost) -> Arc<Route> {
        if self.version == vhost.version() {
            return self.route.clone();
        }
        Arc::new(vhost.route_again(&self.route, &self.message))
    }
}

impl Transaction {
    pub(super) fn publish(
        &mut self,
        (route, version): (Arc<Route>, u64),
        message: Message,
        mandatory: bool,
        amqp: &Amqp,
    ) -> Result<(), AmqpError> {
        let settings = &*amqp.settings;
        // A message that goes to many queues remembers all of them.
        self.bytes += message.size_bytes() + route.queues.len() * size_of::<Arc<QueueHandle>>();
        if self.publishes.len() >= settings.tx_messages_max || self.bytes > settings.tx_bytes_max {
            return Err(too_large(settings));
        }
        self.publishes.push(Publish { route, version, message, mandatory });
        let memory = amqp.broker.memory();
        self.held.get_or_insert_with(|| memory.hold(MemoryUse::Transactions, 0)).set(self.bytes);
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        taken: Taken,
        verdict: Verdict,
        settings: &AmqpSettings,
    ) -> Result<(), AmqpError> {
        // Dead letters are in the record of the commit, and what has left memory comes back for that.
        if verdict == Verdict::Reject {
            let bytes: u64 = taken.away.iter().map(|held| held.run.body_bytes).sum();
            self.bytes = self.bytes.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        // An acknowledgement of everything may be one of nothing.
        if !taken.is_empty() {
            self.settlements.push((taken, verdict));
        }
        if self.bytes > settings.tx_bytes_max { Err(too_large(settings)) } else { Ok(()) }
    }

    /// What the publishes take that wait for the commit.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many publishes and how many acknowledgements wait for the commit.
    pub(super) fn counts(&self) -> (u64, u64) {
        let settled: usize = self.settlements.iter().map(|(taken, _)| taken.len()).sum();
        (self.publishes.len() as u64, settled as u64)
    }

    /// Forgets everything, and returns the deliveries that are unacknowledged again.
    pub(super) fn roll_back(&mut self) -> Taken {
        let mut unacked = Taken::default();
        for (taken, _) in std::mem::take(self).settlements {
            unacked.extend(taken);
        }
        unacked
    }
}

impl Channel {
    pub(super) fn handle_tx(
        &mut self,
        method: &tx::AMQPMethod,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let ok = match method {
            Select(_) => {
                match self.mode {
                    Mode::Plain => self.mode = Mode::Tx(Box::default()),
                    Mode::Tx(_) => {}
                    Mode::Confirm(_) => return Err(precondition("cannot switch from confirm to tx mode")),
                }
                SelectOk(tx::SelectOk {})
            }
            Commit(_) => return self.tx_commit(context),
            Rollback(_) => {
                let Mode::Tx(transaction) = &mut self.mode else { return Err(not_transactional()) };
                let unacked = transaction.roll_back();
                self.unacked.put_back(unacked);
                RollbackOk(tx::RollbackOk {})
            }
            _ => return Err(unimplemented()),
        };
        self.reply(AMQPClass::Tx(ok), context);
        Ok(())
    }

    /// Commits: everything is written as one record first, then happens. The answer leaves when that record is durable.
    fn tx_commit(&mut self, context: &mut Context<'_>) -> Result<(), AmqpError> {
        let Mode::Tx(transaction) = &mut self.mode else { return Err(not_transactional()) };
        let Transaction { publishes, settlements, .. } = std::mem::take(&mut **transaction);
        let mut staged = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let route = publish.route_now(context.vhost);
            let Publish { message, mandatory, .. } = publish;
            self.stats.routed += route.count(1);
            if !route.is_empty() {
                let messages = context.vhost.stage(&route, vec![message], context.turn);
                staged.push((route, messages));
            } else {
                self.unroutable(&message, mandatory, context);
            }
        }
        let (settlements, letters) = stage_settlements(settlements, context);
        context.turn.waiter = Some(context.answers.clone());
        let record = context.turn.append_to(context.amqp.broker.journal());
        context.turn.waiter = None;
        let mut refused = Vec::new();
        for (route, messages) in staged {
            context.vhost.deliver(&route, messages, context.turn, &mut refused);
        }
        for (taken, verdict) in settlements {
            self.carry_out(taken, verdict, context);
        }
        for StagedLetter { route, staged } in letters {
            context.vhost.deliver(&route, staged, context.turn, &mut Vec::new());
        }
        context.vhost.apply_effects(context.turn);
        if !refused.is_empty() {
            return Err(precondition("partial tx completion"));
        }
        match record {
            Some(lsn) => self.commits.push((lsn, Answer::CommitOk)),
            None => self.reply(AMQPClass::Tx(CommitOk(tx::CommitOk {})), context),
        }
        Ok(())
    }
}

/// Writes what a commit settles into the turn's changes, dead letters too, so that it is in the record of the commit. What is
/// left to do is to report to the queues, and to deliver the dead letters.
fn stage_settlements(
    settlements: Vec<(Taken, Verdict)>,
    context: &mut Context<'_>,
) -> (Vec<(Taken, Verdict)>, Vec<StagedLetter>) {
    let mut letters = Vec::new();
    let staged = settlements.into_iter().map(|(mut taken, verdict)| {
        if let Verdict::Requeue { .. } = verdict {
            return (taken, verdict);
        }
        for UnackedRun { queue, run, .. } in &mut taken.away {
            if verdict == Verdict::Reject && queue.settings().dead_letter_exchange.is_some() {
                for entry in context.vhost.read_away(queue, run) {
                    letters.extend(stage_letter(queue, entry, context));
                }
            } else if run.journaled {
                context.turn.changes.settle_range(queue.definition().id, run.first, run.last());
            }
            run.journaled = false;
        }
        for Unacked { queue, entry, .. } in &mut taken.here {
            if verdict == Verdict::Reject {
                letters.extend(stage_letter(queue, entry.clone(), context));
            } else if entry.journaled {
                context.turn.changes.settle(queue.definition().id, entry.position);
            }
            entry.journaled = false;
        }
        (taken, Verdict::Ack)
    });
    (staged.collect(), letters)
}

fn stage_letter(queue: &QueueHandle, entry: Entry, context: &mut Context<'_>) -> Option<StagedLetter> {
    let dead = DeadLetter {
        queue: queue.definition().clone(),
        settings: queue.settings(),
        entry,
        reason: DeathReason::Rejected,
    };
    context.vhost.stage_dead_letter(dead, context.turn)
}

fn too_large(settings: &AmqpSettings) -> AmqpError {
    let text = format!(
        "transaction is too large: at most {} messages and {} bytes may be uncommitted",
        settings.tx_messages_max, settings.tx_bytes_max
    );
    AmqpError::new(ReplyCode::ResourceError, text)
}

fn precondition(text: &str) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, text)
}

fn not_transactional() -> AmqpError {
    precondition("channel is not transactional")
}
