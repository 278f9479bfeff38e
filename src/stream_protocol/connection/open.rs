//! An open connection: its user, its vhost, its publishers and subscriptions, and what is done with each request.

use super::handshake::{Handshake, answer, offer_mechanisms};
use super::input::Next;
use super::publish::Publisher;
use super::renewal::Renewal;
use super::subscribe::Subscriber;
use super::waiting::Waiting;
use super::{Common, Traffic};
use crate::broker::access::permissions::{Access, Grants};
use crate::broker::access::users::User;
use crate::broker::error::{BrokerError, ResourceKind};
use crate::broker::memory::Holdings;
use crate::broker::observe::browse::Inquiry;
use crate::broker::observe::connections::{ConnectionFacts, ConnectionState, LiveConnection};
use crate::broker::observe::stats::MessageStats;
use crate::broker::queue::{QueueHandle, QueueType};
use crate::broker::{Actor, VirtualHost};
use crate::message::{ConsumerId, Millis};
use crate::stream_protocol::StreamSettings;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, Frame, FrameWriter, Malformed, key};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request of the broker's that the client has yet to answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) subscription: u8,
    /// Whether it was to be active from then on.
    pub(super) active: bool,
    pub(super) until: Millis,
}

/// An open connection, see the module.
pub(super) struct Open {
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) user: Arc<User>,
    pub(super) grants: Grants,
    pub(super) live: Arc<LiveConnection>,
    pub(super) mechanism: String,
    pub(super) renewal: Option<Box<Renewal>>,
    /// Bytes of a frame, as it was tuned; 0 is no limit.
    pub(super) frame_max: u32,
    pub(super) publishers: BTreeMap<u8, Publisher>,
    pub(super) subscribers: BTreeMap<u8, Subscriber>,
    /// By the correlation of the request.
    pub(super) asked: BTreeMap<u32, Asked>,
    pub(super) next_correlation: u32,
    /// Offsets that were asked for, each with the correlation of its request.
    pub(super) questions: BTreeMap<ConsumerId, u32>,
    pub(super) waiting: Waiting,
    /// Whether the client reads the second version of deliveries.
    pub(super) reads_second_deliver: bool,
    /// A publish has come while an alarm is up: nothing is read until it is over.
    pub(super) is_blocked: bool,
    pub(super) stats: MessageStats,
    reported: MessageStats,
}

impl Open {
    /// Opens a vhost for a user. Or says why not.
    pub(super) fn enter(
        handshake: &Handshake,
        user: &Arc<User>,
        name: &str,
        common: &Common,
    ) -> Result<Open, String> {
        let broker = &common.protocol.broker;
        let denied = || format!("the user '{}' has no access to vhost '{name}', or there is none", user.name);
        let vhost = broker.vhost(name).ok_or_else(denied)?;
        if !broker.permissions().may_open(&user.name, vhost.name()) {
            return Err(denied());
        }
        let facts = ConnectionFacts {
            id: common.id,
            name: common.peer.name.clone(),
            peer: common.peer.address.clone(),
            local: common.peer.local_address.clone(),
            user: user.name.clone(),
            vhost: vhost.name().clone(),
            protocol: "stream",
            auth_mechanism: handshake.mechanism.clone(),
            client_properties: (&handshake.client_properties).into(),
            tls: common.peer.tls.clone(),
            channel_max: 0,
            frame_max: handshake.frame_max,
            heartbeat_s: handshake.heartbeat_s,
            connected_at: common.turn.now,
        };
        let said = |error: BrokerError| error.to_string();
        let check = |counts| broker.check_connection(user, &vhost, counts);
        let live = broker.connections().open(facts, &common.outbox, check).map_err(said)?;
        // Deleting the user or the vhost removes it first and then looks for connections, so that one of the two sees the other.
        if let Err(error) = broker.check_still_there(user, &vhost) {
            broker.connections().remove(common.id);
            return Err(said(error));
        }
        common.log_opened(&user.name, name, &handshake.mechanism);
        common.tell_opened(live.facts());
        Ok(Open {
            grants: Grants::new(broker.permissions(), &user.name, vhost.name()),
            vhost,
            user: user.clone(),
            live,
            mechanism: handshake.mechanism.clone(),
            renewal: None,
            frame_max: handshake.frame_max,
            publishers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_correlation: 0,
            questions: BTreeMap::new(),
            waiting: Waiting::default(),
            reads_second_deliver: false,
            is_blocked: false,
            stats: MessageStats::default(),
            reported: MessageStats::default(),
        })
    }

