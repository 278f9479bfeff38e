//! Publishes and acknowledgements that happen together or not at all.
//!
//! All of a commit's changes go into one record of the journal, so it is atomic across queues too.

use super::committing::Committing;
use super::paged::UnackedRun;
use super::unacked::{Taken, Unacked};
use crate::broker::dead_lettering::StagedLetter;
use crate::broker::delivery::Entry;
use crate::broker::error::BrokerError;
use crate::broker::memory::{Held, MemoryAccount, MemoryUse};
use crate::broker::outcome::Outcome;
use crate::broker::queue::{DeadLetter, DeathReason, QueueHandle, QueueType, Sequenced};
use crate::broker::routing::Route;
use crate::broker::vhost::Staged;
use crate::broker::{Turn, VirtualHost};
use crate::message::{Message, QueueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How large a transaction may be until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionLimits {
    /// Messages.
    pub(crate) messages_max: usize,
    /// Bytes of its messages.
    pub(crate) bytes_max: usize,
}

/// A transaction is larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "transaction is too large: at most {} messages and {} bytes may be uncommitted",
    .0.messages_max, .0.bytes_max
)]
pub(crate) struct TooLarge(TransactionLimits);

/// A commit of more than this is not done at once; a dead letter that it makes is as much work as this many others.
const WORK_AT_ONCE: usize = 1000;
const REJECTED_WORK: usize = 10;

/// What has been said since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(super) publishes: Vec<Publish>,
    bytes: usize,
    /// The same, in the account of memory.
    pub(super) held: Option<Held>,
    /// How much a commit has to do: roughly how many copies of messages, and deliveries.
    work: usize,
    pub(super) settlements: Vec<(Taken, Outcome)>,
    /// Publishers by the streams that they publish to, with their lowest epochs.
    publishers: BTreeMap<(QueueId, Arc<str>), (Arc<QueueHandle>, u64)>,
}

#[derive(Debug)]
pub(super) struct Publish {
    route: Arc<Route>,
    /// The vhost's topology when the route was found.
    version: u64,
    pub(super) message: Message,
    pub(super) mandatory: bool,
}

impl Publish {
    /// Its route as it is now: queues may have gone and come since it was published.
    pub(super) fn route_now(&self, vhost: &VirtualHost) -> Arc<Route> {
        if self.version == vhost.version() {
            return self.route.clone();
        }
        Arc::new(vhost.route_again(&self.route, &self.message))
    }
}

/// A commit that is in the turn's changes: when those have been handed to the journal, what is left is to deliver it.
#[derive(Debug, Default)]
pub(crate) struct StagedCommit {
    /// How many queues get something, once for each message.
    pub(crate) routed: u64,
    /// Messages that lead nowhere, and whether they are mandatory.
    pub(crate) unroutable: Vec<(Message, bool)>,
    /// What the queues have to hear of deliveries.
    pub(crate) settlements: Vec<(Taken, Outcome)>,
    publishes: Vec<(Arc<Route>, Staged)>,
    letters: Vec<StagedLetter>,
}

impl StagedCommit {
    /// Puts the messages into their queues. Those that a queue refused add to `refused`.
    pub(crate) fn deliver_publishes(
        &mut self,
        vhost: &VirtualHost,
        turn: &mut Turn,
        refused: &mut Vec<usize>,
    ) {
        for (route, staged) in self.publishes.drain(..) {
            vhost.deliver(&route, staged, turn, refused);
        }
    }

    /// Puts the dead letters into their queues, after the others have heard what became of their deliveries.
    pub(crate) fn deliver_letters(self, vhost: &VirtualHost, turn: &mut Turn) {
        for StagedLetter { route, staged } in self.letters {
            vhost.deliver(&route, staged, turn, &mut Vec::new());
        }
    }
}

impl Transaction {
    /// Adds a message, with its route and the vhost's version when that was found.
    ///
    /// # Errors
    /// When the transaction is too large then.
    pub(crate) fn publish(
        &mut self,
        (route, version): (Arc<Route>, u64),
        message: Message,
        mandatory: bool,
        limits: TransactionLimits,
        memory: &Arc<MemoryAccount>,
    ) -> Result<(), TooLarge> {
        // A message that goes to many queues remembers all of them.
        self.bytes += message.size_bytes() + route.queues.len() * size_of::<Arc<QueueHandle>>();
        if self.publishes.len() >= limits.messages_max || self.bytes > limits.bytes_max {
            return Err(TooLarge(limits));
        }
        self.work += 1 + route.queues.len();
        self.publishes.push(Publish { route, version, message, mandatory });
        self.held.get_or_insert_with(|| memory.hold(MemoryUse::Transactions, 0)).set(self.bytes);
        Ok(())
    }

    /// Notes what was read of the publisher of a message that is added.
    pub(crate) fn note_publisher(&mut self, route: &Route, sequenced: Option<Sequenced>) {
        let Some(Sequenced { name, epoch: Some(epoch), .. }) = sequenced else { return };
        for queue in &route.queues {
            let known = self.publishers.entry((queue.definition().id, name.clone()));
            let (_, lowest) = known.or_insert_with(|| (queue.clone(), epoch));
            *lowest = epoch.min(*lowest);
        }
    }

