//! Why a broker does not start, in words for the operator: where, which setting, what would be right.

use crate::broker::error::BrokerError;
use crate::config::Location;
use crate::management::definitions::LoadError;
use crate::net::tls::TlsError;
use crate::store::StoreError;
use std::io;
use std::net::SocketAddr;

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// What the store holds can't be restored.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// The definitions that the configuration names can't be imported.
    #[error("load_definitions: {0}")]
    Definitions(LoadError),
    /// Things that the configuration declares can't be.
    #[error("{}", lines(.0))]
    Declarations(Vec<DeclarationError>),
    /// A listener's address can't be had.
    #[error(
        "can't listen on {address}: {error}; set another address with {key} in the file, or with the variable {}",
        variable(key)
    )]
    Listen {
        /// The setting that names it.
        key: &'static str,
        /// The address that can't be bound.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate can't be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Something in the configuration that can't be declared.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", location.as_ref().map(|at| format!("{at}: ")).unwrap_or_default())]
pub struct DeclarationError {
    /// The file and line that declare it.
    pub location: Option<Location>,
    /// Why it can't be declared.
    pub error: BrokerError,
}

fn lines(errors: &[DeclarationError]) -> String {
    errors.iter().map(DeclarationError::to_string).collect::<Vec<_>>().join("\n")
}

/// The variable that sets a setting.
fn variable(key: &str) -> String {
    format!("LEVERET__{}", key.to_uppercase().replace('.', "__"))
}
