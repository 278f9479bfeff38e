//! `[stream]`: what the stream protocol says to its clients.

use super::section::Section;
use super::table::settings;

settings! {
    /// The table `[stream]`. Its names are RabbitMQ's.
    StreamProtocol {
        /// The host that clients of the stream protocol are to connect to; where it is not set, the one that they have connected to.
        advertised_host: Option<String> = None, perhaps_text();
        /// The port that they are to connect to; where it is not set, the one that they have connected to.
        advertised_port: Option<u16> = None, perhaps_whole(1..=u16::MAX);
        /// The same over TLS.
        advertised_tls_port: Option<u16> = None, perhaps_whole(1..=u16::MAX);
        /// Bytes of a frame; 0 is no limit but that of a message.
        frame_max: u32 = 1_048_576, optional_whole(0..=u32::MAX);
        /// Seconds between two heartbeats of the stream protocol; 0 is none.
        heartbeat: u16 = 60, optional_whole(0..=u16::MAX);
        /// Publishes of a connection that may be unconfirmed before nothing more is read of it.
        initial_credits: u32 = 50_000, optional_whole(1..=u32::MAX);
    }
}
