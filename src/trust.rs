//! Which certificates a client trusts, over TLS.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt::Display;
use std::path::Path;

/// The certificates of the authorities that are trusted.
pub(crate) fn authorities(ca_certificate: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = match ca_certificate {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("{} can't be used: {error}", path.display()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() {
        return Err("there is no certificate to trust; --ca-certificate names one".to_owned());
    }
    Ok(found)
}

/// Why there is no trust.
pub(crate) fn plain_reason(error: &dyn Display) -> String {
    let text = error.to_string();
    if text.contains("UnsupportedCertVersion") {
        return format!("{text}: its certificate is of X.509 version 1, and TLS needs version 3");
    }
    if text.contains("UnknownIssuer") {
        return format!(
            "{text}: its certificate is not signed by a trusted authority; --ca-certificate names one"
        );
    }
    text
}
