//! Metrics of queues, channels, connections and exchanges, one by one or together.

use super::exposition::{Labels, Metric};
use super::streams::Group;
use crate::broker::Broker;
use crate::broker::observe::connections::{ChannelFacts, ConnectionState, LiveChannel};
use crate::broker::observe::stats::{ExchangeStats, MessageStats, Traffic};
use crate::broker::queue::{QueueState, StreamState};
use crate::message::Millis;

/// A queue, at one time.
pub(super) struct Queue {
    state: QueueState,
    now: Millis,
}

/// A connection, at one time.
pub(super) struct Connection {
    pub(super) traffic: Traffic,
    channels: u64,
    is_blocked: bool,
}

/// An exchange's name and how many bindings lead away from it.
pub(super) struct Bound {
    bindings: usize,
}

impl Queue {
    /// What was done with its messages.
    pub(super) fn messages(&self) -> MessageStats {
        self.state.stats
    }
}

/// All objects that have metrics of their own.
pub(super) struct Objects {
    pub(super) queues: Vec<(Labels, Queue)>,
    /// Streams, and those who consume them by name.
    pub(super) streams: Vec<(Labels, StreamState)>,
    pub(super) groups: Vec<(Labels, Group)>,
    /// What came into each queue through each exchange.
    pub(super) published: Vec<(Labels, MessageStats)>,
    pub(super) channels: Vec<(Labels, ChannelFacts)>,
    /// What consumers of each queue, and publishers to each exchange, did on each channel.
    pub(super) consumed: Vec<(Labels, MessageStats)>,
    pub(super) sent: Vec<(Labels, MessageStats)>,
    pub(super) connections: Vec<(Labels, Connection)>,
    pub(super) exchanges: Vec<(Labels, ExchangeStats)>,
    /// All exchanges but the default one, with their types.
    pub(super) bound: Vec<(Labels, Bound)>,
    /// Vhosts, all of which are up.
    pub(super) vhosts: Vec<(Labels, ())>,
}

/// Which of them are wanted. Empty lists want all.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) vhosts: Vec<String>,
    pub(super) queues: Vec<String>,
}

impl Filter {
    fn wants(list: &[String], name: &str) -> bool {
        list.is_empty() || list.iter().any(|wanted| wanted == name)
    }
}

impl Objects {
    /// Looks at everything that the filter wants. Each queue is locked for a moment.
    pub(super) fn look(broker: &Broker, filter: &Filter, now: Millis) -> Objects {
        let mut objects = Objects {
            queues: Vec::new(),
            streams: Vec::new(),
            groups: Vec::new(),
            published: Vec::new(),
            channels: Vec::new(),
            consumed: Vec::new(),
            sent: Vec::new(),
            connections: Vec::new(),
            exchanges: Vec::new(),
            bound: Vec::new(),
            vhosts: Vec::new(),
        };
        let mut vhosts = broker.vhosts();
        vhosts.retain(|vhost| Filter::wants(&filter.vhosts, vhost.name()));
        vhosts.sort_by(|a, b| a.name().cmp(b.name()));
        for vhost in vhosts {
            let mut queues = vhost.queues();
            queues.retain(|queue| Filter::wants(&filter.queues, &queue.definition().name));
            queues.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
            for queue in queues {
                let (vhost, name) = (vhost.name(), &queue.definition().name);
                let state = queue.state();
                for (exchange, publish) in queue.published() {
                    let of_queue = [("queue_vhost", &**vhost), ("queue", name)];
                    let through = [("exchange_vhost", &**vhost), ("exchange", &exchange)];
                    let labels = Labels::new(&[of_queue, through].concat());
                    objects.published.push((labels, MessageStats { publish, ..MessageStats::default() }));
                }
                let labels = [("vhost", &**vhost), ("queue", name)];
                objects.streams.extend(queue.stream_state().map(|stream| (Labels::new(&labels), stream)));
                for group in queue.stream_groups() {
                    let labels = Labels::new(&[labels[0], labels[1], ("name", &group.name)]);
                    objects.groups.push((labels, Group::at(now, group)));
                }
                objects
                    .queues
                    .push((Labels::new(&[("vhost", vhost), ("queue", name)]), Queue { state, now }));
            }
            let mut exchanges = vhost.exchanges();
            exchanges.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
            for exchange in exchanges {
                let definition = exchange.definition();
                let of = [("vhost", &**vhost.name()), ("exchange", &*definition.name)];
                objects.exchanges.push((Labels::new(&of), exchange.counters().stats()));
                if !definition.name.is_empty() {
                    let labels = Labels::new(&[of[0], of[1], ("type", &*definition.kind)]);
                    objects.bound.push((labels, Bound { bindings: exchange.bindings().len() }));
                }
            }
            objects.vhosts.push((Labels::new(&[("vhost", vhost.name())]), ()));
        }
        objects.look_at_connections(broker, filter);
        objects
    }

