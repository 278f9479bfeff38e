//! Metrics of the broker as a whole.

use super::exposition::{Exposition, Kind, Labels};
use super::objects::Objects;
use super::{Metrics, OWN_PREFIX, PREFIX};
use crate::broker::access::logins::Attempts;
use crate::broker::alarms::Alarm;
use crate::broker::memory::MemoryUse;
use crate::broker::observe::stats::{MessageStats, SIZE_BOUNDS};
use crate::broker::queue::QueueType;
use crate::net::commits::Distribution;
use crate::net::{Process, Volume};
use crate::pattern::given_up;
use crate::rabbit::module;
use Kind::{Counter, Gauge, Untyped};

/// What RabbitMQ calls the protocol in labels.
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// A metric of what clients did with messages: name, help, value.
type OfMessages = (&'static str, &'static str, fn(&MessageStats) -> u64);

/// Without a queue's type.
const GLOBAL: &[OfMessages] = &[
    ("global_messages_received_total", "Messages received from publishers", |stats| stats.publish),
    (
        "global_messages_received_confirm_total",
        "Messages received from publishers using publisher confirms",
        |stats| stats.publish_confirm,
    ),
    ("global_messages_routed_total", "Messages routed to queues", |stats| stats.routed),
    ("global_messages_confirmed_total", "Messages confirmed to publishers", |stats| stats.confirm),
    (
        "global_messages_unroutable_dropped_total",
        "Messages published as non-mandatory into an exchange and dropped as unroutable",
        |stats| stats.drop_unroutable,
    ),
    (
        "global_messages_unroutable_returned_total",
        "Messages published as mandatory into an exchange and returned to the publisher as unroutable",
        |stats| stats.return_unroutable,
    ),
];

/// By type of queue.
const GLOBAL_BY_TYPE: &[OfMessages] = &[
    ("global_messages_delivered_total", "Messages delivered to consumers", MessageStats::deliver_get),
    (
        "global_messages_delivered_consume_auto_ack_total",
        "Messages delivered to consumers using basic.consume with automatic acknowledgment",
        |stats| stats.deliver_no_ack,
    ),
    (
        "global_messages_delivered_consume_manual_ack_total",
        "Messages delivered to consumers using basic.consume with manual acknowledgment",
        |stats| stats.deliver,
    ),
    (
        "global_messages_delivered_get_auto_ack_total",
        "Messages delivered to consumers using basic.get with automatic acknowledgment",
        |stats| stats.get_no_ack,
    ),
    (
        "global_messages_delivered_get_manual_ack_total",
        "Messages delivered to consumers using basic.get with manual acknowledgment",
        |stats| stats.get,
    ),
    ("global_messages_get_empty_total", "Number of times basic.get operations fetched no message", |stats| {
        stats.get_empty
    }),
    ("global_messages_redelivered_total", "Messages redelivered to consumers", |stats| stats.redeliver),
    ("global_messages_acknowledged_total", "Messages acknowledged by consumers", |stats| stats.ack),
];

/// By the queue's type and by whether there was a dead-letter exchange: name, help, all, those of them that went there.
type OfDead = (&'static str, &'static str, fn(&MessageStats) -> (u64, u64));

const DEAD: &[OfDead] = &[
    ("global_messages_dead_lettered_expired_total", "Messages dead due to message TTL exceeded", |stats| {
        (stats.dead_expired, stats.dead_lettered_expired)
    }),
    (
        "global_messages_dead_lettered_maxlen_total",
        "Messages dead due to overflow drop-head or reject-publish-dlx",
        |stats| (stats.dead_maxlen, stats.dead_lettered_maxlen),
    ),
    (
        "global_messages_dead_lettered_rejected_total",
        "Messages dead due to basic.reject or basic.nack",
        |stats| (stats.dead_rejected, stats.dead_lettered_rejected),
    ),
    (
        "global_messages_dead_lettered_delivery_limit_total",
        "Messages dead due to delivery-limit exceeded",
        |stats| (stats.dead_delivery_limit, stats.dead_lettered_delivery_limit),
    ),
];

/// A metric of logins: name, help, value.
type OfLogins = (&'static str, &'static str, fn(&Attempts) -> u64);

const LOGINS: &[OfLogins] = &[
    ("auth_attempts_total", "Total number of authorization attempts", |attempts| attempts.all),
    ("auth_attempts_succeeded_total", "Total number of successful authentication attempts", |attempts| {
        attempts.succeeded
    }),
    ("auth_attempts_failed_total", "Total number of failed authentication attempts", |attempts| {
        attempts.failed
    }),
];

