//! The way of a dead letter: out of the queue that it was in, and into those that its dead-letter exchange leads to, in one record
//! of the journal. One that leads to very many queues travels a part at a time, with the timer.

use super::chores::Chore;
use super::memory::{Held, MemoryUse};
use super::queue::{DeadLetter, DeadLetterStrategy, Overflow, cycles};
use super::routing::{Found, Route, Routing};
use super::spread::Spread;
use super::turn::{Effect, TURN_STEPS, Turn};
use super::vhost::{Staged, VirtualHost};
use crate::message::{Message, Millis};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A dead letter that is in the turn's changes and not yet in the queues that it goes to.
#[derive(Debug)]
pub struct StagedLetter {
    /// The queues that it goes to.
    pub route: Arc<Route>,
    /// The dead letter, as the journal was given it.
    pub staged: Staged,
}

/// A dead letter whose way is being found.
#[derive(Debug)]
pub struct Departure {
    dead: DeadLetter,
    letter: Message,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Found(Route),
    Finding(Box<Routing>),
}

/// What it takes to ask a queue whether it would refuse a message, and whether a message has been there, in steps.
const ASK_STEPS: usize = 5;

/// What it takes to bring a letter into a queue, in steps.
const DELIVER_STEPS: usize = 30;

/// A letter for more queues than these travels a part at a time.
const QUEUES_AT_ONCE: usize = 1000;

/// While more dead letters than these wait for the timer, queues dead-letter no more for a moment, and clients that do are slowed down.
const WAITING_MAX: usize = 1000;

/// How long queues pause then.
const PAUSE_MS: u64 = 10;

/// How many dead letters wait for the timer, of all vhosts.
#[derive(Debug, Default)]
pub(super) struct WaitingLetters(Arc<AtomicUsize>);

impl WaitingLetters {
    /// When queues whose messages have expired may dead-letter them, if not now.
    pub(super) fn pause_until(&self, now: Millis) -> Option<Millis> {
        (self.0.load(Ordering::Relaxed) > WAITING_MAX).then_some(now + PAUSE_MS)
    }

    fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }
}

/// Counts one for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The dead letters of a vhost that wait for the timer, which brings them on their way one after the other.
#[derive(Debug, Default)]
pub(super) struct LetterQueue {
    waiting: VecDeque<Waiting>,
    /// Whether the timer has been asked to.
    is_underway: bool,
}

#[derive(Debug)]
struct Waiting {
    at: Stage,
    /// Holds it in the memory account.
    _held: Held,
    _counted: Counted,
}

/// How far a dead letter has come.
#[derive(Debug)]
enum Stage {
    /// Nothing is known of its way yet.
    Dead(Box<DeadLetter>),
    /// A part of its way is.
    Departure(Box<Departure>),
    /// A part of the queues has it.
    Spread(Box<Spread>),
}

/// The vhost's letters are to be gone on with.
struct SendLetters;

impl Chore for SendLetters {
    fn go_on(&mut self, turn: &mut Turn) -> bool {
        turn.effects.push(Effect::SendLetters);
        true
    }
}

/// The dead letters of a turn: those for which it has no time are left to the timer.
#[derive(Debug, Default)]
pub(super) struct Letters {
    spent: usize,
}

impl Letters {
    /// Moves a dead message on, or has the timer do so, behind those that wait already.
    pub(super) fn send(&mut self, vhost: &VirtualHost, dead: DeadLetter, turn: &mut Turn) {
        let dead = Stage::Dead(Box::new(dead));
        let rest = match self.spent >= TURN_STEPS || vhost.letters.lock().is_underway {
            true => Some(dead),
            false => {
                let (rest, steps) = vhost.send_part(dead, turn);
                self.spent += steps;
                rest
            }
        };
        if let Some(rest) = rest {
            self.spent = TURN_STEPS;
            vhost.send_later(rest, turn);
        }
    }
}

impl VirtualHost {
    /// Goes on with a dead letter for as long as the turn lasts. Returns it if it has not arrived everywhere, and what it took, in steps.
    fn send_part(&self, letter: Stage, turn: &mut Turn) -> (Option<Stage>, usize) {
        let mut departure = match letter {
            Stage::Dead(dead) => Box::new(self.begin_departure(*dead, turn.now)),
            Stage::Departure(departure) => departure,
            Stage::Spread(mut spread) => {
                let is_done = spread.go_on(turn);
                return ((!is_done).then_some(Stage::Spread(spread)), TURN_STEPS);
            }
        };
        if !self.find_way(&mut departure) {
            turn.use_up();
            return (Some(Stage::Departure(departure)), TURN_STEPS);
        }
        let Some(StagedLetter { route, staged }) = self.stage_departure(*departure, turn) else {
            return (None, DELIVER_STEPS);
        };
        turn.append_to(&self.shared().journal);
        let steps = DELIVER_STEPS * route.queues.len();
        if route.queues.len() > QUEUES_AT_ONCE {
            let spread = self.spread(route, staged, turn);
            return (Some(Stage::Spread(Box::new(spread))), steps);
        }
        self.deliver(&route, staged, turn, &mut Vec::new());
        (None, steps)
    }

