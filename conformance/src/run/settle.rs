//! Waiting until nothing more can come, and leaving nothing behind.
//!
//! Over TCP, "nothing comes" is made sure of by round trips: every open channel answers a channel.flow, then each queue
//! a passive declare from the runner's own connection, then the channels again; what a queue had to deliver is then out.

use super::*;
use crate::text::parse;

impl Runner<'_> {
    /// Waits until what was sent has had all its effects.
    pub(super) fn settle(&mut self) {
        self.settle_for(Duration::from_millis(1));
    }

    /// The same, listening for `rest` to the connections whose channels have all answered.
    pub(super) fn settle_for(&mut self, rest: Duration) {
        let letters: Vec<char> =
            self.connections.keys().copied().filter(|letter| *letter != CONTROL).collect();
        if !self.transport.exact() {
            for _ in 0..2 {
                self.flush_channels(&letters);
                self.flush_queues();
                self.flush_channels(&letters);
            }
        }
        for letter in letters {
            let wait =
                self.connections.get(&letter).map_or(rest, |connection| self.patience(connection, rest));
            while self.receive(letter, wait) == Arrived::Data {}
        }
    }

    /// How long to listen to a connection once its channels have answered: where they can't be asked, time must do.
    fn patience(&self, connection: &Connection, rest: Duration) -> Duration {
        let answers = connection.ready && !connection.raw;
        if self.transport.exact() || connection.ended || answers { rest } else { self.options.patience }
    }

    /// Asks all open channels something, then waits for all answers.
    fn flush_channels(&mut self, letters: &[char]) {
        let mut asked = Vec::new();
        for letter in letters {
            for channel in self.channels_to_ask(*letter) {
                let place = (*letter, channel);
                let sent = parse("channel.flow active").and_then(|line| self.send(place, &line));
                asked.extend(sent.is_ok().then_some(place));
            }
        }
        asked.into_iter().for_each(|place| self.until(place, "channel.flow-ok"));
    }

    /// The open channels of a connection, once its commits are done.
    fn channels_to_ask(&mut self, letter: char) -> Vec<u16> {
        let deadline = Instant::now() + self.options.timeout;
        let commits = |connection: &Connection| !connection.committing.is_empty() && !connection.ended;
        while self.connections.get(&letter).is_some_and(commits) {
            if self.receive(letter, Duration::from_millis(50)) == Arrived::Closed || Instant::now() > deadline
            {
                return Vec::new();
            }
        }
        let Some(connection) = self.connections.get(&letter) else { return Vec::new() };
        if !connection.ready || connection.ended || connection.closed || connection.raw || connection.paused {
            return Vec::new();
        }
        connection.channels.iter().filter(|(_, open)| **open).map(|(channel, _)| *channel).collect()
    }

    /// Takes items of a place until this method comes; the others stay in the inbox.
    pub(super) fn until(&mut self, place: Place, name: &str) {
        let deadline = Instant::now() + self.options.timeout;
        let mut others = VecDeque::new();
        loop {
            let soon = Instant::now() + Duration::from_millis(20);
            let Some(item) = self.next(place, deadline.min(soon)) else {
                // Nothing answers behind connection.close.
                let over = |connection: &Connection| {
                    connection.closed || connection.ended && name != "connection.close-ok"
                };
                if self.connections.get(&place.0).is_none_or(over)
                    || Instant::now() > deadline
                    || self.transport.exact()
                {
                    break;
                }
                continue;
            };
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

    /// One call on the runner's own connection; whether it was answered as it should.
    fn control(&mut self, call: &str, name: &[u8]) -> bool {
        match self.ask(call, name) {
            Some(Item::Method(method, _)) => method.spec.name != "channel.close",
            answer => answer.is_some(),
        }
    }

    /// What one call on the runner's own connection answers; an error closes the channel, the next call opens it again.
    pub(super) fn ask(&mut self, call: &str, name: &[u8]) -> Option<Item> {
        let text: String = name.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let line = parse(&format!("{call}=\"{}\"", text.replace("\\x24", "$$"))).ok()?;
        let queues = self.queues.clone();
        let sent = self.send((CONTROL, 1), &line);
        self.queues = queues;
        sent.ok()?;
        let answer = self.next((CONTROL, 1), Instant::now() + self.options.timeout);
        if matches!(&answer, Some(Item::Method(method, _)) if method.spec.name == "channel.close") {
            let _ = parse("channel.close-ok").and_then(|line| self.send((CONTROL, 1), &line));
            if let Ok(connection) = self.connection(CONTROL) {
                connection.channels.remove(&1);
            }
        }
        answer
    }

    pub(super) fn nothing(&mut self, place: Option<Place>) -> Result<()> {
        self.settle();
        for (letter, connection) in &self.connections {
            let one = place.is_none_or(|(only, _)| only == *letter);
            if one && connection.closed && !connection.known_closed {
                return Err("the broker closed the socket".into());
            }
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
