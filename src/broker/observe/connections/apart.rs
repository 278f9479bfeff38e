//! What was done on a channel, by queue and by exchange: RabbitMQ's metrics of channels have these labels.
//!
//! A channel mostly is at work with one queue and one exchange. What its counters grow by is put down to these when it turns to others;
//! what they have grown by since is added when the counts are asked for. So neither a message nor a turn costs anything.

use crate::broker::observe::stats::MessageStats;
use crate::message::Name;
use std::collections::VecDeque;

/// This many queues, and as many exchanges, are counted apart for a channel. When there are more, those used longest ago are left out.
const APART_MAX: usize = 32;

/// Publishes to this many exchanges in turn wait for their confirms apart; those to more count for the last of these.
const UNCONFIRMED_RUNS_MAX: usize = 1024;

/// Counts of one kind by name; see the module.
#[derive(Clone, Debug, Default)]
struct ByName<const N: usize> {
    /// Those used last come last.
    counts: Vec<(Name, [u64; N])>,
}

impl<const N: usize> ByName<N> {
    /// Adds to the counts of a name, which is the one used last now.
    fn add(&mut self, name: &Name, done: [u64; N]) {
        if let Some(at) = self.counts.iter().rposition(|(other, _)| other == name) {
            self.counts[at..].rotate_left(1);
        }
        self.put(name, done);
    }

    /// The same, where it stands.
    fn put(&mut self, name: &Name, done: [u64; N]) {
        let at = self.counts.iter().rposition(|(other, _)| other == name).unwrap_or_else(|| {
            if self.counts.len() >= APART_MAX {
                self.counts.remove(0);
            }
            self.counts.push((name.clone(), [0; N]));
            self.counts.len() - 1
        });
        let (_, counts) = &mut self.counts[at];
        counts.iter_mut().zip(done).for_each(|(count, more)| *count += more);
    }

    /// All of them, with what has been done since of the one at work.
    fn with(&self, at_work: Option<&Name>, done: [u64; N]) -> Vec<(Name, [u64; N])> {
        let mut all = self.clone();
        if let Some(name) = at_work {
            all.put(name, done);
        }
        all.counts
    }

    fn take(&mut self, from: &mut ByName<N>) {
        from.counts.drain(..).for_each(|(name, done)| self.add(&name, done));
    }
}

/// How much each count has grown.
#[inline]
fn since<const N: usize>(now: [u64; N], before: [u64; N]) -> [u64; N] {
    std::array::from_fn(|at| now[at].saturating_sub(before[at]))
}

/// What consumers did.
const DELIVERED: usize = 7;

fn delivered(stats: &MessageStats) -> [u64; DELIVERED] {
    let MessageStats { get, get_no_ack, get_empty, deliver, deliver_no_ack, redeliver, ack, .. } = *stats;
    [get, get_no_ack, get_empty, deliver, deliver_no_ack, redeliver, ack]
}

/// What publishers did, and last what was confirmed to them.
const PUBLISHED: usize = 4;
const CONFIRMED: usize = 3;

fn published(stats: &MessageStats) -> [u64; PUBLISHED] {
    let MessageStats { publish, return_unroutable, drop_unroutable, confirm, .. } = *stats;
    [publish, return_unroutable, drop_unroutable, confirm]
}

/// What a channel is at work with, and how its counts stood when it turned to that.
#[derive(Clone, Debug, Default)]
struct AtWork {
    queue: Option<Name>,
    delivered: [u64; DELIVERED],
    exchange: Option<Name>,
    published: [u64; PUBLISHED],
}

/// The counts of a channel by queue and by exchange, as of the connection's last turn.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    queues: ByName<DELIVERED>,
    exchanges: ByName<PUBLISHED>,
    at_work: AtWork,
}

