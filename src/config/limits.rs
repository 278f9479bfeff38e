//! `[limits]`: every bound that a client can meet. Each part of the broker gets the ones it keeps from here, and has
//! none of its own.

use super::section::Section;

/// Largest message RabbitMQ lets anyone configure; clients count on meeting no larger one.
const MESSAGE_SIZE_CAP_BYTES: u64 = 512 * 1024 * 1024;

/// Smallest frame that either side must accept (0-9-1 section 4.2.3, `frame-min-size`).
const FRAME_MIN_BYTES: u32 = 4096;

/// Largest frame that can be configured: a frame is held whole in memory for each connection that sends one.
const FRAME_CAP_BYTES: u32 = 128 * 1024 * 1024;

/// The same before a login, when the client's user is not known.
const INITIAL_FRAME_CAP_BYTES: u32 = 1024 * 1024;

/// Longest time-out that can be configured, a day; a longer one is a mistake of units.
const TIMEOUT_CAP_MS: u64 = 86_400_000;

/// Deepest nesting that can be configured; field tables are decoded by recursion, on a stack that ends.
const FIELD_TABLE_DEPTH_CAP: u32 = 256;

/// How much memory the broker may take before publishers are blocked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryLimit {
    /// The process may take any amount.
    None,
    /// A part of what the machine has, or of what its control group allows: above 0, up to 1.
    Fraction(f64),
    /// A number of bytes.
    Bytes(u64),
}