    /// Consumers of all queues.
    pub(super) fn consumers(&self) -> f64 {
        float(self.queues.iter().map(|(_, queue)| queue.state.consumers).sum())
    }

    /// Channels that have published.
    pub(super) fn publishers(&self) -> f64 {
        float(self.channels.iter().filter(|(_, channel)| channel.stats.publish > 0).count() as u64)
    }

    fn look_at_connections(&mut self, broker: &Broker, filter: &Filter) {
        for connection in broker.connections().list() {
            let facts = connection.facts();
            if !Filter::wants(&filter.vhosts, &facts.vhost) {
                continue;
            }
            let progress = connection.progress();
            let figures = Connection {
                traffic: progress.traffic(),
                channels: progress.channels.len() as u64,
                is_blocked: progress.state == ConnectionState::Blocked,
            };
            let seen = |channel: &LiveChannel| (channel.facts, channel.apart.clone());
            let channels: Vec<_> =
                progress.channels.iter().map(|(number, channel)| (*number, seen(channel))).collect();
            drop(progress);
            let labels = Labels::new(&[("vhost", &facts.vhost), ("connection", &facts.name)]);
            self.connections.push((labels, figures));
            for (number, (channel, apart)) in channels {
                let name = format!("{} ({number})", facts.name);
                let of = [("vhost", &*facts.vhost), ("channel", &*name)];
                self.channels.push((Labels::new(&of), channel));
                let labels = |kind, name: &str| Labels::new(&[of[0], of[1], (kind, name)]);
                let consumed = apart.by_queue(&channel.stats).into_iter();
                self.consumed.extend(consumed.map(|(queue, done)| (labels("queue", &queue), done)));
                let sent = apart.by_exchange(&channel.stats).into_iter();
                self.sent.extend(sent.map(|(exchange, done)| (labels("exchange", &exchange), done)));
            }
        }
    }
}

/// A figure that Prometheus gets as floating point, which is exact up to 2^53.
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

macro_rules! of {
    ($thing:ty, $($path:tt)+) => { |thing: &$thing| float(thing.$($path)+) };
}

/// The family `queue_coarse_metrics`.
pub(super) const QUEUE_COARSE: &[Metric<Queue>] = &[
    Metric::gauge(
        "queue_messages_ready",
        "Messages ready to be delivered to consumers",
        of!(Queue, state.ready),
    ),
    Metric::gauge(
        "queue_messages_unacked",
        "Messages delivered to consumers but not yet acknowledged",
        of!(Queue, state.unacked),
    ),
    Metric::gauge("queue_messages", "Ready and unacknowledged messages", |queue| {
        float(queue.state.ready + queue.state.unacked)
    }),
];

/// The family `queue_consumer_count`.
pub(super) const QUEUE_CONSUMERS: &[Metric<Queue>] =
    &[Metric::gauge("queue_consumers", "Consumers on a queue", of!(Queue, state.consumers))];

/// The family `queue_metrics`, but for the count of consumers.
pub(super) const QUEUES: &[Metric<Queue>] = &[
    Metric::gauge(
        "queue_messages_bytes",
        "Bytes of the bodies of ready and unacknowledged messages",
        |queue| float(queue.state.ready_bytes + queue.state.unacked_bytes),
    ),
    Metric::gauge(
        "queue_messages_ready_bytes",
        "Bytes of the bodies of ready messages",
        of!(Queue, state.ready_bytes),
    ),
    Metric::gauge(
        "queue_messages_unacked_bytes",
        "Bytes of the bodies of unacknowledged messages",
        of!(Queue, state.unacked_bytes),
    ),
    Metric::gauge("queue_messages_ram", "Messages in memory, ready or unacknowledged", |queue| {
        float(queue.state.resident + queue.state.unacked_resident)
    }),
    Metric::gauge("queue_messages_ready_ram", "Ready messages in memory", of!(Queue, state.resident)),
    Metric::gauge(
        "queue_messages_unacked_ram",
        "Unacknowledged messages in memory",
        of!(Queue, state.unacked_resident),
    ),
    Metric::gauge("queue_messages_paged_out", "Ready messages that are not in memory", |queue| {
        float(queue.state.ready - queue.state.resident.min(queue.state.ready))
    }),
    Metric::gauge(
        "queue_messages_ram_bytes",
        "Bytes of the bodies of messages in memory",
        of!(Queue, state.resident_body_bytes),
    ),
    Metric::gauge(
        "queue_messages_paged_out_bytes",
        "Bytes of the bodies of ready messages that are not in memory",
        of!(Queue, state.paged_bytes),
    ),
    Metric::gauge(
        "queue_messages_persistent",
        "Persistent messages, ready or unacknowledged",
        of!(Queue, state.persistent.messages),
    ),
    Metric::gauge(
        "queue_messages_persistent_bytes",
        "Bytes of the bodies of persistent messages",
        of!(Queue, state.persistent.body_bytes),
    ),
    Metric::gauge(
        "queue_process_memory_bytes",
        "Memory that the ready messages of a queue take, about",
        of!(Queue, state.resident_bytes),
    ),
    Metric::single(
        "queue_consumer_capacity",
        "Whether a consumer has room for the next message",
        has_capacity,
    ),
    Metric::single("queue_consumer_utilisation", "Same as consumer capacity", has_capacity),
    Metric::single(
        "queue_head_message_timestamp",
        "Timestamp of the first message in the queue, if any",
        |queue| queue.state.head_timestamp.map_or(f64::NAN, float),
    ),
];

