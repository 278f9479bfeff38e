//! Heart-beats (STOMP 1.2, "Heart-beating"): when to send one, and when the peer has been silent for too long.

use super::error::StompError;
use crate::message::Millis;

/// What both ends agreed on, and when each was last heard. Intervals are whole seconds, as RabbitMQ's are; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// How often something has to be sent.
    pub(super) send_ms: u64,
    /// How often something has to come.
    pub(super) receive_ms: u64,
    last_sent: Millis,
    last_received: Millis,
}

impl Heartbeat {
    /// Agrees to what a client offers: within how many milliseconds it can send something, and within how many it wants to hear something.
    ///
    /// # Errors
    /// When the header is not two numbers.
    pub(super) fn agree(header: &[u8], now: Millis) -> Result<Heartbeat, StompError> {
        let text = String::from_utf8_lossy(header);
        let wrong = || {
            let body =
                format!("'heart-beat' must be two numbers of milliseconds, as 10000,10000, not '{text}'\n");
            StompError::new("Invalid header", body)
        };
        let (sends, wants) = text.split_once(',').ok_or_else(wrong)?;
        let interval = |text: &str| -> Result<u64, StompError> {
            Ok(match text.trim().parse::<u32>().map_err(|_| wrong())? {
                0 => 0,
                1..1000 => 1000,
                ms => u64::from(ms / 1000 * 1000),
            })
        };
        Ok(Heartbeat {
            send_ms: interval(wants)?,
            receive_ms: interval(sends)?,
            last_sent: now,
            last_received: now,
        })
    }

    /// Anything counts as a sign of life.
    pub(super) fn received(&mut self, now: Millis) {
        self.last_received = now;
    }

    /// Anything that is sent stands for a heart-beat.
    pub(super) fn sent(&mut self, now: Millis) {
        self.last_sent = now;
    }

    /// When something has to be sent: after half the interval.
    pub(super) fn send_at(&self) -> Option<Millis> {
        (self.send_ms > 0).then(|| self.last_sent + self.send_ms / 2)
    }

    /// When the peer is taken for dead: after two intervals of silence.
    pub(super) fn dead_at(&self) -> Option<Millis> {
        (self.receive_ms > 0).then(|| self.last_received + 2 * self.receive_ms)
    }

    /// Whether the peer has been silent for too long. A broker that looks half an interval late did not run for that time, and
    /// can't say what the peer did: it has another half.
    pub(super) fn is_dead(&mut self, now: Millis) -> bool {
        let Some(at) = self.dead_at() else { return false };
        let half = self.receive_ms / 2;
        if at + half <= now {
            self.last_received = (now + half).saturating_sub(2 * self.receive_ms);
            return false;
        }
        at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_whole_seconds() {
        let rows =
            [("0,0", 0, 0), ("500,2500", 2000, 1000), ("1000, 999", 1000, 1000), ("60000,0", 0, 60_000)];
        for (header, send_ms, receive_ms) in rows {
            let heartbeat = Heartbeat::agree(header.as_bytes(), 0).unwrap();
            assert_eq!((heartbeat.send_ms, heartbeat.receive_ms), (send_ms, receive_ms), "{header}");
        }
        for header in ["", "1", "a,b", "-1,0", "1,2,3", "99999999999,1"] {
            let error = Heartbeat::agree(header.as_bytes(), 0).unwrap_err();
            assert_eq!(error.message, "Invalid header", "{header}");
        }
    }

    #[test]
    fn one_is_sent_after_half_and_silence_ends_after_two_intervals() {
        let mut heartbeat = Heartbeat::agree(b"1000,4000", 0).unwrap();
        assert_eq!((heartbeat.send_at(), heartbeat.dead_at()), (Some(2000), Some(2000)));
        heartbeat.sent(100);
        heartbeat.received(200);
        assert_eq!((heartbeat.send_at(), heartbeat.dead_at()), (Some(2100), Some(2200)));
        assert!(!heartbeat.is_dead(2199));
        assert!(heartbeat.is_dead(2200));
        assert!(!heartbeat.is_dead(60_000), "the broker itself did not look for a minute");
        assert!(heartbeat.is_dead(60_500));
    }
}
