//! Leveret, a message broker that RabbitMQ's clients use unchanged, as a library.
//!
//! A program that embeds a broker needs three things: a [`config::Config`], the types of exchange that there are
//! ([`broker::exchange::ExchangeTypes`], to which it can add its own), and [`server::Server`], which makes a broker of both:
//!
//! ```
//! use leveret::broker::exchange::ExchangeTypes;
//! use leveret::config::{Config, Engine};
//! use leveret::server::Server;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.store.engine = Engine::Memory; // Nothing outlives the process.
//! config.listeners.amqp.bind = ([127, 0, 0, 1], 0).into(); // The system chooses the port.
//! config.listeners.http.is_off = true;
//! config.listeners.prometheus.is_off = true;
//!
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let server = Server::start(&config, ExchangeTypes::standard()).await?;
//!     println!("clients connect to amqp://guest:guest@{}/%2F", server.address()?);
//!     assert!(server.broker().vhost("/").is_some());
//!
//!     let shutdown = server.shutdown();
//!     let running = tokio::spawn(server.run());
//!     shutdown.begin(); // Connections are closed, and everything is made durable.
//!     running.await??;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Map
//!
//! From the socket down; each module knows only those below it.
//!
//! | Module | What it owns |
//! |---|---|
//! | [`server`] | a whole broker from a configuration: store opened, topology declared, listeners bound |
//! | [`config`] | the file and the variables as one checked `Config` |
//! | [`management`], [`metrics`], [`log`] | the HTTP API, the pages for Prometheus, the log |
//! | [`net`] | sockets, TLS, event loops, the committer's thread, the timer's task, watches on disk and memory |
//! | [`protocol`], [`session`] | the contracts between a listener and a protocol, and between a socket and a session of it |
//! | [`amqp`] | AMQP 0-9-1: frames, methods, connections, channels, confirms |
//! | [`stomp`] | STOMP 1.0 to 1.2: frames, destinations, connections, receipts |
//! | [`stream_protocol`] | RabbitMQ's stream protocol: chunks, offsets, publishing ids |
//! | [`rabbit`] | RabbitMQ's and Erlang's words, which the edges use: texts of refusals, terms, what is unsupported |
//! | [`broker`] | the core: virtual hosts, exchanges, queues, users, policies; synchronous, without I/O, time is an argument |
//! | [`store`] | what durable means: the journal, and the engines below it |
//! | [`message`] | messages, properties, field tables, ids |
//! | [`clock`], [`pattern`], [`files`], [`steps`] | the time; operators' regular expressions; private files; counting work in tests |
//!
//! # The path of a message
//!
//! `net` reads a socket and hands the bytes to a [`session::Session`], [`amqp::Connection`]. It cuts frames, and its channel
//! makes a [`message::Message`] of them and asks [`broker::VirtualHost`] for the queues that its exchange routes it to. At the end of
//! the *turn*, that is of all that came with one read, the messages are appended to the [`store::Journal`] and put into the queues,
//! which give them to consumers' outboxes. The sessions of those are woken and send them. Meanwhile the committer writes the
//! journal to the disk, and then the publisher gets its confirms.
//!
//! ARCHITECTURE.md in the repository has the whole map, and says how to add an exchange type, a queue kind, a protocol or an
//! endpoint.

pub mod amqp;
pub mod api;
pub mod broker;
mod client;
pub mod clock;
pub mod config;
pub mod files;
pub mod log;
pub mod management;
pub mod message;
pub mod metrics;
pub mod net;
pub mod pattern;
pub mod protocol;
pub mod rabbit;
pub mod server;
pub mod session;
pub mod steps;
pub mod stomp;
pub mod store;
pub mod stream_protocol;
pub mod vocabulary;

/// Compiles and runs what the page about embedding shows.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingPage;
