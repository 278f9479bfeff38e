//! A commit of a transaction, which may be of very many messages and acknowledgements: they are staged a part in each turn, written as one
//! record when all are, and then happen, a part in each turn again.

use super::paged::UnackedRun;
use super::settle::{SETTLE_STEPS, part, tell_queues};
use super::transaction::{Publish, Transaction};
use super::unacked::{Taken, Unacked};
use crate::broker::chores::Chore;
use crate::broker::dead_lettering::{Departure, StagedLetter};
use crate::broker::delivery::Entry;
use crate::broker::memory::Held;
use crate::broker::outcome::Outcome;
use crate::broker::queue::{DeadLetter, DeathReason, QueueHandle, QueueType};
use crate::broker::routing::Route;
use crate::broker::spread::Spread;
use crate::broker::turn::{AsideChanges, DELIVERY_STEPS};
use crate::broker::vhost::Staged;
use crate::broker::{Turn, VirtualHost};
use crate::message::{Lsn, Message};
use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

/// What it takes to stage a publish for a queue, and to write a dead letter, in steps.
const STAGE_STEPS: usize = 10;
const LETTER_STEPS: usize = 200;

/// A transaction that is being committed, see the module.
#[derive(Debug)]
pub(crate) struct Committing {
    vhost: Arc<VirtualHost>,
    /// What has yet to be staged.
    publishes: IntoIter<Publish>,
    settlements: IntoIter<(Taken, Outcome)>,
    settling: Option<Settling>,
    /// Rejected messages that have yet to become dead letters, and the one whose way is being found.
    rejected: VecDeque<(Arc<QueueHandle>, Entry)>,
    departure: Option<Departure>,
    /// What is staged so far, as the journal will have it.
    changes: AsideChanges,
    deliveries: VecDeque<(Arc<Route>, Staged)>,
    letters: VecDeque<(Arc<Route>, Staged)>,
    /// What the queues have yet to hear; the journal has it.
    settled: VecDeque<(Taken, Outcome)>,
    /// A message that very many queues get, and whether it is one that was published.
    spread: Option<(Spread, bool)>,
    /// Messages that lead nowhere, and whether they are mandatory.
    pub(crate) unroutable: Vec<(Message, bool)>,
    /// Copies of messages that were staged.
    pub(crate) routed: u64,
    /// The record that all of it is in, once it is appended.
    pub(crate) record: Option<Option<Lsn>>,
    /// Whether a queue has refused a message.
    pub(crate) is_refused: bool,
    /// Holds the transaction in the memory account.
    _held: Option<Held>,
}

/// Deliveries that the client has said the same of.
#[derive(Debug)]
struct Settling {
    here: IntoIter<Unacked>,
    paged: IntoIter<UnackedRun>,
    outcome: Outcome,
    /// Those that are staged.
    staged: Taken,
}

impl Settling {
    /// What is done with them once they are in the journal: dead letters are there already.
    fn outcome_left(&self) -> Outcome {
        if self.outcome.is_refusal() { Outcome::Accept } else { self.outcome }
    }
}

impl Committing {
    pub(super) fn new(transaction: Transaction, vhost: Arc<VirtualHost>) -> Committing {
        let Transaction { publishes, settlements, held, .. } = transaction;
        Committing {
            vhost,
            publishes: publishes.into_iter(),
            settlements: settlements.into_iter(),
            settling: None,
            rejected: VecDeque::new(),
            departure: None,
            changes: AsideChanges::default(),
            deliveries: VecDeque::new(),
            letters: VecDeque::new(),
            settled: VecDeque::new(),
            spread: None,
            unroutable: Vec::new(),
            routed: 0,
            record: None,
            is_refused: false,
            _held: held,
        }
    }

    /// Stages more of it, until all is staged or the turn is spent. True when all is.
    pub(crate) fn stage(&mut self, turn: &mut Turn) -> bool {
        if self.record.is_some() {
            return true;
        }
        turn.exchange(&mut self.changes);
        let is_done = loop {
            if turn.is_spent() {
                break false;
            }
            if let Some(departure) = &mut self.departure {
                if !self.vhost.find_way(departure) {
                    break false;
                }
                let staged = self.departure.take().and_then(|found| self.vhost.stage_departure(found, turn));
                self.letters.extend(staged.map(|StagedLetter { route, staged }| (route, staged)));
            } else if let Some((queue, entry)) = self.rejected.pop_front() {
                turn.spend(LETTER_STEPS);
                let (definition, settings) = (queue.definition().clone(), queue.settings());
                let dead = DeadLetter { queue: definition, settings, entry, reason: DeathReason::Rejected };
                self.departure = Some(self.vhost.begin_departure(dead, turn.now));
            } else if let Some(publish) = self.publishes.next() {
                self.stage_publish(publish, turn);
            } else if !self.stage_settlement(turn) {
                break true;
            }
        };
        turn.exchange(&mut self.changes);
        is_done
    }

    fn stage_publish(&mut self, publish: Publish, turn: &mut Turn) {
        let route = publish.route_now(&self.vhost);
        let Publish { message, mandatory, .. } = publish;
        self.routed += route.count(1);
        turn.spend(STAGE_STEPS * (1 + route.queues.len()));
        if route.is_empty() {
            self.unroutable.push((message, mandatory));
            return;
        }
        let staged = self.vhost.stage_published(&route, vec![message], turn);
        self.deliveries.push_back((route, staged));
    }

