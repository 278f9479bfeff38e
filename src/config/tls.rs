//! `[tls]`: the certificate of the listeners that speak TLS, and what is asked of clients there.

use std::path::PathBuf;

use super::section::Section;
use super::table::{Shown, settings, word};

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

settings! {
    /// The table `[tls]`, as it is written.
    TlsSettings {
        /// The broker's certificate in PEM, and behind it those that lead to its authority. Without it the listeners that speak TLS are
        /// off.
        certificate: Option<PathBuf> = None, perhaps_path();
        /// The private key of the certificate in PEM, without a passphrase.
        key: Option<PathBuf> = None, perhaps_path();
        /// The authorities in PEM that clients' certificates are checked with.
        ca_certificates: Option<PathBuf> = None, perhaps_path();
        /// Lists of certificates that these authorities have revoked, in PEM.
        revocation_lists: Option<PathBuf> = None, perhaps_path();
        /// Whether clients of `listeners.amqps` are not asked for a certificate, may show one, or have to.
        client_certificates: ClientCertificates = ClientCertificates::None, choice(ClientCertificates::CHOICES);
        /// What is spoken: a list with `"1.2"`, `"1.3"` or both.
        versions: Vec<TlsVersion> = vec![TlsVersion::V1_2, TlsVersion::V1_3], tls_versions();
        /// What of a client's certificate is the name of its user, for SASL EXTERNAL: all of its subject, the subject's common name, or
        /// an alternative name.
        login_from: LoginFrom = LoginFrom::DistinguishedName, choice(LoginFrom::CHOICES);
        /// The type of that alternative name.
        login_san_type: SanType = SanType::Dns, choice(SanType::CHOICES);
        /// Which one it is among those of its type.
        login_san_index: u8 = 0, optional_whole(0..=u8::MAX);
        /// Seconds between two looks whether the files have changed; 0 looks only on SIGHUP.
        watch_interval_s: u64 = 60, optional_whole(0..=WATCH_INTERVAL_CAP_S);
    }
}

macro_rules! choices {
    ($($kind:ident: $($word:literal => $value:expr),+;)+) => {
        $(
            impl $kind {
                const CHOICES: &[(&str, $kind)] = &[$(($word, $value)),+];
            }

            impl Shown for $kind {
                fn shown(&self) -> String {
                    word($kind::CHOICES, self)
                }
            }
        )+
    };
}

choices! {
    ClientCertificates: "none" => ClientCertificates::None, "optional" => ClientCertificates::Optional,
        "required" => ClientCertificates::Required;
    TlsVersion: "1.2" => TlsVersion::V1_2, "1.3" => TlsVersion::V1_3;
    LoginFrom: "distinguished_name" => LoginFrom::DistinguishedName, "common_name" => LoginFrom::CommonName,
        "subject_alternative_name" => LoginFrom::SubjectAlternativeName(SanType::Dns, 0);
    SanType: "dns" => SanType::Dns, "email" => SanType::Email, "ip" => SanType::Ip, "uri" => SanType::Uri;
}

impl Tls {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Tls> {
        let settings = TlsSettings::read(section);
        if settings.certificate.is_some() && !section.has("key") {
            section.report_missing("key", "the file with the certificate's private key");
        }
        if settings.certificate.is_none() && (section.has("key") || section.has("ca_certificates")) {
            section.report_missing("certificate", "the file with the broker's certificate");
        }
        let asks = settings.client_certificates != ClientCertificates::None;
        if settings.certificate.is_some() && asks && !section.has("ca_certificates") {
            let expected = "the file with the authorities that clients' certificates are checked with";
            section.report_missing("ca_certificates", expected);
        }
        Some(Tls {
            certificate: settings.certificate?,
            key: settings.key.unwrap_or_default(),
            ca_certificates: settings.ca_certificates,
            revocation_lists: settings.revocation_lists,
            client_certificates: settings.client_certificates,
            versions: settings.versions,
            login_from: match settings.login_from {
                LoginFrom::SubjectAlternativeName(..) => LoginFrom::SubjectAlternativeName(
                    settings.login_san_type,
                    settings.login_san_index.into(),
                ),
                other => other,
            },
            watch_interval_s: settings.watch_interval_s,
        })
    }
}

impl Section<'_> {
    /// Versions of TLS, or none.
    fn tls_versions(&mut self, key: &'static str) -> Option<Vec<TlsVersion>> {
        let texts = self.optional_texts(key)?;
        let version = |text: &String| {
            TlsVersion::CHOICES.iter().find(|(word, _)| word == text).map(|(_, version)| *version)
        };
        let versions: Option<Vec<_>> = texts.iter().map(version).collect();
        let versions = versions.filter(|versions| !versions.is_empty());
        if versions.is_none() {
            self.report_unexpected(key, "a list with \"1.2\", \"1.3\" or both", format!("{texts:?}"));
        }
        versions
    }
}
