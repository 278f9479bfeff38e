//! Resource alarms: while one is raised, connections that publish are blocked and consumers go on.

use super::Broker;
use super::delivery::Outbox;
use super::observe::events::{By, text};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// A resource that runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The process's memory.
    Memory = 1,
    /// Space on the volume of the data directory.
    Disk = 2,
    /// Room or file descriptors that the store needs to write anything.
    Store = 4,
}

/// The alarms that are raised, and the sessions that they block.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: AtomicU8,
    blocked: Mutex<Vec<Weak<Outbox>>>,
}

impl Alarm {
    /// Its name in events.
    fn name(self) -> &'static str {
        match self {
            Alarm::Memory => "memory",
            Alarm::Disk => "disk",
            Alarm::Store => "store",
        }
    }
}

impl Broker {
    /// Raises an alarm, and tells of it.
    pub fn raise_alarm(&self, alarm: Alarm) {
        if self.alarms.raise(alarm) {
            self.tell_alarm("alarm.set", alarm);
        }
    }

    /// Clears an alarm, and tells of it.
    pub fn clear_alarm(&self, alarm: Alarm) {
        if self.alarms.clear(alarm) {
            self.tell_alarm("alarm.cleared", alarm);
        }
    }

    fn tell_alarm(&self, key: &'static str, alarm: Alarm) {
        self.tell(key, By::Unsaid, || vec![("node", text(self.node_name())), ("source", text(alarm.name()))]);
    }
}

impl Alarms {
    /// Raises an alarm: from now on publishers are blocked. True when it was not up.
    pub fn raise(&self, alarm: Alarm) -> bool {
        self.raised.fetch_or(alarm as u8, Ordering::AcqRel) & alarm as u8 == 0
    }

    /// Clears an alarm; when it was the last one, all blocked sessions are woken. True when it was up.
    pub fn clear(&self, alarm: Alarm) -> bool {
        let before = self.raised.fetch_and(!(alarm as u8), Ordering::AcqRel);
        if before == alarm as u8 {
            for outbox in std::mem::take(&mut *self.blocked.lock()) {
                if let Some(outbox) = outbox.upgrade() {
                    outbox.wake();
                }
            }
        }
        before & alarm as u8 != 0
    }

    /// Whether an alarm is up.
    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.raised.load(Ordering::Acquire) & alarm as u8 != 0
    }

    /// Why publishers are blocked, in RabbitMQ's words; `None` when they are not.
    pub fn reason(&self) -> Option<&'static str> {
        match self.raised.load(Ordering::Acquire) {
            0 => None,
            1 => Some("low on memory"),
            2 => Some("low on disk"),
            3 => Some("low on memory & disk"),
            4 | 6 => Some("low on disk or file descriptors"),
            _ => Some("low on memory & disk or file descriptors"),
        }
    }

    /// Has a blocked session woken when all alarms are cleared.
    pub fn wake_when_cleared(&self, outbox: &Arc<Outbox>) {
        let mut blocked = self.blocked.lock();
        if blocked.len() == blocked.capacity() {
            // Those that are gone make room, so that clients which come and go under an alarm don't add up.
            blocked.retain(|outbox| outbox.strong_count() > 0);
        }
        blocked.push(Arc::downgrade(outbox));
        drop(blocked);
        if self.reason().is_none() {
            outbox.wake();
        }
    }
}
