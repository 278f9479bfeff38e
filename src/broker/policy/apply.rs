//! A vhost's policies as they are set and go: kept in the store, and told to the queues and exchanges at once. A change is durable
//! when the ticket of `Broker::last_change` is answered.

use super::{Policy, PolicyKind, Target};
use crate::broker::definitions::Definition;
use crate::broker::exchange::Exchange;
use crate::broker::queue::QueueHandle;
use crate::broker::{BrokerError, Turn, VirtualHost};
use crate::store::DefinitionChanges;
use std::sync::Arc;

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

    /// Sets a policy in the place of its namesake, and says whether there was none. Queues and exchanges heed it when this
    /// returns.
    ///
    /// # Errors
    /// When the store failed.
    pub fn set_policy(&self, kind: PolicyKind, policy: Policy, turn: &mut Turn) -> Result<bool, BrokerError> {
        let topology = self.topology.lock();
        self.check_not_deleted(&topology)?;
        let policy = Arc::new(policy);
        self.shared().define(Definition::Policy(self.name().clone(), kind, policy.clone()).as_change())?;
        let is_new = self.policies.write().set(kind, policy);
        self.police_all(turn);
        drop(topology);
        self.apply_effects(turn);
        Ok(is_new)
    }

    /// Removes a policy, and says whether it was there. What it changed is as it was before.
    ///
    /// # Errors
    /// When the store failed.
    pub fn remove_policy(&self, kind: PolicyKind, name: &str, turn: &mut Turn) -> Result<bool, BrokerError> {
        let topology = self.topology.lock();
        let Some(policy) = self.policy(kind, name) else { return Ok(false) };
        self.shared().define(Definition::Policy(self.name().clone(), kind, policy).as_removal())?;
        self.policies.write().remove(kind, name);
        self.police_all(turn);
        drop(topology);
        self.apply_effects(turn);
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
        self.policies.write().set(kind, policy);
    }

    /// Tells every queue and exchange which policies apply to it now; most will find that nothing has changed.
    pub(in crate::broker) fn police_all(&self, turn: &mut Turn) {
        for exchange in self.exchanges() {
            if self.police_exchange(&exchange) {
                self.topology_changed();
            }
        }
        for queue in self.queues() {
            self.police_queue(&queue, turn);
        }
    }

    /// True when that may change routes.
    pub(in crate::broker) fn police_exchange(&self, exchange: &Exchange) -> bool {
        let target = Target::Exchange(&exchange.definition().name);
        exchange.apply(self.policies.read().applied_to(target))
    }

    pub(in crate::broker) fn police_queue(&self, queue: &QueueHandle, turn: &mut Turn) {
        let definition = queue.definition();
        let applied = self.policies.read().applied_to(Target::Queue(&definition.name, definition.queue_type));
        queue.lock().apply(applied, turn);
    }
}
