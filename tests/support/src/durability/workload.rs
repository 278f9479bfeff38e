//! All clients together: connect, take steps until the broker is gone, and take stock of what the next one has.

use super::Random;
use super::consumer::Consumer;
use super::model::{Counts, Model};
use super::publisher::Publisher;
use super::survey::take_stock;
use super::topology::{PURGED, Passing, declare};
use super::transactor::Transactor;
use crate::amqp_client::{Client, Gone, method, text};
use leveret_conformance::Transport;
use leveret_conformance::method::Wire;
use std::time::{Duration, Instant};

/// How the clients behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Messages that are published at a time, at most.
    pub batch: u64,
    /// Publishes of a channel that may wait for their confirm.
    pub unconfirmed_max: usize,
    /// One in this many messages is large.
    pub large_one_in: u64,
    /// How large, at most.
    pub large_bytes: u64,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { batch: 12, unconfirmed_max: 400, large_one_in: 200, large_bytes: 300_000 }
    }
}

/// See the module.
pub struct Workload {
    habits: Habits,
    random: Random,
    model: Model,
    passing: Passing,
    is_declared: bool,
    clients: Option<Clients>,
}

struct Clients {
    admin: Client,
    publishers: Vec<Publisher>,
    consumer: Consumer,
    transactor: Transactor,
}

impl Workload {
    pub fn new(seed: u64, habits: Habits, model: Model) -> Workload {
        let (random, passing) = (Random::new(seed), Passing::default());
        Workload { habits, random, model, passing, is_declared: false, clients: None }
    }

    pub fn counts(&self) -> Counts {
        self.model.counts()
    }

    /// Checks what is there, and connects all clients.
    pub fn begin(&mut self, transport: &mut dyn Transport) -> Result<(), Gone> {
        self.check(transport)?;
        let mut admin = Client::connect(transport)?;
        admin.open_channel(transport, 1)?;
        self.clients = Some(Clients {
            admin,
            publishers: vec![Publisher::connect(1, transport)?, Publisher::connect(2, transport)?],
            consumer: Consumer::connect(&mut self.random, transport)?,
            transactor: Transactor::connect(transport)?,
        });
        Ok(())
    }

    /// Holds what the broker has against what it has promised. The first time, declares everything instead.
    pub fn check(&mut self, transport: &mut dyn Transport) -> Result<(), Gone> {
        let mut client = Client::connect(transport)?;
        client.open_channel(transport, 1)?;
        declare(&mut client, transport, self.is_declared)?;
        if !std::mem::replace(&mut self.is_declared, true) {
            client.hang_up(transport);
            return Ok(());
        }
        self.passing.check(&mut client, transport)?;
        let stock = take_stock(&mut client, transport)?;
        self.model.check(&stock);
        if self.random.one_in(3) {
            let all = [("multiple", Wire::Bit(true))];
            client.send(transport, 1, &method("basic.ack", &all));
            self.model.stock_acknowledged(&stock);
        } else {
            self.model.stock_returned();
        }
        // The answer shows that this has happened.
        client.call(transport, 1, &method("channel.close", &[]))?;
        client.hang_up(transport);
        Ok(())
    }

    /// Takes in what came, and does one thing.
    pub fn step(&mut self, transport: &mut dyn Transport) -> Result<(), Gone> {
        let before = self.model.counts();
        self.take_in(transport)?;
        if !transport.exact() && self.model.counts() == before {
            // A broker with something else to do than to hear more is one to crash as well.
            transport.advance(Duration::from_micros(self.random.below(500)));
        }
        let Workload { habits, random, model, passing, clients, .. } = self;
        let Some(clients) = clients else { return Ok(()) };
        match random.below(40) {
            0..16 => {
                let publisher = random.below(clients.publishers.len() as u64) as usize;
                clients.publishers[publisher].publish(habits, random, model, transport);
            }
            16..30 => clients.consumer.answer(random, model, transport),
            30..36 => clients.transactor.transact(habits, random, model, transport),
            36..38 => clients.consumer.ask(transport),
            38 if random.one_in(3) => {
                let purge = method("queue.purge", &[("queue", text(PURGED.0))]);
                model.purged(PURGED.1);
                clients.admin.call(transport, 1, &purge)?;
                model.purged(PURGED.1);
            }
            39 if random.one_in(3) => passing.change(&mut clients.admin, transport)?,
            _ => {}
        }
        Ok(())
    }

    fn take_in(&mut self, transport: &mut dyn Transport) -> Result<(), Gone> {
        let Workload { model, clients, .. } = self;
        let Some(clients) = clients else { return Ok(()) };
        for publisher in &mut clients.publishers {
            publisher.take_in(model, transport)?;
        }
        clients.consumer.take_in(model, transport)?;
        clients.transactor.take_in(model, transport)
    }

    /// Takes in all that the broker has said before it went: what it has confirmed by then counts.
    pub fn end(&mut self, transport: &mut dyn Transport) {
        let Workload { model, clients, .. } = self;
        let Some(mut clients) = clients.take() else { return };
        let mut until_gone = |take_in: &mut dyn FnMut(&mut dyn Transport, &mut Model) -> Result<(), Gone>| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while take_in(transport, model).is_ok() && !transport.exact() {
                assert!(Instant::now() < deadline, "a connection outlives the broker");
            }
        };
        for publisher in &mut clients.publishers {
            until_gone(&mut |transport, model| publisher.take_in(model, transport));
        }
        until_gone(&mut |transport, model| clients.consumer.take_in(model, transport));
        until_gone(&mut |transport, model| clients.transactor.take_in(model, transport));
    }

    /// How many publishers are blocked by the broker, and how many there are.
    pub fn blocked(&self) -> (usize, usize) {
        let publishers = self.clients.as_ref().map_or(&[][..], |clients| &clients.publishers);
        (publishers.iter().filter(|publisher| publisher.is_blocked()).count(), publishers.len())
    }
}
