//! Clients that do something at random, seed by seed, on the whole broker in memory, against a naive model: every message is in
//! exactly one place, no consumer gets more than allowed or less than possible, first deliveries keep their order, every publish
//! is confirmed once, and nothing gets lost with a channel or a connection.
//!
//! A failure prints the seed and what was done. `SIMULATION_SEED=n` plays one alone, `SIMULATION_SEEDS=n` that many.

mod model;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::{self, AMQPMethod as Basic, AMQPProperties, Publish};
use amq_protocol::protocol::channel::AMQPMethod as ChannelMethod;
use amq_protocol::protocol::confirm::{self, AMQPMethod as Confirm};
use amq_protocol::protocol::exchange::{self, AMQPMethod as Exchange};
use amq_protocol::protocol::queue::{self, AMQPMethod as Queue};
use amq_protocol::protocol::tx::{self, AMQPMethod as Tx};
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use leveret::amqp::AmqpSettings;
use leveret::broker::BrokerLimits;
use leveret_test_support::frames::{channel_close, channel_open, method, publish};
use leveret_test_support::lines::{InMemory, LineId};
use model::{ChannelId, Copy, DEAD, Delivery, EXACT, Mode, Model, QUEUES, Verdict, goes_to_dead};
use std::collections::BTreeMap;

const SEEDS: u64 = 250;
const STEPS: usize = 70;
const CONNECTIONS: usize = 3;
const CHANNELS: u16 = 2;

/// Numbers that look random and are not.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len())].clone())
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

