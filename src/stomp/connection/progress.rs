//! What a connection lets others see of itself: entered in the broker's list when it opens its vhost, brought up to date once
//! a turn, taken out when it ends.

use super::subscribe::CHANNEL;
use super::{Connection, Open};
use crate::broker::VirtualHost;
use crate::broker::access::users::User;
use crate::broker::memory::Holdings;
use crate::broker::observe::browse::{Inquiry, UnackedInquiry, UnackedMessage};
use crate::broker::observe::connections::{
    ChannelFacts, ConnectionFacts, ConnectionState, LiveConnection, Tally,
};
use crate::broker::observe::stats::MessageStats;
use crate::broker::observe::trace::Party;
use crate::message::{EncodedTable, Millis};
use crate::stomp::error::StompError;
use std::sync::Arc;

/// What has come and gone.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received_bytes: u64,
    received_count: u64,
    sent_bytes: u64,
    sent_count: u64,
    /// What was done with messages.
    pub(super) stats: MessageStats,
    /// What is counted apart of it.
    pub(super) tally: Tally,
    is_news: bool,
}

impl Traffic {
    pub(super) fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
        self.received_count += 1;
        self.is_news = true;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        if bytes > 0 {
            self.sent_bytes += bytes as u64;
            self.sent_count += 1;
            self.is_news = true;
        }
    }

    /// A receipt is on its way.
    pub(super) fn confirmed(&mut self) {
        self.stats.confirm += 1;
        self.is_news = true;
    }

    /// Something has changed.
    pub(super) fn touch(&mut self) {
        self.is_news = true;
    }
}

/// Who publishes and gets messages here, for the firehose.
pub(super) fn party(live: &LiveConnection) -> Party<'_> {
    let facts = live.facts();
    Party { connection: &facts.name, channel: CHANNEL, user: &facts.user }
}

impl Connection {
    /// Enters the connection in the broker's list, if user and vhost may have one more.
    pub(super) fn enter(
        &self,
        user: &User,
        vhost: &VirtualHost,
        mechanism: &str,
    ) -> Result<Arc<LiveConnection>, StompError> {
        let broker = &self.stomp.broker;
        let facts = ConnectionFacts {
            id: self.id,
            name: self.peer.name.clone(),
            peer: self.peer.address.clone(),
            local: self.peer.local_address.clone(),
            user: user.name.clone(),
            vhost: vhost.name().clone(),
            protocol: self.protocol(),
            auth_mechanism: mechanism.to_owned(),
            client_properties: EncodedTable::default(),
            tls: self.peer.tls.clone(),
            channel_max: 1,
            frame_max: 0,
            heartbeat_s: u16::try_from(self.heartbeat.send_ms / 1000).unwrap_or(u16::MAX),
            connected_at: self.started_at,
        };
        let live = broker
            .connections()
            .open(facts, &self.outbox, |counts| self.check_counts(user, vhost, counts))?;
        // Deleting the user or the vhost removes it first and then looks for connections, so that one of the two
        // sees the other.
        if let Err(error) = broker.check_still_there(user, vhost) {
            broker.connections().remove(self.id);
            return Err(StompError::new("Bad CONNECT", error.to_string()));
        }
        live.set_channels(1);
        Ok(live)
    }

    /// Brings up to date what others see, if anything has changed since the last time.
    pub(super) fn report(&mut self, now: Millis) {
        let Some(Open { live, .. }) = &self.open else { return };
        if !std::mem::take(&mut self.traffic.is_news) {
            return;
        }
        let mut progress = live.progress();
        progress.state = match (self.blocked, self.held_back_until) {
            (true, _) => ConnectionState::Blocked,
            (_, Some(_)) => ConnectionState::Flow,
            _ => ConnectionState::Running,
        };
        progress.received_bytes = self.traffic.received_bytes;
        progress.received_count = self.traffic.received_count;
        progress.sent_bytes = self.traffic.sent_bytes;
        progress.sent_count = self.traffic.sent_count;
        let (uncommitted, acks_uncommitted) = self.transactions.counts();
        let facts = ChannelFacts {
            confirm: self.traffic.stats.confirm > 0,
            transactional: !self.transactions.is_empty(),
            consumers: self.subscriptions.count() as u64,
            unacked: self.unacked.len() as u64,
            unconfirmed: self.receipts.count() as u64,
            uncommitted,
            acks_uncommitted,
            stats: self.traffic.stats,
            active_at: now,
            ..ChannelFacts::default()
        };
        progress.report(CHANNEL, facts, &mut self.traffic.tally);
        if !self.turn.sizes.is_empty() {
            progress.sizes.add(&std::mem::take(&mut self.turn.sizes));
        }
    }

    /// Reports what the session has unacknowledged of a queue, and what it keeps in memory, if that was asked.
    pub(super) fn answer_inquiries(&mut self) {
        let asked = self.open.as_ref().filter(|open| open.live.inquiries().are_there());
        let Some(live) = asked.map(|open| open.live.clone()) else { return };
        for inquiry in live.inquiries().take() {
            let UnackedInquiry { queue, after, max, answer } = match inquiry {
                Inquiry::Unacked(inquiry) => inquiry,
                Inquiry::Holdings => {
                    // What can leave memory is not what it is about.
                    self.spill_unacked();
                    self.stomp.broker.end_turn(&mut self.turn);
                    live.set_holdings(self.holdings());
                    continue;
                }
            };
            let held = self.unacked.of_queue(queue, after).map(|(seen, consumer, delivered_at)| {
                let consumer = consumer.and_then(|id| self.subscriptions.get(id));
                let consumer_tag = consumer.map(|subscription| subscription.tag.clone());
                UnackedMessage { seen, channel: CHANNEL, consumer_tag, delivered_at }
            });
            let mut held: Vec<UnackedMessage> = held.collect();
            held.sort_unstable_by_key(|held| held.seen.position());
            held.truncate(max);
            answer(held);
        }
    }

    /// What the connection keeps in memory.
    fn holdings(&self) -> Holdings {
        Holdings {
            outbox_bytes: self.outbox.waiting_bytes(),
            unacked_messages: self.unacked.len() as u64,
            unacked_bytes: self.unacked.bytes() as u64,
            arriving_bytes: self.parser.taken_bytes() as u64,
            transaction_bytes: self.transactions.bytes() as u64,
        }
    }

    /// Ends the connection, if that was asked.
    pub(super) fn check_asked_to_close(&mut self, now: Millis) {
        let Some(Open { live, .. }) = self.open.as_ref().filter(|open| open.live.is_asked_to_close()) else {
            return;
        };
        if let Some(reason) = live.take_close_reason() {
            let error = StompError::new("connection_forced", format!("CONNECTION_FORCED - {reason}"));
            self.fail_with(super::End::Orderly, error, now);
        }
    }
}
