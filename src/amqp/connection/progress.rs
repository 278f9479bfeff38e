//! What a connection lets others see of itself: entered in the broker's list when it opens its vhost, brought up to date once
//! a turn, taken out when it ends.

use super::{Channel, Connection, Open};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::broker::VirtualHost;
use crate::broker::access::users::User;
use crate::broker::memory::Holdings;
use crate::broker::observe::browse::{Inquiry, UnackedInquiry, UnackedMessage};
use crate::broker::observe::connections::{ConnectionFacts, ConnectionState, LiveConnection};
use crate::client::Answered;
use crate::message::{ChannelNumber, Millis};
use std::sync::Arc;

/// What has come and gone, and which channels others do not know the state of yet.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received_bytes: u64,
    received_count: u64,
    sent_bytes: u64,
    sent_count: u64,
    is_news: bool,
    changed: Vec<ChannelNumber>,
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

    /// The committer has sent something, which others know already.
    pub(super) fn sent_meanwhile(&mut self, answered: &mut Answered) {
        self.sent_bytes += std::mem::take(&mut answered.sent_bytes);
        self.sent_count += std::mem::take(&mut answered.sent_count);
    }

    /// Something has changed on that channel.
    pub(super) fn touch(&mut self, channel: ChannelNumber) {
        if self.changed.last() != Some(&channel) {
            self.changed.push(channel);
            self.is_news = true;
        }
    }
}

impl Connection {
    /// Enters the connection in the broker's list, if user and vhost may have one more, and the user may open the vhost.
    pub(super) fn enter(&self, user: &User, vhost: &VirtualHost) -> Result<Arc<LiveConnection>, AmqpError> {
        let broker = &self.amqp.broker;
        let facts = ConnectionFacts {
            id: self.id,
            name: self.peer.name.clone(),
            peer: self.peer.address.clone(),
            local: self.peer.local_address.clone(),
            user: user.name.clone(),
            vhost: vhost.name().clone(),
            protocol: if self.peer.is_web { "Web AMQP 0-9-1" } else { "AMQP 0-9-1" },
            auth_mechanism: self.auth_mechanism.clone(),
            client_properties: self.client_properties.clone(),
            tls: self.peer.tls.clone(),
            channel_max: self.channel_max,
            frame_max: u32::try_from(self.frame_max).unwrap_or(u32::MAX),
            heartbeat_s: self.heartbeat.timeout_s(),
            connected_at: self.started_at,
        };
        let live = broker.connections().open(facts, &self.outbox, |counts| {
            broker.check_connection(user, vhost, counts).map_err(AmqpError::from)
        })?;
        // Deleting the user or the vhost removes it first and then looks for connections, so that one of the two
        // sees the other.
        if let Err(error) = broker.check_still_there(user, vhost) {
            broker.connections().remove(self.id);
            return Err(error.into());
        }
        Ok(live)
    }

    /// Checks that one more channel may be opened, beside what was negotiated.
    pub(super) fn check_channel_limits(&self) -> Result<(), AmqpError> {
        let Some(open) = &self.open else { return Ok(()) };
        let check = self.amqp.broker.check_channel(&open.user.name);
        check.map_err(|error| AmqpError::from(error).without_method())
    }

    /// A channel has been opened.
    pub(super) fn channel_opened(&mut self, number: ChannelNumber) {
        if let Some(open) = &self.open {
            open.live.set_channels(self.channels.len());
        }
        self.amqp.broker.churn().channel_created();
        self.tell_channel_opened(number);
        self.traffic.touch(number);
    }

    /// A channel has been closed: what it did still counts.
    pub(super) fn channel_closed(&mut self, number: ChannelNumber, mut channel: Channel) {
        self.amqp.broker.churn().channel_closed();
        let Some(open) = &self.open else { return };
        open.live.set_channels(self.channels.len());
        let mut progress = open.live.progress();
        progress.report(number, channel.facts(self.turn.now), channel.tally());
        progress.channels.remove(&number);
        drop(progress);
        self.tell_channel_closed(number);
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
        if !self.turn.sizes.is_empty() {
            progress.sizes.add(&std::mem::take(&mut self.turn.sizes));
        }
        for number in self.traffic.changed.drain(..) {
            if let Some(channel) = self.channels.get_mut(&number) {
                progress.report(number, channel.facts(now), channel.tally());
            }
        }
    }

    /// Reports what the channels have unacknowledged of a queue, if that was asked.
    pub(super) fn answer_inquiries(&mut self) {
        let asked = self.open.as_ref().filter(|open| open.live.inquiries().are_there());
        let Some(live) = asked.map(|open| open.live.clone()) else { return };
        for inquiry in live.inquiries().take() {
            let UnackedInquiry { queue, after, max, answer } = match inquiry {
                Inquiry::Unacked(inquiry) => inquiry,
                Inquiry::Holdings => {
                    // What can leave memory is not what it is about.
                    self.page_out_unacked();
                    self.amqp.broker.end_turn(&mut self.turn);
                    live.set_holdings(self.holdings());
                    continue;
                }
            };
            let mut held: Vec<UnackedMessage> =
                self.channels.values().flat_map(|channel| channel.unacked_of(queue, after)).collect();
            held.sort_unstable_by_key(|held| held.seen.position());
            held.truncate(max);
            answer(held);
        }
    }

    /// What the connection keeps in memory.
    fn holdings(&self) -> Holdings {
        let mut holdings = Holdings { outbox_bytes: self.outbox.waiting_bytes(), ..Holdings::default() };
        self.channels.values().for_each(|channel| channel.add_holdings(&mut holdings));
        holdings
    }

    /// Ends the connection, if that was asked.
    pub(super) fn check_asked_to_close(&mut self, now: Millis) {
        let Some(Open { live, .. }) = self.open.as_ref().filter(|open| open.live.is_asked_to_close()) else {
            return;
        };
        if let Some(reason) = live.take_close_reason() {
            self.fail(&AmqpError::new(ReplyCode::ConnectionForced, reason).without_method(), now);
        }
    }
}
