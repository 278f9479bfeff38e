//! The `leveret` command: reads the configuration, starts a broker, stops it on a signal.

mod cli;
mod command_line;
mod notify;
#[cfg(feature = "perf")]
mod perf;
mod serve;
mod terminal;
mod trust;

use std::process::ExitCode;
// Linked for its malloc, which takes the place of the system's: see docs/dependencies.md.
use tikv_jemallocator as _;

fn main() -> ExitCode {
    command_line::run()
}
