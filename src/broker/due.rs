//! What is due in the core: queues whose time has come, samples of what is counted, and what is left over of long work.

use super::Broker;
use super::observe::stats::{SAMPLE_INTERVAL_MS, TotalSample};
use super::turn::Turn;
use crate::message::Millis;
use std::sync::atomic::Ordering;

/// What it takes to look at a queue whose time has come, in steps.
const DEADLINE_STEPS: usize = 100;

impl Broker {
    /// When [`Broker::handle_timeout`] has to be called next.
    pub fn next_deadline(&self) -> Millis {
        if self.has_chores() {
            return 0;
        }
        let sample_at = self.sample_at.load(Ordering::Relaxed);
        self.shared.timer.next().map_or(sample_at, |at| at.min(sample_at))
    }

    /// Takes a sample of all counters when it is time.
    fn sample(&self, now: Millis) {
        if now < self.sample_at.load(Ordering::Relaxed) {
            return;
        }
        self.sample_at.store(now + SAMPLE_INTERVAL_MS, Ordering::Relaxed);
        self.connections.sample(now);
        let by_vhost = self.connections.stats_by_vhost();
        let mut total = TotalSample { churn: self.churn_counts(), ..TotalSample::default() };
        for stats in by_vhost.values() {
            total.stats.add(stats);
        }
        for vhost in self.vhosts() {
            let of_vhost = vhost.sample(by_vhost.get(vhost.name()).copied().unwrap_or_default(), now);
            total.ready += of_vhost.ready;
            total.unacked += of_vhost.unacked;
        }
        self.samples.lock().take(now, total);
        self.lengths.lock().note(now, total.length());
    }

    /// Does what is due in the core at `now`, for as long as a turn may take: [`Broker::next_deadline`] says when to go on.
    pub fn handle_timeout(&self, now: Millis) {
        self.sample(now);
        let mut turn = Turn::at(now);
        while !turn.is_spent()
            && let Some(deadline) = self.shared.timer.pop_due(now)
        {
            turn.spend(DEADLINE_STEPS);
            if let Some(vhost) = self.vhost(&deadline.vhost) {
                vhost.handle_timeout(&deadline.queue, &mut turn);
            }
        }
        self.end_turn(&mut turn);
        if self.has_chores() {
            self.go_on_with_chores(now);
        }
    }
}
