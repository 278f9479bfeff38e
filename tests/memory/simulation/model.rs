//! What clients know of the broker: where every message may be, who has it, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};

/// The queues of every simulation, and whether their dead letters go to the last one.
pub(crate) const QUEUES: [(&str, bool); 6] = [
    ("plain", false),
    ("letters", true),
    ("priority", false),
    ("short", true),
    ("brief", true),
    (DEAD, false),
];

/// Where dead messages go.
pub(crate) const DEAD: &str = "dead";

/// Copies published to these can't leave them but by a client's hand, so that all about them is known.
pub(crate) const EXACT: [&str; 2] = ["plain", "priority"];

/// A message in one queue, or in its dead-letter queue: two copies of one number are never in the same.
pub(crate) type CopyId = (u64, bool);

/// One copy of a message that is somewhere in the broker.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    /// The queue where it was seen last.
    pub(crate) queue: &'static str,
    pub(crate) priority: u8,
    /// When it came: a transaction's messages come when it is committed.
    pub(crate) position: u64,
    pub(crate) was_delivered: bool,
    /// The channel that has it unacknowledged.
    pub(crate) holder: Option<ChannelId>,
}

/// A channel: its connection and its number.
pub(crate) type ChannelId = (usize, u16);

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: &'static str,
    pub(crate) no_ack: bool,
    pub(crate) prefetch: u16,
    unacked: BTreeSet<CopyId>,
}

/// An unacknowledged delivery.
#[derive(Clone, Debug)]
pub(crate) struct Unacked {
    pub(crate) copy: CopyId,
    /// The consumer's tag; `None` if basic.get fetched it.
    pub(crate) consumer: Option<String>,
    pub(crate) queue: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Confirm,
    Tx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Requeue,
    Reject,
}

/// A channel as its client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) mode: Mode,
    pub(crate) consumers: BTreeMap<String, Consumer>,
    pub(crate) unacked: BTreeMap<u64, Unacked>,
    /// Said in a transaction, and not done yet.
    pub(crate) settled: Vec<(BTreeMap<u64, Unacked>, Verdict)>,
    pub(crate) published: Vec<(CopyId, Copy)>,
    pub(crate) next_tag: u64,
    pub(crate) prefetch: u16,
    pub(crate) limit: u16,
    pub(crate) confirms: (u64, u64),
}

impl Channel {
    pub(crate) fn new(mode: Mode) -> Channel {
        Channel {
            mode,
            consumers: BTreeMap::new(),
            unacked: BTreeMap::new(),
            settled: Vec::new(),
            published: Vec::new(),
            next_tag: 1,
            prefetch: 0,
            limit: 0,
            confirms: (0, 0),
        }
    }

    /// Deliveries to its consumers that are not settled.
    fn consumed(&self) -> usize {
        let settled = self.settled.iter().flat_map(|(taken, _)| taken.values());
        self.unacked.values().chain(settled).filter(|unacked| unacked.consumer.is_some()).count()
    }

    fn has_room(&self) -> bool {
        self.limit == 0 || self.consumed() < usize::from(self.limit)
    }

    fn could_take(&self, consumer: &Consumer) -> bool {
        let within_prefetch =
            consumer.prefetch == 0 || consumer.unacked.len() < usize::from(consumer.prefetch);
        (consumer.no_ack || within_prefetch) && self.has_room()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// All copies that are in the broker.
    pub(crate) live: BTreeMap<CopyId, Copy>,
    pub(crate) channels: BTreeMap<ChannelId, Channel>,
    positions: u64,
    /// For each queue and priority, the greatest position that was delivered for the first time in an earlier step.
    first_delivered: BTreeMap<(&'static str, u8), u64>,
}

/// A delivery, or what basic.get fetched.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) number: u64,
    pub(crate) priority: u8,
    pub(crate) position: u64,
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    /// The consumer's tag; `None` for basic.get.
    pub(crate) consumer: Option<String>,
    pub(crate) queue: &'static str,
    pub(crate) no_ack: bool,
}

pub(crate) fn goes_to_dead(queue: &str) -> bool {
    queue == DEAD || QUEUES.iter().any(|(name, letters)| *name == queue && *letters)
}

/// Which of two ready messages goes first.
fn order(copy: &Copy) -> (u8, u64) {
    (u8::MAX - copy.priority, copy.position)
}

impl Model {
    pub(crate) fn channel(&mut self, id: ChannelId) -> &mut Channel {
        self.channels.get_mut(&id).expect("only open channels are used")
    }

