//! A publisher with confirms, on several channels of one connection.

use super::Random;
use super::messages::body;
use super::model::Model;
use super::topology::{PRIORITIES, TARGETS};
use super::workload::Habits;
use crate::amqp_client::{Client, Gone, bit, method, number};
use leveret_conformance::Transport;
use leveret_conformance::method::{Method, Wire};
use std::collections::BTreeMap;

const CHANNELS: u16 = 2;

pub struct Publisher {
    client: Client,
    channels: BTreeMap<u16, Confirms>,
    is_blocked: bool,
}

/// The publishes of one channel that wait for their confirm.
struct Confirms {
    source: u32,
    last_tag: u64,
    waiting: BTreeMap<u64, u64>,
}

impl Publisher {
    pub fn connect(number: u32, transport: &mut dyn Transport) -> Result<Publisher, Gone> {
        let mut client = Client::connect(transport)?;
        let mut channels = BTreeMap::new();
        for channel in 1..=CHANNELS {
            client.open_channel(transport, channel)?;
            client.call(transport, channel, &method("confirm.select", &[]))?;
            let source = number * u32::from(CHANNELS) + u32::from(channel);
            channels.insert(channel, Confirms { source, last_tag: 0, waiting: BTreeMap::new() });
        }
        Ok(Publisher { client, channels, is_blocked: false })
    }

    /// Publishes a few messages to anywhere.
    pub fn publish(
        &mut self,
        habits: &Habits,
        random: &mut Random,
        model: &mut Model,
        transport: &mut dyn Transport,
    ) {
        let channel = 1 + random.below(CHANNELS.into()) as u16;
        let confirms = self.channels.get_mut(&channel).unwrap();
        if confirms.waiting.len() >= habits.unconfirmed_max {
            return;
        }
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(habits.batch) {
            let group = model.group(confirms.source, false);
            put_message(&mut bytes, channel, group, habits, random, model, &self.client);
            confirms.last_tag += 1;
            confirms.waiting.insert(confirms.last_tag, group);
        }
        self.client.send_bytes(transport, &bytes);
    }

    /// Takes in what was confirmed.
    pub fn take_in(&mut self, model: &mut Model, transport: &mut dyn Transport) -> Result<(), Gone> {
        for (channel, came, _) in self.client.take(transport)? {
            let confirms = self.channels.get_mut(&channel);
            match (came.spec.name, confirms) {
                ("basic.ack", Some(confirms)) => confirms.confirmed(&came, model),
                ("basic.nack", Some(confirms)) => drop(confirms.take(&came)),
                ("connection.blocked", _) => self.is_blocked = true,
                ("connection.unblocked", _) => self.is_blocked = false,
                (other, _) => panic!("a publisher got {other}"),
            }
        }
        Ok(())
    }

    /// Whether the broker has sent connection.blocked.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }
}

impl Confirms {
    fn confirmed(&mut self, ack: &Method, model: &mut Model) {
        for group in self.take(ack) {
            model.promise(group);
        }
    }

    fn take(&mut self, answer: &Method) -> Vec<u64> {
        let tag = number(answer, "delivery_tag");
        assert!(self.waiting.contains_key(&tag), "tag {tag} is confirmed and was not waiting");
        if !bit(answer, "multiple") {
            return self.waiting.remove(&tag).into_iter().collect();
        }
        let later = self.waiting.split_off(&(tag + 1));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }
}

/// Puts one message to anywhere into `bytes`.
pub fn put_message(
    bytes: &mut Vec<u8>,
    channel: u16,
    group: u64,
    habits: &Habits,
    random: &mut Random,
    model: &mut Model,
    client: &Client,
) {
    let target = &TARGETS[random.below(TARGETS.len() as u64) as usize];
    let priority = random.below(PRIORITIES);
    let length = match random.one_in(habits.large_one_in) {
        true => random.below(habits.large_bytes),
        false => random.below(200),
    };
    let id = model.publish(group, target, priority);
    let properties = [("delivery_mode", Wire::Int(2)), ("priority", Wire::Int(priority))];
    client.put_publish(
        bytes,
        channel,
        (target.exchange, target.routing_key),
        &properties,
        &body(id, length as usize),
    );
}
