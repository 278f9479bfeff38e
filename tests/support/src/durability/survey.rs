//! What a broker has after a crash, taken stock of and held against the model.

use super::messages::id_of;
use super::model::{Copy, Message, Model};
use super::topology::{LINES, PRIORITY_QUEUES, place_of, queues};
use crate::amqp_client::{Client, Gone, bit, field, method, number, text};
use leveret_conformance::Transport;
use leveret_conformance::field::Value;
use leveret_conformance::frame::Content;
use leveret_conformance::method::Wire;
use std::collections::BTreeMap;

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Found {
    id: u64,
    redelivered: bool,
    /// The dead-letter history: reason, queue, count.
    deaths: Vec<(String, String, i128)>,
}

/// By queue, in order.
pub type Stock = BTreeMap<&'static str, Vec<Found>>;

/// Takes every message of every queue, and leaves them all with `client`.
pub fn take_stock(client: &mut Client, transport: &mut dyn Transport) -> Result<Stock, Gone> {
    let mut stock = Stock::new();
    for queue in queues() {
        stock.insert(queue, take_all(client, transport, queue)?);
    }
    if transport.exact() {
        return Ok(stock);
    }
    // What was between two queues when its turn was has arrived by now.
    for queue in queues() {
        let late = take_all(client, transport, queue)?;
        stock.get_mut(queue).unwrap().extend(late);
    }
    Ok(stock)
}

fn take_all(client: &mut Client, transport: &mut dyn Transport, queue: &str) -> Result<Vec<Found>, Gone> {
    let declare = [("queue", text(queue)), ("passive", Wire::Bit(true))];
    let mut found = Vec::new();
    loop {
        let declared = client.call(transport, 1, &method("queue.declare", &declare))?;
        // One more than there are: the answer to it says that there are no more.
        let asked = number(&declared, "message_count") + 1;
        for _ in 0..asked {
            client.send(transport, 1, &method("basic.get", &[("queue", text(queue))]));
        }
        let mut answered = 0;
        while answered < asked {
            for (_, method, content) in client.wait(transport)? {
                answered += 1;
                if let Some(content) = content {
                    found.push(found_in(&content, bit(&method, "redelivered")));
                } else if answered == asked {
                    return Ok(found);
                }
            }
        }
    }
}

