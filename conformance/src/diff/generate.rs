//! Makes up the next step, with an eye on what the last ones brought: which deliveries are outstanding, and which consumers
//! there are. A step is one line or a few, in the language of cases. Called by [`super`].

use super::observe::{self, Observation, Seen};
use super::plan::{Habit, Plan, QUORUM, Queue};
use super::random::Random;
use crate::case::Place;
use std::collections::{BTreeMap, BTreeSet};

/// Longer than anything planned takes to expire, with room for a busy machine.
const EXPIRED: &str = "advance 200ms";

/// Steps of one seed.
#[derive(Debug)]
pub(crate) struct Generator {
    random: Random,
    plan: Plan,
    opening: Vec<Vec<String>>,
    /// Deliveries that wait for an acknowledgement, each with the last that came together with it.
    outstanding: BTreeMap<Place, BTreeMap<u64, u64>>,
    consumers: BTreeMap<Place, BTreeSet<String>>,
    /// The last basic.get was one without acknowledgement.
    got_without_ack: bool,
    bodies: usize,
    tags: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Publish,
    Get,
    Consume,
    Cancel,
    Settle,
    Recover,
    Qos,
    Mode,
    DeclareQueue,
    DeclareExchange,
    Bind,
    Unbind,
    BindExchanges,
    Purge,
    DeleteQueue,
    DeleteExchange,
    CloseChannel,
    CloseConnection,
    Mistake,
}

const KINDS: &[(usize, Kind)] = &[
    (24, Kind::Publish),
    (7, Kind::Get),
    (9, Kind::Consume),
    (3, Kind::Cancel),
    (18, Kind::Settle),
    (2, Kind::Recover),
    (5, Kind::Qos),
    (6, Kind::Mode),
    (7, Kind::DeclareQueue),
    (4, Kind::DeclareExchange),
    (7, Kind::Bind),
    (2, Kind::Unbind),
    (3, Kind::BindExchanges),
    (1, Kind::Purge),
    (2, Kind::DeleteQueue),
    (1, Kind::DeleteExchange),
    (2, Kind::CloseChannel),
    (1, Kind::CloseConnection),
    (5, Kind::Mistake),
];

