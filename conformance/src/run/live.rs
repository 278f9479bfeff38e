//! Playing step by step, for who does not know what will come: [`mod@crate::diff`].
//!
//! What a broker closes is answered when a step has had its effects, and opened again when a step next names it.

use super::*;
use crate::text::parse;

/// What has come on each channel, and which connections the broker has closed.
pub(crate) struct Came {
    pub(crate) items: BTreeMap<Place, Vec<Item>>,
    pub(crate) closed: Vec<char>,
}

impl Runner<'_> {
    /// Opens the runner's own connection, which recognises the broker.
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

    /// Answers what the broker has closed, but for what is `answered`, and gives it. What came stays to be taken.
    pub(crate) fn answer_closes(&mut self, answered: &BTreeSet<Place>) -> Vec<Place> {
        let mut closed = Vec::new();
        for (letter, connection) in self.connections.iter().filter(|(letter, _)| **letter != CONTROL) {
            let channels = connection.inbox.iter().filter(|(_, items)| items.iter().any(is_close));
            closed.extend(channels.map(|(channel, _)| (*letter, *channel)));
        }
        closed.retain(|place| !answered.contains(place));
        for place in &closed {
            let answer = if place.1 == 0 { "connection.close-ok" } else { "channel.close-ok" };
            let _ = parse(answer).and_then(|line| self.send(*place, &line));
            if let Some(connection) = self.connections.get_mut(&place.0) {
                connection.channels.remove(&place.1);
            }
        }
        closed
    }

    /// Takes all that came; `answered` are the closes that were.
    pub(crate) fn take(&mut self, answered: &BTreeSet<Place>) -> Came {
        let mut came = Came { items: BTreeMap::new(), closed: Vec::new() };
        let is_answered = |letter: char| answered.contains(&(letter, 0));
        let mut ended = Vec::new();
        for (letter, connection) in self.connections.iter_mut().filter(|(letter, _)| **letter != CONTROL) {
            for (channel, inbox) in &mut connection.inbox {
                let mut items: Vec<Item> = inbox.drain(..).collect();
                // RabbitMQ goes on delivering for a moment on a channel that it has closed, and clients pass that over.
                if let Some(close) = items.iter().position(is_close) {
                    items.truncate(close + 1);
                }
                if !items.is_empty() {
                    came.items.insert((*letter, *channel), items);
                }
            }
            if is_answered(*letter) {
                ended.push(*letter);
            } else if connection.closed {
                came.closed.push(*letter);
            }
        }
        ended.iter().chain(&came.closed).for_each(|letter| self.forget(*letter));
        came
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

fn is_close(item: &Item) -> bool {
    matches!(item, Item::Method(method, _) if matches!(method.spec.name, "channel.close" | "connection.close"))
}
