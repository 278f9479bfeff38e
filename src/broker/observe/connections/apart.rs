//! What was done on a channel, by queue and by exchange: RabbitMQ's metrics of channels have these labels.
//!
//! A channel mostly has one queue and one exchange at work. What its counters grow by is put down to these when it turns to others,
//! and when the connection reports, so that no message costs anything.

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
    fn add(&mut self, name: &Name, done: [u64; N]) {
        let last = self.counts.len().wrapping_sub(1);
        match self.counts.iter().rposition(|(other, _)| other == name) {
            Some(at) if at == last => {}
            Some(at) => self.counts[at..].rotate_left(1),
            None => {
                if self.counts.len() >= APART_MAX {
                    self.counts.remove(0);
                }
                self.counts.push((name.clone(), [0; N]));
            }
        }
        if let Some((_, counts)) = self.counts.last_mut() {
            counts.iter_mut().zip(done).for_each(|(count, more)| *count += more);
        }
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

/// What publishers did, and what was confirmed to them.
const PUBLISHED: usize = 4;

fn published(stats: &MessageStats) -> [u64; PUBLISHED] {
    let MessageStats { publish, return_unroutable, drop_unroutable, confirm, .. } = *stats;
    [publish, return_unroutable, drop_unroutable, confirm]
}

/// The counts of a channel by queue and by exchange, as of the connection's last turn.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    queues: ByName<DELIVERED>,
    exchanges: ByName<PUBLISHED>,
}

impl Apart {
    /// What consumers of each queue did.
    pub fn by_queue(&self) -> impl Iterator<Item = (&Name, MessageStats)> {
        self.queues.counts.iter().map(|(name, done)| {
            let [get, get_no_ack, get_empty, deliver, deliver_no_ack, redeliver, ack] = *done;
            let stats = MessageStats { get, get_no_ack, get_empty, ..MessageStats::default() };
            (name, MessageStats { deliver, deliver_no_ack, redeliver, ack, ..stats })
        })
    }

    /// What publishers to each exchange did.
    pub fn by_exchange(&self) -> impl Iterator<Item = (&Name, MessageStats)> {
        self.exchanges.counts.iter().map(|(name, done)| {
            let [publish, return_unroutable, drop_unroutable, confirm] = *done;
            let stats = MessageStats { publish, confirm, ..MessageStats::default() };
            (name, MessageStats { return_unroutable, drop_unroutable, ..stats })
        })
    }

    /// Takes over what a channel has counted since the last time; `stats` are all its counts by now.
    pub(super) fn take(&mut self, tally: &mut Tally, stats: &MessageStats) {
        self.queues.take(&mut tally.since_report.queues);
        self.exchanges.take(&mut tally.since_report.exchanges);
        tally.put_down(stats, self);
        tally.put_down_confirms(&mut self.exchanges);
    }
}

/// What a channel keeps to tell its counts apart.
#[derive(Debug, Default)]
pub struct Tally {
    /// The queue and the exchange that it is at work with.
    queue: Option<Name>,
    exchange: Option<Name>,
    /// Its counts when something was put down last.
    delivered: [u64; DELIVERED],
    published: [u64; PUBLISHED],
    /// What was put down since the last report.
    since_report: Apart,
    /// Publishes that wait for their confirms, in order: how many to which exchange.
    unconfirmed: VecDeque<(Name, u64)>,
    /// Confirms that have yet to be put down.
    confirmed: u64,
    confirms: bool,
}

impl Tally {
    /// What is delivered, fetched and acknowledged from now on is of that queue; `stats` are all counts so far.
    #[inline]
    pub fn turn_to_queue(&mut self, name: &Name, stats: &MessageStats) {
        if self.queue.as_ref() != Some(name) {
            self.put_down_early(stats);
            self.queue = Some(name.clone());
        }
    }

    /// What is published from now on goes to that exchange.
    pub fn turn_to_exchange(&mut self, name: &Name, stats: &MessageStats) {
        if self.exchange.as_ref() != Some(name) {
            self.put_down_early(stats);
            self.exchange = Some(name.clone());
        }
    }

    /// From now on the publishes are confirmed one after the other, as [`Tally::confirmed`] says. What else is confirmed counts for the
    /// exchange at work.
    pub fn await_confirms(&mut self, stats: &MessageStats) {
        self.put_down_early(stats);
        self.confirms = true;
    }