    /// The ready messages of a queue about which all is known, in the order in which they are delivered.
    pub(crate) fn ready(&self, queue: &str) -> Vec<CopyId> {
        let is_ready = |copy: &Copy| copy.queue == queue && copy.holder.is_none();
        let mut ready: Vec<_> = self.live.iter().filter(|(_, copy)| is_ready(copy)).collect();
        ready.sort_by_key(|(_, copy)| order(copy));
        ready.into_iter().map(|(id, _)| *id).collect()
    }

    /// How many messages of that queue clients have.
    pub(crate) fn held(&self, queue: &str) -> usize {
        self.live.values().filter(|copy| copy.queue == queue && copy.holder.is_some()).count()
    }

    pub(crate) fn publish(&mut self, channel: ChannelId, copies: Vec<(CopyId, Copy)>) {
        match self.channel(channel).mode {
            Mode::Tx => self.channel(channel).published.extend(copies),
            Mode::Plain => self.enqueue(copies),
            Mode::Confirm => {
                self.channel(channel).confirms.0 += 1;
                self.enqueue(copies);
            }
        }
    }

    fn enqueue(&mut self, copies: Vec<(CopyId, Copy)>) {
        for (id, copy) in copies {
            self.positions += 1;
            self.live.insert(id, Copy { position: self.positions, ..copy });
        }
    }

    pub(crate) fn consume(&mut self, channel: ChannelId, tag: &str, queue: &'static str, no_ack: bool) {
        let channel = self.channel(channel);
        let prefetch = channel.prefetch;
        let consumer = Consumer { queue, no_ack, prefetch, unacked: BTreeSet::new() };
        channel.consumers.insert(tag.to_owned(), consumer);
    }

    /// Takes one delivery in, and says what is wrong with it.
    pub(crate) fn deliver(&mut self, channel_id: ChannelId, delivery: &Delivery) -> Result<(), String> {
        let id = (delivery.number, goes_to_dead(delivery.queue));
        let copy = self.live.get_mut(&id).ok_or("it was published never, or settled before")?;
        if let Some(holder) = copy.holder {
            return Err(format!("channel {holder:?} has it"));
        }
        if copy.queue != delivery.queue {
            if delivery.queue != DEAD {
                return Err(format!("it was last seen in {}", copy.queue));
            }
            (copy.queue, copy.was_delivered) = (DEAD, false);
        }
        if copy.was_delivered != delivery.redelivered {
            return Err(format!("redelivered is {}", delivery.redelivered));
        }
        copy.was_delivered = true;
        copy.holder = Some(channel_id);
        if delivery.no_ack {
            self.live.remove(&id);
        }
        let channel = self.channel(channel_id);
        if delivery.tag != channel.next_tag {
            return Err(format!("its tag should be {}", channel.next_tag));
        }
        channel.next_tag += 1;
        // What a consumer need not acknowledge takes no room, and waits all the same while there is none.
        if delivery.consumer.is_some() && !channel.has_room() {
            return Err(format!("the channel has {} of {}", channel.consumed(), channel.limit));
        }
        if delivery.no_ack {
            return Ok(());
        }
        if let Some(tag) = &delivery.consumer {
            let consumer = channel.consumers.get_mut(tag).ok_or("its consumer is gone")?;
            consumer.unacked.insert(id);
            if consumer.prefetch > 0 && consumer.unacked.len() > usize::from(consumer.prefetch) {
                return Err(format!("the consumer has more than {}", consumer.prefetch));
            }
        }
        let unacked = Unacked { copy: id, consumer: delivery.consumer.clone(), queue: delivery.queue };
        channel.unacked.insert(delivery.tag, unacked);
        Ok(())
    }

