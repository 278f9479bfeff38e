//! SUBSCRIBE and UNSUBSCRIBE: the queue of a destination, its binding, and its consumer.

use super::Connection;
use super::message_head::MessageHead;
use super::send::missing_destination;
use super::sources::Properties;
use crate::broker::access::permissions::Access;
use crate::broker::delivery::LinkCredit;
use crate::broker::error::ResourceKind;
use crate::broker::queue::{ConsumeRequest, Credit, NewConsumer, QueueHandle};
use crate::client::{EndingConsumer, EndingConsumers};
use crate::message::{ConsumerId, FieldTable, LinkId, Name, Value};
use crate::stomp::convert;
use crate::stomp::destination::Destination;
use crate::stomp::error::StompError;
use crate::stomp::frame::Headers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a subscription's id begins with that stands for a queue of replies: clients choose none like it.
const TEMP_QUEUE_ID: &[u8] = b"/temp-queue/";

/// How deliveries of a subscription are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckMode {
    /// They count as acknowledged when they are sent.
    Auto,
    /// An ACK stands for all deliveries of the session up to that one.
    Client,
    /// An ACK stands for one.
    ClientIndividual,
}

/// A subscription of this session. One that has ended is kept while deliveries of the session wait for an acknowledgement.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The consumer's tag: `T_` with the id, or `Q_` with the destination of one without an id.
    pub(super) tag: Arc<str>,
    /// The header `id`, if it had one.
    pub(super) id: Option<Vec<u8>>,
    /// What it is called in error texts: `id='1'` or `destination='/queue/a'`.
    description: String,
    pub(super) queue: Arc<QueueHandle>,
    pub(super) mode: AckMode,
    /// Of the frames that it is sent.
    pub(super) head: MessageHead,
    pub(super) prefetch_count: u32,
    /// Its address in the session.
    link: LinkId,
    /// Whether it is one to a topic, whose queue goes when a durable one is ended for good.
    is_topic: bool,
    has_ended: bool,
}

/// The number of the one channel that the management API shows for a session.
pub(super) const CHANNEL: u16 = 1;

impl Subscription {
    pub(super) fn is_auto(&self) -> bool {
        self.mode == AckMode::Auto
    }
}

/// The subscriptions of a session, with those that have ended.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    all: BTreeMap<ConsumerId, Subscription>,
    by_tag: BTreeMap<Arc<str>, ConsumerId>,
    last_link: u32,
    /// The queues that stand for `/temp-queue/` destinations, by the name behind that.
    replies: BTreeMap<Vec<u8>, Name>,
}

impl Subscriptions {
    pub(super) fn get(&self, id: ConsumerId) -> Option<&Subscription> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Subscription> {
        self.all.get_mut(&id)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.by_tag.len()
    }

    /// An address that none has.
    fn free_link(&mut self) -> LinkId {
        loop {
            self.last_link = self.last_link.wrapping_add(1);
            let link = LinkId(self.last_link);
            if self.all.values().all(|subscription| subscription.link != link) {
                return link;
            }
        }
    }

    fn insert(&mut self, id: ConsumerId, subscription: Subscription) {
        self.by_tag.insert(subscription.tag.clone(), id);
        self.all.insert(id, subscription);
    }

    /// The subscription has ended; it stays known as long as something may be acknowledged.
    pub(super) fn end(&mut self, id: ConsumerId) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.has_ended = true;
            self.by_tag.remove(&subscription.tag);
        }
    }

    /// Nothing waits for an acknowledgement: those that have ended are forgotten.
    pub(super) fn forget_ended(&mut self) {
        if self.all.len() > self.by_tag.len() {
            self.all.retain(|_, subscription| !subscription.has_ended);
        }
    }
}

impl Connection {
    pub(super) fn subscribe(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let (tag, description) = self.tag(headers, "SUBSCRIBE")?;
        if headers.is_durable() && headers.get("id").is_none() {
            return Err(id_missing());
        }
        let text = headers.get("destination").ok_or_else(|| missing_destination("SUBSCRIBE"))?;
        let destination = Destination::read(text)?;
        let mode = ack_mode(headers)?;
        let (arguments, prefetch_count) =
            (convert::consumer_arguments(headers)?, convert::prefetch_count(headers)?);
        self.check_room(&tag)?;
        let is_topic = matches!(destination, Destination::Topic(_));
        let source = self.source(destination, text, headers)?;
        let (queue, is_new) = (source.queue.clone(), source.is_new);
        let subscription = Wanted { tag, description, mode, prefetch_count, is_topic };
        let id = headers.get("id").map(<[u8]>::to_vec);
        let made = self.bind_source(source).and_then(|()| self.consume(&queue, subscription, id, arguments));
        if made.is_err() && is_new {
            self.delete_queue(&queue);
        }
        made
    }