const KEYS: &[&str] = &["a", "b", "a.b", "a.b.c", "b.a", "c", "\"\"", "a..b"];
const PATTERNS: &[&str] = &["a", "b", "a.b", "a.*", "#", "*.b", "a.#", "*", "#.c", "a.*.c", "#.b.#", "\"\""];

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let mut generator = Self {
            random,
            plan,
            opening: Vec::new(),
            outstanding: BTreeMap::new(),
            consumers: BTreeMap::new(),
            got_without_ack: false,
            bodies: 0,
            tags: 0,
        };
        generator.opening = generator.opening();
        generator
    }

    /// Declares most of what is planned, before anything else.
    fn opening(&mut self) -> Vec<Vec<String>> {
        let mut steps = Vec::new();
        for at in 0..self.plan.queues.len() {
            if self.random.chance(80) {
                let place = self.random.pick(&["1", "b1"]);
                steps.push(vec![format!("{place}> {}", declaration(&self.plan.queues[at]))]);
            }
        }
        for exchange in &self.plan.exchanges {
            steps.push(vec![format!("1> {}", self::exchange(exchange))]);
        }
        steps.push(vec!["1> queue.bind queue=$d2 exchange=$dead key=#".into()]);
        for _ in 0..4 {
            let line = self.bind();
            steps.push(vec![format!("1> {line}")]);
        }
        steps.reverse();
        steps
    }

    /// Whether every step lets time pass.
    pub(crate) fn has_clock(&self) -> bool {
        self.plan.clock
    }

    /// The next step.
    pub(crate) fn next_step(&mut self) -> Vec<String> {
        let opening = self.opening.pop();
        let expires =
            |queue: &Queue| queue.arguments.iter().any(|argument| argument.starts_with("x-expires"));
        let waits = self.plan.clock && (opening.is_none() || self.plan.queues.iter().any(expires));
        let mut step = opening.unwrap_or_else(|| self.any());
        if waits {
            step.push(EXPIRED.into());
        }
        step
    }

    /// Looks at what a step brought.
    pub(crate) fn learn(&mut self, observation: &Observation) {
        for seen in &observation.seen {
            match seen {
                Seen::Delivered { place, tag, last, consumer } => {
                    let kept = match consumer {
                        Some(consumer) => !consumer.starts_with('n') && !consumer.starts_with("reply"),
                        None => !self.got_without_ack,
                    };
                    if kept {
                        self.outstanding.entry(*place).or_default().insert(*tag, *last);
                    }
                }
                Seen::Ended(ended) => self.forget(*ended),
            }
        }
    }

    fn forget(&mut self, (letter, channel): Place) {
        let stays = |place: &Place| place.0 != letter || channel != 0 && place.1 != channel;
        self.outstanding.retain(|place, _| stays(place));
        self.consumers.retain(|place, _| stays(place));
    }

    fn any(&mut self) -> Vec<String> {
        let (place, habit) = self.random.pick(&self.plan.places.clone());
        let at = observe::place(place);
        if habit == Habit::Mistakes {
            let line = if self.random.chance(70) { self.mistake() } else { self.declare_queue() };
            return vec![format!("{at}> {line}")];
        }
        let kind = self.random.weighted(KINDS);
        let line = match kind {
            Kind::Publish => self.publish(),
            Kind::Get => self.get(),
            Kind::Consume => self.consume(place, habit),
            Kind::Cancel => self.cancel(place),
            Kind::Settle => self.settle(place),
            Kind::Recover => "basic.recover requeue".into(),
            Kind::Qos => self.qos(habit),
            Kind::Mode => self.mode(habit),
            Kind::DeclareQueue => self.declare_queue(),
            Kind::DeclareExchange => self.declare_exchange(),
            Kind::Bind => self.bind(),
            Kind::Unbind => self.bind().replacen("queue.bind", "queue.unbind", 1),
            Kind::BindExchanges => self.bind_exchanges(),
            Kind::Purge => format!("queue.purge queue={}", self.queue()),
            Kind::DeleteQueue => {
                format!("queue.delete queue={}{}", self.queue(), self.some(30, &["if_unused", "if_empty"]))
            }
            Kind::DeleteExchange => {
                format!("exchange.delete exchange={}{}", self.exchange(), self.some(50, &["if_unused"]))
            }
            Kind::CloseChannel => {
                self.forget(place);
                "channel.close 200".into()
            }
            Kind::CloseConnection => return self.close_connection(place),
            Kind::Mistake => self.mistake(),
        };
        vec![format!("{at}> {line}")]
    }

    fn some(&mut self, percent: usize, words: &[&str]) -> String {
        if self.random.chance(percent) { format!(" {}", self.random.pick(words)) } else { String::new() }
    }

    fn queue(&mut self) -> String {
        let queues = &self.plan.queues;
        queues[self.random.below(queues.len())].name.clone()
    }

    /// One that is routed to.
    fn exchange(&mut self) -> String {
        format!("$x{}", 1 + self.random.below(4))
    }

    fn close_connection(&mut self, place: Place) -> Vec<String> {
        self.forget((place.0, 0));
        vec![if self.random.chance(50) {
            format!("{}> connection.close 200", place.0)
        } else {
            format!("drop {}", place.0)
        }]
    }

    fn publish(&mut self) -> String {
        let count =
            if self.random.chance(25) { format!("x{} ", 2 + self.random.below(5)) } else { String::new() };
        let route = match self.random.below(20) {
            0..=7 => format!("key={}", self.queue()),
            8 => format!("exchange=amq.direct key={}", self.queue()),
            9 => "exchange=$dead key=a".into(),
            _ => format!("exchange={} key={}", self.exchange(), self.random.pick(KEYS)),
        };
        let mandatory = self.some(15, &["mandatory"]);
        let properties = self.properties();
        self.bodies += 1;
        let body =
            if count.is_empty() { format!("m{}", self.bodies) } else { format!("m{}.$i", self.bodies) };
        format!("{count}publish {route}{mandatory}{properties} \"{body}\"")
    }

    fn properties(&mut self) -> String {
        let mut properties = Vec::new();
        let random = &mut self.random;
        if random.chance(30) {
            properties.push("delivery_mode=2".into());
        }
        if !self.plan.quorum && random.chance(25) {
            properties.push(format!("priority={}", random.below(8)));
        }
        if random.chance(20) {
            let all =
                ["h=i:1", "h=l:1 g=x", "g=x", "h=x", "h=V:", "g=true h=i:2", "x-a=S:1 h=i:1", "f=d:1.5"];
            properties.push(format!("headers={{{}}}", random.pick(&all)));
        } else if random.chance(8) {
            let all = ["CC=[$q3]", "CC=[$q3 $q4]", "BCC=[$q3]", "CC=[$q4] BCC=[$q3] h=i:1", "CC=[a]"];
            properties.push(format!("headers={{{}}}", random.pick(&all)));
        }
        let times: &[&str] = if self.plan.clock { &["30", "30", "0", "60000"] } else { &["0", "60000"] };
        if random.chance(if self.plan.clock { 30 } else { 5 }) {
            properties.push(format!("expiration=\"{}\"", random.pick(times)));
        }
        for (percent, text) in [
            (4, "content_type=text/plain"),
            (4, "message_id=one"),
            (4, "timestamp=1700000000"),
            (3, "user_id=$user"),
            (3, "reply_to=there correlation_id=this"),
            (2, "type=t app_id=a cluster_id=c content_encoding=e"),
        ] {
            if random.chance(percent) {
                properties.push(text.into());
            }
        }
        if properties.is_empty() { String::new() } else { format!(" {{{}}}", properties.join(" ")) }
    }

    fn get(&mut self) -> String {
        let mut no_ack = self.some(40, &["no_ack"]);
        let queue = self.queue();
        if self.plan.quorum && queue == QUORUM {
            // What is fetched and not acknowledged counts as a consumer there, on RabbitMQ 3.10.8.
            no_ack = " no_ack".into();
        }
        self.got_without_ack = !no_ack.is_empty();
        format!("basic.get queue={queue}{no_ack}")
    }

    fn consume(&mut self, place: Place, habit: Habit) -> String {
        let queue = match habit {
            Habit::Shared(at) => self.plan.queues[at].name.clone(),
            _ => self.queue(),
        };
        self.tags += 1;
        let no_ack = self.random.chance(25);
        let tag = format!("{}{}", if no_ack { 'n' } else { 'c' }, self.tags);
        self.consumers.entry(place).or_default().insert(tag.clone());
        let mut words = String::new();
        if no_ack {
            words += " no_ack";
        }
        words += &self.some(4, &["exclusive"]);
        words += &self.some(4, &["nowait"]);
        if self.random.chance(12) {
            words += &format!(" arguments={{x-priority=I:{}}}", self.random.pick(&["-1", "1", "5"]));
        }
        format!("basic.consume queue={queue} consumer_tag={tag}{words}")
    }

    fn cancel(&mut self, place: Place) -> String {
        let tags: Vec<String> = self.consumers.get(&place).into_iter().flatten().cloned().collect();
        if tags.is_empty() {
            return "basic.cancel consumer_tag=unknown".into();
        }
        let tag = self.random.pick(&tags);
        self.consumers.entry(place).or_default().remove(&tag);
        format!("basic.cancel consumer_tag={tag}{}", self.some(10, &["nowait"]))
    }

    /// Acknowledges, mostly something that is outstanding.
    fn settle(&mut self, place: Place) -> String {
        let tags: Vec<(u64, u64)> =
            self.outstanding.get(&place).into_iter().flatten().map(|(tag, last)| (*tag, *last)).collect();
        if tags.is_empty() {
            return self.publish();
        }
        let (tag, last) = self.random.pick(&tags);
        let multiple = self.random.chance(20);
        let outstanding = self.outstanding.entry(place).or_default();
        let tag = if multiple {
            outstanding.retain(|tag, _| *tag > last);
            last
        } else {
            outstanding.remove(&tag);
            tag
        };
        let all = if multiple { " multiple" } else { "" };
        match self.random.below(8) {
            0..=3 => format!("ack tag={tag}{all}"),
            4 => format!("nack tag={tag} requeue{all}"),
            5 => format!("nack tag={tag}{all}"),
            _ if multiple => format!("ack tag={tag} multiple"),
            6 => format!("reject tag={tag} requeue"),
            _ => format!("reject tag={tag}"),
        }
    }

    fn qos(&mut self, habit: Habit) -> String {
        let global = if matches!(habit, Habit::Shared(_)) { " global" } else { "" };
        format!("basic.qos prefetch_count={}{global}", self.random.below(4))
    }

    fn mode(&mut self, habit: Habit) -> String {
        match habit {
            Habit::Confirm => "confirm.select".into(),
            Habit::Tx => self.random.pick(&["tx.select", "tx.commit", "tx.commit", "tx.rollback"]).into(),
            _ => self.random.pick(&["channel.flow active", "basic.recover requeue"]).into(),
        }
    }

    fn declare_queue(&mut self) -> String {
        let at = self.random.below(self.plan.queues.len());
        let mut queue = self.plan.queues[at].clone();
        if self.random.chance(25) {
            return format!("queue.declare queue={} passive", queue.name);
        }
        if self.random.chance(15) {
            self.change(&mut queue);
        }
        if self.random.chance(4) {
            return "queue.declare exclusive".into();
        }
        declaration(&queue)
    }

    /// Makes a declaration another one.
    fn change(&mut self, queue: &mut Queue) {
        if self.random.chance(40) {
            let flag = self.random.pick(&["durable", "auto_delete"]);
            match queue.flags.iter().position(|other| *other == flag) {
                Some(at) => drop(queue.flags.remove(at)),
                None => queue.flags.push(flag),
            }
        } else if !queue.arguments.is_empty() && self.random.chance(50) {
            let at = self.random.below(queue.arguments.len());
            if !queue.arguments[at].contains("dead") {
                queue.arguments.remove(at);
            }
        } else {
            let argument = self.random.pick(&["x-max-length=i:9", "x-max-priority=i:9", "x-unknown=i:2"]);
            let name = argument.split('=').next().unwrap_or_default();
            queue.arguments.retain(|other| !other.starts_with(name));
            queue.arguments.push(argument.into());
        }
    }

    fn declare_exchange(&mut self) -> String {
        let at = self.random.below(4);
        let mut exchange = self.plan.exchanges[at].clone();
        if self.random.chance(20) {
            return format!("exchange.declare exchange={} passive", exchange.name);
        }
        if self.random.chance(15) {
            match self.random.below(3) {
                0 => exchange.kind = self.random.pick(&["direct", "fanout", "topic", "headers"]),
                1 => exchange.flags.clear(),
                _ => exchange.arguments.clear(),
            }
        }
        self::exchange(&exchange)
    }

    fn bind(&mut self) -> String {
        let queue = format!("$q{}", 1 + self.random.below(4));
        if self.random.chance(8) {
            return format!("queue.bind queue={queue} exchange=amq.direct key={queue}");
        }
        let at = self.random.below(4);
        let (name, kind) = (self.plan.exchanges[at].name.clone(), self.plan.exchanges[at].kind);
        if kind == "headers" && self.random.chance(85) {
            let arguments = self.random.pick(&[
                "x-match=all h=i:1",
                "x-match=any h=i:1 g=x",
                "h=V:",
                "x-match=all",
                "x-match=any g=true",
                "x-match=all-with-x x-a=S:1",
                "h=x",
                "f=d:1.5",
            ]);
            return format!("queue.bind queue={queue} exchange={name} arguments={{{arguments}}}");
        }
        format!("queue.bind queue={queue} exchange={name} key={}", self.random.pick(PATTERNS))
    }

    fn bind_exchanges(&mut self) -> String {
        let verb = if self.random.chance(75) { "exchange.bind" } else { "exchange.unbind" };
        let (destination, source) = (self.exchange(), self.exchange());
        format!("{verb} destination={destination} source={source} key={}", self.random.pick(PATTERNS))
    }

    /// What a broker refuses, mostly.
    fn mistake(&mut self) -> String {
        let queue = self.queue();
        let (exchange, other) = (self.exchange(), self.exchange());
        let mut choice = self.random.pick(MISTAKES);
        if choice.contains("type=what") && self.random.chance(80) {
            // Runs end where they meet a declared difference.
            choice = "basic.qos prefetch_size=1";
        }
        choice.replace("QUEUE", &queue).replace("EXCHANGE", &exchange).replace("OTHER", &other)
    }
}

