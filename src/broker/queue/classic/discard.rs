//! Messages that leave a queue all at once, and that nobody is given: the queue is purged, or ends. The queue lets go of them under
//! its lock in one step; what it takes to tell the journal of each, and to give its memory back, is done afterwards, a part at a time.

use super::Queue;
use super::ready::{Any, Ready};
use crate::broker::chores::Chore;
use crate::broker::memory::{Held, MemoryUse};
use crate::broker::turn::{Effect, Turn};
use crate::message::{Position, QueueId};

/// What it takes to discard one, in steps.
const DISCARD_STEPS: usize = 10;

/// Messages that are being discarded, see the module.
#[derive(Debug)]
pub struct Discard {
    queue: QueueId,
    ready: Ready,
    /// Whether the journal has yet to hear of each. Of a queue that ends it hears as a whole.
    tells_journal: bool,
    held: Held,
}

impl Chore for Discard {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        while !turn.is_spent() {
            let Some(taken) = self.ready.take_any() else { return true };
            turn.spend(DISCARD_STEPS);
            match taken {
                Any::InMemory(entry) if self.tells_journal && entry.journaled => {
                    turn.changes.settle(self.queue, entry.position);
                }
                Any::PagedOut(run) if self.tells_journal => {
                    let last = Position(run.first.0 + run.count - 1);
                    turn.changes.settle_range(self.queue, run.first, last);
                }
                _ => {}
            }
        }
        self.held.set(self.ready.resident_bytes());
        self.ready.is_empty()
    }
}

impl Queue {
    /// Lets go of all ready messages, and says how many there were.
    pub(super) fn discard_all(&mut self, tells_journal: bool, turn: &mut Turn) -> usize {
        let ready = std::mem::take(&mut self.ready);
        let count = ready.len();
        if count > 0 {
            let held = self.pager.memory().hold(MemoryUse::Ready, ready.resident_bytes());
            let discard = Discard { queue: self.definition.id, ready, tells_journal, held };
            turn.effects.push(Effect::Discard(Box::new(discard)));
        }
        self.account(turn);
        count
    }
}