    /// Takes a frame.
    pub(super) fn handle(
        &mut self,
        frame: &Frame<'_>,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<Next, Malformed> {
        match frame.key {
            key::PUBLISH => return self.publish(frame.version, fields, common),
            key::CREDIT => return self.credit(fields, common),
            key::STORE_OFFSET => return self.store_offset(fields, common),
            key::HEARTBEAT => return Ok(Next::GoOn),
            CONSUMER_UPDATED => return self.consumer_updated(fields, common),
            _ => {}
        }
        let correlation = fields.u32()?;
        match frame.key {
            key::SASL_HANDSHAKE => offer_mechanisms(correlation, common),
            key::SASL_AUTHENTICATE => return self.renew(correlation, fields, common),
            key::DECLARE_PUBLISHER => self.declare_publisher(correlation, fields, common)?,
            key::DELETE_PUBLISHER => self.delete_publisher(correlation, fields, common)?,
            key::QUERY_PUBLISHER_SEQUENCE => self.query_publisher_sequence(correlation, fields, common)?,
            key::SUBSCRIBE => self.subscribe(correlation, fields, common)?,
            key::UNSUBSCRIBE => self.unsubscribe(correlation, fields, common)?,
            key::QUERY_OFFSET => self.query_offset(correlation, fields, common)?,
            key::RESOLVE_OFFSET_SPEC => self.resolve_offset(correlation, fields, common)?,
            key::CREATE => self.create(correlation, fields, common)?,
            key::DELETE => self.delete(correlation, fields, common)?,
            key::METADATA => self.metadata(correlation, fields, common)?,
            key::STREAM_STATS => self.stream_stats(correlation, fields, common)?,
            key::ROUTE => self.route(correlation, fields, common)?,
            key::PARTITIONS => self.partitions(correlation, fields, common)?,
            key::CREATE_SUPER_STREAM => self.create_super_stream(correlation, fields, common)?,
            key::DELETE_SUPER_STREAM => self.delete_super_stream(correlation, fields, common)?,
            key::EXCHANGE_COMMAND_VERSIONS => self.command_versions(correlation, fields, common)?,
            key::CLOSE => {
                let code = fields.u16()?;
                return Ok(Next::AnswerClose(correlation, format!("{code} {}", fields.text()?)));
            }
            _ => return Ok(Next::Close(Code::UnknownFrame, "unknown frame")),
        }
        Ok(Next::GoOn)
    }

    /// Says which versions of which commands are spoken, and takes what the client says of its own.
    fn command_versions(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        for _ in 0..fields.count(6)? {
            let (command, _, highest) = (fields.u16()?, fields.u16()?, fields.u16()?);
            self.reads_second_deliver |= command == key::DELIVER && highest >= 2;
        }
        let mut answer = FrameWriter::response(key::EXCHANGE_COMMAND_VERSIONS, correlation);
        answer.u16(Code::Ok.number()).count(VERSIONS.len());
        for (command, highest) in VERSIONS {
            answer.u16(command).u16(1).u16(highest);
        }
        answer.put(&mut common.out);
        Ok(())
    }

    /// Answers a request with a code, or with what the core refuses it for.
    pub(super) fn answer_with(
        &mut self,
        key: u16,
        correlation: u32,
        done: Result<(), Code>,
        common: &mut Common,
    ) {
        answer(key, correlation, done.err().unwrap_or(Code::Ok), common);
    }

