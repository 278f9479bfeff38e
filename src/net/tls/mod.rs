//! TLS: the certificate files in a form that connections can be accepted with, and read again when they change.

pub mod certificate;
mod reason;
mod stream;

pub(super) use reason::plain_reason;
pub(super) use stream::{SplitTcp, TlsInput, TlsOutput, split};

use super::Shutdown;
use crate::broker::observe::connections::TlsFacts;
use crate::clock::Clock;
use crate::config::{self, ClientCertificates, TlsVersion};
use crate::message::Millis;
use parking_lot::RwLock;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why the files of `[tls]` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: cannot be read: {error}; name a file in tls.{key} that the broker may read", path.display())]
    Unreadable {
        /// The setting that names it.
        key: &'static str,
        /// The file that can't be read.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file does not hold what it is to hold.
    #[error("{}: {problem}; tls.{key} needs {needed}", path.display())]
    Unusable {
        /// The setting that names it.
        key: &'static str,
        /// The file with the wrong content.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What it should be.
        needed: &'static str,
    },
    /// The files do not fit together.
    #[error("{} and {} can't be used together: {problem}", certificate.display(), key.display())]
    Mismatched {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with its key.
        key: PathBuf,
        /// Why they do not fit.
        problem: String,
    },
}

/// What was read from the files.
struct Loaded {
    /// For listeners that ask clients for certificates.
    asking: Arc<ServerConfig>,
    /// For those that do not.
    silent: Arc<ServerConfig>,
    files: Files,
    expires_at_s: Vec<i64>,
    authorities_expire_at_s: Vec<i64>,
    lists_expire_at_s: Vec<i64>,
}

/// The content of the files, to see whether it has changed.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca_certificates: Option<Vec<u8>>,
    revocation_lists: Option<Vec<u8>>,
}

/// When the certificates in a file end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Path of the file, as it was configured.
    pub path: PathBuf,
    /// In seconds since the epoch, in the order of the file.
    pub expires_at_s: Vec<i64>,
}

impl CertificateFile {
    /// When the first of them ends.
    pub fn ends_at_s(&self) -> Option<i64> {
        self.expires_at_s.iter().min().copied()
    }
}

/// A certificate that ends sooner is warned of.
const ENDS_SOON_DAYS: i64 = 30;
const DAY_S: i64 = 86_400;

/// The certificate and key of this broker, which may change while it runs.
pub struct Tls {
    settings: config::Tls,
    current: RwLock<Loaded>,
}