fn declaration(queue: &Queue) -> String {
    let flags: String = queue.flags.iter().map(|flag| format!(" {flag}")).collect();
    let arguments = match queue.arguments.is_empty() {
        true => String::new(),
        false => format!(" arguments={{{}}}", queue.arguments.join(" ")),
    };
    format!("queue.declare queue={}{flags}{arguments}", queue.name)
}

fn exchange(exchange: &super::plan::Exchange) -> String {
    let flags: String = exchange.flags.iter().map(|flag| format!(" {flag}")).collect();
    let arguments = match exchange.arguments.is_empty() {
        true => String::new(),
        false => format!(" arguments={{{}}}", exchange.arguments.join(" ")),
    };
    format!("exchange.declare exchange={} type={}{flags}{arguments}", exchange.name, exchange.kind)
}

const MISTAKES: &[&str] = &[
    "queue.declare queue=$none passive",
    "queue.declare queue=amq.mine",
    "queue.declare queue=QUEUE exclusive",
    "queue.declare queue=$new auto_delete exclusive arguments={x-message-ttl=I:-1}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-expires=i:0}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-expires=l:315360000001}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-max-length=many}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-max-length-bytes=d:2}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-max-priority=i:256}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-overflow=what}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-queue-mode=what}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-queue-type=what}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-dead-letter-routing-key=k}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-dead-letter-exchange=i:1}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-single-active-consumer=yes}",
    "queue.declare queue=$new auto_delete exclusive arguments={x-delivery-limit=i:3}",
    "queue.declare queue=$new arguments={x-queue-type=quorum}",
    "queue.bind queue=QUEUE exchange=$none key=a",
    "queue.bind queue=$none exchange=EXCHANGE key=a",
    "queue.bind queue=QUEUE exchange=\"\" key=a",
    "queue.unbind queue=QUEUE exchange=\"\" key=QUEUE",
    "queue.unbind queue=$none exchange=EXCHANGE key=a",
    "queue.unbind queue=QUEUE exchange=EXCHANGE key=never",
    "queue.purge queue=$none",
    "queue.purge queue=\"\"",
    "queue.delete queue=$none",
    "queue.delete queue=QUEUE if_unused if_empty",
    "exchange.declare exchange=EXCHANGE type=what",
    "exchange.declare exchange=amq.mine type=direct",
    "exchange.declare exchange=amq.direct type=fanout durable",
    "exchange.declare exchange=amq.direct type=direct durable",
    "exchange.declare exchange=\"\" type=direct",
    "exchange.declare exchange=$none passive type=direct",
    "exchange.declare exchange=$never type=direct arguments={alternate-exchange=i:1}",
    "exchange.delete exchange=amq.direct",
    "exchange.delete exchange=$none",
    "exchange.delete exchange=\"\"",
    "exchange.bind destination=$none source=EXCHANGE key=a",
    "exchange.bind destination=EXCHANGE source=$none key=a",
    "exchange.bind destination=EXCHANGE source=\"\" key=a",
    "exchange.bind destination=EXCHANGE source=OTHER key=a nowait",
    "publish exchange=$none key=a \"lost\"",
    "publish key=QUEUE immediate \"at once\"",
    "publish key=QUEUE {expiration=soon} \"bad\"",
    "publish key=QUEUE {expiration=\"-1\"} \"bad\"",
    "publish key=QUEUE {expiration=\"1x\"} \"bad\"",
    "publish key=QUEUE {delivery_mode=3} \"bad\"",
    "publish key=QUEUE {user_id=nobody} \"bad\"",
    "publish key=QUEUE {headers={CC=QUEUE}} \"bad\"",
    "publish key=QUEUE {headers={CC=[i:1]}} \"odd\"",
    "publish key=$none mandatory \"back\"",
    "publish key=QUEUE {reply_to=amq.rabbitmq.reply-to} \"call\"",
    "basic.get queue=$none",
    "basic.get queue=\"\"",
    "basic.consume queue=$none consumer_tag=c0",
    "basic.consume queue=QUEUE consumer_tag=twice no_ack arguments={x-priority=high}",
    "basic.consume queue=QUEUE consumer_tag=ntwice no_ack",
    "basic.consume queue=QUEUE consumer_tag=nalone exclusive no_ack",
    "basic.consume queue=amq.rabbitmq.reply-to consumer_tag=reply no_ack",
    "basic.consume queue=amq.rabbitmq.reply-to consumer_tag=reply2",
    "basic.cancel consumer_tag=unknown",
    "ack tag=99",
    "nack tag=99 requeue",
    "reject tag=99",
    "ack tag=0",
    "ack multiple",
    "nack tag=98 multiple",
    "basic.recover",
    "basic.recover-async requeue",
    "basic.qos prefetch_size=1",
    "tx.commit",
    "tx.rollback",
    "channel.flow",
    "channel.flow active",
    "channel.open",
    "connection.open-ok",
    "basic.get-empty",
    "access.request",
];