fn has_capacity(queue: &Queue) -> f64 {
    f64::from(u8::from(queue.state.is_waiting))
}

/// Families that RabbitMQ does not have.
pub(super) const QUEUE_AGES: &[Metric<Queue>] = &[Metric::greatest(
    "queue_oldest_message_age_seconds",
    "Age of the oldest ready message in memory; of all queues that of the oldest",
    |queue| {
        let age_ms = queue.state.oldest_at.map_or(0, |at| queue.now.saturating_sub(at));
        float(age_ms) / 1000.0
    },
)];

/// The family `channel_queue_exchange_metrics`.
pub(super) const QUEUE_PUBLISHED: &[Metric<MessageStats>] = &[Metric::counter(
    "queue_messages_published_total",
    "Messages put into a queue",
    of!(MessageStats, publish),
)];

/// Leveret's own: what was done with the messages of a queue, or of all there have been.
pub(super) const QUEUE_MESSAGES: &[Metric<MessageStats>] = &[
    Metric::counter(
        "queue_messages_delivered_total",
        "Messages that went to consumers and fetchers",
        |stats| float(stats.deliver_get()),
    ),
    Metric::counter("queue_messages_acked_total", "Messages acknowledged", of!(MessageStats, ack)),
    Metric::counter(
        "queue_messages_redelivered_total",
        "Messages delivered again",
        of!(MessageStats, redeliver),
    ),
    Metric::counter(
        "queue_messages_dead_expired_total",
        "Messages dead of age",
        of!(MessageStats, dead_expired),
    ),
    Metric::counter(
        "queue_messages_dead_maxlen_total",
        "Messages dead since the queue was full",
        of!(MessageStats, dead_maxlen),
    ),
    Metric::counter(
        "queue_messages_dead_rejected_total",
        "Messages dead since a consumer refused them",
        of!(MessageStats, dead_rejected),
    ),
    Metric::counter(
        "queue_messages_dead_delivery_limit_total",
        "Messages dead since they were delivered in vain too often",
        of!(MessageStats, dead_delivery_limit),
    ),
];

/// The family `channel_metrics`.
pub(super) const CHANNELS: &[Metric<ChannelFacts>] = &[
    Metric::gauge("channel_consumers", "Consumers on a channel", of!(ChannelFacts, consumers)),
    Metric::gauge(
        "channel_messages_unacked",
        "Delivered but not yet acknowledged messages",
        of!(ChannelFacts, unacked),
    ),
    Metric::gauge(
        "channel_messages_unconfirmed",
        "Published but not yet confirmed messages",
        of!(ChannelFacts, unconfirmed),
    ),
    Metric::gauge(
        "channel_messages_uncommitted",
        "Messages in transactions that are not yet committed",
        of!(ChannelFacts, uncommitted),
    ),
    Metric::gauge(
        "channel_acks_uncommitted",
        "Acknowledgements in transactions that are not yet committed",
        of!(ChannelFacts, acks_uncommitted),
    ),
    Metric::gauge(
        "consumer_prefetch",
        "What a new consumer may have unacknowledged",
        of!(ChannelFacts, prefetch_count),
    ),
    Metric::gauge(
        "channel_prefetch",
        "What all consumers of a channel may have unacknowledged together",
        of!(ChannelFacts, global_prefetch_count),
    ),
];

