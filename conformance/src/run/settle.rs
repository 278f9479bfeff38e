//! Waiting until nothing more can come, and leaving nothing behind.
//!
//! Over TCP, "nothing comes" is made sure of by round trips: every open channel answers a channel.flow, then each queue
//! a passive declare from the runner's own connection, then the channels again; what a queue had to deliver is then out.

use super::*;
use crate::text::parse;

impl Runner<'_> {
    /// Waits until what was sent has had all its effects.
    pub(super) fn settle(&mut self) {
        let letters: Vec<char> =
            self.connections.keys().copied().filter(|letter| *letter != CONTROL).collect();
        if !self.transport.exact() {
            for _ in 0..2 {
                letters.iter().for_each(|letter| self.flush_channels(*letter));
                self.flush_queues();
                letters.iter().for_each(|letter| self.flush_channels(*letter));
            }
        }
        for letter in letters {
            let wait =
                self.connections.get(&letter).map_or(Duration::ZERO, |connection| self.patience(connection));
            while self.receive(letter, wait) == Arrived::Data {}
        }
    }

    /// How long to listen to a connection once its channels have answered: where they can't be asked, time must do.
    fn patience(&self, connection: &Connection) -> Duration {
        if self.transport.exact() || connection.ended {
            return Duration::from_millis(1);
        }
        match (connection.raw, connection.ready) {
            (false, true) => Duration::from_millis(1),
            _ => self.options.patience,
        }
    }

    fn flush_channels(&mut self, letter: char) {
        let deadline = Instant::now() + self.options.timeout;
        let commits = |connection: &Connection| !connection.committing.is_empty() && !connection.ended;
        while self.connections.get(&letter).is_some_and(commits) {
            if self.receive(letter, Duration::from_millis(50)) == Arrived::Closed || Instant::now() > deadline
            {
                return;
            }
        }
        let Some(connection) = self.connections.get(&letter) else { return };
        if !connection.ready || connection.ended || connection.closed || connection.raw || connection.paused {
            return;
        }
        let open = connection.channels.iter().filter(|(_, open)| **open);
        for channel in open.map(|(channel, _)| *channel).collect::<Vec<_>>() {
            let place = (letter, channel);
            let Ok(line) = parse("channel.flow active") else { return };
            if self.send(place, &line).is_err() {
                return;
            }
            self.until(place, "channel.flow-ok");
        }
    }

    /// Takes items of a place until this method comes; the others stay in the inbox.
    fn until(&mut self, place: Place, name: &str) {
        let deadline = Instant::now() + self.options.timeout;
        let mut others = VecDeque::new();
        while let Some(item) = self.next(place, deadline) {
            let is = |wanted: &str| matches!(&item, Item::Method(method, _) if method.spec.name == wanted);
            if is(name) {
                break;
            }
            let closes = is("channel.close");
            others.push_back(item);
            if closes {
                break;
            }
        }
        if let Some(connection) = self.connections.get_mut(&place.0) {
            let inbox = connection.inbox.entry(place.1).or_default();
            others.into_iter().rev().for_each(|item| inbox.push_front(item));
        }
    }

    fn flush_queues(&mut self) {
        for queue in self.queues.clone() {
            if !queue.is_empty() {
                self.control("queue.declare passive queue", &queue);
            }
        }
    }

    /// One call on the runner's own connection; an error closes the channel, the next call opens it again.
    fn control(&mut self, call: &str, name: &[u8]) -> bool {
        let text: String = name.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let Ok(line) = parse(&format!("{call}=\"{}\"", text.replace("\\x24", "$$"))) else { return false };
        let queues = self.queues.clone();
        let sent = self.send((CONTROL, 1), &line);
        self.queues = queues;
        let Ok(()) = sent else { return false };
        match self.next((CONTROL, 1), Instant::now() + self.options.timeout) {
            Some(Item::Method(method, _)) if method.spec.name == "channel.close" => {
                let _ = parse("channel.close-ok").and_then(|line| self.send((CONTROL, 1), &line));
                if let Ok(connection) = self.connection(CONTROL) {
                    connection.channels.remove(&1);
                }
                false
            }
            answer => answer.is_some(),
        }
    }

    pub(super) fn nothing(&mut self, place: Option<Place>) -> Result<()> {
        self.settle();
        for (letter, connection) in &self.connections {
            let one = place.is_none_or(|(only, _)| only == *letter);
            for (channel, inbox) in &connection.inbox {
                let one = one && place.is_none_or(|(_, only)| only == *channel);
                let heartbeats = connection.heartbeat > 0;
                let counts = |item: &Item| !(heartbeats && matches!(item, Item::Heartbeat));
                if one && *letter != CONTROL && inbox.iter().any(counts) {
                    return Err("something came".into());
                }
            }
        }
        Ok(())
    }

    /// Ends the case's connections and deletes what it declared.
    pub(crate) fn clean_up(&mut self) {
        let letters: Vec<char> =
            self.connections.keys().copied().filter(|letter| *letter != CONTROL).collect();
        for letter in letters {
            let Some(connection) = self.connections.get(&letter) else { continue };
            let id = connection.id;
            if connection.ready && !connection.ended && !connection.closed && !connection.raw {
                let _ = parse("connection.close 200").and_then(|line| self.send((letter, 0), &line));
                self.until((letter, 0), "connection.close-ok");
            }
            self.transport.close(id);
        }
        for queue in self.queues.clone() {
            if !queue.starts_with(b"amq.") && !queue.is_empty() {
                self.control("queue.delete queue", &queue);
            }
        }
        for queue in self.names.captured() {
            self.control("queue.delete queue", queue.as_bytes());
        }
        for exchange in self.exchanges.clone() {
            if !exchange.starts_with(b"amq.") && !exchange.is_empty() {
                self.control("exchange.delete exchange", &exchange);
            }
        }
        self.take_back();
        let Some(id) = self.connections.get(&CONTROL).map(|control| control.id) else { return };
        let _ = parse("connection.close 200").and_then(|line| self.send((CONTROL, 0), &line));
        self.until((CONTROL, 0), "connection.close-ok");
        self.transport.close(id);
    }
}