    /// Checks the deliveries of a step: first ones in the order of publishing, each channel for itself and one step after the
    /// other; and where nothing came back to the queue meanwhile, those that were next.
    pub(crate) fn check_order(
        &mut self,
        deliveries: &[(ChannelId, Delivery)],
        ready_before: Option<&BTreeMap<&'static str, Vec<CopyId>>>,
    ) -> Result<(), String> {
        let mut last: BTreeMap<(ChannelId, &str, u8), u64> = BTreeMap::new();
        let mut greatest = self.first_delivered.clone();
        for (channel, delivery) in deliveries {
            if delivery.redelivered || delivery.queue == DEAD {
                continue;
            }
            let lane = (delivery.queue, delivery.priority);
            let position = delivery.position;
            let before = self.first_delivered.get(&lane).max(last.get(&(*channel, lane.0, lane.1)));
            if before.is_some_and(|before| *before > position) {
                return Err(format!("{delivery:?} came behind position {before:?}"));
            }
            last.insert((*channel, lane.0, lane.1), position);
            let entry = greatest.entry(lane).or_default();
            *entry = position.max(*entry);
        }
        self.first_delivered = greatest;
        for (queue, ready) in ready_before.into_iter().flatten() {
            let delivered = deliveries.iter().filter(|(_, delivery)| delivery.queue == *queue);
            let delivered: BTreeSet<u64> = delivered.map(|(_, delivery)| delivery.number).collect();
            let next: BTreeSet<u64> = ready.iter().take(delivered.len()).map(|id| id.0).collect();
            if delivered != next {
                return Err(format!("{queue} delivered {delivered:?}; {next:?} were next"));
            }
        }
        Ok(())
    }

    /// A client says what becomes of deliveries.
    pub(crate) fn settle(&mut self, id: ChannelId, tag: u64, multiple: bool, verdict: Verdict) {
        let channel = self.channel(id);
        let tags: Vec<u64> =
            if multiple { channel.unacked.range(..=tag).map(|(tag, _)| *tag).collect() } else { vec![tag] };
        let taken: BTreeMap<u64, Unacked> = tags
            .into_iter()
            .filter_map(|tag| channel.unacked.remove(&tag).map(|unacked| (tag, unacked)))
            .collect();
        match channel.mode {
            Mode::Tx => channel.settled.push((taken, verdict)),
            _ => self.carry_out(id, taken, verdict),
        }
    }

    pub(crate) fn carry_out(&mut self, id: ChannelId, taken: BTreeMap<u64, Unacked>, verdict: Verdict) {
        for unacked in taken.into_values() {
            let consumers = &mut self.channel(id).consumers;
            if let Some(consumer) = unacked.consumer.and_then(|tag| consumers.get_mut(&tag)) {
                consumer.unacked.remove(&unacked.copy);
            }
            let goes_on = QUEUES.contains(&(unacked.queue, true));
            let copy = self.live.get_mut(&unacked.copy).expect("what a client has is live");
            copy.holder = None;
            match verdict {
                Verdict::Requeue => {}
                Verdict::Reject if goes_on => (copy.queue, copy.was_delivered) = (DEAD, false),
                Verdict::Reject | Verdict::Ack => drop(self.live.remove(&unacked.copy)),
            }
        }
    }

    pub(crate) fn commit(&mut self, id: ChannelId) {
        let channel = self.channel(id);
        let (published, settled) =
            (std::mem::take(&mut channel.published), std::mem::take(&mut channel.settled));
        self.enqueue(published);
        for (taken, verdict) in settled {
            self.carry_out(id, taken, verdict);
        }
    }

    pub(crate) fn roll_back(&mut self, id: ChannelId) {
        let channel = self.channel(id);
        channel.published.clear();
        for (taken, _) in std::mem::take(&mut channel.settled) {
            channel.unacked.extend(taken);
        }
    }

    /// Everything that was delivered on a channel and can still be settled goes back.
    pub(crate) fn recover(&mut self, id: ChannelId) {
        let all = std::mem::take(&mut self.channel(id).unacked);
        self.carry_out(id, all, Verdict::Requeue);
    }

    pub(crate) fn close(&mut self, id: ChannelId) {
        self.roll_back(id);
        self.recover(id);
        self.channels.remove(&id);
    }

    /// A consumer that could be given something of this queue, which has something: there should be none.
    pub(crate) fn starving(&self, queue: &str) -> Option<&str> {
        self.channels.values().find_map(|channel| {
            let mut consumers = channel.consumers.iter().filter(|(_, consumer)| consumer.queue == queue);
            consumers.find(|(_, consumer)| channel.could_take(consumer)).map(|(tag, _)| tag.as_str())
        })
    }
}