/// The family `channel_exchange_metrics`: what publishers did. Of an exchange on a channel, or of all there have been.
pub(super) const CHANNEL_PUBLISHED: &[Metric<MessageStats>] = &[
    Metric::counter(
        "channel_messages_published_total",
        "Messages published into an exchange on a channel",
        of!(MessageStats, publish),
    ),
    Metric::counter(
        "channel_messages_confirmed_total",
        "Messages published on a channel and confirmed",
        of!(MessageStats, confirm),
    ),
    Metric::counter(
        "channel_messages_unroutable_returned_total",
        "Messages published as mandatory and returned as unroutable",
        of!(MessageStats, return_unroutable),
    ),
    Metric::counter(
        "channel_messages_unroutable_dropped_total",
        "Messages published as non-mandatory and dropped as unroutable",
        of!(MessageStats, drop_unroutable),
    ),
];

/// The family `channel_queue_metrics`: what consumers did. Of a queue on a channel, or of all there have been.
pub(super) const CHANNEL_DELIVERED: &[Metric<MessageStats>] = &[
    Metric::counter(
        "channel_get_ack_total",
        "Messages fetched in manual acknowledgement mode",
        of!(MessageStats, get),
    ),
    Metric::counter(
        "channel_get_total",
        "Messages fetched in automatic acknowledgement mode",
        of!(MessageStats, get_no_ack),
    ),
    Metric::counter(
        "channel_get_empty_total",
        "Times that a fetch found no message",
        of!(MessageStats, get_empty),
    ),
    Metric::counter(
        "channel_messages_delivered_ack_total",
        "Messages delivered to consumers in manual acknowledgement mode",
        of!(MessageStats, deliver),
    ),
    Metric::counter(
        "channel_messages_delivered_total",
        "Messages delivered to consumers in automatic acknowledgement mode",
        of!(MessageStats, deliver_no_ack),
    ),
    Metric::counter(
        "channel_messages_redelivered_total",
        "Messages redelivered to consumers",
        of!(MessageStats, redeliver),
    ),
    Metric::counter(
        "channel_messages_acked_total",
        "Messages acknowledged by consumers",
        of!(MessageStats, ack),
    ),
];

/// The family `connection_coarse_metrics`. Of a connection, or of all there have been.
pub(super) const CONNECTION_BYTES: &[Metric<Traffic>] = &[
    Metric::counter(
        "connection_incoming_bytes_total",
        "Bytes received on a connection",
        of!(Traffic, received_bytes),
    ),
    Metric::counter(
        "connection_outgoing_bytes_total",
        "Bytes sent on a connection",
        of!(Traffic, sent_bytes),
    ),
];

/// Of the family `connection_metrics` what only grows. Of a connection, or of all there have been.
pub(super) const CONNECTION_PACKETS: &[Metric<Traffic>] = &[
    Metric::counter(
        "connection_incoming_packets_total",
        "Packets received on a connection",
        of!(Traffic, received_count),
    ),
    Metric::counter(
        "connection_outgoing_packets_total",
        "Packets sent on a connection",
        of!(Traffic, sent_count),
    ),
];

/// The rest of it.
pub(super) const CONNECTIONS: &[Metric<Connection>] = &[
    Metric::gauge("connection_channels", "Channels on a connection", of!(Connection, channels)),
    Metric::gauge("connection_blocked", "Whether an alarm holds the connection up", |connection| {
        f64::from(u8::from(connection.is_blocked))
    }),
];

/// The family `vhost_status`.
pub(super) const VHOST_STATUS: &[Metric<()>] =
    &[Metric::gauge("vhost_status", "Whether a vhost is up, which all are that are there", |()| 1.0)];

/// The family `exchange_names`.
pub(super) const EXCHANGE_NAMES: &[Metric<Bound>] =
    &[Metric::gauge("exchange_name", "1 for every exchange, for its labels", |_| 1.0)];

/// The family `exchange_bindings`.
pub(super) const EXCHANGE_BINDINGS: &[Metric<Bound>] =
    &[Metric::gauge("exchange_bindings", "Bindings that lead away from an exchange", |exchange| {
        float(exchange.bindings as u64)
    })];

/// Of exchanges; Leveret's own family `exchange_metrics`.
pub(super) const EXCHANGES: &[Metric<ExchangeStats>] = &[
    Metric::counter(
        "exchange_messages_published_in_total",
        "Messages published to an exchange",
        of!(ExchangeStats, publish_in),
    ),
    Metric::counter(
        "exchange_messages_published_out_total",
        "Messages that an exchange put into queues",
        of!(ExchangeStats, publish_out),
    ),
];
