//! A broker out of what its store has: definitions first, in the order in which they need one another, then their messages.

use super::access::logins::Logins;
use super::access::permissions::Permissions;
use super::access::users::Users;
use super::alarms::Alarms;
use super::chores::Chores;
use super::dead_lettering::WaitingLetters;
use super::exchange::{Exchange, ExchangeTypes};
use super::memory::MemoryAccount;
use super::observe::connections::Connections;
use super::observe::events::Events;
use super::observe::losses::Losses;
use super::observe::stats::ChurnCounters;
use super::queue::{QueueHandle, QueueType, tracking_queue};
use super::timer::Timer;
use super::topology::definitions::Definition;
use super::topology::parameters::Parameters;
use super::topology::unreadable::Unreadable;
use super::{Broker, BrokerError, BrokerLimits, Shared, Turn, VirtualHost, store_error};
use crate::message::{DecodeError, Millis, Name, QueueId};
use crate::store::{DefinitionChanges, Journal, Recovered, RecoveredQueue};
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

/// The entry in the table of definitions that counts the broker's starts.
const STARTS_KEY: &[u8] = b"0starts";

/// Counts this start, durably. Where the count is lost it goes on behind the ids of the queues there are.
fn count_start(
    journal: &Journal,
    stored: &[(Bytes, Bytes)],
    recovered: &Recovered,
) -> Result<u64, BrokerError> {
    let counted = stored.iter().find(|(key, _)| key == STARTS_KEY);
    let counted = counted.and_then(|(_, value)| value[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    let used = recovered.queues.iter().map(|queue| queue.queue.0 >> START_BITS).max().unwrap_or(0);
    let starts = counted.max(used) + 1;
    let mut started = DefinitionChanges::default();
    started.put(STARTS_KEY, &starts.to_be_bytes());
    journal.define_at_start(&started).map_err(store_error)?;
    Ok(starts)
}

/// A queue's id is the number of the start that it was declared after, and below these bits a count.
const START_BITS: u32 = 32;

impl Broker {
    /// A broker above a journal, with what the store remembers and the journal recovered.
    ///
    /// # Errors
    /// When the store can't be read. A definition that can't be restored is a [loss](Broker::losses), and the rest is there.
    pub fn open(
        journal: Arc<Journal>,
        recovered: Recovered,
        exchange_types: ExchangeTypes,
        limits: BrokerLimits,
        now: Millis,
    ) -> Result<Broker, BrokerError> {
        let stored = journal.definitions().definitions().map_err(store_error)?;
        let starts = count_start(&journal, &stored, &recovered)?;
        let logins = Logins::new(limits.failed_logins_waiting_max, limits.failed_logins_free);
        let shared = Arc::new(Shared {
            memory: Arc::new(MemoryAccount::new(limits.memory_budget_bytes)),
            events: Events::new(limits.events.clone()),
            limits,
            exchange_types,
            journal,
            timer: Timer::default(),
            reply_consumers: DashMap::new(),
            default_queue_type: Mutex::new(QueueType::Classic),
            node_name: OnceLock::new(),
            dialect: OnceLock::new(),
            queues: AtomicUsize::new(0),
            exchanges: AtomicUsize::new(0),
            // A queue's id is never used again, not even by a later start.
            queue_ids: AtomicU64::new(starts << START_BITS),
            consumer_ids: AtomicU64::new(1),
            connection_ids: AtomicU64::new(1),
            churn: ChurnCounters::default(),
            retired: Mutex::default(),
            chores: Chores::default(),
            waiting_letters: WaitingLetters::default(),
            streams: Arc::default(),
        });
        let broker = Broker {
            shared,
            vhosts: DashMap::new(),
            users: Users::default(),
            permissions: Permissions::default(),
            logins: Arc::new(logins),
            changing: Mutex::default(),
            alarms: Alarms::default(),
            losses: Losses::of(&recovered.losses, now),
            parameters: Parameters::default(),
            connections: Connections::default(),
            samples: Mutex::default(),
            lengths: Mutex::default(),
            sample_at: AtomicU64::new(now),
        };
        let mut turn = Turn::at(now);
        let mut messages: BTreeMap<QueueId, RecoveredQueue> =
            recovered.queues.into_iter().map(|queue| (queue.queue, queue)).collect();
        broker.restore_all(&stored, &mut messages, &mut turn)?;
        broker.begin_queues(now);
        turn.effects.clear();
        broker.end_turn(&mut turn);
        Ok(broker)
    }

    /// Restores what is defined, and what there is in its queues.
    fn restore_all(
        &self,
        stored: &[(Bytes, Bytes)],
        messages: &mut BTreeMap<QueueId, RecoveredQueue>,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        let mut unreadable = Unreadable::default();
        for (key, value) in stored {
            let damaged = |error: DecodeError| BrokerError::Store(error.to_string());
            let restored =
                Definition::decode(key, value).map_err(damaged).and_then(|definition| match definition {
                    Some(definition) => self.restore(definition, messages, &unreadable, turn),
                    None => Ok(()),
                });
            if let Err(why) = restored {
                if self.shared.journal.failure().is_some() {
                    return Err(why);
                }
                unreadable.note(key, &why);
            }
        }
        unreadable.report(stored, &self.losses, turn.now);
        if !unreadable.is_any_queue() {
            self.remove_forgotten_streams();
            for queue in messages.keys() {
                // A queue that is not defined any more: it was deleted, and the journal did not hear of it in time.
                turn.changes.drop_queue(*queue);
            }
        }
        Ok(())
    }

    /// Removes the files of streams that are not defined any more: they were deleted, and the broker ended before the files were gone.
    fn remove_forgotten_streams(&self) {
        let files = self.shared.journal.stream_files();
        let queues = self.vhosts().into_iter().flat_map(|vhost| vhost.queues());
        let defined: BTreeSet<QueueId> = queues.map(|queue| queue.definition().id).collect();
        let removed = files.streams().and_then(|streams| {
            let forgotten = streams.into_iter().filter(|stream| !defined.contains(stream));
            forgotten.into_iter().try_for_each(|stream| files.remove_stream(stream))
        });
        if let Err(error) = removed {
            tracing::error!("the files of deleted streams can't be removed: {error}");
        }
    }

    /// Lets restored queues look at their policies and at the time.
    fn begin_queues(&self, now: Millis) {
        for vhost in self.vhosts.iter() {
            let mut of_vhost = Turn::at(now);
            vhost.police_all(&mut of_vhost);
            for queue in vhost.queues() {
                queue.handle_timeout(&mut of_vhost);
            }
            vhost.apply_effects(&mut of_vhost);
            self.end_turn(&mut of_vhost);
        }
    }

    fn restore(
        &self,
        definition: Definition,
        messages: &mut BTreeMap<QueueId, RecoveredQueue>,
        unreadable: &Unreadable,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        match definition {
            Definition::VirtualHost(name, settings) => {
                let vhost = VirtualHost::new(name.clone(), settings, self.shared.clone());
                self.vhosts.insert(name, Arc::new(vhost));
            }
            Definition::User(user) => drop(self.users.put(user)),
            Definition::Permission(permission) => drop(self.permissions.set(permission)),
            Definition::TopicPermission(permission) => drop(self.permissions.set_topic(permission)),
            Definition::Exchange(exchange) => {
                let vhost = self.vhost_of_stored(&exchange.vhost, unreadable)?;
                let exchange = Exchange::new(exchange, &self.shared.exchange_types)?;
                vhost.insert_exchange(Arc::new(exchange));
            }
            Definition::Queue(name, id, declaration) => {
                let vhost = self.vhost_of_stored(&name, unreadable)?;
                let queue = QueueHandle::new(&name, id, declaration, &self.shared, turn)?;
                if let Some(recovered) = messages.remove(&id) {
                    queue.restore(&recovered, turn)?;
                }
                if let Some(recovered) = messages.remove(&tracking_queue(id)) {
                    queue.restore_tracking(&recovered)?;
                }
                vhost.insert_queue(Arc::new(queue));
            }
            Definition::Binding(name, binding) => {
                let vhost = self.vhost_of_stored(&name, unreadable)?;
                vhost.restore_binding(binding, unreadable.is_any())?;
            }
            Definition::Policy(name, kind, policy) => {
                self.vhost_of_stored(&name, unreadable)?.restore_policy(kind, policy);
            }
            Definition::Parameter(key, value) if !unreadable.is_any() && self.vhost(&key.vhost).is_none() => {
                tracing::info!("parameter '{}' of the deleted vhost '{}' is forgotten", key.name, key.vhost);
                self.shared.define(Definition::Parameter(key, value).as_removal())?;
            }
            Definition::Parameter(key, value) => self.parameters.restore(key, value),
            Definition::GlobalParameter(name, value) => self.parameters.restore_global(name, value),
        }
        Ok(())
    }

    /// The vhost of something that the store has. Where definitions were lost it may be one of them: then it is made anew, since
    /// what is left in it is worth more than it was.
    fn vhost_of_stored(&self, name: &Name, unreadable: &Unreadable) -> Result<Arc<VirtualHost>, BrokerError> {
        if let Some(vhost) = self.vhost(name) {
            return Ok(vhost);
        }
        if self.losses.count() == 0 && !unreadable.is_any() {
            return Err(BrokerError::Store(format!("the store has an object of the missing vhost '{name}'")));
        }
        tracing::error!(
            "vhost '{name}' is lost and made anew, without its limits, since there is something in it"
        );
        self.add_vhost(name)
    }
}