impl Apart {
    /// What consumers of each queue did; `stats` are all counts of the channel.
    pub fn by_queue(&self, stats: &MessageStats) -> Vec<(Name, MessageStats)> {
        let done = since(delivered(stats), self.at_work.delivered);
        let counts = self.queues.with(self.at_work.queue.as_ref(), done);
        let stats = |[get, get_no_ack, get_empty, deliver, deliver_no_ack, redeliver, ack]: [u64;
                         DELIVERED]| {
            let stats = MessageStats { get, get_no_ack, get_empty, ..MessageStats::default() };
            MessageStats { deliver, deliver_no_ack, redeliver, ack, ..stats }
        };
        counts.into_iter().map(|(name, done)| (name, stats(done))).collect()
    }

    /// What publishers to each exchange did.
    pub fn by_exchange(&self, stats: &MessageStats) -> Vec<(Name, MessageStats)> {
        let done = since(published(stats), self.at_work.published);
        let counts = self.exchanges.with(self.at_work.exchange.as_ref(), done);
        let stats = |[publish, return_unroutable, drop_unroutable, confirm]: [u64; PUBLISHED]| {
            let stats = MessageStats { publish, confirm, ..MessageStats::default() };
            MessageStats { return_unroutable, drop_unroutable, ..stats }
        };
        counts.into_iter().map(|(name, done)| (name, stats(done))).collect()
    }

    /// Takes over what a channel has put down since the last time, if it has turned to something else.
    #[inline]
    pub(super) fn take(&mut self, tally: &mut Tally) {
        if std::mem::take(&mut tally.has_turned) {
            self.queues.take(&mut tally.queues);
            self.exchanges.take(&mut tally.exchanges);
            self.at_work = tally.at_work.clone();
        }
    }
}

/// What a channel keeps to tell its counts apart.
#[derive(Debug, Default)]
pub struct Tally {
    at_work: AtWork,
    /// Whether that has changed since the last report, and what was put down since.
    has_turned: bool,
    queues: ByName<DELIVERED>,
    exchanges: ByName<PUBLISHED>,
    /// Publishes to other exchanges than that at work that wait for their confirms, in order: how many to which.
    unconfirmed: VecDeque<(Name, u64)>,
    confirms: bool,
}

impl Tally {
    /// What is delivered, fetched and acknowledged from now on is of that queue; `stats` are all counts so far.
    #[inline]
    pub fn turn_to_queue(&mut self, name: &Name, stats: &MessageStats) {
        if self.at_work.queue.as_ref() != Some(name) {
            let delivered = delivered(stats);
            let done = since(delivered, std::mem::replace(&mut self.at_work.delivered, delivered));
            if let Some(queue) = self.at_work.queue.replace(name.clone()) {
                self.queues.add(&queue, done);
            }
            self.has_turned = true;
        }
    }

    /// What is published from now on goes to that exchange.
    pub fn turn_to_exchange(&mut self, name: &Name, stats: &MessageStats) {
        if self.at_work.exchange.as_ref() != Some(name) {
            self.put_down_published(stats);
            self.at_work.exchange = Some(name.clone());
        }
    }

    /// From now on all publishes are confirmed, one after the other, as [`Tally::confirmed`] says. Without it what is confirmed counts
    /// for the exchange at work.
    pub fn await_confirms(&mut self, stats: &MessageStats) {
        self.put_down_published(stats);
        self.confirms = true;
    }

    /// The next of the publishes were confirmed, and are counted as that.
    pub fn confirmed(&mut self, mut publishes: u64) {
        while publishes > 0
            && let Some((exchange, count)) = self.unconfirmed.front_mut()
        {
            let confirms = publishes.min(*count);
            self.exchanges.add(exchange, [0, 0, 0, confirms]);
            // They are not of the exchange at work.
            self.at_work.published[CONFIRMED] += confirms;
            self.has_turned = true;
            publishes -= confirms;
            *count -= confirms;
            if *count == 0 {
                self.unconfirmed.pop_front();
            }
        }
    }

