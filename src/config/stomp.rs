//! `[stomp]`: what STOMP clients can leave out, and what they are sent.

use super::section::Section;

/// The table `[stomp]`. Its names are RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stomp {
    /// Who logs in with a CONNECT that has no `login`, with `default_pass`. Default: nobody.
    pub default_user: Option<String>,
    /// The password of `default_user`.
    pub default_pass: Option<String>,
    /// Whether a client that sends no CONNECT is logged in as `default_user`, and gets no CONNECTED. Default false.
    pub implicit_connect: bool,
    /// The vhost of a CONNECT without `host`. Default `/`.
    pub default_vhost: String,
    /// The exchange of destinations that begin with `/topic/`. Default `amq.topic`.
    pub default_topic_exchange: String,
    /// Whether a NACK without `requeue` puts the message back. Default true.
    pub default_nack_requeue: bool,
    /// Whether a line end follows each frame. Default true.
    pub trailing_lf: bool,
    /// Whether CONNECTED has no header `server`. Default false.
    pub hide_server_info: bool,
}

impl Stomp {
    pub(super) fn read(section: &mut Section<'_>) -> Stomp {
        let stomp = Stomp {
            default_user: section.text("default_user"),
            default_pass: section.text("default_pass"),
            implicit_connect: section.boolean("implicit_connect", false),
            default_vhost: section.name("default_vhost").unwrap_or_else(|| "/".to_owned()),
            default_topic_exchange: section
                .name("default_topic_exchange")
                .unwrap_or_else(|| "amq.topic".to_owned()),
            default_nack_requeue: section.boolean("default_nack_requeue", true),
            trailing_lf: section.boolean("trailing_lf", true),
            hide_server_info: section.boolean("hide_server_info", false),
        };
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
