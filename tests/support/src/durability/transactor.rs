//! A client that works in transactions: it takes messages out of `orders` and puts them into `invoices`, and publishes others
//! along with that.

use super::Random;
use super::messages::{body, id_of};
use super::model::Model;
use super::publisher::put_message;
use super::workload::Habits;
use crate::amqp_client::{Client, Gone, method, number, text};
use leveret_conformance::Transport;
use leveret_conformance::frame::{METHOD, encode};
use leveret_conformance::method::Wire;
use std::collections::VecDeque;

/// The number of its channel among those that publish.
const SOURCE: u32 = 0;

pub struct Transactor {
    client: Client,
    /// Tag, message and length of deliveries not moved yet.
    held: VecDeque<(u64, u64, usize)>,
    /// The commit that waits for its answer.
    committing: Option<u64>,
}

impl Transactor {
    pub fn connect(transport: &mut dyn Transport) -> Result<Transactor, Gone> {
        let mut client = Client::connect(transport)?;
        client.open_channel(transport, 1)?;
        client.call(transport, 1, &method("basic.qos", &[("prefetch_count", Wire::Int(30))]))?;
        client.call(transport, 1, &method("tx.select", &[]))?;
        client.call(transport, 1, &method("basic.consume", &[("queue", text("orders"))]))?;
        Ok(Transactor { client, held: VecDeque::new(), committing: None })
    }

    pub fn take_in(&mut self, model: &mut Model, transport: &mut dyn Transport) -> Result<(), Gone> {
        for (_, came, content) in self.client.take(transport)? {
            match (came.spec.name, content) {
                ("basic.deliver", Some(content)) => {
                    let id = id_of(&content.body);
                    model.delivered("orders", id);
                    self.held.push_back((number(&came, "delivery_tag"), id, content.body.len()));
                }
                ("tx.commit-ok", _) => model.promise(self.committing.take().unwrap()),
                ("tx.rollback-ok", _) => {}
                ("connection.blocked" | "connection.unblocked", _) => {}
                (other, _) => panic!("a client with transactions got {other}"),
            }
        }
        Ok(())
    }

    /// Makes a transaction and commits it, or rolls it back.
    pub fn transact(
        &mut self,
        habits: &Habits,
        random: &mut Random,
        model: &mut Model,
        transport: &mut dyn Transport,
    ) {
        if self.committing.is_some() {
            return;
        }
        let moves = random.below(self.held.len() as u64 + 1).min(6) as usize;
        let is_kept = !random.one_in(5);
        let mut bytes = Vec::new();
        for (tag, id, length) in self.held.iter().take(moves) {
            let body = body(*id, *length);
            let properties = [("delivery_mode", Wire::Int(2))];
            self.client.put_publish(&mut bytes, 1, ("work", "invoices"), &properties, &body);
            let ack = method("basic.ack", &[("delivery_tag", Wire::Int(*tag))]);
            bytes.extend(encode(METHOD, 1, &ack.encode()));
        }
        if !is_kept {
            bytes.extend(encode(METHOD, 1, &method("tx.rollback", &[]).encode()));
            return self.client.send_bytes(transport, &bytes);
        }
        let group = model.group(SOURCE, true);
        for (_, id, _) in self.held.drain(..moves) {
            model.moved("orders", id, group);
        }
        for _ in 0..1 + random.below(3) {
            put_message(&mut bytes, 1, group, habits, random, model, &self.client);
        }
        bytes.extend(encode(METHOD, 1, &method("tx.commit", &[]).encode()));
        self.committing = Some(group);
        self.client.send_bytes(transport, &bytes);
    }
}
