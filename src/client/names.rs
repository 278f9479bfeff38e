//! Names that a connection keeps and makes: those of its exclusive queues, and new ones.

use crate::broker::chores::Chore;
use crate::broker::{Turn, VirtualHost};
use crate::message::{ConnectionId, Name};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The queues that go with their connection.
#[derive(Debug)]
pub(crate) struct ExclusiveQueues {
    names: BTreeSet<Name>,
    /// At this many names those of deleted queues are sorted out: the deletion of an auto-delete queue is not reported.
    sort_out_at: usize,
}

impl ExclusiveQueues {
    pub(crate) fn new() -> ExclusiveQueues {
        ExclusiveQueues { names: BTreeSet::new(), sort_out_at: 64 }
    }

    pub(crate) fn insert(&mut self, name: &Name, vhost: &VirtualHost) {
        self.names.insert(name.clone());
        if self.names.len() >= self.sort_out_at {
            self.names.retain(|name| vhost.queue(name).is_some());
            self.sort_out_at = 2 * self.names.len().max(32);
        }
    }

    fn take_all(&mut self) -> std::collections::btree_set::IntoIter<Name> {
        std::mem::take(&mut self.names).into_iter()
    }
}

/// The exclusive queues of a connection that has ended.
pub(crate) struct DeletingQueues {
    vhost: Arc<VirtualHost>,
    owner: ConnectionId,
    names: std::collections::btree_set::IntoIter<Name>,
}

/// What it takes to delete a queue, in steps.
const DELETE_STEPS: usize = 500;

impl DeletingQueues {
    /// Those of a connection that has ended.
    pub(crate) fn new(
        vhost: &Arc<VirtualHost>,
        owner: ConnectionId,
        queues: &mut ExclusiveQueues,
    ) -> DeletingQueues {
        DeletingQueues { vhost: vhost.clone(), owner, names: queues.take_all() }
    }
}

impl Chore for DeletingQueues {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        while !turn.is_spent() {
            let Some(queue) = self.names.next() else { return true };
            turn.spend(DELETE_STEPS);
            if let Err(error) = self.vhost.delete_exclusive_queue(&queue, self.owner, turn) {
                tracing::error!(
                    "exclusive queue '{queue}' could not be deleted with its connection: {error}"
                );
            }
        }
        self.names.len() == 0
    }
}

/// Makes unguessable names that do not repeat: for queues, consumer tags and reply addresses.
#[derive(Debug)]
pub(crate) struct NameGenerator {
    state: std::hash::RandomState,
    count: u64,
}

impl NameGenerator {
    pub(crate) fn new() -> NameGenerator {
        NameGenerator { state: std::hash::RandomState::new(), count: 0 }
    }

    /// `prefix` and 22 characters.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
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
