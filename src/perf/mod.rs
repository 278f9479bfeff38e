//! `leveret perf`: publishes and consumes on any broker of AMQP 0-9-1, or over STOMP, and says how fast that went.
//!
//! `options.rs` makes a [`plan::Plan`] of what was typed; `run.rs` carries it out with a task for each connection
//! (`producer.rs`, `consumer.rs`) on what `setup.rs` has made, above a client of few words (`client.rs`, `wire.rs`). `meter.rs` counts, `report.rs` and
//! `chart.rs` show.

mod chart;
mod client;
mod consumer;
mod content;
mod meter;
mod options;
mod outstanding;
mod pace;
mod plan;
mod producer;
mod report;
mod run;
mod setup;
mod sizes;
mod stomp;
pub(crate) mod stream;
mod target;
mod tls;
mod wire;

pub(crate) use options::Perf;

use std::io;
use std::process::ExitCode;

/// Why a run has not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was typed makes no sense.
    #[error("{0}")]
    Typed(String),
    /// No broker answers.
    #[error("no broker answers at {address}: {reason}; is it running, and is --url right?")]
    Unreachable { address: String, reason: String },
    /// What answers is no broker.
    #[error("what answers at {address} does not speak {protocol}: {reason}")]
    Garbled { address: String, protocol: &'static str, reason: String },
    /// The broker can't be trusted, or trusts us not.
    #[error("no TLS with what answers at {address}: {reason}")]
    Tls { address: String, reason: String },
    /// The broker does not let us in.
    #[error("the broker at {address} does not let the user in: {text}")]
    Login { address: String, text: String },
    /// The broker refuses something, in its own words.
    #[error("the broker refused: {code} {text}")]
    Refused { code: u16, text: String },
    /// The same over STOMP.
    #[error("the broker refused: {0}")]
    Error(String),
    /// The connection is gone.
    #[error("the connection to the broker was lost: {0}")]
    Lost(String),
    /// A file can't be written.
    #[error("{what} can't be written: {error}")]
    Output { what: String, error: io::Error },
}

impl Failure {
    /// The exit status, as of the other commands: 2 for wrong options, 3 when no broker answers, 4 when the login fails, otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Typed(_) => 2,
            Failure::Unreachable { .. } | Failure::Garbled { .. } | Failure::Tls { .. } => 3,
            Failure::Login { .. } => 4,
            Failure::Refused { .. } | Failure::Error(_) | Failure::Lost(_) | Failure::Output { .. } => 1,
        }
    }
}

/// Carries out what was typed, and says how it went.
pub(crate) fn run(options: &Perf) -> ExitCode {
    match options.plan().and_then(|plan| run::carry_out(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output { error, .. }) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            crate::terminal::complain(format_args!("leveret: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}