fn found_in(content: &Content, redelivered: bool) -> Found {
    let headers = content.properties.iter().find(|(name, _)| *name == "headers");
    let mut deaths = Vec::new();
    if let Some((_, Wire::Table(headers))) = headers
        && let Some(Value::List(rows)) = field(headers, "x-death")
    {
        for row in rows {
            let Value::Table(row) = &row.value else { panic!("x-death holds {row:?}") };
            let text = |name| match field(row, name) {
                Some(Value::Bytes(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
                other => panic!("{name} of x-death is {other:?}"),
            };
            let Some(Value::Int(count)) = field(row, "count") else { panic!("x-death does not count") };
            deaths.push((text("reason"), text("queue"), *count));
        }
    }
    Found { id: id_of(&content.body), redelivered, deaths }
}

impl Model {
    /// Checks what is there after a crash. From now on, exactly that is expected.
    pub fn check(&mut self, stock: &Stock) {
        let mut places: BTreeMap<(u64, usize), (usize, &Found)> = BTreeMap::new();
        for (queue, found) in stock {
            let (line, place) = place_of(queue);
            for found in found {
                let id = found.id;
                let known = self.messages.get(&id).is_some_and(|message| message.copies.contains_key(&line));
                assert!(known, "message {id} is in {queue}, but was done with, or never published there");
                let other = places.insert((id, line), (place, found));
                if let Some((other, _)) = other {
                    panic!("message {id} is in {} and in {queue}", LINES[line].queues[other]);
                }
            }
            self.check_order(queue, found);
        }
        let mut happened = BTreeMap::new();
        for (id, message) in &self.messages {
            for (line, copy) in &message.copies {
                let found = places.get(&(*id, *line)).copied();
                self.check_copy(*id, message, *line, copy, found, &mut happened);
            }
        }
        self.check_sequence(&happened);
        self.start_over(&places);
    }

    fn check_copy(
        &self,
        id: u64,
        message: &Message,
        line: usize,
        copy: &Copy,
        found: Option<(usize, &Found)>,
        happened: &mut BTreeMap<u64, bool>,
    ) {
        let name = || format!("message {id} of {}: {copy:?}", LINES[line].queues[0]);
        let is_promised = |group: u64| self.groups[&group].promised;
        let mut notice = |group: u64, is_there: bool| {
            let before = *happened.entry(group).or_insert(is_there);
            assert!(before == is_there, "{}: of {:?} only a part is there", name(), self.groups[&group]);
            assert!(is_there || !is_promised(group), "{}: promised by {:?}", name(), self.groups[&group]);
        };
        let Some((place, found)) = found else {
            let Some(group) = message.group else {
                assert!(copy.ended.is_some(), "{}: was there after the last crash and is lost", name());
                return;
            };
            if copy.ended.is_none() {
                notice(group, false);
            }
            return;
        };
        if let Some(end) = copy.ended {
            let is_durable = end.heard.is_some_and(|heard| heard < self.durable_stamp);
            assert!(!is_durable, "{}: is back, though that it ended is durable", name());
        }
        if let Some(group) = message.group {
            notice(group, true);
        }
        if let Some(group) = copy.moved_by {
            notice(group, place == 1);
        }
        if let (1, reason @ ("expired" | "rejected")) = (place, LINES[line].reason) {
            let expected = [(reason.to_owned(), LINES[line].queues[0].to_owned(), 1)];
            assert_eq!(found.deaths, expected, "{}: its history", name());
        }
        let delivered = copy.delivered[place];
        if self.is_exact {
            let is_durable = delivered.is_some_and(|delivered| delivered < self.durable_stamp);
            assert!(found.redelivered || !is_durable, "{}: does not come back redelivered", name());
            assert!(!found.redelivered || delivered.is_some(), "{}: was never delivered", name());
        }
    }

    /// Messages of one channel are in the order in which they were published, those of higher priority first.
    fn check_order(&self, queue: &str, found: &[Found]) {
        let (_, place) = place_of(queue);
        let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        if place == 1 && !(self.is_exact && queue == "expired") {
            return;
        }
        let mut lowest = u64::MAX;
        for found in found {
            let message = &self.messages[&found.id];
            let priority = if PRIORITY_QUEUES.contains(&queue) { message.priority } else { 0 };
            assert!(priority <= lowest, "{queue}: message {} is behind lower priorities", found.id);
            lowest = priority;
            let source = if self.is_exact { 0 } else { message.source };
            let before = last.insert(source, (priority, found.id));
            if let Some((_, id)) = before.filter(|(other, _)| *other == priority) {
                assert!(id < found.id, "{queue}: message {} is behind message {id}", found.id);
            }
        }
    }

    /// Of what a channel published unconfirmed, a beginning is there.
    fn check_sequence(&self, happened: &BTreeMap<u64, bool>) {
        let mut missing: BTreeMap<u32, u64> = BTreeMap::new();
        for (group, happened) in happened {
            let Some(known) = self.groups.get(group).filter(|group| !group.is_transaction) else { continue };
            match (happened, missing.get(&known.source)) {
                (false, None) => drop(missing.insert(known.source, *group)),
                (true, Some(lost)) => panic!("publish {lost} is lost, but {group} behind it is there"),
                _ => {}
            }
        }
    }

    fn start_over(&mut self, places: &BTreeMap<(u64, usize), (usize, &Found)>) {
        let stamp = self.tick();
        for (id, message) in &mut self.messages {
            message.group = None;
            message.copies.retain(|line, _| places.contains_key(&(*id, *line)));
            for (line, copy) in &mut message.copies {
                let place = places[&(*id, *line)].0;
                *copy = Copy { is_out: true, seen_at: place, ..Copy::default() };
                copy.delivered[place] = Some(stamp);
            }
        }
        self.messages.retain(|_, message| !message.copies.is_empty());
        self.groups.clear();
        self.counts.surveyed += places.len() as u64;
    }

    /// All that was taken stock of is given back.
    pub fn stock_returned(&mut self) {
        self.tick();
        for message in self.messages.values_mut() {
            message.copies.values_mut().for_each(|copy| copy.is_out = false);
        }
    }

    /// All that was taken stock of is acknowledged.
    pub fn stock_acknowledged(&mut self, stock: &Stock) {
        for (queue, found) in stock {
            found.iter().for_each(|found| self.acknowledged(queue, found.id));
        }
    }
}
