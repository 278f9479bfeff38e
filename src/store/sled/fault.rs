//! Why a database does not open.

use crate::store::exhausted::is_exhaustion;

/// Why a database does not open.
pub(super) enum Fault {
    /// The system refuses: there is nothing wrong with what is in it.
    System(String),
    Damage(String),
}

impl Fault {
    pub(super) fn text(self) -> String {
        match self {
            Fault::System(text) | Fault::Damage(text) => text,
        }
    }
}

/// Whether an error is about the machine and not about the file: nothing is to be salvaged then.
pub(super) fn is_of_system(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    const EIO: i32 = 5;
    is_exhaustion(error)
        || matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
        || error.raw_os_error() == Some(EIO)
}
