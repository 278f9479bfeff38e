//! What a command prints. The reader may be gone (`| head`), or never have been there: then nothing is printed, and
//! the command goes on, the broker above all. `println!` would panic.

use std::fmt::Display;
use std::io::{self, Write};

/// Says a line on standard output.
pub(crate) fn say(line: impl Display) {
    // Without a reader there is nothing to do.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says a line on standard error.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