impl Metrics {
    /// Names of node and cluster; `endpoint` is the page, in RabbitMQ's word.
    pub(super) fn put_identity(&self, out: &mut Exposition, endpoint: &str) {
        let settings = &self.settings;
        let build = Labels::new(&[
            ("rabbitmq_version", &*settings.version),
            // Dashboards show these columns.
            ("prometheus_plugin_version", env!("CARGO_PKG_VERSION")),
            ("erlang_version", "none"),
            ("product_name", "Leveret"),
            ("product_version", env!("CARGO_PKG_VERSION")),
        ]);
        let help = "The version that is spoken, and that of the product";
        out.with_labels("build_info", Untyped, help, &[(build, 1.0)]);
        let identity = Labels::new(&[
            ("rabbitmq_node", &*settings.node_name),
            ("rabbitmq_cluster", &*settings.cluster_name),
            ("rabbitmq_cluster_permanent_id", &*settings.cluster_name),
            ("rabbitmq_endpoint", endpoint),
        ]);
        out.with_labels("identity_info", Untyped, "Names of the node and of the cluster", &[(identity, 1.0)]);
    }

    pub(super) fn put_alarms(&self, out: &mut Exposition) {
        let is_raised = |alarm| f64::from(u8::from(self.broker.alarms().is_raised(alarm)));
        out.several(
            Gauge,
            &[
                (
                    "alarms_memory_used_watermark",
                    "is 1 if the memory alarm is in effect",
                    is_raised(Alarm::Memory),
                ),
                (
                    "alarms_free_disk_space_watermark",
                    "is 1 if the alarm of free disk space is in effect",
                    is_raised(Alarm::Disk),
                ),
                (
                    "alarms_file_descriptor_limit",
                    "is 1 while the store is out of file descriptors, or of room",
                    is_raised(Alarm::Store),
                ),
            ],
        );
    }

    pub(super) fn put_churn(&self, out: &mut Exposition) {
        let churn = self.broker.churn_counts();
        out.several_whole(
            Counter,
            &[
                ("connections_opened_total", "Total number of connections opened", churn.connection_created),
                (
                    "connections_closed_total",
                    "Total number of connections closed or terminated",
                    churn.connection_closed,
                ),
                ("channels_opened_total", "Total number of channels opened", churn.channel_created),
                ("channels_closed_total", "Total number of channels closed", churn.channel_closed),
                ("queues_declared_total", "Total number of queues declared", churn.queue_declared),
                ("queues_created_total", "Total number of queues created", churn.queue_created),
                ("queues_deleted_total", "Total number of queues deleted", churn.queue_deleted),
            ],
        );
    }

    pub(super) fn put_node(&self, out: &mut Exposition) {
        let process = Process::look();
        out.several_whole(
            Gauge,
            &[
                ("process_open_fds", "Open file descriptors", process.open_files),
                ("process_open_tcp_sockets", "Open connections", self.broker.connections().count() as u64),
                ("process_resident_memory_bytes", "Memory used in bytes", process.resident_bytes),
                (
                    "erlang_processes_used",
                    "Threads, where RabbitMQ tells of Erlang's processes",
                    process.threads,
                ),
            ],
        );
        if let Some(volume) = self.volume() {
            let help = "Disk space available in bytes";
            out.one("disk_space_available_bytes", Gauge, help, volume.free_bytes as f64);
        }
    }

    pub(super) fn put_node_limits(&self, out: &mut Exposition) {
        let process = Process::look();
        let settings = &self.settings;
        let memory_limit =
            settings.memory.as_ref().and_then(|watch| watch.limit_bytes()).unwrap_or(process.machine_bytes);
        out.several_whole(
            Gauge,
            &[
                ("process_max_fds", "Open file descriptors limit", process.open_files_max),
                ("process_max_tcp_sockets", "Open TCP sockets limit", self.settings.connections_max.into()),
                ("resident_memory_limit_bytes", "Memory high watermark in bytes", memory_limit),
                ("erlang_processes_limit", "Threads limit", process.threads_max),
            ],
        );
        if let Some(volume) = self.volume() {
            let limit_bytes = settings.disk_limit.bytes_on(volume);
            let help = "Free disk space low watermark in bytes";
            out.one("disk_space_available_limit_bytes", Gauge, help, limit_bytes as f64);
        }
        let uptime_ms = self.clock.now().saturating_sub(self.started_at);
        out.one("erlang_uptime_seconds", Gauge, "Node uptime", uptime_ms as f64 / 1000.0);
    }

    fn volume(&self) -> Option<Volume> {
        Volume::of(self.settings.data_dir.as_deref()?).ok()
    }