/// The table `[limits]`. Units come last in a name: `_bytes`, `_ms` (milliseconds, up to a day), `_s` (seconds). Where
/// 0 means "no limit", the key says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Channels that one connection may have open at once, as proposed in `connection.tune`; 0 means no limit but the
    /// protocol's, 65535. Default 2047.
    pub channel_max: u16,
    /// Largest frame, in bytes with its header and end, as proposed in `connection.tune`; 4096 to 128 MiB. A client may
    /// ask for less, down to 4096. Default 131072.
    pub frame_max_bytes: u32,
    /// Largest frame before the two ends have agreed on that, in bytes; 4096 to 1 MiB. The login comes in such a frame, and may
    /// hold a long token. A client can have that much kept without a login. Default 65536.
    pub initial_frame_max_bytes: u32,
    /// Heartbeat interval proposed in `connection.tune`, in seconds; 0 proposes none. A client may ask for another.
    /// Default 60.
    pub heartbeat_s: u16,
    /// From accepting a connection to `connection.open`, in milliseconds; a slower client is dropped. Default 10000.
    pub handshake_timeout_ms: u64,
    /// Connections at once, of all clients; 0 means as many as there are file descriptors for, which is the limit in any case.
    /// Default 0.
    pub connections_max: u32,
    /// Those of them that have not logged in; 0 means no limit but half of all. Beyond that the next one waits, and after a second
    /// another one is closed for a new one. Default 1000.
    pub connections_before_login_max: u32,
    /// The same of one address, or of one network of 64 bits with IPv6; more are refused. 0 means no limit. Default 500.
    pub connections_before_login_per_address_max: u32,
    /// Largest body of a message in bytes, up to 512 MiB; a larger one closes its channel with 406. Default 134217728
    /// (128 MiB).
    pub message_size_max_bytes: u64,
    /// Deepest nesting of tables and arrays in a field table that a client sends, 1 to 256. Default 64.
    pub field_table_depth_max: u32,
    /// Fields in the table of arguments of a queue, an exchange, a binding or a consumer, with those of tables in it and the
    /// values of arrays; a larger one is refused with 406. Default 1024.
    pub field_table_fields_max: u32,
    /// Bytes of such a table, encoded. Default 65536 (64 KiB).
    pub field_table_bytes_max: usize,
    /// Consumers on one channel; 0 means no limit. Default 0.
    pub consumers_per_channel_max: u32,
    /// Deliveries assigned to one consumer and not yet encoded for its connection; its queue holds back more until the
    /// client reads. Default 2048.
    pub outbox_messages: u32,
    /// As `outbox_messages`, in bytes of bodies and properties; one delivery may always wait, however large. Default 1048576 (1 MiB).
    pub outbox_bytes: usize,
    /// Encoded bytes that wait for one connection's socket before no more are encoded. Default 262144 (256 KiB).
    pub transmit_buffer_bytes: usize,
    /// How long a connection with bytes to write may accept none before it is dropped, in milliseconds. Default 30000.
    pub write_stall_timeout_ms: u64,
    /// How long after `connection.close` or `channel.close` the client's answer is waited for, or after its own close that it
    /// hangs up, in milliseconds; on a connection no longer than its heartbeat.
    /// Default 30000.
    pub close_timeout_ms: u64,
    /// Logins that wait, at once: of addresses and users that have failed often, before the password is looked at, and of clients
    /// that wait for the end of a failed one. Beyond that such a connection is closed without an answer. Default 1000.
    pub failed_logins_waiting_max: u32,
    /// How many failed logins within a minute, of an address or with a user's name, are free; the next ones wait. Default 5.
    pub failed_logins_free: u32,
    /// Passwords that are checked at once where that takes long, as with argon2id: each takes a core and 19 MiB meanwhile. Default 2.
    pub password_hashes_max: u32,
    /// Channels of all connections together; 0 means no limit. Default 0.
    pub channels_max: u32,
    /// Vhosts; 0 means no limit. Default 0.
    pub vhosts_max: u32,
    /// Queues of all vhosts together; 0 means no limit. Default 0.
    pub queues_max: u32,
    /// Exchanges of all vhosts together, the predeclared ones with them; 0 means no limit. Default 0.
    pub exchanges_max: u32,
    /// Queues in one vhost; 0 means no limit. Default 0.
    pub queues_per_vhost_max: u32,
    /// Exchanges in one vhost, the predeclared ones with them; 0 means no limit. Default 0.
    pub exchanges_per_vhost_max: u32,
    /// Bindings that have one exchange as their source; 0 means no limit. Default 0.
    pub bindings_per_exchange_max: u32,
    /// How long a delivery may go unacknowledged where neither the consumer nor its queue says, in milliseconds; 0 is for
    /// ever. Default 0.
    pub consumer_timeout_ms: u64,
    /// Messages published and acknowledgements in one uncommitted transaction. Default 1000000.
    pub tx_messages_max: u32,
    /// Bytes of bodies and properties in one uncommitted transaction. Default 268435456 (256 MiB).
    pub tx_bytes_max: u64,
    /// Highest `x-max-priority` that a queue may be declared with, 1 to 255; each level costs memory. Default 255.
    pub priority_max: u8,
    /// Publishers are blocked while the process takes more: a fraction of the memory that it may take (written with a point),
    /// or bytes; 0 never blocks them. Default 0.4.
    pub memory_high_watermark: MemoryLimit,
    /// While the process takes more than that many percent of `memory_high_watermark`, the connection that keeps most is closed;
    /// 0 closes none. Default 110.
    pub memory_close_percent: u32,
    /// Publishers are blocked while the volume of the data directory has fewer free bytes; 0 never blocks them. Default:
    /// 1 GiB, on a volume larger than 20 GiB 5% of it, on one smaller than 2 GiB half of it.
    pub disk_free_bytes: Option<u64>,
    /// Largest body of a request to the management API that imports definitions or publishes a message, in bytes. Default
    /// 33554432 (32 MiB).
    pub http_body_max_bytes: usize,
    /// Largest body of any other request to the management API, in bytes. Default 65536.
    pub http_small_body_max_bytes: usize,
    /// All bodies at once that are larger than that, in bytes; more wait. One as large as `http_body_max_bytes` always may.
    /// Default 67108864 (64 MiB).
    pub http_bodies_max_bytes: usize,
    /// Connections to the management API, and to the metrics, at once. When there are more, idle ones are closed.
    /// Default 512.
    pub http_connections_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            channel_max: 2047,
            frame_max_bytes: 131_072,
            initial_frame_max_bytes: 65_536,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            connections_max: 0,
            connections_before_login_max: 1000,
            connections_before_login_per_address_max: 500,
            message_size_max_bytes: 134_217_728,
            field_table_depth_max: 64,
            field_table_fields_max: 1024,
            field_table_bytes_max: 65_536,
            consumers_per_channel_max: 0,
            outbox_messages: 2048,
            outbox_bytes: 1_048_576,
            transmit_buffer_bytes: 262_144,
            write_stall_timeout_ms: 30_000,
            close_timeout_ms: 30_000,
            failed_logins_waiting_max: 1000,
            failed_logins_free: 5,
            password_hashes_max: 2,
            channels_max: 0,
            vhosts_max: 0,
            queues_max: 0,
            exchanges_max: 0,
            queues_per_vhost_max: 0,
            exchanges_per_vhost_max: 0,
            bindings_per_exchange_max: 0,
            consumer_timeout_ms: 0,
            tx_messages_max: 1_000_000,
            tx_bytes_max: 268_435_456,
            priority_max: 255,
            memory_high_watermark: MemoryLimit::Fraction(0.4),
            memory_close_percent: 110,
            disk_free_bytes: None,
            http_body_max_bytes: 33_554_432,
            http_small_body_max_bytes: 65_536,
            http_bodies_max_bytes: 67_108_864,
            http_connections_max: 512,
        }
    }
}