    /// Checks that it may be committed.
    ///
    /// # Errors
    /// When a later epoch of one of its publishers has published meanwhile.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let mut publishers = self.publishers.iter();
        publishers.try_for_each(|((_, name), (queue, epoch))| queue.check_publisher(name, Some(*epoch)))
    }

    /// Adds deliveries that are settled with it.
    ///
    /// # Errors
    /// When the transaction is too large then.
    pub(crate) fn settle(
        &mut self,
        taken: Taken,
        outcome: Outcome,
        limits: TransactionLimits,
    ) -> Result<(), TooLarge> {
        // Dead letters are in the record of the commit, and what has left memory comes back for that.
        if outcome.is_refusal() {
            let bytes: u64 = taken.paged.iter().map(|held| held.run.body_bytes).sum();
            self.bytes = self.bytes.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        self.work += taken.entries() * if outcome.is_refusal() { REJECTED_WORK } else { 1 };
        // An acknowledgement of everything may be one of nothing.
        if !taken.is_empty() {
            self.settlements.push((taken, outcome));
        }
        if self.bytes > limits.bytes_max { Err(TooLarge(limits)) } else { Ok(()) }
    }

    /// What the publishes take that wait for the commit.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many publishes and how many acknowledgements wait for the commit.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let settled: usize = self.settlements.iter().map(|(taken, _)| taken.len()).sum();
        (self.publishes.len() as u64, settled as u64)
    }

    /// Forgets everything, and returns the deliveries that are unacknowledged again.
    pub(crate) fn roll_back(&mut self) -> Taken {
        let mut unacked = Taken::default();
        for (taken, _) in std::mem::take(self).settlements {
            unacked.extend(taken);
        }
        unacked
    }

    /// Whether a commit takes longer than a turn may: then it happens a part at a time, see [`Transaction::begin_commit`].
    pub(crate) fn is_large(&self) -> bool {
        self.work > WORK_AT_ONCE
    }

    /// Begins a commit that takes more than one turn.
    pub(crate) fn begin_commit(&mut self, vhost: &Arc<VirtualHost>) -> Committing {
        Committing::new(std::mem::take(self), vhost.clone())
    }

    /// Begins to commit: everything is written into the turn's changes, which are one record, before any of it happens.
    pub(crate) fn stage(&mut self, vhost: &VirtualHost, turn: &mut Turn) -> StagedCommit {
        let Transaction { publishes, settlements, .. } = std::mem::take(self);
        let mut commit = StagedCommit::default();
        commit.publishes.reserve(publishes.len());
        for publish in publishes {
            let route = publish.route_now(vhost);
            let Publish { message, mandatory, .. } = publish;
            commit.routed += route.count(1);
            if route.is_empty() {
                commit.unroutable.push((message, mandatory));
            } else {
                let staged = vhost.stage_published(&route, vec![message], turn);
                commit.publishes.push((route, staged));
            }
        }
        (commit.settlements, commit.letters) = stage_settlements(settlements, vhost, turn);
        commit
    }
}

/// Writes what a commit settles into the turn's changes, dead letters too, so that it is in the record of the commit. What is
/// left to do is to report to the queues, and to deliver the dead letters.
fn stage_settlements(
    settlements: Vec<(Taken, Outcome)>,
    vhost: &VirtualHost,
    turn: &mut Turn,
) -> (Vec<(Taken, Outcome)>, Vec<StagedLetter>) {
    let mut letters = Vec::new();
    let staged = settlements.into_iter().map(|(mut taken, outcome)| {
        if outcome.goes_back().is_some() {
            return (taken, outcome);
        }
        for UnackedRun { queue, run, consumer, .. } in &mut taken.paged {
            queue.acknowledge(*consumer, std::iter::once((run.first, run.last())), turn);
            if outcome.is_refusal() && queue.settings().dead_letter_exchange.is_some() {
                for entry in vhost.read_paged(queue, run) {
                    letters.extend(stage_letter(queue, entry, vhost, turn));
                }
            } else if run.journaled {
                turn.changes.settle_range(queue.definition().id, run.first, run.last());
            }
            run.journaled = false;
        }
        for Unacked { queue, entry, consumer, .. } in &mut taken.here {
            if queue.definition().queue_type == QueueType::Stream {
                // It has no dead letters; in it a consumer has got that far, as with an acknowledgement.
                queue.acknowledge(*consumer, std::iter::once((entry.position, entry.position)), turn);
            } else if outcome.is_refusal() {
                letters.extend(stage_letter(queue, entry.clone(), vhost, turn));
            } else if entry.journaled {
                turn.changes.settle(queue.definition().id, entry.position);
            }
            entry.journaled = false;
        }
        (taken, Outcome::Accept)
    });
    (staged.collect(), letters)
}

fn stage_letter(
    queue: &QueueHandle,
    entry: Entry,
    vhost: &VirtualHost,
    turn: &mut Turn,
) -> Option<StagedLetter> {
    let dead = DeadLetter {
        queue: queue.definition().clone(),
        settings: queue.settings(),
        entry,
        reason: DeathReason::Rejected,
    };
    vhost.stage_dead_letter(dead, turn)
}
