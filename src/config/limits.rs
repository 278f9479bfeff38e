//! `[limits]`: every bound that a client can meet. Each part of the broker gets the ones it keeps from here, and has
//! none of its own.

use super::section::Section;
use super::table::settings;
use std::fmt;

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

impl fmt::Display for MemoryLimit {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryLimit::None => f.write_str("0"),
            MemoryLimit::Fraction(fraction) => write!(f, "{fraction:?}"),
            MemoryLimit::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

settings! {
    /// The table `[limits]`. Units come last in a name: `_bytes`, `_ms` (milliseconds, up to a day), `_s` (seconds). Where 0 means
    /// "no limit", the key says so.
    Limits {
        /// Channels that one connection may have open at once, as proposed in `connection.tune`; 0 means no limit but
        /// the protocol's, 65535.
        channel_max: u16 = 2047, optional_whole(0..=u16::MAX);
        /// Largest frame, in bytes with its header and end, as proposed in `connection.tune`; 4096 to 128 MiB. A
        /// client may ask for less, down to 4096.
        frame_max_bytes: u32 = 131_072, optional_whole(FRAME_MIN_BYTES..=FRAME_CAP_BYTES);
        /// Largest frame before the two ends have agreed on that, in bytes; 4096 to 1 MiB. The login comes in such a
        /// frame, and may hold a long token. A client can have that much kept without a login.
        initial_frame_max_bytes: u32 = 65_536, optional_whole(FRAME_MIN_BYTES..=INITIAL_FRAME_CAP_BYTES);
        /// Heartbeat interval proposed in `connection.tune`, in seconds; 0 proposes none. A client may ask for
        /// another.
        heartbeat_s: u16 = 60, optional_whole(0..=u16::MAX);
        /// From accepting a connection to `connection.open`, in milliseconds; a slower client is dropped.
        handshake_timeout_ms: u64 = 10_000, optional_whole(1..=TIMEOUT_CAP_MS);
        /// Connections at once, of all clients; 0 means as many as there are file descriptors for, which is the limit
        /// in any case.
        connections_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Those of them that have not logged in; 0 means no limit but half of all. Beyond that the next one waits,
        /// and after a second another one is closed for a new one.
        connections_before_login_max: u32 = 1000, optional_whole(0..=u32::MAX);
        /// The same of one address, or of one network of 64 bits with IPv6; more are refused. 0 means no limit.
        connections_before_login_per_address_max: u32 = 500, optional_whole(0..=u32::MAX);
        /// Largest body of a message in bytes, up to 512 MiB; a larger one closes its channel with 406.
        message_size_max_bytes: u64 = 134_217_728, optional_whole(1..=MESSAGE_SIZE_CAP_BYTES);
        /// Deepest nesting of tables and arrays in a field table that a client sends, 1 to 256.
        field_table_depth_max: u32 = 64, optional_whole(1..=FIELD_TABLE_DEPTH_CAP);
        /// Fields in the table of arguments of a queue, an exchange, a binding or a consumer, with those of tables in
        /// it and the values of arrays; a larger one is refused with 406.
        field_table_fields_max: u32 = 1024, optional_whole(1..=u32::MAX);
        /// Bytes of such a table, encoded.
        field_table_bytes_max: usize = 65_536, optional_whole(1..);
        /// Consumers on one channel; 0 means no limit.
        consumers_per_channel_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Deliveries assigned to one consumer and not yet encoded for its connection; its queue holds back more
        /// until the client reads.
        outbox_messages: u32 = 2048, optional_whole(1..=u32::MAX);
        /// As `outbox_messages`, in bytes of bodies and properties; one delivery may always wait, however large.
        outbox_bytes: usize = 1_048_576, optional_whole(1..);
        /// Encoded bytes that wait for one connection's socket before no more are encoded.
        transmit_buffer_bytes: usize = 262_144, optional_whole(1..);
        /// How long a connection with bytes to write may accept none before it is dropped, in milliseconds.
        write_stall_timeout_ms: u64 = 30_000, optional_whole(1..);
        /// How long after `connection.close` or `channel.close` the client's answer is waited for, or after its own
        /// close that it hangs up, in milliseconds; on a connection no longer than its heartbeat.
        close_timeout_ms: u64 = 30_000, optional_whole(1..=TIMEOUT_CAP_MS);
        /// Logins that wait, at once: of addresses and users that have failed often, before the password is looked
        /// at, and of clients that wait for the end of a failed one. Beyond that such a connection is closed without
        /// an answer.
        failed_logins_waiting_max: u32 = 1000, optional_whole(0..=u32::MAX);
        /// How many failed logins within a minute, of an address or with a user's name, are free; the next ones wait.
        failed_logins_free: u32 = 5, optional_whole(1..=10_000);
        /// Passwords that are checked at once where that takes long, as with argon2id: each takes a core and 19 MiB
        /// meanwhile.
        password_hashes_max: u32 = 2, optional_whole(1..=64);
        /// Channels of all connections together; 0 means no limit.
        channels_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Vhosts; 0 means no limit.
        vhosts_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Queues of all vhosts together; 0 means no limit.
        queues_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Exchanges of all vhosts together, the predeclared ones with them; 0 means no limit.
        exchanges_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Queues in one vhost; 0 means no limit.
        queues_per_vhost_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Exchanges in one vhost, the predeclared ones with them; 0 means no limit.
        exchanges_per_vhost_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// Bindings that have one exchange as their source; 0 means no limit.
        bindings_per_exchange_max: u32 = 0, optional_whole(0..=u32::MAX);
        /// How long a delivery may go unacknowledged where neither the consumer nor its queue says, in milliseconds;
        /// 0 is no limit.
        consumer_timeout_ms: u64 = 0, optional_whole(0..);
        /// Messages published and acknowledgements in one uncommitted transaction.
        tx_messages_max: u32 = 1_000_000, optional_whole(1..=u32::MAX);
        /// Bytes of bodies and properties in one uncommitted transaction.
        tx_bytes_max: u64 = 268_435_456, optional_whole(1..);
        /// Headers of a STOMP frame.
        stomp_headers_max: u32 = 100, optional_whole(1..=10_000);
        /// Bytes of one of them, that is of its line.
        stomp_header_max_bytes: usize = 102_400, optional_whole(64..);
        /// Bytes of all of them with the command. What a message has of them has to fit into a frame of AMQP.
        stomp_head_max_bytes: usize = 122_880, optional_whole(1024..);
        /// Subscriptions of a STOMP connection, with those that have ended while deliveries are unacknowledged.
        stomp_subscriptions_max: u32 = 2047, optional_whole(1..=u32::MAX);
        /// Open transactions of a STOMP connection. `tx_messages_max` is of each, `tx_bytes_max` of all of them.
        stomp_transactions_max: u32 = 16, optional_whole(1..=u32::MAX);
        /// Bytes that all sub-batches in a frame of the stream protocol may have together when they are unpacked: that is done in a turn.
        stream_sub_batches_max_bytes: u32 = 16_777_216, optional_whole(1024..=67_108_864);
        /// Highest `x-max-priority` that a queue may be declared with, 1 to 255; each level costs memory.
        priority_max: u8 = 255, optional_whole(1..=u8::MAX);
        /// Publishers are blocked while the process takes more: a fraction of the memory that it may take (written
        /// with a point), or bytes; 0 never blocks them.
        memory_high_watermark: MemoryLimit = MemoryLimit::Fraction(0.4), memory_limit();
        /// While the process takes more than that many percent of `memory_high_watermark`, the connection that keeps
        /// most is closed; 0 closes none.
        memory_close_percent: u32 = 110, optional_whole(0..=1000);
        /// Publishers are blocked while the volume of the data directory has fewer free bytes; 0 never blocks them.
        /// Default: 1 GiB, on a volume larger than 20 GiB 5% of it, on one smaller than 2 GiB half of it.
        disk_free_bytes: Option<u64> = None, perhaps_whole(0..);
        /// Largest body of a request to the management API that imports definitions or publishes a message, in bytes.
        http_body_max_bytes: usize = 33_554_432, optional_whole(1..);
        /// Largest body of any other request to the management API, in bytes.
        http_small_body_max_bytes: usize = 65_536, optional_whole(1..);
        /// All bodies at once that are larger than that, in bytes; more wait. One as large as `http_body_max_bytes`
        /// always may.
        http_bodies_max_bytes: usize = 67_108_864, optional_whole(1..);
        /// Connections to the management API, and to the metrics, at once. When there are more, idle ones are closed.
        http_connections_max: u32 = 512, optional_whole(1..=u32::MAX);
    }
}
