//! A message that goes to more queues than a turn has time for: it is written to the journal once for all of them, and
//! then they get it a part at a time. Who publishes goes on when the last one has it.

use super::chores::Chore;
use super::routing::Route;
use super::turn::Turn;
use super::vhost::{Staged, VirtualHost};
use crate::message::{Lsn, Message};
use std::sync::Arc;

/// What it takes to reserve a place in a queue and to tell the journal, and to bring the message there, in steps.
const STAGE_STEPS: usize = 3;
const PUBLISH_STEPS: usize = 30;

/// A message on its way to very many queues, see the module.
#[derive(Debug)]
pub struct Spread {
    route: Arc<Route>,
    staged: Staged,
    /// The first of the queues that do not have it yet.
    next: usize,
    refused: Vec<usize>,
}

impl Spread {
    /// A message that is staged and has yet to be brought to all of the queues.
    pub(super) fn of(route: Arc<Route>, staged: Staged) -> Spread {
        let refused = staged.left_out.as_ref().map_or_else(Vec::new, |left_out| left_out.refused.clone());
        Spread { route, staged, next: 0, refused }
    }

    /// Whether one of the queues refused it.
    pub fn was_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}

impl Chore for Spread {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        let Spread { route, staged: Staged { first, messages, left_out }, next, refused } = self;
        while !turn.is_spent() {
            let (Some(queue), Some(position)) = (route.queues.get(*next), first.get(*next)) else {
                return true;
            };
            turn.spend(PUBLISH_STEPS);
            let takes = left_out.as_ref().is_none_or(|left_out| left_out.is_taken(*next, 0));
            queue.publish(*position, messages.iter().filter(|_| takes).cloned(), turn, refused);
            *next += 1;
        }
        *next == route.queues.len()
    }
}

impl VirtualHost {
    /// Brings a message that is staged to very many queues, a part at a time.
    pub fn spread(&self, route: Arc<Route>, staged: Staged, turn: &mut Turn) -> Spread {
        self.reply(&route, &staged.messages, turn);
        Spread::of(route, staged)
    }

    /// Gives a message its places in all queues of its route, and tells the journal. Returns what has to be gone on with, and the
    /// record that it will be in.
    pub fn begin_spread(
        &self,
        route: &Arc<Route>,
        message: Message,
        turn: &mut Turn,
    ) -> (Spread, Option<Lsn>) {
        turn.spend(STAGE_STEPS * route.queues.len());
        let staged = self.stage_published(route, vec![message], turn);
        let record = turn.append_to(&self.shared().journal);
        self.reply(route, &staged.messages, turn);
        (Spread::of(route.clone(), staged), record)
    }
}