impl Tls {
    /// Reads and checks the files that the settings name.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn load(settings: &config::Tls) -> Result<Tls, TlsError> {
        let loaded = Loaded::from_files(settings, Files::read(settings)?)?;
        Ok(Tls { settings: settings.clone(), current: RwLock::new(loaded) })
    }

    /// Reads the files again, and uses what is in them for connections to come. True when they have changed.
    ///
    /// # Errors
    /// When they can't be used; then nothing changes.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.settings)?;
        if files == self.current.read().files {
            return Ok(false);
        }
        let loaded = Loaded::from_files(&self.settings, files)?;
        *self.current.write() = loaded;
        Ok(true)
    }

    /// As [`Tls::reload`], and says in the log how it went.
    pub fn reload_and_log(&self) {
        match self.reload() {
            Ok(true) => tracing::info!(
                "TLS: new connections get the certificate that is now in {}",
                self.settings.certificate.display()
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::error!("TLS: the old certificate stays in use, the new one can't be: {error}");
            }
        }
    }

    /// Looks at the files now and then until the shutdown begins, and once a day whether the certificate ends soon.
    pub async fn watch(self: Arc<Tls>, clock: Arc<dyn Clock>, shutdown: Shutdown) {
        let is_watched = self.settings.watch_interval_s > 0;
        let mut interval = tokio::time::interval(Duration::from_secs(self.settings.watch_interval_s.max(1)));
        let mut days = tokio::time::interval(Duration::from_secs(DAY_S.unsigned_abs()));
        loop {
            tokio::select! {
                _ = interval.tick(), if is_watched => self.reload_and_log(),
                _ = days.tick() => self.warn_of_end(clock.now()),
                () = shutdown.begun() => return,
            }
        }
    }

    /// Says in the log that the certificate ends soon, if it does.
    fn warn_of_end(&self, now: Millis) {
        for (what, file) in [
            ("the certificate", Some(self.certificate())),
            ("a certificate that clients' are checked with", self.ca_certificates()),
            ("a list of revoked certificates", self.revocation_lists()),
        ] {
            let Some(file) = file else { continue };
            let Some(ends_at_s) = file.ends_at_s() else { continue };
            let left_s = ends_at_s - i64::try_from(now / 1000).unwrap_or(i64::MAX);
            if let Some(when) = ending(left_s) {
                tracing::warn!(
                    "TLS: {what} in {} {when}; a new one there is used without a restart",
                    file.path.display()
                );
            }
        }
    }

    /// The broker's certificate, and those behind it in the file.
    pub fn certificate(&self) -> CertificateFile {
        let expires_at_s = self.current.read().expires_at_s.clone();
        CertificateFile { path: self.settings.certificate.clone(), expires_at_s }
    }

    /// The authorities that clients' certificates are checked with.
    pub fn ca_certificates(&self) -> Option<CertificateFile> {
        let expires_at_s = self.current.read().authorities_expire_at_s.clone();
        Some(CertificateFile { path: self.settings.ca_certificates.clone()?, expires_at_s })
    }

    /// The lists of revoked certificates, which say when the next ones are due.
    fn revocation_lists(&self) -> Option<CertificateFile> {
        let expires_at_s = self.current.read().lists_expire_at_s.clone();
        Some(CertificateFile { path: self.settings.revocation_lists.clone()?, expires_at_s })
    }

    /// Speaks TLS on a socket, and asks for the client's certificate if the settings want one.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<SplitTcp>> {
        let config = self.current.read().asking.clone();
        TlsAcceptor::from(config).accept(stream::split_tcp(stream)).await
    }

    /// Speaks TLS on a socket, and asks for no certificate.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(super) async fn accept_anybody(&self, stream: TcpStream) -> io::Result<TlsStream<SplitTcp>> {
        let config = self.current.read().silent.clone();
        TlsAcceptor::from(config).accept(stream::split_tcp(stream)).await
    }

    /// What there is to know of a connection after its handshake.
    pub(super) fn facts(&self, connection: &ServerConnection) -> TlsFacts {
        let protocol = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "tlsv1.2",
            _ => "tlsv1.3",
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let (key_exchange, cipher) = suite_parts(suite.unwrap_or_default());
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        TlsFacts {
            protocol: protocol.to_owned(),
            key_exchange,
            cipher,
            // All suites that are spoken here check integrity within the cipher.
            hash: "aead".to_owned(),
            peer_certificate: certificate.and_then(|der| certificate::read(der, self.settings.login_from)),
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// When something ends, if that is soon.
fn ending(left_s: i64) -> Option<String> {
    match left_s.div_euclid(DAY_S) {
        ..=-1 => Some("has ended".to_owned()),
        0 => Some("ends within a day".to_owned()),
        days @ 1..ENDS_SOON_DAYS => Some(format!("ends in {days} days")),
        _ => None,
    }
}

/// Key exchange and cipher of a suite's name, as Erlang calls them.
fn suite_parts(suite: &str) -> (String, String) {
    let (key_exchange, rest) = match suite.strip_prefix("TLS13_") {
        Some(rest) => ("any", rest),
        None => suite.strip_prefix("TLS_").and_then(|rest| rest.split_once("_WITH_")).unwrap_or_default(),
    };
    let cipher = rest.rsplit_once("_SHA").map_or(rest, |(cipher, _)| cipher);
    (key_exchange.to_lowercase(), cipher.to_lowercase())
}

impl Files {
    fn read(settings: &config::Tls) -> Result<Files, TlsError> {
        let read = |key, path: &Path| {
            let mut bytes = Vec::new();
            let read =
                fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
            read.map_err(|error| TlsError::Unreadable { key, path: path.to_owned(), error })?;
            if bytes.len() as u64 > FILE_BYTES_MAX {
                let problem = format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20);
                return Err(unusable(key, path, problem, "a file in PEM"));
            }
            Ok(bytes)
        };
        let ca = settings.ca_certificates.as_deref();
        let lists = settings.revocation_lists.as_deref();
        Ok(Files {
            certificate: read("certificate", &settings.certificate)?,
            key: read("key", &settings.key)?,
            ca_certificates: ca.map(|path| read("ca_certificates", path)).transpose()?,
            revocation_lists: lists.map(|path| read("revocation_lists", path)).transpose()?,
        })
    }
}

impl Loaded {
    fn from_files(settings: &config::Tls, files: Files) -> Result<Loaded, TlsError> {
        let chain = certificates("certificate", &settings.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| {
            unusable("key", &settings.key, key_problem(&error, &files.key), "a private key in PEM")
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: Vec<&'static SupportedProtocolVersion> =
            settings.versions.iter().map(|version| supported(*version)).collect();
        let config = |verifier: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>| {
            let builder = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&versions)
                .expect("ring has suites for both versions");
            let builder = match verifier {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            };
            let config = builder.with_single_cert(chain.clone(), key.clone_key());
            config.map(Arc::new).map_err(|error| TlsError::Mismatched {
                certificate: settings.certificate.clone(),
                key: settings.key.clone(),
                problem: plain(&error),
            })
        };
        let lists = match (&settings.revocation_lists, &files.revocation_lists) {
            (Some(path), Some(pem)) => revocation_lists(path, pem)?,
            _ => Vec::new(),
        };
        let lists_expire_at_s =
            lists.iter().filter_map(|list| certificate::list_expires_at_s(list.as_ref())).collect();
        let silent = config(None)?;
        let asking = match (settings.client_certificates, &settings.ca_certificates, &files.ca_certificates) {
            (ClientCertificates::None, ..) | (_, None, _) | (.., None) => silent.clone(),
            (asked, Some(path), Some(authorities)) => {
                config(Some(verifier(asked, path, authorities, lists, settings, &provider)?))?
            }
        };
        let ends = |chain: &[CertificateDer<'_>]| {
            chain.iter().filter_map(|der| certificate::expires_at_s(der)).collect()
        };
        let authorities = match (&settings.ca_certificates, &files.ca_certificates) {
            (Some(path), Some(pem)) => certificates("ca_certificates", path, pem)?,
            _ => Vec::new(),
        };
        let (expires_at_s, authorities_expire_at_s) = (ends(&chain), ends(&authorities));
        Ok(Loaded { asking, silent, files, expires_at_s, authorities_expire_at_s, lists_expire_at_s })
    }
}

fn supported(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::V1_2 => &version::TLS12,
        TlsVersion::V1_3 => &version::TLS13,
    }
}

/// Checks clients' certificates with the authorities, and that they are on no list.
fn verifier(
    asked: ClientCertificates,
    path: &Path,
    authorities: &[u8],
    lists: Vec<CertificateRevocationListDer<'static>>,
    settings: &config::Tls,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    const KEY: &str = "ca_certificates";
    let mut roots = RootCertStore::empty();
    for authority in certificates(KEY, path, authorities)? {
        roots.add(authority).map_err(|error| unusable(KEY, path, plain(&error), CERTIFICATES))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).with_crls(lists);
    let builder = match asked {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map_err(|error| match (&error, &settings.revocation_lists) {
        (VerifierBuilderError::InvalidCrl(_), Some(path)) => {
            unusable("revocation_lists", path, error.to_string(), LISTS)
        }
        _ => unusable(KEY, path, error.to_string(), CERTIFICATES),
    })
}

const LISTS: &str = "one or more lists of revoked certificates in PEM (X509 CRL)";

fn revocation_lists(path: &Path, pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const KEY: &str = "revocation_lists";
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|error| unusable(KEY, path, pem_problem(&error), LISTS))?;
    if lists.is_empty() {
        return Err(unusable(KEY, path, "it holds no list of revoked certificates".to_owned(), LISTS));
    }
    Ok(lists)
}

/// What stands in the file of a key that is encrypted.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Bytes of a file of certificates or of a key; some files never end.
const FILE_BYTES_MAX: u64 = 16 << 20;

const CERTIFICATES: &str = "one or more certificates in PEM";

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| unusable(key, path, pem_problem(&error), CERTIFICATES))?;
    if chain.is_empty() {
        return Err(unusable(key, path, "it holds no certificate".to_owned(), CERTIFICATES));
    }
    Ok(chain)
}

