//! Cases in raw AMQP 0-9-1 frames, and what runs them against a broker.
//!
//! A case is a text file (`cases/SECTION/NAME.case`): what a client sends, and exactly what must come back. [`Case::parse`]
//! reads one, [`run()`] plays it over a [`Transport`]: TCP in this crate's binary, an in-memory broker with a fake clock in
//! the broker's own tests. The language of cases is described in `conformance/README.md`.
//!
//! The path of a line: [`text`] cuts it into words and values, [`case`] makes a step of it, [`mod@run`] plays the step,
//! [`frame`], [`method`] and [`field`] are the wire format, [`matching`] compares what came with what was expected.

pub mod case;
pub mod diff;
pub mod differences;
pub mod field;
pub mod frame;
pub mod library;
pub mod matching;
pub mod method;
pub mod mutate;
pub mod names;
pub mod record;
pub mod report;
pub mod run;
pub mod show;
pub mod stomp;
pub mod stream;
pub mod suite;
pub mod text;
pub mod transport;
pub mod url;

pub use case::{Broker, Case};
pub use run::{Failure, Options, Outcome, run};
pub use transport::{Arrived, ConnectionId, Management, TcpTransport, Transport};
