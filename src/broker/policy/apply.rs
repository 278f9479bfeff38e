//! A vhost's policies as they are set and cleared: kept in the store, and applied to queues and exchanges at once. A change is durable
//! when the ticket of `Broker::last_change` is answered.
//!
//! What applies to thousands of them is found while the topology is not locked, so that clients go on meanwhile. A client that
//! declares something then finds the new policies, and older objects get them one by one.

use super::undecided::GivenUp;
use super::{Applied, Policies, Policy, PolicyKind, Target};
use crate::broker::exchange::Exchange;
use crate::broker::queue::{QueueDefinition, QueueHandle};
use crate::broker::topology::definitions::Definition;
use crate::broker::{Actor, BrokerError, Turn, VirtualHost};
use crate::store::DefinitionChanges;
use std::sync::Arc;

/// How many queues get their policies before their effects are applied and appended to the journal.
const SLICE_QUEUES: usize = 64;

impl VirtualHost {
    /// The policies of one kind, in the order of their names.
    pub fn policies(&self, kind: PolicyKind) -> Vec<Arc<Policy>> {
        let mut all = self.policies.read().of(kind).to_vec();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A policy, by name.
    pub fn policy(&self, kind: PolicyKind, name: &str) -> Option<Arc<Policy>> {
        self.policies.read().of(kind).iter().find(|policy| &*policy.name == name).cloned()
    }

    /// Sets a policy in the place of its namesake, and says whether there was none. Queues and exchanges follow it when this
    /// returns. What has changed are events on the event exchange, in RabbitMQ's order: of the queues first.
    ///
    /// # Errors
    /// When its pattern takes too many steps on the name of one of them, or the store failed.
    pub fn set_policy(
        &self,
        kind: PolicyKind,
        policy: Policy,
        by: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<bool, BrokerError> {
        let _policing = self.policing.lock();
        self.try_on_all(&policy)?;
        let policy = Arc::new(policy);
        let is_as_it_was = self.policy(kind, &policy.name).is_some_and(|current| *current == *policy);
        let topology = self.topology.lock();
        self.check_not_deleted(&topology)?;
        self.shared().define(Definition::Policy(self.name().clone(), kind, policy.clone()).as_change())?;
        let is_new = self.change_policies(|policies| policies.set(kind, policy.clone()));
        drop(topology);
        let may_change = |applied: &Applied, target: Target<'_>| {
            has(applied, kind, &policy.name) || policy.applies(target).unwrap_or(true)
        };
        let updated = |queue: &QueueDefinition| {
            if !is_as_it_was {
                self.tell_queue_policy_updated(queue, &policy, by);
            }
        };
        self.police_where(may_change, updated, turn);
        if !is_as_it_was {
            self.tell_policy_set(&policy, by);
        }
        Ok(is_new)
    }

    /// Removes a policy, and says whether it was there. What it changed is as it was before.
    ///
    /// # Errors
    /// When the store failed.
    pub fn remove_policy(
        &self,
        kind: PolicyKind,
        name: &str,
        by: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<bool, BrokerError> {
        let _policing = self.policing.lock();
        let topology = self.topology.lock();
        let Some(policy) = self.policy(kind, name) else { return Ok(false) };
        self.shared().define(Definition::Policy(self.name().clone(), kind, policy).as_removal())?;
        self.change_policies(|policies| policies.remove(kind, name));
        drop(topology);
        let cleared = |queue: &QueueDefinition| self.tell_queue_policy_cleared(queue, by);
        self.police_where(|applied, _| has(applied, kind, name), cleared, turn);
        self.tell_policy_cleared(kind, name, by);
        Ok(true)
    }

    /// Forgets all policies: the vhost goes.
    pub(in crate::broker) fn forget_policies(&self, removals: &mut DefinitionChanges) {
        let policies = std::mem::take(&mut *self.policies.write());
        for kind in [PolicyKind::Policy, PolicyKind::Operator] {
            for policy in policies.of(kind) {
                Definition::Policy(self.name().clone(), kind, policy.clone()).remove(removals);
            }
        }
    }

    /// Takes over a stored policy. [`VirtualHost::police_all`] has to follow.
    pub(in crate::broker) fn restore_policy(&self, kind: PolicyKind, policy: Arc<Policy>) {
        self.change_policies(|policies| policies.set(kind, policy));
    }

    fn change_policies<T>(&self, change: impl FnOnce(&mut Policies) -> T) -> T {
        change(Arc::make_mut(&mut self.policies.write()))
    }

    /// Refuses a pattern that does harm before it is set.
    fn try_on_all(&self, policy: &Policy) -> Result<(), BrokerError> {
        let refuse = |target: Target<'_>| match policy.applies(target) {
            Ok(_) => Ok(()),
            Err(undecided) => Err(BrokerError::PolicyUndecided { undecided, kind: target.kind() }),
        };
        for exchange in self.exchanges() {
            refuse(Target::Exchange(&exchange.definition().name))?;
        }
        self.queues().iter().try_for_each(|queue| refuse(target(queue)))
    }

    /// Applies the policies to every queue and exchange; most will find that nothing has changed.
    pub(in crate::broker) fn police_all(&self, turn: &mut Turn) {
        self.police_where(|_, _| true, |_| (), turn);
    }

    /// Applies the policies to the objects whose policies may have changed, which are chosen by what applies to them so far. Calls
    /// `changed` for each queue of which they have.
    fn police_where(
        &self,
        may_change: impl Fn(&Applied, Target<'_>) -> bool,
        changed: impl Fn(&QueueDefinition),
        turn: &mut Turn,
    ) {
        let mut given_up = GivenUp::default();
        for exchange in self.exchanges() {
            if may_change(&exchange.applied(), Target::Exchange(&exchange.definition().name))
                && self.police(&exchange, &mut given_up)
            {
                self.topology_changed();
            }
        }
        for queues in self.queues().chunks(SLICE_QUEUES) {
            for queue in queues {
                let applied = queue.applied();
                if may_change(&applied, target(queue)) {
                    let applied = self.applied_to(target(queue), &mut given_up);
                    if queue.apply(applied, turn) {
                        changed(queue.definition());
                    }
                }
            }
            self.apply_effects(turn);
            turn.append_to(&self.shared().journal);
        }
        given_up.tell(self.name());
    }

    fn applied_to(&self, target: Target<'_>, given_up: &mut GivenUp) -> Applied {
        let policies = self.policies.read().clone();
        policies.applied_to(target, given_up)
    }

    fn police(&self, exchange: &Exchange, given_up: &mut GivenUp) -> bool {
        exchange.apply(self.applied_to(Target::Exchange(&exchange.definition().name), given_up))
    }

    /// Applies the policies to a new exchange.
    pub(in crate::broker) fn police_exchange(&self, exchange: &Exchange) {
        let mut given_up = GivenUp::default();
        self.police(exchange, &mut given_up);
        given_up.tell(self.name());
    }

    /// Applies the policies to a new queue.
    pub(in crate::broker) fn police_queue(&self, queue: &QueueHandle, turn: &mut Turn) {
        let mut given_up = GivenUp::default();
        let applied = self.applied_to(target(queue), &mut given_up);
        queue.apply(applied, turn);
        given_up.tell(self.name());
    }
}

fn target(queue: &QueueHandle) -> Target<'_> {
    Target::Queue(&queue.definition().name, queue.definition().queue_type)
}

/// Whether the policy of that name is the one that applies.
fn has(applied: &Applied, kind: PolicyKind, name: &str) -> bool {
    let policy = match kind {
        PolicyKind::Policy => &applied.policy,
        PolicyKind::Operator => &applied.operator_policy,
    };
    policy.as_ref().is_some_and(|policy| &*policy.name == name)
}