    /// The tag of a subscription's consumer, and what the subscription is called.
    fn tag(&self, headers: &Headers<'_>, command: &'static str) -> Result<(String, String), StompError> {
        if let Some(id) = headers.get("id") {
            if id.starts_with(TEMP_QUEUE_ID) {
                let body = format!("{command} 'id' may not start with /temp-queue/\n");
                return Err(StompError::new("Invalid id", body));
            }
            let id = String::from_utf8_lossy(id);
            return Ok((format!("T_{id}"), format!("id='{id}'")));
        }
        let destination = headers.text("destination").ok_or_else(|| match command {
            "SUBSCRIBE" => missing_destination(command),
            _ => StompError::new(
                "Missing destination or id",
                format!("{command} must include a 'destination' or 'id' header"),
            ),
        })?;
        Ok((format!("Q_{destination}"), format!("destination='{destination}'")))
    }

    /// Checks that there may be one more, of that tag.
    fn check_room(&self, tag: &str) -> Result<(), StompError> {
        if self.subscriptions.by_tag.contains_key(tag) {
            let body = format!("A subscription identified by '{tag}' already exists.");
            return Err(StompError::new("Duplicated subscription identifier", body));
        }
        let max = self.stomp.settings.subscriptions_max;
        if self.subscriptions.all.len() >= max {
            let text = format!("reached maximum ({max}) of subscriptions per connection");
            return Err(StompError::new("not_allowed", format!("NOT_ALLOWED - {text}")));
        }
        Ok(())
    }

    fn consume(
        &mut self,
        name: &str,
        wanted: Wanted,
        id: Option<Vec<u8>>,
        arguments: FieldTable,
    ) -> Result<(), StompError> {
        self.may_use(Access::Read, ResourceKind::Queue, name)?;
        let actor = self.actor();
        let Some(open) = &self.open else { return Ok(()) };
        let vhost = open.vhost.clone();
        let queue = vhost.accessible_queue(name, actor)?;
        let Wanted { tag, description, mode, prefetch_count, is_topic } = wanted;
        let credit = Credit::Prefetch(prefetch_count);
        let no_ack = mode == AckMode::Auto;
        queue.check_consumer(&ConsumeRequest { arguments: &arguments, no_ack, credit })?;
        vhost.check_consumer_arguments(&queue, &arguments)?;
        let consumer = self.stomp.broker.next_consumer_id();
        let link = self.subscriptions.free_link();
        let tag: Arc<str> = tag.into();
        let priority = arguments.field("x-priority").and_then(Value::as_integer).unwrap_or_default();
        let new = NewConsumer {
            id: consumer,
            tag: tag.clone(),
            link,
            channel: CHANNEL,
            outbox: self.outbox.clone(),
            no_ack,
            exclusive: false,
            priority: i32::try_from(priority).unwrap_or_default(),
            connection: self.id,
            arguments: (&arguments).into(),
            credit,
            link_credit: Arc::new(LinkCredit::default()),
        };
        queue.consume(new, &mut self.turn)?;
        let head = MessageHead::new(&tag, id.as_deref(), &self.session, self.version, mode);
        let subscription = Subscription {
            tag,
            id,
            description,
            queue,
            mode,
            head,
            prefetch_count,
            link,
            is_topic,
            has_ended: false,
        };
        self.tell_consumer_created(&subscription, &arguments);
        self.subscriptions.insert(consumer, subscription);
        self.traffic.touch();
        vhost.apply_effects(&mut self.turn);
        Ok(())
    }