/// What the library says; where that is a name of its own, what it means.
fn plain(error: &rustls::Error) -> String {
    match error.to_string() {
        text if text.contains("UnsupportedCertVersion") => {
            "a certificate is of X.509 version 1, and TLS needs version 3 (openssl x509 -req makes one with -extfile)".to_owned()
        }
        text => text,
    }
}

/// What is wrong with a key's file. None of it is quoted.
fn key_problem(error: &pem::Error, file: &[u8]) -> String {
    if file.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        return "the key is encrypted, and nobody is there to ask for its password; openssl pkey -in FILE -out NEW writes it \
                without one"
            .to_owned();
    }
    match error {
        pem::Error::NoItemsFound => "it holds no private key".to_owned(),
        _ => pem_problem(error),
    }
}

/// The error's own text may quote the file, and a key stays out of every log.
fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds no certificate".to_owned(),
        _ => "it is not PEM as it should be".to_owned(),
    }
}

fn unusable(key: &'static str, path: &Path, problem: String, needed: &'static str) -> TlsError {
    TlsError::Unusable { key, path: path.to_owned(), problem, needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_a_month_ends_soon() {
        let soon = [-1, 0, DAY_S, 30 * DAY_S - 1, 30 * DAY_S].map(ending);
        let soon = soon.map(Option::unwrap_or_default);
        assert_eq!(soon, ["has ended", "ends within a day", "ends in 1 days", "ends in 29 days", ""]);
    }

    #[test]
    fn suites_are_named_as_erlang_does() {
        let parts = |suite| {
            let (key_exchange, cipher) = suite_parts(suite);
            format!("{key_exchange} {cipher}")
        };
        assert_eq!(parts("TLS13_AES_256_GCM_SHA384"), "any aes_256_gcm");
        assert_eq!(parts("TLS13_CHACHA20_POLY1305_SHA256"), "any chacha20_poly1305");
        assert_eq!(parts("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "ecdhe_rsa aes_128_gcm");
    }
}