    pub(super) fn put_io(&self, out: &mut Exposition) {
        let io = self.commits.io();
        out.several(
            Counter,
            &[
                ("io_read_ops_total", "Total number of I/O read operations", io.reads.count as f64),
                ("io_read_bytes_total", "Total number of I/O bytes read", io.reads.bytes as f64),
                ("io_read_time_seconds_total", "Total I/O read time", io.reads.seconds),
                ("io_write_ops_total", "Total number of I/O write operations", io.writes.count as f64),
                ("io_write_bytes_total", "Total number of I/O bytes written", io.writes.bytes as f64),
                ("io_write_time_seconds_total", "Total I/O write time", io.writes.seconds),
                ("io_sync_ops_total", "Total number of I/O sync operations", io.syncs.count as f64),
                ("io_sync_time_seconds_total", "Total I/O sync time", io.syncs.seconds),
            ],
        );
    }

    /// Logins, by what was spoken.
    pub(super) fn put_logins(&self, out: &mut Exposition) {
        let attempts = self.broker.logins().attempts();
        for (name, help, value) in LOGINS {
            let values: Vec<_> = attempts
                .iter()
                .map(|(protocol, attempts)| (Labels::new(&[("protocol", protocol)]), value(attempts) as f64))
                .collect();
            out.with_labels(name, Counter, help, &values);
        }
    }

    pub(super) fn put_counts(&self, out: &mut Exposition, objects: &Objects) {
        let consumers: f64 = objects.consumers();
        out.several(
            Gauge,
            &[
                ("connections", "Connections currently open", objects.connections.len() as f64),
                ("channels", "Channels currently open", objects.channels.len() as f64),
                ("consumers", "Consumers currently connected", consumers),
                ("queues", "Queues available", objects.queues.len() as f64),
            ],
        );
        let labels = || Labels::new(&[PROTOCOL]);
        out.with_labels(
            "global_consumers",
            Gauge,
            "The current number of consumers",
            &[(labels(), consumers)],
        );
        let help = "The current number of channels that have published";
        out.with_labels("global_publishers", Gauge, help, &[(labels(), objects.publishers())]);
    }

    /// What clients did with messages since the start, on whatever connection.
    pub(super) fn done_by_clients(&self) -> MessageStats {
        let mut total = MessageStats::default();
        for stats in self.broker.connections().stats_by_vhost().values() {
            total.add(stats);
        }
        total
    }

    /// What publishers put into queues since the start.
    pub(super) fn routed(&self) -> MessageStats {
        MessageStats { publish: self.done_by_clients().routed, ..MessageStats::default() }
    }

    /// What was done with the messages of queues since the start.
    pub(super) fn done_in_queues(&self) -> MessageStats {
        let mut total = MessageStats::default();
        for (_, queue_type) in QueueType::NAMES {
            total.add(&self.broker.queue_stats(*queue_type));
        }
        total
    }

    pub(super) fn put_global(&self, out: &mut Exposition) {
        let done = self.done_by_clients();
        for (name, help, value) in GLOBAL {
            out.with_labels(name, Counter, help, &[(Labels::new(&[PROTOCOL]), value(&done) as f64)]);
        }
        let by_type =
            QueueType::NAMES.iter().map(|(_, found)| (module(*found), self.broker.queue_stats(*found)));
        let by_type: Vec<_> = by_type.collect();
        for (name, help, value) in GLOBAL_BY_TYPE {
            let values = by_type.iter().map(|(queue_type, stats)| {
                (Labels::new(&[PROTOCOL, ("queue_type", queue_type)]), value(stats) as f64)
            });
            out.with_labels(name, Counter, help, &values.collect::<Vec<_>>());
        }
        for (name, help, value) in DEAD {
            let values = by_type.iter().flat_map(|(queue_type, stats)| {
                let (dead, lettered) = value(stats);
                [("at_most_once", lettered), ("disabled", dead - lettered)].map(|(strategy, count)| {
                    let labels = [("queue_type", *queue_type), ("dead_letter_strategy", strategy)];
                    (Labels::new(&labels), count as f64)
                })
            });
            out.with_labels(name, Counter, help, &values.collect::<Vec<_>>());
        }
    }

    pub(super) fn put_sizes(&self, out: &mut Exposition) {
        let sizes = self.broker.connections().sizes();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(SIZE_BOUNDS.len());
        for (bound, counted) in SIZE_BOUNDS.iter().zip(sizes.counts) {
            count += counted;
            buckets.push((*bound as f64, count));
        }
        let count = sizes.counts.iter().sum();
        let distribution = Distribution { buckets, sum: sizes.bytes as f64, count };
        let help = "Size of messages received from publishers";
        out.histogram("message_size_bytes", help, Some(PROTOCOL), &distribution);
    }