struct Simulation {
    broker: InMemory,
    model: Model,
    numbers: Numbers,
    lines: Vec<LineId>,
    published: u64,
    consumers: usize,
    script: Vec<String>,
    /// What basic.get asked for.
    getting: Option<(&'static str, bool)>,
    /// Whether messages may have come back to queues in this step.
    requeued: bool,
    delivered: Vec<(ChannelId, Delivery)>,
}

type Checked = Result<(), String>;

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // Every other broker keeps no message in memory that a client has and does not acknowledge.
        let memory_budget_bytes = if seed.is_multiple_of(2) { 1 } else { 256 << 20 };
        let limits = BrokerLimits { memory_budget_bytes, ..BrokerLimits::default() };
        let mut simulation = Simulation {
            broker: InMemory::with_limits(AmqpSettings::default(), limits),
            model: Model::default(),
            numbers,
            lines: Vec::new(),
            published: 0,
            consumers: 0,
            script: Vec::new(),
            getting: None,
            requeued: false,
            delivered: Vec::new(),
        };
        simulation.declare();
        for index in 0..CONNECTIONS {
            simulation.lines.push(0);
            simulation.connect(index);
        }
        simulation
    }

    fn declare(&mut self) {
        let line = self.broker.connect(1);
        let mut bytes = Vec::new();
        for (name, letters) in QUEUES {
            let mut arguments = FieldTable::default();
            if letters {
                arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
                arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(DEAD.into()));
            }
            let limit = match name {
                "priority" => Some(("x-max-priority", 3)),
                "short" => Some(("x-max-length", 5)),
                "brief" => Some(("x-message-ttl", 1000)),
                _ => None,
            };
            if let Some((argument, value)) = limit {
                arguments.insert(argument.into(), AMQPValue::LongInt(value));
            }
            let declare =
                queue::Declare { queue: name.into(), durable: true, arguments, ..queue::Declare::default() };
            bytes.extend(method(1, AMQPClass::Queue(Queue::Declare(declare))));
        }
        let declare = exchange::Declare {
            exchange: "both".into(),
            kind: "fanout".into(),
            ..exchange::Declare::default()
        };
        bytes.extend(method(1, AMQPClass::Exchange(Exchange::Declare(declare))));
        for queue in ["plain", "letters"] {
            let bind = queue::Bind { queue: queue.into(), exchange: "both".into(), ..queue::Bind::default() };
            bytes.extend(method(1, AMQPClass::Queue(Queue::Bind(bind))));
        }
        self.broker.send(line, &bytes);
        assert_eq!(self.broker.frames(line).len(), QUEUES.len() + 3);
        self.broker.drop_line(line);
    }

    fn connect(&mut self, index: usize) {
        self.lines[index] = self.broker.connect(CHANNELS);
        (1..=CHANNELS).for_each(|channel| self.choose_mode((index, channel)));
    }

    fn choose_mode(&mut self, id: ChannelId) {
        let mode = [Mode::Plain, Mode::Plain, Mode::Confirm, Mode::Tx][self.numbers.below(4)];
        let select = match mode {
            Mode::Plain => None,
            Mode::Confirm => Some(AMQPClass::Confirm(Confirm::Select(confirm::Select { nowait: true }))),
            Mode::Tx => Some(AMQPClass::Tx(Tx::Select(tx::Select {}))),
        };
        self.model.channels.insert(id, model::Channel::new(mode));
        if let Some(select) = select {
            self.broker.send(self.lines[id.0], &method(id.1, select));
        }
        self.script.push(format!("{id:?} is {mode:?}"));
    }

    fn say(&mut self, id: ChannelId, class: AMQPClass) {
        self.script.push(format!("{id:?} {class:?}"));
        self.broker.send(self.lines[id.0], &method(id.1, class));
    }

    fn basic(&mut self, id: ChannelId, method: Basic) {
        self.say(id, AMQPClass::Basic(method));
    }

    /// One client does one thing, and everything that follows from it is looked at.
    fn step(&mut self) -> Checked {
        let id = (self.numbers.below(CONNECTIONS), 1 + self.numbers.below(CHANNELS.into()) as u16);
        self.requeued = false;
        match self.numbers.below(20) {
            0..=4 => self.publish(id),
            5 | 6 => self.consume(id),
            7 => self.cancel(id),
            8..=12 => self.settle(id),
            13 => self.get(id),
            14 => self.qos(id),
            15 => self.recover(id),
            16 | 17 => self.end_transaction(id),
            18 => self.purge(id),
            _ => match self.numbers.below(6) {
                0 => self.close_channel(id),
                1 => self.drop_connection(id.0),
                _ => {
                    let by_ms = 300 * (1 + self.numbers.below(4) as u64);
                    self.script.push(format!("{by_ms} ms pass"));
                    self.broker.advance(by_ms);
                }
            },
        }
        // What the step put into a queue may have been delivered already.
        let ready = EXACT.iter().map(|queue| (*queue, self.model.ready(queue))).collect();
        self.observe()?;
        let delivered = std::mem::take(&mut self.delivered);
        self.model.check_order(&delivered, (!self.requeued).then_some(&ready))?;
        self.check()
    }

    fn publish(&mut self, id: ChannelId) {
        let to = self.numbers.below(6);
        let targets: &[&'static str] =
            [&["plain"][..], &["letters"], &["priority"], &["short"], &["brief"], &["plain", "letters"]][to];
        let exchange = if to == 5 { "both" } else { "" };
        let mut bytes = Vec::new();
        for _ in 0..1 + self.numbers.below(4) {
            self.published += 1;
            let (number, priority) = (self.published, self.numbers.below(5) as u8);
            self.script.push(format!("{id:?} publishes {number} with priority {priority} to {targets:?}"));
            let copy = |queue: &'static str| {
                let priority = if queue == "priority" { priority.min(3) } else { 0 };
                let copy = Copy { queue, priority, position: 0, was_delivered: false, holder: None };
                ((number, goes_to_dead(queue)), copy)
            };
            self.model.publish(id, targets.iter().copied().map(copy).collect());
            let to =
                Publish { exchange: exchange.into(), routing_key: targets[0].into(), ..Publish::default() };
            let properties = AMQPProperties::default()
                .with_priority(priority)
                .with_delivery_mode(1 + self.numbers.below(2) as u8);
            bytes.extend(publish(id.1, to, properties, number.to_string().as_bytes()));
        }
        self.broker.send(self.lines[id.0], &bytes);
    }

    fn consume(&mut self, id: ChannelId) {
        let (queue, _) = QUEUES[self.numbers.below(QUEUES.len())];
        let no_ack = self.numbers.chance(5);
        self.consumers += 1;
        let tag = format!("c{}", self.consumers);
        self.model.consume(id, &tag, queue, no_ack);
        let consumer_tag = tag.as_str().into();
        self.basic(
            id,
            Basic::Consume(basic::Consume {
                queue: queue.into(),
                consumer_tag,
                no_ack,
                ..Default::default()
            }),
        );
    }

    fn cancel(&mut self, id: ChannelId) {
        let tags: Vec<String> = self.model.channel(id).consumers.keys().cloned().collect();
        if let Some(tag) = self.numbers.one_of(&tags) {
            self.model.channel(id).consumers.remove(&tag);
            self.basic(id, Basic::Cancel(basic::Cancel { consumer_tag: tag.as_str().into(), nowait: false }));
        }
    }

    fn settle(&mut self, id: ChannelId) {
        let tags: Vec<u64> = self.model.channel(id).unacked.keys().copied().collect();
        let Some(delivery_tag) = self.numbers.one_of(&tags) else { return };
        let multiple = self.numbers.chance(3);
        let verdict = [Verdict::Ack, Verdict::Ack, Verdict::Requeue, Verdict::Reject][self.numbers.below(4)];
        let requeue = verdict == Verdict::Requeue;
        self.requeued |= requeue;
        self.model.settle(id, delivery_tag, multiple, verdict);
        let method = match verdict {
            Verdict::Ack => Basic::Ack(basic::Ack { delivery_tag, multiple }),
            _ if multiple => Basic::Nack(basic::Nack { delivery_tag, multiple, requeue }),
            _ => Basic::Reject(basic::Reject { delivery_tag, requeue }),
        };
        self.basic(id, method);
    }

    fn get(&mut self, id: ChannelId) {
        let (queue, _) = QUEUES[self.numbers.below(QUEUES.len())];
        let no_ack = self.numbers.chance(2);
        self.get_from(id, queue, no_ack);
    }

    fn get_from(&mut self, id: ChannelId, queue: &'static str, no_ack: bool) {
        self.getting = Some((queue, no_ack));
        self.basic(id, Basic::Get(basic::Get { queue: queue.into(), no_ack }));
    }

    fn qos(&mut self, id: ChannelId) {
        let (prefetch_count, global) = (self.numbers.below(4) as u16, self.numbers.chance(3));
        let channel = self.model.channel(id);
        if global {
            channel.limit = prefetch_count;
        } else {
            (channel.prefetch, channel.limit) = (prefetch_count, 0);
        }
        self.basic(id, Basic::Qos(basic::Qos { prefetch_count, global }));
    }

    fn recover(&mut self, id: ChannelId) {
        self.requeued = true;
        self.model.recover(id);
        self.basic(id, Basic::Recover(basic::Recover { requeue: true }));
    }

    fn end_transaction(&mut self, id: ChannelId) {
        if self.model.channel(id).mode != Mode::Tx {
            return;
        }
        // A commit may requeue, and its messages come to their queues one by one.
        self.requeued = true;
        if self.numbers.chance(3) {
            self.model.roll_back(id);
            self.say(id, AMQPClass::Tx(Tx::Rollback(tx::Rollback {})));
        } else {
            self.model.commit(id);
            self.say(id, AMQPClass::Tx(Tx::Commit(tx::Commit {})));
        }
    }

    fn purge(&mut self, id: ChannelId) {
        let queue = EXACT[self.numbers.below(EXACT.len())];
        for copy in self.model.ready(queue) {
            self.model.live.remove(&copy);
        }
        self.say(id, AMQPClass::Queue(Queue::Purge(queue::Purge { queue: queue.into(), nowait: false })));
    }

    fn close_channel(&mut self, id: ChannelId) {
        self.requeued = true;
        self.script.push(format!("{id:?} closes"));
        self.model.close(id);
        let bytes = [channel_close(id.1), channel_open(id.1)].concat();
        self.broker.send(self.lines[id.0], &bytes);
        self.choose_mode(id);
    }

    fn drop_connection(&mut self, index: usize) {
        self.requeued = true;
        self.script.push(format!("connection {index} is gone"));
        (1..=CHANNELS).for_each(|channel| self.model.close((index, channel)));
        self.broker.drop_line(self.lines[index]);
        self.connect(index);
    }

    /// Takes in what every client was sent.
    fn observe(&mut self) -> Checked {
        for index in 0..self.lines.len() {
            let mut arriving = BTreeMap::new();
            for frame in self.broker.frames(self.lines[index]) {
                self.observe_frame(index, frame, &mut arriving)?;
            }
        }
        Ok(())
    }

    fn observe_frame(
        &mut self,
        index: usize,
        frame: AMQPFrame,
        arriving: &mut BTreeMap<u16, Delivery>,
    ) -> Checked {
        let (number, class) = match frame {
            AMQPFrame::Method(number, class) => (number, class),
            AMQPFrame::Header(..) => return Ok(()),
            AMQPFrame::Body(number, body) => {
                let mut delivery = arriving.remove(&number).ok_or("a body came behind no delivery")?;
                delivery.number = String::from_utf8(body).unwrap().parse().unwrap();
                return self.observe_delivery((index, number), delivery);
            }
            other => return Err(format!("{other:?} came")),
        };
        let id = (index, number);
        match class {
            AMQPClass::Basic(Basic::Deliver(deliver)) => {
                let tag = deliver.consumer_tag.to_string();
                let consumer = self.model.channel(id).consumers.get(&tag);
                let consumer = consumer.ok_or(format!("a delivery for {tag}, which is cancelled, came"))?;
                let (queue, no_ack) = (consumer.queue, consumer.no_ack);
                let (tag, consumer) = (deliver.delivery_tag, Some(tag));
                let redelivered = deliver.redelivered;
                arriving.insert(
                    number,
                    Delivery {
                        number: 0,
                        priority: 0,
                        position: 0,
                        tag,
                        redelivered,
                        consumer,
                        queue,
                        no_ack,
                    },
                );
            }
            AMQPClass::Basic(Basic::GetOk(ok)) => {
                let (queue, no_ack) = self.getting.take().ok_or("nobody asked")?;
                let (tag, redelivered) = (ok.delivery_tag, ok.redelivered);
                arriving.insert(
                    number,
                    Delivery {
                        number: 0,
                        priority: 0,
                        position: 0,
                        tag,
                        redelivered,
                        consumer: None,
                        queue,
                        no_ack,
                    },
                );
            }
            AMQPClass::Basic(Basic::GetEmpty(_)) => {
                let (queue, _) = self.getting.take().ok_or("nobody asked")?;
                if EXACT.contains(&queue) && !self.model.ready(queue).is_empty() {
                    return Err(format!("{queue} is empty for basic.get"));
                }
            }
            AMQPClass::Basic(Basic::Ack(ack)) => {
                let (published, confirmed) = self.model.channel(id).confirms;
                let is_next = ack.multiple || ack.delivery_tag == confirmed + 1;
                if ack.delivery_tag <= confirmed || ack.delivery_tag > published || !is_next {
                    return Err(format!("{ack:?} came on {id:?} after {confirmed} of {published}"));
                }
                self.model.channel(id).confirms.1 = ack.delivery_tag;
            }
            AMQPClass::Channel(ChannelMethod::Close(close)) => return Err(format!("{close:?} came")),
            AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                return Err(format!("{close:?} came"));
            }
            _ => {}
        }
        Ok(())
    }

    fn observe_delivery(&mut self, id: ChannelId, mut delivery: Delivery) -> Checked {
        if let Some(copy) = self.model.live.get(&(delivery.number, goes_to_dead(delivery.queue))) {
            (delivery.priority, delivery.position) = (copy.priority, copy.position);
        }
        self.script.push(format!("    {id:?} gets {delivery:?}"));
        self.model.deliver(id, &delivery)?;
        self.delivered.push((id, delivery));
        Ok(())
    }

    /// Compares the broker's counts with what is known.
    fn check(&mut self) -> Checked {
        let vhost = self.broker.amqp.broker.vhost("/").unwrap();
        let mut of_dying = 0;
        for (queue, _) in QUEUES {
            let counts = vhost.queue(queue).unwrap().counts();
            let held = self.model.held(queue);
            if counts.unacked != held {
                return Err(format!("{queue} counts {} unacked, clients have {held}", counts.unacked));
            }
            let ready = self.model.ready(queue).len();
            if EXACT.contains(&queue) && counts.ready != ready {
                return Err(format!("{queue} counts {} ready, there should be {ready}", counts.ready));
            }
            if goes_to_dead(queue) {
                of_dying += counts.ready + counts.unacked;
            }
            if queue == "short" && counts.ready > 5 {
                return Err(format!("{queue} holds {}", counts.ready));
            }
            if let Some(consumer) = self.model.starving(queue).filter(|_| counts.ready > 0) {
                return Err(format!("{queue} has {} ready, and {consumer} could take them", counts.ready));
            }
        }
        let live = self.model.live.keys().filter(|(_, dying)| *dying).count();
        if live != of_dying {
            return Err(format!("{live} messages are in queues that let them die; these count {of_dying}"));
        }
        for (id, channel) in &self.model.channels {
            if channel.confirms.0 != channel.confirms.1 {
                return Err(format!("{id:?} waits for confirms: {:?}", channel.confirms));
            }
            let confirmed = self.confirmed_as_others_see(*id);
            if confirmed != Some((channel.confirms.1, 0)) {
                return Err(format!("{id:?} has {:?} confirms, others see {confirmed:?}", channel.confirms));
            }
        }
        Ok(())
    }

    /// How many publishes of a channel have been confirmed, and how many wait for that.
    fn confirmed_as_others_see(&self, (index, channel): ChannelId) -> Option<(u64, u64)> {
        let connections = self.broker.amqp.broker.connections().list();
        let line = self.lines[index];
        let connection = connections.iter().find(|live| usize::from(live.facts().peer.port) == line)?;
        let facts = connection.progress().channels.get(&channel)?.facts;
        Some((facts.stats.confirm, facts.unconfirmed))
    }

    /// Everyone goes, and everything that should be there is fetched.
    fn finish(&mut self) -> Checked {
        for index in 0..CONNECTIONS {
            self.drop_connection(index);
            self.observe()?;
            self.check()?;
        }
        self.delivered.clear();
        let id = (0, 1);
        self.close_channel(id);
        for (queue, _) in QUEUES {
            loop {
                let next = self.model.ready(queue).first().copied();
                self.get_from(id, queue, true);
                self.observe()?;
                let Some((_, delivery)) = self.delivered.pop() else { break };
                if EXACT.contains(&queue) && Some(delivery.number) != next.map(|id| id.0) {
                    return Err(format!("{queue} gave {}, next was {next:?}", delivery.number));
                }
            }
        }
        if !self.model.live.is_empty() {
            return Err(format!("lost: {:?}", self.model.live));
        }
        self.check()
    }
}

#[test]
fn clients_at_random_agree_with_a_naive_model() {
    simulate();
}

/// What is long for a turn is done in as many parts as can be, and comes to the same.
#[test]
fn clients_at_random_agree_with_a_naive_model_with_turns_as_short_as_can_be() {
    leveret::steps::set_at_once_max(1);
    simulate();
}

fn simulate() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SIMULATION_SEEDS").unwrap_or_else(|| leveret_test_support::runs(SEEDS)),
    };
    for seed in seeds {
        let mut simulation = Simulation::new(seed);
        let result = (0..STEPS).try_for_each(|_| simulation.step()).and_then(|()| simulation.finish());
        if let Err(reason) = result {
            let script = &simulation.script;
            let last = script[script.len().saturating_sub(60)..].join("\n");
            panic!("{last}\nSIMULATION_SEED={seed}: {reason}");
        }
    }
}