    /// Has the timer go on with a dead letter.
    fn send_later(&self, at: Stage, turn: &mut Turn) {
        let shared = self.shared();
        let bytes = match &at {
            Stage::Dead(dead) => dead.entry.message.size_bytes(),
            Stage::Departure(departure) => departure.letter.size_bytes(),
            // It is in its queues.
            Stage::Spread(_) => 0,
        };
        let held = shared.memory.hold(MemoryUse::Ready, bytes);
        let counted = shared.waiting_letters.count();
        if shared.waiting_letters.pause_until(turn.now).is_some() {
            turn.hold_back();
        }
        let is_first = {
            let mut letters = self.letters.lock();
            letters.waiting.push_back(Waiting { at, _held: held, _counted: counted });
            !std::mem::replace(&mut letters.is_underway, true)
        };
        if is_first {
            self.ask_for_letters();
        }
    }

    fn ask_for_letters(&self) {
        self.shared().chores.add(self.name().clone(), Box::new(SendLetters));
        self.shared().timer.ring();
    }

    /// Goes on with the letters that wait, for as long as the turn lasts.
    pub(super) fn send_letters(&self, turn: &mut Turn) {
        loop {
            let next = {
                let mut letters = self.letters.lock();
                let next = letters.waiting.pop_front();
                letters.is_underway = next.is_some();
                next
            };
            let Some(Waiting { at, _held, _counted }) = next else { return };
            let (rest, steps) = self.send_part(at, turn);
            match rest {
                Some(at) => self.letters.lock().waiting.push_front(Waiting { at, _held, _counted }),
                None => turn.spend(steps),
            }
            if turn.is_spent() {
                return self.ask_for_letters();
            }
        }
    }

    /// Finds a dead message's way and writes it into the turn's changes, see [`VirtualHost::stage_departure`].
    pub fn stage_dead_letter(&self, dead: DeadLetter, turn: &mut Turn) -> Option<StagedLetter> {
        let mut departure = self.begin_departure(dead, turn.now);
        while !self.find_way(&mut departure) {}
        self.stage_departure(departure, turn)
    }

    /// Begins to find the way of a message that is dead.
    pub fn begin_departure(&self, dead: DeadLetter, now: Millis) -> Departure {
        let letter = dead.letter(now);
        let exchange = dead.settings.dead_letter_exchange.as_deref().and_then(|name| self.exchange(name));
        let way = match exchange.map(|exchange| self.begin_route(&exchange, &letter)) {
            None => Way::Found(Route::default()),
            Some(Found::Whole(route)) => Way::Found(route),
            Some(Found::Begun(routing)) => Way::Finding(Box::new(routing)),
        };
        Departure { dead, letter, way }
    }

    /// Finds a part of the way of a dead letter, for as long as a turn may take, and says whether all of it is found.
    pub fn find_way(&self, departure: &mut Departure) -> bool {
        let Way::Finding(routing) = &mut departure.way else { return true };
        if !self.go_on_routing(routing, &departure.letter) {
            return false;
        }
        departure.way = Way::Found(std::mem::take(routing.as_mut()).into_route());
        true
    }

    /// Writes a dead letter whose way is found into the turn's changes: out of its queue and into the others in one record.
    /// `None` when it has nowhere to go: then it is gone, or held in its queue if it may not get lost.
    pub fn stage_departure(&self, departure: Departure, turn: &mut Turn) -> Option<StagedLetter> {
        let Departure { dead, letter, way } = departure;
        let DeadLetter { queue, settings, entry, reason } = dead;
        let mut route = match way {
            Way::Found(route) => route,
            Way::Finding(routing) => routing.into_route(),
        };
        let leads_nowhere = route.is_empty();
        turn.spend(ASK_STEPS * route.queues.len());
        let is_cycle = cycles(&letter, reason);
        let there_were = route.queues.len();
        route.queues.retain(|target| !is_cycle(&target.definition().name));
        if route.queues.len() < there_were {
            tracing::warn!("a dead letter of {} would go round in a circle and is dropped", queue.resource());
        }
        let at_least_once = settings.dead_letter_strategy == DeadLetterStrategy::AtLeastOnce
            && settings.overflow != Overflow::DropHead;
        if at_least_once && (leads_nowhere || route.queues.iter().any(|target| target.would_refuse(&letter)))
        {
            if let Some(source) = self.queue_by_id(&queue.name, queue.id) {
                source.retry(entry, reason, turn);
            }
            return None;
        }
        if entry.journaled {
            turn.changes.settle(queue.id, entry.position);
        }
        if route.is_empty() {
            return None;
        }
        let route = Arc::new(route);
        let staged = self.stage(&route, vec![letter], turn);
        Some(StagedLetter { route, staged })
    }
}
