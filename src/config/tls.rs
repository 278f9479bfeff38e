//! `[tls]`: the certificate of the listeners that speak TLS, and what is asked of clients there.

use std::path::PathBuf;

use super::section::Section;

/// Longest time between two looks at the files, a day.
const WATCH_INTERVAL_CAP_S: u64 = 86_400;

/// The table `[tls]`. Without `certificate` the listeners that speak TLS are off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `certificate`: the broker's certificate in PEM, and behind it those that lead to its authority.
    pub certificate: PathBuf,
    /// `key`: the private key of the certificate in PEM, without a passphrase.
    pub key: PathBuf,
    /// `ca_certificates`: the authorities in PEM that clients' certificates are checked with.
    pub ca_certificates: Option<PathBuf>,
    /// `revocation_lists`: lists of certificates that these authorities have revoked, in PEM.
    pub revocation_lists: Option<PathBuf>,
    /// `client_certificates`: whether a client shows one on `listeners.amqps`. Default `none`.
    pub client_certificates: ClientCertificates,
    /// `versions`: what is spoken. Default both.
    pub versions: Vec<TlsVersion>,
    /// `login_from`: what of a client's certificate is the name of its user, for SASL EXTERNAL. Default
    /// `distinguished_name`.
    pub login_from: LoginFrom,
    /// `watch_interval_s`: seconds between two looks whether the files have changed; 0 looks only on SIGHUP. Default 60.
    pub watch_interval_s: u64,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// `none`: they are not asked.
    None,
    /// `optional`: they are asked, and one that is shown has to be good.
    Optional,
    /// `required`: without a good one there is no connection.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// `1.2`
    V1_2,
    /// `1.3`
    V1_3,
}

/// Where the name of a user stands in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFrom {
    /// `distinguished_name`: all of the subject, such as `CN=worker,O=Shop`.
    DistinguishedName,
    /// `common_name`: the subject's common name; several are joined with commas.
    CommonName,
    /// `subject_alternative_name`: an alternative name of the type `login_san_type` (default `dns`), the one with the
    /// index `login_san_index` (default 0) among those of its type.
    SubjectAlternativeName(SanType, usize),
}

/// A type of alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanType {
    /// `dns`
    Dns,
    /// `email`
    Email,
    /// `ip`
    Ip,
    /// `uri`
    Uri,
}

impl Tls {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Tls> {
        let certificate = section.text("certificate");
        let key = section.text("key");
        let tls = Tls {
            certificate: PathBuf::from(certificate.as_deref().unwrap_or_default()),
            key: PathBuf::from(key.unwrap_or_default()),
            ca_certificates: section.text("ca_certificates").map(PathBuf::from),
            revocation_lists: section.text("revocation_lists").map(PathBuf::from),
            client_certificates: read_client_certificates(section),
            versions: read_versions(section),
            login_from: read_login_from(section),
            watch_interval_s: section.whole("watch_interval_s", 0..=WATCH_INTERVAL_CAP_S, 60),
        };
        if certificate.is_some() && !section.has("key") {
            section.report_missing("key", "the file with the certificate's private key");
        }
        if certificate.is_none() && (section.has("key") || section.has("ca_certificates")) {
            section.report_missing("certificate", "the file with the broker's certificate");
        }
        let asks = tls.client_certificates != ClientCertificates::None;
        if certificate.is_some() && asks && !section.has("ca_certificates") {
            let expected = "the file with the authorities that clients' certificates are checked with";
            section.report_missing("ca_certificates", expected);
        }
        certificate.map(|_| tls)
    }
}

fn read_client_certificates(section: &mut Section<'_>) -> ClientCertificates {
    let choices = [
        ("none", ClientCertificates::None),
        ("optional", ClientCertificates::Optional),
        ("required", ClientCertificates::Required),
    ];
    section.choice("client_certificates", &choices).unwrap_or(ClientCertificates::None)
}

fn read_versions(section: &mut Section<'_>) -> Vec<TlsVersion> {
    let both = vec![TlsVersion::V1_2, TlsVersion::V1_3];
    if !section.has("versions") {
        section.texts("versions");
        return both;
    }
    let texts = section.texts("versions");
    let versions: Option<Vec<_>> = texts
        .iter()
        .map(|text| match text.as_str() {
            "1.2" => Some(TlsVersion::V1_2),
            "1.3" => Some(TlsVersion::V1_3),
            _ => None,
        })
        .collect();
    versions.filter(|versions| !versions.is_empty()).unwrap_or_else(|| {
        section.report_unexpected("versions", "a list with \"1.2\", \"1.3\" or both", format!("{texts:?}"));
        both
    })
}

fn read_login_from(section: &mut Section<'_>) -> LoginFrom {
    let types =
        [("dns", SanType::Dns), ("email", SanType::Email), ("ip", SanType::Ip), ("uri", SanType::Uri)];
    let sources = [
        ("distinguished_name", LoginFrom::DistinguishedName),
        ("common_name", LoginFrom::CommonName),
        ("subject_alternative_name", LoginFrom::SubjectAlternativeName(SanType::Dns, 0)),
    ];
    let source = section.choice("login_from", &sources).unwrap_or(LoginFrom::DistinguishedName);
    let san_type = section.choice("login_san_type", &types).unwrap_or(SanType::Dns);
    let index = section.whole("login_san_index", 0..=255_u8, 0);
    match source {
        LoginFrom::SubjectAlternativeName(..) => LoginFrom::SubjectAlternativeName(san_type, index.into()),
        other => other,
    }
}