    /// Leveret's own: what was lost of what the store kept.
    pub(super) fn put_losses(&self, out: &mut Exposition) {
        let help = "Losses found when the broker was started that are not acknowledged";
        out.one("losses", Gauge, help, self.broker.losses().count() as f64);
    }

    /// Leveret's own: how long it takes until something is durable.
    pub(super) fn put_commits(&self, out: &mut Exposition) {
        let commits = &self.commits;
        for (name, help, histogram) in [
            (
                "confirm_latency_seconds",
                "What a publisher waits for its confirm at most within the broker, once a commit",
                &commits.latency_s,
            ),
            ("commit_duration_seconds", "What a commit takes", &commits.commit_s),
            ("fsync_duration_seconds", "What it takes to make what was written durable", &commits.sync_s),
            ("commit_size_bytes", "Bytes of records that went into a commit", &commits.bytes),
        ] {
            out.histogram(name, help, None, &histogram.distribution());
        }
        let usage = self.broker.journal().usage();
        out.several_whole(
            Gauge,
            &[
                ("journal_records", "Records kept", usage.records as u64),
                ("journal_bytes", "Bytes of the records kept", usage.record_bytes),
                ("journal_messages", "Messages in the records that are still needed", usage.messages),
                ("journal_waiting_bytes", "Bytes that wait to be written", usage.gathered_bytes as u64),
            ],
        );
    }

    /// Leveret's own: patterns of permissions and policies that do harm.
    pub(super) fn put_patterns(&self, out: &mut Exposition) {
        let help = "Times that a pattern of a permission or policy took too many steps on a name";
        out.one("patterns_given_up_total", Counter, help, given_up() as f64);
    }

    /// Leveret's own: how long the certificate is good for, at each listener that shows it.
    pub(super) fn put_certificate(&self, out: &mut Exposition) {
        let Some(ends_at_s) = self.settings.tls.as_ref().and_then(|tls| tls.certificate().ends_at_s()) else {
            return;
        };
        let left_s = ends_at_s as f64 - self.clock.now() as f64 / 1000.0;
        let of_listener = |(protocol, port): &(&str, u16)| {
            (Labels::new(&[("protocol", protocol), ("port", &port.to_string())]), left_s)
        };
        let values: Vec<_> = self.settings.tls_listeners.iter().map(of_listener).collect();
        let help = "How long the certificate is good for, or the first that ends of those behind it";
        out.with_labels("certificate_expires_in_seconds", Gauge, help, &values);
    }

    /// Where the memory is, as far as that is known.
    pub(super) fn memory(&self) -> String {
        let mut out = Exposition::new(PREFIX);
        self.put_identity(&mut out, "memory-breakdown");
        let total = Process::look().resident_bytes;
        let usage = self.broker.journal().usage();
        let of = |kind: MemoryUse| self.broker.memory().used_bytes(kind);
        let parts = [
            ("memory_messages_bytes", "Ready messages in memory, about", of(MemoryUse::Ready)),
            (
                "memory_unacked_messages_bytes",
                "Deliveries in memory that are not acknowledged, about",
                of(MemoryUse::Unacked),
            ),
            (
                "memory_outboxes_bytes",
                "Deliveries without acknowledgement and direct replies that wait to be sent",
                of(MemoryUse::Outboxes),
            ),
            (
                "memory_transmit_buffers_bytes",
                "What sockets have not taken yet, but for connections with less than 4 KiB",
                of(MemoryUse::TransmitBuffers),
            ),
            (
                "memory_arriving_messages_bytes",
                "Messages of which a part has come, but for those of which less than 4 KiB have",
                of(MemoryUse::Arriving),
            ),
            ("memory_transactions_bytes", "Publishes that are not committed", of(MemoryUse::Transactions)),
            (
                "memory_arguments_bytes",
                "Arguments of queues, exchanges, bindings and consumers",
                of(MemoryUse::Arguments),
            ),
            (
                "memory_http_bodies_bytes",
                "Bodies of requests to the management API",
                of(MemoryUse::HttpBodies),
            ),
            ("memory_journal_index_bytes", "The index of the journal, about", usage.index_bytes as u64),
            ("memory_journal_waiting_bytes", "What waits to be written", usage.gathered_bytes as u64),
        ];
        let other = total.saturating_sub(parts.iter().map(|(_, _, bytes)| bytes).sum());
        out.one("process_resident_memory_bytes", Gauge, "Memory used in bytes", total as f64);
        out.set_prefix(OWN_PREFIX);
        out.several_whole(Gauge, &parts);
        out.one("memory_other_bytes", Gauge, "Everything else", other as f64);
        out.into_text()
    }
}
