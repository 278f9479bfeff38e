//! Commands that talk to a running broker, over its management API.

mod apply;
mod client;
mod ctl;
mod definitions;
mod output;
mod path;
mod plain;
mod rabbitmqctl;
mod secret;
mod target;
mod vhosts;

pub(crate) use apply::Apply;
pub(crate) use ctl::Ctl;
pub(crate) use definitions::Definitions;
pub(crate) use rabbitmqctl::Tool;

use client::ClientError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// What the process says when it ends, apart from 0 for success and 2 for a command that can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The broker refuses, or what is named is not there.
    Refused = 1,
    /// No broker answers.
    Unreachable = 3,
    /// The login fails, or the user may not.
    Forbidden = 4,
}

/// Why a command has not done what it was to do: what was to be done, and what happened.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The broker was asked, or should have been.
    #[error("{what}: {error}")]
    Asking {
        what: String,
        #[source]
        error: ClientError,
    },
    /// What was typed makes no sense.
    #[error("{0}")]
    Typed(String),
    /// What is looked for is not as it should be.
    #[error("{0}")]
    State(String),
    /// What is asked over AMQP has failed.
    #[cfg(feature = "perf")]
    #[error("{0}")]
    Reading(crate::perf::Failure),
    /// What there is to say can't be written.
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Asking { error, .. } => match error {
                ClientError::Options(_) => 2,
                ClientError::Unreachable { .. } | ClientError::Garbled { .. } => Exit::Unreachable as u8,
                ClientError::Login { .. } | ClientError::Forbidden { .. } => Exit::Forbidden as u8,
                ClientError::NotFound(_) | ClientError::Refused { .. } => Exit::Refused as u8,
            },
            Failure::Typed(_) => 2,
            #[cfg(feature = "perf")]
            Failure::Reading(failure) => failure.exit_code(),
            Failure::State(_) | Failure::Output(_) => Exit::Refused as u8,
        }
    }
}

#[cfg(feature = "perf")]
impl From<crate::perf::Failure> for Failure {
    fn from(failure: crate::perf::Failure) -> Failure {
        match failure {
            crate::perf::Failure::Output { error, .. } => Failure::Output(error),
            failure => Failure::Reading(failure),
        }
    }
}

/// Says what an error was about.
trait About<T> {
    /// `what` is the sentence that the error completes: `queue 'q' in vhost '/' was not deleted`.
    fn about(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> About<T> for Result<T, ClientError> {
    fn about(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = match error {
                ClientError::Refused { status, reason } => {
                    ClientError::Refused { status, reason: plain::plain(&reason) }
                }
                ClientError::NotFound(reason) => ClientError::NotFound(plain::plain(&reason)),
                other => other,
            };
            Failure::Asking { what: what(), error }
        })
    }
}

/// Runs a command of [`Ctl`].
pub(crate) fn run_ctl(command: &Ctl) -> ExitCode {
    end(|out| ctl::run(command, out))
}

/// Runs a command of [`Definitions`].
pub(crate) fn run_definitions(command: &Definitions) -> ExitCode {
    end(|out| definitions::run(command, out))
}

/// Runs [`Apply`].
pub(crate) fn run_apply(command: &Apply) -> ExitCode {
    end(|out| apply::run(command, out))
}

/// Runs a command, and says what went wrong.
fn end(command: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = command(&mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has read enough closes the pipe.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            crate::terminal::complain(format_args!("leveret: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command of RabbitMQ's by whose name the binary was called, through a link.
pub(crate) fn tool_called(program: Option<&OsString>) -> Option<Tool> {
    Tool::by_name(program.map(Path::new).and_then(Path::file_name)?.to_str()?)
}

/// Does what that command of RabbitMQ's does with these arguments.
pub(crate) fn run_tool(tool: Tool, arguments: &[String]) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut errors = io::stderr().lock();
    ExitCode::from(rabbitmqctl::run(tool, arguments, &mut out, &mut errors))
}
