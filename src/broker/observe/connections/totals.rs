//! What was done on all connections together, with those that have ended.

use super::Connections;
use crate::broker::observe::stats::{MessageStats, Traffic};
use crate::message::Name;
use std::collections::BTreeMap;

impl Connections {
    /// What has moved over all connections since the start.
    pub fn traffic(&self) -> Traffic {
        let live = self.live.lock();
        let mut total = live.ended_traffic;
        live.by_id.values().for_each(|connection| total.add(&connection.progress.lock().traffic()));
        total
    }

    /// Counts what was done with messages of a vhost on no connection.
    pub fn count_without_connection(&self, vhost: &Name, stats: &MessageStats) {
        self.live.lock().ended.entry(vhost.clone()).or_default().add(stats);
    }

    /// What clients have done with messages since the start, by vhost.
    pub fn stats_by_vhost(&self) -> BTreeMap<Name, MessageStats> {
        let live = self.live.lock();
        let mut by_vhost = live.ended.clone();
        for connection in live.by_id.values() {
            let stats = connection.progress.lock().stats;
            by_vhost.entry(connection.facts.vhost.clone()).or_default().add(&stats);
        }
        by_vhost
    }
}
