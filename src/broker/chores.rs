//! What is left of long work when nobody waits for it any more: the timer goes on with it, a part in each of its turns.

use super::Broker;
use super::turn::Turn;
use crate::message::{Millis, Name};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Work that is done a part at a time, each no longer than a turn may take.
pub trait Chore: Send {
    /// Does a part of it, until it is done or the turn is spent. True when it is done.
    fn go_on(&mut self, turn: &mut Turn) -> bool;
}

/// The chores that wait for the timer, see the module.
#[derive(Default)]
pub(super) struct Chores {
    /// Each with the vhost that its effects are of.
    waiting: Mutex<VecDeque<(Name, Box<dyn Chore>)>>,
}

impl Chores {
    pub(super) fn add(&self, vhost: Name, chore: Box<dyn Chore>) {
        self.waiting.lock().push_back((vhost, chore));
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    fn take(&self) -> Option<(Name, Box<dyn Chore>)> {
        self.waiting.lock().pop_front()
    }
}

impl std::fmt::Debug for Chores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chores").field("waiting", &self.waiting.lock().len()).finish()
    }
}

impl Broker {
    /// Whether there is work left over that nobody waits for: [`Broker::handle_timeout`] goes on with it.
    pub fn has_chores(&self) -> bool {
        !self.shared.chores.is_empty()
    }

    /// Goes on with what is left over, in turn, for as long as a turn may take.
    pub(super) fn go_on_with_chores(&self, now: Millis) {
        let mut turn = Turn::at(now);
        while !turn.is_spent()
            && let Some((name, mut chore)) = self.shared.chores.take()
        {
            let is_done = chore.go_on(&mut turn);
            match self.vhost(&name) {
                Some(vhost) => vhost.apply_effects(&mut turn),
                // What is wanted in a vhost that is gone is gone as well.
                None => turn.effects.clear(),
            }
            if !is_done {
                self.shared.chores.add(name, chore);
            }
        }
        self.end_turn(&mut turn);
    }
}