    /// Stages one more delivery that is settled. False when there is none.
    fn stage_settlement(&mut self, turn: &mut Turn) -> bool {
        if self.settling.is_none() {
            let Some((taken, outcome)) = self.settlements.next() else { return false };
            let Taken { here, paged } = taken;
            let (here, paged) = (here.into_iter(), paged.into_iter());
            self.settling = Some(Settling { here, paged, outcome, staged: Taken::default() });
        }
        let Some(settling) = &mut self.settling else { return false };
        turn.spend(SETTLE_STEPS);
        // Those that are not in memory came first.
        let is_more = if let Some(mut held) = settling.paged.next() {
            stage_paged(&self.vhost, &mut held, settling.outcome, &mut self.rejected, turn);
            settling.staged.paged.push(held);
            true
        } else if let Some(mut unacked) = settling.here.next() {
            stage_here(&mut unacked, settling.outcome, &mut self.rejected, turn);
            settling.staged.here.push(unacked);
            true
        } else {
            false
        };
        if !is_more || settling.staged.entries() >= part() {
            let outcome = settling.outcome_left();
            self.settled.push_back((std::mem::take(&mut settling.staged), outcome));
        }
        if !is_more {
            self.settling = None;
        }
        true
    }

    /// Hands what is staged to the journal as one record.
    pub(crate) fn append(&mut self, turn: &mut Turn) {
        if self.record.is_some() {
            return;
        }
        turn.exchange(&mut self.changes);
        self.record = Some(self.vhost.append(turn));
        turn.exchange(&mut self.changes);
    }

    /// Brings more of the published messages into their queues, until all are there or the turn is spent. True when all are.
    pub(crate) fn deliver(&mut self, turn: &mut Turn) -> bool {
        self.bring(true, turn)
    }

    /// Settled deliveries that the queues have yet to hear of, while the turn has time for them, once what was published is in its queues.
    pub(crate) fn next_settled(&mut self, turn: &mut Turn) -> Option<(Taken, Outcome)> {
        let (taken, outcome) = if turn.is_spent() { None } else { self.settled.pop_front() }?;
        turn.spend(SETTLE_STEPS * taken.entries());
        Some((taken, outcome))
    }

    /// Brings more of the dead letters into their queues, once what is settled has made room. True when all of the commit has happened.
    pub(crate) fn deliver_letters(&mut self, turn: &mut Turn) -> bool {
        self.settled.is_empty() && self.bring(false, turn)
    }

    fn bring(&mut self, published: bool, turn: &mut Turn) -> bool {
        loop {
            if let Some((spread, is_published)) = &mut self.spread {
                if !spread.go_on(turn) {
                    return false;
                }
                // Who dead-letters a message does not hear that it was refused.
                self.is_refused |= *is_published && spread.was_refused();
                self.spread = None;
            }
            let waiting = if published { &mut self.deliveries } else { &mut self.letters };
            if turn.is_spent() {
                return waiting.is_empty();
            }
            let Some((route, staged)) = waiting.pop_front() else { return true };
            turn.spend(DELIVERY_STEPS * (1 + route.queues.len()));
            if route.queues.len() > part() {
                self.spread = Some((self.vhost.spread(route, staged, turn), published));
                continue;
            }
            let mut refused = Vec::new();
            self.vhost.deliver(&route, staged, turn, &mut refused);
            self.is_refused |= published && !refused.is_empty();
        }
    }
}

/// The connection has ended meanwhile: what it has asked for is done.
impl Chore for Committing {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        if !self.stage(turn) {
            return false;
        }
        self.append(turn);
        if !self.deliver(turn) {
            return false;
        }
        while let Some((taken, outcome)) = self.next_settled(turn) {
            tell_queues(taken, outcome, turn);
        }
        self.deliver_letters(turn)
    }
}

fn stage_here(
    unacked: &mut Unacked,
    outcome: Outcome,
    rejected: &mut VecDeque<(Arc<QueueHandle>, Entry)>,
    turn: &mut Turn,
) {
    let Unacked { queue, entry, consumer, .. } = unacked;
    if outcome.goes_back().is_some() {
        return;
    }
    if queue.definition().queue_type == QueueType::Stream {
        // A stream has no dead letters; in it a consumer has got that far, as with an acknowledgement.
        queue.acknowledge(*consumer, std::iter::once((entry.position, entry.position)), turn);
    } else if outcome.is_refusal() {
        rejected.push_back((queue.clone(), entry.clone()));
    } else if entry.journaled {
        turn.changes.settle(queue.definition().id, entry.position);
    }
    entry.journaled = false;
}

fn stage_paged(
    vhost: &VirtualHost,
    held: &mut UnackedRun,
    outcome: Outcome,
    rejected: &mut VecDeque<(Arc<QueueHandle>, Entry)>,
    turn: &mut Turn,
) {
    let UnackedRun { queue, run, consumer, .. } = held;
    if outcome.goes_back().is_some() {
        return;
    }
    queue.acknowledge(*consumer, std::iter::once((run.first, run.last())), turn);
    if outcome.is_refusal() && queue.settings().dead_letter_exchange.is_some() {
        let read = vhost.read_paged(queue, run);
        rejected.extend(read.into_iter().map(|entry| (queue.clone(), entry)));
    } else if run.journaled {
        turn.changes.settle_range(queue.definition().id, run.first, run.last());
    }
    run.journaled = false;
}
