//! Heartbeats in whole seconds (0-9-1 section 4.2.7, and the stream protocol has the same): when to send one, and when the peer has been silent for too long.

use crate::message::Millis;

/// What both ends agreed on, and when each was last heard.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// How long nothing may be sent: half of what was agreed on. `None` when there are none.
    half_ms: Option<u64>,
    last_sent: Millis,
    last_received: Millis,
}

impl Heartbeat {
    pub(crate) fn new(now: Millis) -> Heartbeat {
        Heartbeat { half_ms: None, last_sent: now, last_received: now }
    }

    /// The client's word counts as it is; 0 is none.
    pub(crate) fn start(&mut self, timeout_s: u16, now: Millis) {
        self.half_ms = (timeout_s > 0).then(|| u64::from(timeout_s) * 1000 / 2);
        self.last_sent = now;
        self.last_received = now;
    }

    /// Seconds of silence that were agreed on; 0 is none.
    pub(crate) fn timeout_s(&self) -> u16 {
        self.half_ms.map_or(0, |half| u16::try_from(half / 500).unwrap_or(u16::MAX))
    }

    /// Anything counts as a sign of life.
    pub(crate) fn received(&mut self, now: Millis) {
        self.last_received = now;
    }

    /// Anything that is sent stands for a heartbeat.
    pub(crate) fn sent(&mut self, now: Millis) {
        self.last_sent = now;
    }

    /// When something has to be sent.
    pub(crate) fn send_at(&self) -> Option<Millis> {
        self.half_ms.map(|half| self.last_sent + half)
    }

    /// When the peer is taken for dead: after two whole intervals of silence. RabbitMQ takes two to three, and there are clients
    /// that let one and a half pass between their heartbeats.
    pub(crate) fn dead_at(&self) -> Option<Millis> {
        self.half_ms.map(|half| self.last_received + 4 * half)
    }

    /// Whether the peer has been silent for too long.
    ///
    /// Who looks half an interval late did not run for that time, and can't say what the peer did: it has another half.
    pub(crate) fn is_dead(&mut self, now: Millis) -> bool {
        let (Some(half), Some(at)) = (self.half_ms, self.dead_at()) else { return false };
        if at + half <= now {
            self.last_received = now - 3 * half;
            return false;
        }
        at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_death_unless_the_broker_itself_stood_still() {
        let mut heartbeat = Heartbeat::new(0);
        heartbeat.start(2, 0);
        assert!(!heartbeat.is_dead(3999));
        assert!(heartbeat.is_dead(4000));

        assert!(!heartbeat.is_dead(60_000), "nobody looked for a minute");
        assert!(!heartbeat.is_dead(60_999));
        assert!(heartbeat.is_dead(61_000));
    }
}