    fn put_down_published(&mut self, stats: &MessageStats) {
        let published = published(stats);
        let done = since(published, std::mem::replace(&mut self.at_work.published, published));
        self.has_turned = true;
        let Some(exchange) = &self.at_work.exchange else { return };
        self.exchanges.add(exchange, done);
        let left = done[0].saturating_sub(done[CONFIRMED]);
        if !self.confirms || left == 0 {
            return;
        }
        let is_full = self.unconfirmed.len() >= UNCONFIRMED_RUNS_MAX;
        match self.unconfirmed.back_mut() {
            Some((_, count)) if is_full => *count += left,
            _ => self.unconfirmed.push_back((exchange.clone(), left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(counts: Vec<(Name, MessageStats)>) -> Vec<(String, u64, u64, u64)> {
        let shown = |(name, done): (Name, MessageStats)| {
            (name.to_string(), done.publish, done.confirm, done.deliver + done.ack)
        };
        counts.into_iter().map(shown).collect()
    }

    #[test]
    fn what_is_done_counts_for_what_the_channel_is_at_work_with() {
        let (mut apart, mut tally, mut stats) = (Apart::default(), Tally::default(), MessageStats::default());
        tally.await_confirms(&stats);
        tally.turn_to_exchange(&"x".into(), &stats);
        stats.publish += 3;
        tally.turn_to_queue(&"q".into(), &stats);
        stats.deliver += 2;
        tally.turn_to_exchange(&"y".into(), &stats);
        stats.publish += 1;
        stats.ack += 1;
        apart.take(&mut tally);
        let all = [("x".to_owned(), 3, 0, 0), ("y".to_owned(), 1, 0, 0)];
        assert_eq!(seen(apart.by_exchange(&stats)), all);
        assert_eq!(seen(apart.by_queue(&stats)), [("q".to_owned(), 0, 0, 3)]);
        // Confirms come in the order of what they are for.
        for (confirms, [of_x, of_y]) in [(2, [2, 0]), (1, [3, 0]), (1, [3, 1])] {
            stats.confirm += confirms;
            tally.confirmed(confirms);
            apart.take(&mut tally);
            let all = [("x".to_owned(), 3, of_x, 0), ("y".to_owned(), 1, of_y, 0)];
            assert_eq!(seen(apart.by_exchange(&stats)), all);
        }
        // Whatever the channel has turned to meanwhile.
        tally.turn_to_exchange(&"x".into(), &stats);
        tally.turn_to_queue(&"p".into(), &stats);
        apart.take(&mut tally);
        let all = [("x".to_owned(), 3, 3, 0), ("y".to_owned(), 1, 1, 0)];
        assert_eq!(seen(apart.by_exchange(&stats)), all);
        assert_eq!(seen(apart.by_queue(&stats)), [("q".to_owned(), 0, 0, 3), ("p".to_owned(), 0, 0, 0)]);
    }

    #[test]
    fn those_used_longest_ago_are_left_out() {
        let (mut apart, mut tally, mut stats) = (Apart::default(), Tally::default(), MessageStats::default());
        for number in 0..100 {
            tally.turn_to_queue(&format!("q{number}").as_str().into(), &stats);
            stats.deliver += 1;
        }
        apart.take(&mut tally);
        let queues = seen(apart.by_queue(&stats));
        assert_eq!((queues.len(), queues[0].0.as_str()), (APART_MAX, "q68"));
        // Publishes to two exchanges in turn, of which none is confirmed, take no more than they may.
        tally.await_confirms(&stats);
        for number in 0..10_000 {
            tally.turn_to_exchange(&if number % 2 == 0 { "a" } else { "b" }.into(), &stats);
            stats.publish += 1;
        }
        assert_eq!(tally.unconfirmed.len(), UNCONFIRMED_RUNS_MAX);
        stats.confirm += 10_000;
        tally.confirmed(10_000);
        apart.take(&mut tally);
        let confirmed: u64 = apart.by_exchange(&stats).iter().map(|(_, done)| done.confirm).sum();
        assert_eq!((confirmed, tally.unconfirmed.len()), (10_000, 0));
    }
}
