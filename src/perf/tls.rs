//! The TLS of the connections that load a broker.

use crate::trust::authorities;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// How TLS connections are made, to brokers whose certificate `ca_certificate` has signed, or an authority of the system.
/// A broker that asks is shown `identity`, a certificate and its key.
pub(super) fn config(
    ca_certificate: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, String> {
    let unusable = |path: &Path, reason: &dyn Display| format!("{} can't be used: {reason}", path.display());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca_certificate)?);
    let Some((certificate, key)) = identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, &error))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let config =
        builder.with_client_auth_cert(chain, key_der).map_err(|error| unusable(certificate, &error))?;
    Ok(Arc::new(config))
}

/// The authorities that are trusted, as a store of them.
fn roots(ca_certificate: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities(ca_certificate)? {
        match (roots.add(authority), ca_certificate) {
            (Err(error), Some(path)) => return Err(format!("{} can't be used: {error}", path.display())),
            // Of the system's some may be of a form that TLS has no use for.
            (Err(_), None) | (Ok(()), _) => {}
        }
    }
    Ok(roots)
}

/// What has to be in the broker's certificate.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())
}
