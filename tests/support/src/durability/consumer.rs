//! Consumers of most queues, on one connection: they acknowledge one by one or many at once, give back, and refuse.

use super::Random;
use super::messages::id_of;
use super::model::Model;
use crate::amqp_client::{Client, Gone, method, number, text};
use leveret_conformance::Transport;
use leveret_conformance::method::{Method, Wire};
use std::collections::{BTreeMap, VecDeque};

const QUEUES: [&str; 9] =
    ["jobs", "jobs.quorum", "urgent", "news.1", "news.2", "expired", "picky", "refused", "invoices"];

const PREFETCH: u64 = 64;

pub struct Consumer {
    client: Client,
    channels: BTreeMap<u16, Subscription>,
}

struct Subscription {
    queue: &'static str,
    /// What was delivered and not answered: tag and message.
    held: VecDeque<(u64, u64)>,
    /// Messages acknowledged, of which the broker is not known to have heard.
    unheard: Vec<u64>,
    /// For each question of which the answer will say so: how many of those.
    questions: VecDeque<usize>,
}

impl Consumer {
    /// Subscribes to most of the queues.
    pub fn connect(random: &mut Random, transport: &mut dyn Transport) -> Result<Consumer, Gone> {
        let mut client = Client::connect(transport)?;
        let mut channels = BTreeMap::new();
        for (channel, queue) in (1..).zip(QUEUES) {
            if random.one_in(4) {
                continue;
            }
            client.open_channel(transport, channel)?;
            client.call(transport, channel, &qos())?;
            client.call(transport, channel, &method("basic.consume", &[("queue", text(queue))]))?;
            let (held, unheard, questions) = Default::default();
            channels.insert(channel, Subscription { queue, held, unheard, questions });
        }
        Ok(Consumer { client, channels })
    }

    pub fn take_in(&mut self, model: &mut Model, transport: &mut dyn Transport) -> Result<(), Gone> {
        for (channel, came, content) in self.client.take(transport)? {
            let subscription = self.channels.get_mut(&channel).unwrap();
            match (came.spec.name, content) {
                ("basic.deliver", Some(content)) => {
                    let id = id_of(&content.body);
                    model.delivered(subscription.queue, id);
                    subscription.held.push_back((number(&came, "delivery_tag"), id));
                }
                ("basic.qos-ok", _) => {
                    let count = subscription.questions.pop_front().unwrap();
                    let heard: Vec<u64> = subscription.unheard.drain(..count).collect();
                    model.heard(subscription.queue, &heard);
                    for others in &mut subscription.questions {
                        *others -= count;
                    }
                }
                (other, _) => panic!("a consumer got {other}"),
            }
        }
        Ok(())
    }

    /// Answers deliveries of one channel.
    pub fn answer(&mut self, random: &mut Random, model: &mut Model, transport: &mut dyn Transport) {
        let busy: Vec<u16> =
            self.channels.iter().filter(|(_, s)| !s.held.is_empty()).map(|(c, _)| *c).collect();
        if busy.is_empty() {
            return;
        }
        let channel = busy[random.below(busy.len() as u64) as usize];
        let subscription = self.channels.get_mut(&channel).unwrap();
        let at = random.below(subscription.held.len() as u64) as usize;
        let answer = match random.below(10) {
            0 => subscription.requeue(at, model),
            1..4 if subscription.queue == "picky" => subscription.reject(at, model),
            1..5 => subscription.acknowledge(at, model),
            _ => subscription.acknowledge_up_to(at, model),
        };
        self.client.send(transport, channel, &answer);
    }

    /// Asks something of every channel: the answer shows that the broker has heard all before it.
    pub fn ask(&mut self, transport: &mut dyn Transport) {
        for (channel, subscription) in &mut self.channels {
            if !subscription.unheard.is_empty() {
                subscription.questions.push_back(subscription.unheard.len());
                self.client.send(transport, *channel, &qos());
            }
        }
    }
}

impl Subscription {
    fn acknowledge(&mut self, at: usize, model: &mut Model) -> Method {
        let (tag, id) = self.held.remove(at).unwrap();
        model.acknowledged(self.queue, id);
        self.unheard.push(id);
        method("basic.ack", &[("delivery_tag", Wire::Int(tag))])
    }

    fn acknowledge_up_to(&mut self, at: usize, model: &mut Model) -> Method {
        let tag = self.held[at].0;
        for (_, id) in self.held.drain(..=at) {
            model.acknowledged(self.queue, id);
            self.unheard.push(id);
        }
        method("basic.ack", &[("delivery_tag", Wire::Int(tag)), ("multiple", Wire::Bit(true))])
    }

    fn requeue(&mut self, at: usize, model: &mut Model) -> Method {
        let (tag, id) = self.held.remove(at).unwrap();
        model.requeued(self.queue, id);
        method("basic.nack", &[("delivery_tag", Wire::Int(tag)), ("requeue", Wire::Bit(true))])
    }

    fn reject(&mut self, at: usize, model: &mut Model) -> Method {
        let (tag, id) = self.held.remove(at).unwrap();
        model.rejected(self.queue, id);
        method("basic.reject", &[("delivery_tag", Wire::Int(tag))])
    }
}

fn qos() -> Method {
    method("basic.qos", &[("prefetch_count", Wire::Int(PREFETCH))])
}
