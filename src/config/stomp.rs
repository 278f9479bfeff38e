//! `[stomp]`: what STOMP clients can leave out, and what they are sent.

use super::section::Section;
use super::table::settings;

settings! {
    /// The table `[stomp]`. Its names are RabbitMQ's.
    Stomp {
        /// Who logs in with a CONNECT that has no `login`, with `default_pass`; where it is not set, nobody does.
        default_user: Option<String> = None, perhaps_text();
        /// The password of `default_user`.
        default_pass: Option<String> = None, perhaps_text();
        /// Whether a client that sends no CONNECT is logged in as `default_user`, and gets no CONNECTED.
        implicit_connect: bool = false, optional_boolean();
        /// The vhost of a CONNECT without `host`.
        default_vhost: String = "/".to_owned(), name();
        /// The exchange of destinations that begin with `/topic/`.
        default_topic_exchange: String = "amq.topic".to_owned(), name();
        /// Whether a NACK without `requeue` puts the message back.
        default_nack_requeue: bool = true, optional_boolean();
        /// Whether a line end follows each frame.
        trailing_lf: bool = true, optional_boolean();
        /// Whether CONNECTED has no header `server`.
        hide_server_info: bool = false, optional_boolean();
    }
}

impl Stomp {
    /// Reads the table, and checks what depends on each other.
    pub(super) fn read_whole(section: &mut Section<'_>) -> Stomp {
        let stomp = Stomp::read(section);
        match (&stomp.default_user, &stomp.default_pass) {
            (Some(_), None) => section.report("default_user", "needs its password; set stomp.default_pass"),
            (None, Some(_)) => section.report("default_pass", "is nobody's; set stomp.default_user"),
            (None, None) if stomp.implicit_connect => {
                section.report(
                    "implicit_connect",
                    "needs a user; set stomp.default_user and stomp.default_pass",
                );
            }
            _ => {}
        }
        stomp
    }
}
