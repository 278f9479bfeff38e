//! Playing step by step, for who does not know what will come: [`mod@crate::diff`].
//!
//! What a broker closes is answered at once, and opened again when a step next names it.

use super::*;
use crate::text::parse;

/// What has come on each channel, and which connections the broker has closed.
pub(crate) struct Came {
    pub(crate) items: BTreeMap<Place, Vec<Item>>,
    pub(crate) closed: Vec<char>,
}

impl Runner<'_> {
    /// Opens the runner's own connection, which tells the broker.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.connect(CONTROL, Stage::Open, &[])
    }

    pub(crate) fn broker(&self) -> Option<Broker> {
        self.broker
    }

    pub(crate) fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Does what a line says. What the client ends itself is awaited, and forgotten.
    pub(crate) fn act(&mut self, action: &Action) -> Result<()> {
        self.perform(action)?;
        match action {
            Action::Drop(letter) => self.forget(*letter),
            Action::Send(place, _, args) => match args.first().and_then(Arg::word) {
                Some("channel.close") => {
                    self.until(*place, "channel.close-ok");
                    self.connection(place.0)?.channels.remove(&place.1);
                }
                Some("connection.close") => {
                    self.until(*place, "connection.close-ok");
                    self.forget(place.0);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, letter: char) {
        if let Some(connection) = self.connections.remove(&letter) {
            self.transport.close(connection.id);
        }
        // What its channels gave back is on its way to the queues.
        self.unanswered = None;
    }

    /// Waits until nothing more comes, listening for `pause` once all have answered.
    pub(crate) fn quiet(&mut self, pause: Duration) {
        self.unanswered = None;
        for _ in 0..8 {
            self.settle_for(Duration::ZERO);
            let before = self.waiting();
            if self.transport.exact() {
                return;
            }
            std::thread::sleep(pause);
            self.connections
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|letter| while self.receive(letter, Duration::ZERO) == Arrived::Data {});
            if self.waiting() == before {
                return;
            }
        }
    }

    /// Reads for at most `wait` from a connection.
    pub(crate) fn listen(&mut self, letter: char, wait: Duration) -> Arrived {
        self.receive(letter, wait)
    }

    /// What came on a place and was not taken yet.
    pub(crate) fn inbox(&self, (letter, channel): Place) -> impl Iterator<Item = &Item> {
        self.connections
            .get(&letter)
            .and_then(|connection| connection.inbox.get(&channel))
            .into_iter()
            .flatten()
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.transport.exact()
    }

    fn waiting(&self) -> usize {
        self.connections.values().flat_map(|connection| connection.inbox.values()).map(VecDeque::len).sum()
    }

    /// Takes all that came, and answers what was closed.
    pub(crate) fn take(&mut self) -> Came {
        let mut came = Came { items: BTreeMap::new(), closed: Vec::new() };
        for (letter, connection) in self.connections.iter_mut().filter(|(letter, _)| **letter != CONTROL) {
            for (channel, inbox) in &mut connection.inbox {
                if !inbox.is_empty() {
                    came.items.insert((*letter, *channel), inbox.drain(..).collect());
                }
            }
            if connection.closed {
                came.closed.push(*letter);
            }
        }
        for (place, items) in &came.items {
            self.answer_close(*place, items);
        }
        came.closed.iter().for_each(|letter| self.forget(*letter));
        came
    }

    fn answer_close(&mut self, place: Place, items: &[Item]) {
        let has = |name: &str| {
            items.iter().any(|item| matches!(item, Item::Method(method, _) if method.spec.name == name))
        };
        if has("connection.close") {
            let _ = parse("connection.close-ok").and_then(|line| self.send(place, &line));
            self.forget(place.0);
        } else if has("channel.close") {
            let _ = parse("channel.close-ok").and_then(|line| self.send(place, &line));
            if let Some(connection) = self.connections.get_mut(&place.0) {
                connection.channels.remove(&place.1);
            }
        }
    }

    /// A queue the broker named is looked at and deleted like the others.
    pub(crate) fn note_queue(&mut self, name: &[u8]) {
        self.queues.insert(name.to_vec());
    }

    /// What a passive declaration of each queue that was ever declared answers.
    pub(crate) fn counts(&mut self) -> Vec<(Vec<u8>, Option<Item>)> {
        let queues: Vec<Vec<u8>> = self.queues.iter().filter(|queue| !queue.is_empty()).cloned().collect();
        let ask = |queue: Vec<u8>| {
            let answer = self.ask("queue.declare passive queue", &queue);
            (queue, answer)
        };
        queues.into_iter().map(ask).collect()
    }
}