    /// Makes the queue that stands for `/temp-queue/NAME` in a session, and consumes from it. Returns the queue's name.
    pub(super) fn ensure_reply_queue(&mut self, name: &[u8]) -> Result<Vec<u8>, StompError> {
        if let Some(queue) = self.subscriptions.replies.get(name) {
            return Ok(queue.as_bytes().to_vec());
        }
        let id = [TEMP_QUEUE_ID, name].concat();
        let shown = String::from_utf8_lossy(&id).into_owned();
        let tag = format!("T_{shown}");
        self.check_room(&tag)?;
        let queue_name = self.names.name("stomp.gen-");
        let properties = Properties { durable: false, auto_delete: true, exclusive: true };
        let (queue, _) = self.declare(&queue_name, &Headers::default(), properties)?;
        let description = format!("id='{shown}'");
        let wanted = Wanted { tag, description, mode: AckMode::Auto, prefetch_count: 0, is_topic: false };
        self.consume(&queue, wanted, Some(id), FieldTable::default())?;
        self.subscriptions.replies.insert(name.to_vec(), queue);
        Ok(queue_name.into_bytes())
    }

    pub(super) fn unsubscribe(&mut self, headers: &Headers<'_>) -> Result<(), StompError> {
        let (tag, description) = self.tag(headers, "UNSUBSCRIBE")?;
        if headers.is_durable() && headers.get("id").is_none() {
            return Err(id_missing());
        }
        let Some(id) = self.subscriptions.by_tag.get(tag.as_str()).copied() else {
            let body = format!(
                "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"{description}\" not found.\n"
            );
            return Err(StompError::new("No subscription found", body));
        };
        let Some(subscription) = self.subscriptions.get(id) else { return Ok(()) };
        let (queue, link, is_topic) = (subscription.queue.clone(), subscription.link, subscription.is_topic);
        queue.cancel(id, &mut self.turn);
        self.apply_effects();
        // What it was given before goes out before the receipt.
        let waiting = self.outbox.take_link(link);
        self.send_now(waiting);
        if let Some(subscription) = self.subscriptions.get(id) {
            self.tell_consumer_deleted(subscription);
        }
        self.subscriptions.end(id);
        self.traffic.touch();
        if is_topic && headers.is_durable() {
            let name = queue.definition().name.clone();
            self.may_use(Access::Configure, ResourceKind::Queue, &name)?;
            self.delete_queue(&name);
        }
        Ok(())
    }

    /// The queue of a subscription is gone.
    pub(super) fn cancelled(&mut self, id: ConsumerId) -> Option<StompError> {
        let subscription = self.subscriptions.get(id).filter(|subscription| !subscription.has_ended)?;
        self.tell_consumer_deleted(subscription);
        let body = format!(
            "The server has canceled a subscription.\nNo more messages will be delivered for \"{}\".\n",
            subscription.description
        );
        let named = subscription.id.clone().unwrap_or_else(|| subscription.tag[2..].as_bytes().to_vec());
        self.subscriptions.end(id);
        let error = StompError::new("Server cancelled subscription", body);
        Some(StompError { subscription: Some(named), ..error })
    }

    /// All subscriptions end with the connection. They may be more than a turn has time for.
    pub(super) fn end_subscriptions(&mut self) -> EndingConsumers {
        let all = std::mem::take(&mut self.subscriptions);
        let active = || all.all.iter().filter(|(_, subscription)| !subscription.has_ended);
        active().for_each(|(_, subscription)| self.tell_consumer_deleted(subscription));
        let links = active().map(|(_, subscription)| subscription.link).collect();
        let left = active().map(|(id, _)| *id).collect();
        let consumers = all.all.into_iter().map(|(id, subscription)| {
            let acknowledges = !subscription.is_auto();
            (id, EndingConsumer { queue: subscription.queue, acknowledges })
        });
        EndingConsumers { links, outbox: self.outbox.clone(), consumers: consumers.collect(), left }
    }
}

/// A subscription that is to be made.
struct Wanted {
    tag: String,
    description: String,
    mode: AckMode,
    prefetch_count: u32,
    is_topic: bool,
}

fn ack_mode(headers: &Headers<'_>) -> Result<AckMode, StompError> {
    match headers.get("ack").unwrap_or(b"auto") {
        b"auto" => Ok(AckMode::Auto),
        b"client" => Ok(AckMode::Client),
        b"client-individual" => Ok(AckMode::ClientIndividual),
        other => {
            let other = String::from_utf8_lossy(other);
            let body = format!("'ack' can be auto, client or client-individual, and not '{other}'\n");
            Err(StompError::new("Invalid header", body))
        }
    }
}

fn id_missing() -> StompError {
    StompError::new("Missing Header", "Header 'id' is required for durable subscriptions")
}