    /// The next of the publishes were confirmed.
    pub fn confirmed(&mut self, publishes: u64) {
        self.confirmed += publishes;
    }

    fn put_down_early(&mut self, stats: &MessageStats) {
        let mut since_report = std::mem::take(&mut self.since_report);
        self.put_down(stats, &mut since_report);
        self.since_report = since_report;
    }

    fn put_down(&mut self, stats: &MessageStats, into: &mut Apart) {
        let (delivered, published) = (delivered(stats), published(stats));
        if delivered != self.delivered {
            let done = since(delivered, std::mem::replace(&mut self.delivered, delivered));
            if let Some(queue) = &self.queue {
                into.queues.add(queue, done);
            }
        }
        if published != self.published {
            let [publish, returned, dropped, confirm] =
                since(published, std::mem::replace(&mut self.published, published));
            let confirm = if self.confirms { 0 } else { confirm };
            if let Some(exchange) = self.exchange.clone() {
                into.exchanges.add(&exchange, [publish, returned, dropped, confirm]);
                self.await_confirms_of(exchange, publish);
            }
        }
    }

    fn await_confirms_of(&mut self, exchange: Name, publishes: u64) {
        if !self.confirms || publishes == 0 {
            return;
        }
        let is_full = self.unconfirmed.len() >= UNCONFIRMED_RUNS_MAX;
        match self.unconfirmed.back_mut() {
            Some((name, count)) if is_full || *name == exchange => *count += publishes,
            _ => self.unconfirmed.push_back((exchange, publishes)),
        }
    }

    fn put_down_confirms(&mut self, exchanges: &mut ByName<PUBLISHED>) {
        while self.confirmed > 0
            && let Some((exchange, count)) = self.unconfirmed.front_mut()
        {
            let confirms = self.confirmed.min(*count);
            exchanges.add(exchange, [0, 0, 0, confirms]);
            self.confirmed -= confirms;
            *count -= confirms;
            if *count == 0 {
                self.unconfirmed.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(counts: impl Iterator<Item = (&'a Name, MessageStats)>) -> Vec<(String, u64, u64, u64)> {
        counts
            .map(|(name, done)| (name.to_string(), done.publish, done.confirm, done.deliver + done.ack))
            .collect()
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
        apart.take(&mut tally, &stats);
        let all = [("x".to_owned(), 3, 0, 0), ("y".to_owned(), 1, 0, 0)];
        assert_eq!(seen(apart.by_exchange()), all);
        assert_eq!(seen(apart.by_queue()), [("q".to_owned(), 0, 0, 3)]);
        // Confirms come in the order of what they are for.
        tally.confirmed(2);
        apart.take(&mut tally, &stats);
        assert_eq!(seen(apart.by_exchange()), [("y".to_owned(), 1, 0, 0), ("x".to_owned(), 3, 2, 0)]);
        tally.confirmed(2);
        apart.take(&mut tally, &stats);
        assert_eq!(seen(apart.by_exchange()), [("x".to_owned(), 3, 3, 0), ("y".to_owned(), 1, 1, 0)]);
    }

    #[test]
    fn those_used_longest_ago_are_left_out() {
        let (mut apart, mut tally, mut stats) = (Apart::default(), Tally::default(), MessageStats::default());
        for number in 0..100 {
            tally.turn_to_queue(&format!("q{number}").as_str().into(), &stats);
            stats.deliver += 1;
        }
        apart.take(&mut tally, &stats);
        assert_eq!(apart.by_queue().count(), APART_MAX);
        assert_eq!(seen(apart.by_queue())[0].0, "q68");
        // Publishes to two exchanges in turn, of which none is confirmed, take no more than they may.
        tally.await_confirms(&stats);
        for number in 0..10_000 {
            tally.turn_to_exchange(&if number % 2 == 0 { "a" } else { "b" }.into(), &stats);
            stats.publish += 1;
        }
        apart.take(&mut tally, &stats);
        tally.confirmed(10_000);
        apart.take(&mut tally, &stats);
        let confirmed: u64 = apart.by_exchange().map(|(_, done)| done.confirm).sum();
        assert_eq!((confirmed, tally.unconfirmed.len()), (10_000, 0));
    }
}