    /// A stream that the user may use so.
    ///
    /// # Errors
    /// When there is none of that name, or the user may not.
    pub(super) fn stream(
        &mut self,
        name: &str,
        access: Access,
        common: &Common,
    ) -> Result<Arc<QueueHandle>, Code> {
        self.may_use(access, name, common)?;
        let queue = self
            .vhost
            .accessible_queue(name, Actor::Connection(common.id))
            .map_err(|_| Code::StreamDoesNotExist)?;
        match queue.definition().queue_type {
            QueueType::Stream => Ok(queue),
            _ => Err(Code::StreamDoesNotExist),
        }
    }

    /// Checks that the user may use a queue so.
    pub(super) fn may_use(&mut self, access: Access, name: &str, common: &Common) -> Result<(), Code> {
        let permissions = common.protocol.broker.permissions();
        self.grants.check(permissions, access, ResourceKind::Queue, name).map_err(|error| Code::from(&error))
    }

    /// Whether nothing more is read: too much waits to be confirmed, an alarm is up, or a login is looked at.
    pub(super) fn must_wait(&self, settings: &StreamSettings) -> bool {
        self.is_blocked || self.renewal.is_some() || self.waiting.len() >= settings.unconfirmed_max
    }

    /// Does what queues asked for.
    pub(super) fn apply_effects(&self, common: &mut Common) {
        self.vhost.apply_effects(&mut common.turn);
    }

    /// Gives everything back.
    pub(super) fn release(&mut self, common: &mut Common) {
        for publisher in std::mem::take(&mut self.publishers).into_values() {
            publisher.end();
        }
        for subscriber in std::mem::take(&mut self.subscribers).into_values() {
            subscriber.end(common);
        }
        self.apply_effects(common);
        common.protocol.broker.connections().remove(common.id);
        common.tell_closed(self.live.facts());
    }

    /// Brings up to date what others see.
    pub(super) fn report(&mut self, common: &Common) {
        let mut progress = self.live.progress();
        progress.state = match (self.is_blocked, common.held_back_until) {
            (true, _) => ConnectionState::Blocked,
            (_, Some(_)) => ConnectionState::Flow,
            _ => ConnectionState::Running,
        };
        let Traffic { received_bytes, received_count, sent_bytes, sent_count } = common.traffic;
        progress.received_bytes = received_bytes;
        progress.received_count = received_count;
        progress.sent_bytes = sent_bytes;
        progress.sent_count = sent_count;
        progress.stats.add(&self.stats.since(&self.reported));
        self.reported = self.stats;
    }

    /// Reports what the connection keeps in memory, if that was asked.
    pub(super) fn answer_inquiries(&mut self, common: &Common) {
        if !self.live.inquiries().are_there() {
            return;
        }
        for inquiry in self.live.inquiries().take() {
            match inquiry {
                // Nothing that is delivered waits for an acknowledgement.
                Inquiry::Unacked(inquiry) => (inquiry.answer)(Vec::new()),
                Inquiry::Holdings => self.live.set_holdings(Holdings {
                    outbox_bytes: common.outbox.waiting_bytes(),
                    ..Holdings::default()
                }),
            }
        }
    }
}

/// The client's answer to a request of ours.
const CONSUMER_UPDATED: u16 = key::CONSUMER_UPDATE | key::RESPONSE;

/// The commands, and the highest version of each; the lowest is 1. As in RabbitMQ, those that only the broker sends are not in it.
const VERSIONS: [(u16, u16); 20] = [
    (key::DECLARE_PUBLISHER, 1),
    (key::PUBLISH, 2),
    (key::QUERY_PUBLISHER_SEQUENCE, 1),
    (key::DELETE_PUBLISHER, 1),
    (key::SUBSCRIBE, 1),
    (key::CREDIT, 1),
    (key::STORE_OFFSET, 1),
    (key::QUERY_OFFSET, 1),
    (key::UNSUBSCRIBE, 1),
    (key::CREATE, 1),
    (key::DELETE, 1),
    (key::METADATA, 1),
    (key::CLOSE, 1),
    (key::HEARTBEAT, 1),
    (key::ROUTE, 1),
    (key::PARTITIONS, 1),
    (key::STREAM_STATS, 1),
    (key::CREATE_SUPER_STREAM, 1),
    (key::DELETE_SUPER_STREAM, 1),
    (key::RESOLVE_OFFSET_SPEC, 1),
];
