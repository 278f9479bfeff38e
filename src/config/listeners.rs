//! `[listeners]`: where to listen, and for what.

use super::network::Network;
use super::section::Section;
use super::table::{Setting, settings};
use std::net::SocketAddr;

/// Declares the listeners: each with its kind, its port, whether it speaks TLS, and its [`State`].
macro_rules! listeners {
    ($($(#[doc = $description:literal])+ $name:ident: $kind:ident = $port:literal, $transport:ident, $state:ident;)*) => {
        /// The table `[listeners]`. Those that speak TLS are off unless `[tls]` has a certificate.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Listeners {
            $(
                $(#[doc = $description])+
                pub $name: $kind,
            )*
        }

        impl Listeners {
            pub(super) fn read(section: &mut Section<'_>, has_certificate: bool) -> Listeners {
                let mut taken = Taken::default();
                $(let $name = section.section(stringify!($name), |section| {
                    let place = Place {
                        name: stringify!($name),
                        default_port: $port,
                        state: State::$state,
                        lacks_certificate: Transport::$transport == Transport::Tls && !has_certificate,
                    };
                    $kind::read(section, &place, &mut taken)
                });)*
                Listeners { $($name,)* }
            }
        }

        /// The tables of the listeners, with their settings.
        pub(super) fn listeners() -> Vec<(&'static str, Vec<Setting>)> {
            let mut tables = Vec::new();
            $(
                let place = Place {
                    name: stringify!($name),
                    default_port: $port,
                    state: State::$state,
                    lacks_certificate: false,
                };
                let about = [$($description),+].concat();
                tables.push((concat!("[listeners.", stringify!($name), "]"), place.describe(&about, $kind::settings())));
            )*
            tables
        }
    };
}

listeners! {
    /// AMQP 0-9-1.
    amqp: AmqpListener = 5672, Plain, Must;
    /// AMQP 0-9-1 over TLS.
    amqps: AmqpListener = 5671, Tls, Must;
    /// What is spoken over WebSocket, mostly at port 15674.
    websocket: AmqpListener = 15674, Plain, Off;
    /// The same over TLS, mostly at port 15673.
    websockets: AmqpListener = 15673, Tls, Off;
    /// STOMP, mostly at port 61613.
    stomp: AmqpListener = 61613, Plain, Off;
    /// STOMP over TLS, mostly at port 61614.
    stomps: AmqpListener = 61614, Tls, Off;
    /// RabbitMQ's stream protocol, mostly at port 5552.
    stream: AmqpListener = 5552, Plain, Off;
    /// The stream protocol over TLS, mostly at port 5551.
    stream_tls: AmqpListener = 5551, Tls, Off;
    /// The management API.
    http: Listener = 15672, Plain, On;
    /// The management API over TLS.
    https: Listener = 15671, Tls, On;
    /// Metrics for Prometheus.
    prometheus: Listener = 15692, Plain, On;
    /// Metrics over TLS.
    prometheus_https: Listener = 15691, Tls, On;
}

/// What is under a connection.
#[derive(PartialEq)]
enum Transport {
    Plain,
    Tls,
}

/// When something listens.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Always.
    Must,
    /// Unless `bind` is `"off"`.
    On,
    /// Once `bind` is set.
    Off,
}

settings! {
    /// A table of `[listeners]`, as it is written, for clients.
    AmqpListenerTable {
        /// Address and port, such as `0.0.0.0:5672` or `[::1]:5672`; with port 0 the system picks a free one.
        bind: Option<String> = None, perhaps_text();
        /// Whether each connection begins with a header of the PROXY protocol, version 1 or 2, which says where the client is.
        proxy_protocol: bool = false, optional_boolean();
        /// Where those are that send such headers, as networks; connections from elsewhere have none. With none listed all do.
        proxy_networks: Vec<Network> = Vec::new(), networks();
    }
}

settings! {
    /// A table of `[listeners]`, as it is written, for HTTP.
    ListenerTable {
        /// Address and port, such as `0.0.0.0:15672` or `[::1]:15672`; with port 0 the system picks a free one; or `"off"`.
        bind: Option<String> = None, perhaps_text();
    }
}

/// One place to listen for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpListener {
    /// Whether nothing listens there, as where `bind` is `"off"`; AMQP can't be off.
    pub is_off: bool,
    /// Address and port; with port 0 the system picks a free one.
    pub bind: SocketAddr,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Where those are that send such headers; with none listed all do.
    pub proxy_networks: Vec<Network>,
}