impl Limits {
    pub(super) fn read(section: &mut Section<'_>) -> Limits {
        let any = 0..=u32::MAX;
        let timeout = 1..=TIMEOUT_CAP_MS;
        let some = 1..=u32::MAX;
        let default = Limits::default();
        Limits {
            channel_max: section.whole("channel_max", 0..=u16::MAX, default.channel_max),
            frame_max_bytes: section.whole(
                "frame_max_bytes",
                FRAME_MIN_BYTES..=FRAME_CAP_BYTES,
                default.frame_max_bytes,
            ),
            initial_frame_max_bytes: section.whole(
                "initial_frame_max_bytes",
                FRAME_MIN_BYTES..=INITIAL_FRAME_CAP_BYTES,
                default.initial_frame_max_bytes,
            ),
            heartbeat_s: section.whole("heartbeat_s", 0..=u16::MAX, default.heartbeat_s),
            handshake_timeout_ms: section.whole(
                "handshake_timeout_ms",
                timeout.clone(),
                default.handshake_timeout_ms,
            ),
            connections_max: section.whole("connections_max", any.clone(), default.connections_max),
            connections_before_login_max: section.whole(
                "connections_before_login_max",
                any.clone(),
                default.connections_before_login_max,
            ),
            connections_before_login_per_address_max: section.whole(
                "connections_before_login_per_address_max",
                any.clone(),
                default.connections_before_login_per_address_max,
            ),
            message_size_max_bytes: section.whole(
                "message_size_max_bytes",
                1..=MESSAGE_SIZE_CAP_BYTES,
                default.message_size_max_bytes,
            ),
            field_table_depth_max: section.whole(
                "field_table_depth_max",
                1..=FIELD_TABLE_DEPTH_CAP,
                default.field_table_depth_max,
            ),
            field_table_fields_max: section.whole(
                "field_table_fields_max",
                1..=u32::MAX,
                default.field_table_fields_max,
            ),
            field_table_bytes_max: section.whole("field_table_bytes_max", 1.., default.field_table_bytes_max),
            consumers_per_channel_max: section.whole(
                "consumers_per_channel_max",
                any.clone(),
                default.consumers_per_channel_max,
            ),
            outbox_messages: section.whole("outbox_messages", some.clone(), default.outbox_messages),
            outbox_bytes: section.whole("outbox_bytes", 1.., default.outbox_bytes),
            transmit_buffer_bytes: section.whole("transmit_buffer_bytes", 1.., default.transmit_buffer_bytes),
            write_stall_timeout_ms: section.whole(
                "write_stall_timeout_ms",
                1..,
                default.write_stall_timeout_ms,
            ),
            close_timeout_ms: section.whole("close_timeout_ms", timeout.clone(), default.close_timeout_ms),
            failed_logins_waiting_max: section.whole(
                "failed_logins_waiting_max",
                any.clone(),
                default.failed_logins_waiting_max,
            ),
            failed_logins_free: section.whole("failed_logins_free", 1..=10_000, default.failed_logins_free),
            password_hashes_max: section.whole("password_hashes_max", 1..=64, default.password_hashes_max),
            channels_max: section.whole("channels_max", any.clone(), default.channels_max),
            vhosts_max: section.whole("vhosts_max", any.clone(), default.vhosts_max),
            queues_max: section.whole("queues_max", any.clone(), default.queues_max),
            exchanges_max: section.whole("exchanges_max", any.clone(), default.exchanges_max),
            queues_per_vhost_max: section.whole(
                "queues_per_vhost_max",
                any.clone(),
                default.queues_per_vhost_max,
            ),
            exchanges_per_vhost_max: section.whole(
                "exchanges_per_vhost_max",
                any.clone(),
                default.exchanges_per_vhost_max,
            ),
            bindings_per_exchange_max: section.whole(
                "bindings_per_exchange_max",
                any,
                default.bindings_per_exchange_max,
            ),
            consumer_timeout_ms: section.whole("consumer_timeout_ms", 0.., default.consumer_timeout_ms),
            tx_messages_max: section.whole("tx_messages_max", some, default.tx_messages_max),
            tx_bytes_max: section.whole("tx_bytes_max", 1.., default.tx_bytes_max),
            priority_max: section.whole("priority_max", 1..=u8::MAX, default.priority_max),
            memory_high_watermark: section
                .memory_limit("memory_high_watermark")
                .unwrap_or(default.memory_high_watermark),
            memory_close_percent: section.whole(
                "memory_close_percent",
                0..=1000,
                default.memory_close_percent,
            ),
            disk_free_bytes: section.optional_whole("disk_free_bytes", 0..),
            http_body_max_bytes: section.whole("http_body_max_bytes", 1.., default.http_body_max_bytes),
            http_small_body_max_bytes: section.whole(
                "http_small_body_max_bytes",
                1..,
                default.http_small_body_max_bytes,
            ),
            http_bodies_max_bytes: section.whole("http_bodies_max_bytes", 1.., default.http_bodies_max_bytes),
            http_connections_max: section.whole(
                "http_connections_max",
                1..=u32::MAX,
                default.http_connections_max,
            ),
        }
    }
}
