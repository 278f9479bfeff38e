//! Why a handshake of TLS failed, with what that means.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// What the library says, and behind it what an operator can do something with.
pub(in crate::net) fn plain_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).and_then(meaning) {
        Some(meaning) => format!("{error}: {meaning}"),
        None => error.to_string(),
    }
}

fn meaning(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoCertificatesPresented => "tls.client_certificates wants the client to show one",
        Error::InvalidCertificate(why) => meaning_of_certificate(why)?,
        Error::AlertReceived(AlertDescription::UnknownCA) => {
            "the client does not trust who has signed tls.certificate"
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "the client does not take tls.certificate",
        Error::InvalidMessage(_) => "the client does not speak TLS; is it meant for another port?",
        _ => return None,
    })
}

fn meaning_of_certificate(error: &CertificateError) -> Option<&'static str> {
    Some(match error {
        CertificateError::UnknownIssuer => {
            "none of those in tls.ca_certificates has signed the client's certificate"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the client needs a certificate that is still good"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the client's certificate is for later, or a clock is wrong"
        }
        CertificateError::Revoked => "the client's certificate is in tls.revocation_lists",
        CertificateError::UnknownRevocationStatus => {
            "tls.revocation_lists has no list of the authority that has signed the client's certificate"
        }
        // The library behind it has names for these, and no type that can be reached from here.
        CertificateError::Other(other) => match format!("{other:?}") {
            text if text.contains("UnsupportedCertVersion") => {
                "the client's certificate is older than X.509 version 3"
            }
            text if text.contains("CaUsedAsEndEntity") => "the client's certificate is that of an authority",
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_explained() {
        let told = |error: Error| plain_reason(&io::Error::other(error));
        assert_eq!(
            told(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "invalid peer certificate: UnknownIssuer: none of those in tls.ca_certificates has signed the client's certificate"
        );
        assert!(
            told(Error::InvalidCertificate(CertificateError::Revoked)).ends_with("in tls.revocation_lists")
        );
        assert!(
            told(Error::AlertReceived(AlertDescription::UnknownCA))
                .ends_with("who has signed tls.certificate")
        );
        assert_eq!(told(Error::General("odd".to_owned())), "unexpected error: odd");
        assert_eq!(plain_reason(&io::Error::other("gone")), "gone");
    }
}