impl AmqpListener {
    fn read(section: &mut Section<'_>, place: &Place, taken: &mut Taken) -> AmqpListener {
        let AmqpListenerTable { bind, proxy_protocol, proxy_networks } = AmqpListenerTable::read(section);
        let (is_off, bind) = place.resolve(bind, section, taken);
        AmqpListener { is_off, bind, proxy_protocol, proxy_networks }
    }

    fn settings() -> Vec<Setting> {
        AmqpListenerTable::settings()
    }
}

/// One place to listen for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Whether nothing listens there: `bind` is `"off"`.
    pub is_off: bool,
    /// Address and port; with port 0 the system picks a free one.
    pub bind: SocketAddr,
}

impl Listener {
    fn read(section: &mut Section<'_>, place: &Place, taken: &mut Taken) -> Listener {
        let (is_off, bind) = place.resolve(ListenerTable::read(section).bind, section, taken);
        Listener { is_off, bind }
    }

    fn settings() -> Vec<Setting> {
        ListenerTable::settings()
    }
}

/// Where nothing is to listen.
const OFF: &str = "off";

/// The addresses of the listeners read so far, with their names.
type Taken = Vec<(&'static str, SocketAddr)>;

/// One of the listeners.
struct Place {
    name: &'static str,
    default_port: u16,
    state: State,
    /// It needs a certificate, and there is none.
    lacks_certificate: bool,
}

impl Place {
    /// Whether nothing listens there, and the address.
    fn resolve(&self, text: Option<String>, section: &Section<'_>, taken: &mut Taken) -> (bool, SocketAddr) {
        let is_off = match (self.state, text.as_deref()) {
            (State::Must, _) => false,
            (State::On, text) => text == Some(OFF),
            (State::Off, text) => text.is_none_or(|text| text == OFF),
        };
        if self.state == State::Off && !is_off && self.lacks_certificate {
            section.report("bind", "needs a certificate; set tls.certificate and tls.key");
        }
        let bind = self.address(text.filter(|_| !is_off), section);
        if !is_off && !self.lacks_certificate {
            self.take(bind, section, taken);
        }
        (is_off, bind)
    }

    fn address(&self, text: Option<String>, section: &Section<'_>) -> SocketAddr {
        let default = SocketAddr::from(([127, 0, 0, 1], self.default_port));
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|_| {
            let expected = format!("an address and a port, such as \"{default}\"");
            section.report_unexpected("bind", expected, format!("{text:?}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// No two listen at the same address.
    fn take(&self, bind: SocketAddr, section: &Section<'_>, taken: &mut Taken) {
        if let Some((name, _)) = taken.iter().find(|(_, other)| *other == bind && bind.port() != 0) {
            section.report("bind", format!("{bind} is taken by listeners.{name}.bind; choose another port"));
        }
        taken.push((self.name, bind));
    }

    /// The settings, of which the first is the address.
    fn describe(&self, about: &str, mut settings: Vec<Setting>) -> Vec<Setting> {
        if let Some(bind) = settings.first_mut() {
            bind.default = match self.state {
                State::Must | State::On => format!("\"127.0.0.1:{}\"", self.default_port),
                State::Off => format!("{OFF:?}"),
            };
            bind.description = format!("{} {}", about.trim(), bind.description);
        }
        settings
    }
}

impl Section<'_> {
    /// Networks, or none.
    fn networks(&mut self, key: &'static str) -> Option<Vec<Network>> {
        let texts = self.optional_texts(key)?;
        let mut networks = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(()) => {
                    let expected = "networks such as \"10.0.0.0/8\" or \"2001:db8::/32\", or addresses";
                    self.report_unexpected(key, expected, format!("{text:?}"));
                }
            }
        }
        Some(networks)
    }
}
