//! Names that a connection keeps and makes: those of its exclusive queues, and new ones.

use crate::broker::VirtualHost;
use crate::message::Name;
use std::collections::BTreeSet;

/// The queues that go with their connection.
#[derive(Debug)]
pub(in crate::amqp) struct ExclusiveQueues {
    names: BTreeSet<Name>,
    /// At this many names those of deleted queues are sorted out: the deletion of an auto-delete queue is not reported.
    sort_out_at: usize,
}

impl ExclusiveQueues {
    pub(in crate::amqp) fn new() -> ExclusiveQueues {
        ExclusiveQueues { names: BTreeSet::new(), sort_out_at: 64 }
    }

    pub(super) fn insert(&mut self, name: &Name, vhost: &VirtualHost) {
        self.names.insert(name.clone());
        if self.names.len() >= self.sort_out_at {
            self.names.retain(|name| vhost.queue(name).is_some());
            self.sort_out_at = 2 * self.names.len().max(32);
        }
    }

    pub(in crate::amqp) fn take_all(&mut self) -> std::collections::btree_set::IntoIter<Name> {
        std::mem::take(&mut self.names).into_iter()
    }
}

/// Makes unguessable names that do not repeat: for queues, consumer tags and reply addresses.
#[derive(Debug)]
pub(in crate::amqp) struct NameGenerator {
    state: std::hash::RandomState,
    count: u64,
}

impl NameGenerator {
    pub(in crate::amqp) fn new() -> NameGenerator {
        NameGenerator { state: std::hash::RandomState::new(), count: 0 }
    }

    /// `prefix` and 22 characters.
    pub(super) fn name(&mut self, prefix: &str) -> String {
        use base64::Engine;
        use std::hash::BuildHasher;
        let mut bytes = [0; 16];
        for half in bytes.chunks_mut(8) {
            self.count += 1;
            half.copy_from_slice(&self.state.hash_one(self.count).to_be_bytes());
        }
        format!("{prefix}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }
}
