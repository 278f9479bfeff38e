//! The log of the process: how it looks, and what is in it, which can be changed while it runs.

mod one_line;

use crate::config::{Log, LogFormat};
use one_line::OneLine;
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// A process has one log, or that of the program that embeds the broker.
static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    filter: Handle<EnvFilter, Registry>,
    level: Mutex<String>,
}

/// Why the level can't be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// It is no level.
    #[error("expected {}", Log::LEVEL_EXPECTED)]
    Invalid,
    /// [`start`] was never called.
    #[error("the log belongs to the program that embeds the broker")]
    NotOurs,
}

/// Starts the log, on standard error. When its reader is gone, lines are lost and the broker goes on.
///
/// # Errors
/// When the process has a log already.
pub fn start(log: &Log) -> Result<(), TryInitError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&log.level));
    // Otherwise the failure to write a line is reported on standard error, which can't be written to either: that would panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).fmt_fields(OneLine).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    CONTROL.get_or_init(|| Control { filter: handle, level: Mutex::new(log.level.clone()) });
    Ok(())
}

/// Makes a panic one line of the log, where an operator looks for faults; with a backtrace behind it, a line for each of its
/// own, when RUST_BACKTRACE asks for that.
/// Nothing is logged where `is_taken`, asked on the thread that panics, says that the panic becomes an error.
pub fn report_panics(is_taken: fn() -> bool) {
    std::panic::set_hook(Box::new(move |panic| {
        if is_taken() {
            return;
        }
        let text = panic.payload_as_str().unwrap_or("without a word");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(
            "thread {} panicked: {text} ({place}). This is a fault of the broker's: please report it",
            thread.name().unwrap_or("without a name")
        );
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            backtrace.to_string().lines().for_each(|line| tracing::error!("{line}"));
        }
    }));
}

/// The level, or levels by target; `None` when the log is not ours.
pub fn level() -> Option<String> {
    CONTROL.get().map(|control| control.level.lock().clone())
}

/// Changes what is logged from now on, until the next start.
///
/// # Errors
/// When that is no level, or the log is not ours.
pub fn set_level(level: &str) -> Result<(), LevelError> {
    let control = CONTROL.get().ok_or(LevelError::NotOurs)?;
    let filter = Log::filter(level).ok_or(LevelError::Invalid)?;
    // One at a time, so that the level that is logged is the one in effect.
    let mut current = control.level.lock();
    control.filter.reload(filter).map_err(|_| LevelError::NotOurs)?;
    level.clone_into(&mut current);
    Ok(())
}
