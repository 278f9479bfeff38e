//! Which broker is put under load, and by which user: an amqp URL.

use super::{Failure, tls};
use hyper::Uri;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;

/// How a broker is reached over TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    /// The name that the broker's certificate has to have.
    pub(super) name: ServerName<'static>,
}

/// Files for TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TlsFiles<'a> {
    /// A file with the authority that has signed the broker's certificate.
    pub(super) ca_certificate: Option<&'a Path>,
    /// What is shown to a broker that asks, and its key.
    pub(super) identity: Option<(&'a Path, &'a Path)>,
}

impl TlsFiles<'_> {
    fn are_there(&self) -> bool {
        self.ca_certificate.is_some() || self.identity.is_some()
    }
}

/// What a URL comes to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Host and port, as `host:port`.
    pub(super) address: String,
    pub(super) tls: Option<Tls>,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
}

impl Target {
    /// Reads `amqp://user:password@host:port/vhost`; what is missing is as on a fresh broker. No message quotes the URL, since
    /// it may hold a password.
    pub(super) fn parse(url: &str, files: TlsFiles<'_>) -> Result<Target, Failure> {
        let wrong = |what: &str| {
            Failure::Typed(format!(
                "the URL {what}; one looks like amqp://user:password@host:5672/vhost, with %2F for a / in a name"
            ))
        };
        let text = if url.contains("://") { url.to_owned() } else { format!("amqp://{url}") };
        let uri: Uri = text.parse().map_err(|_| wrong("can't be read"))?;
        let speaks_tls = match uri.scheme_str() {
            Some("amqp") if files.are_there() => {
                return Err(wrong("begins with amqp://, and certificates are for amqps://"));
            }
            Some("amqp") => false,
            Some("amqps") => true,
            _ => return Err(wrong("begins with neither amqp:// nor amqps://")),
        };
        if uri.query().is_some() {
            return Err(wrong("has a ? in it"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err(wrong("has a port that is none"));
        }
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| login);
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user), decoded(password)),
            None => ("guest".to_owned(), "guest".to_owned()),
        };
        let vhost = match uri.path().trim_start_matches('/') {
            "" => "/".to_owned(),
            name if name.contains('/') => return Err(wrong("has more than a vhost behind its host")),
            name => decoded(name),
        };
        if vhost.len() > 255 {
            return Err(wrong("has a vhost of more than 255 bytes"));
        }
        let port = authority.port_u16().unwrap_or(if speaks_tls { 5671 } else { 5672 });
        let address = format!("{}:{port}", authority.host());
        let tls = if speaks_tls { Some(tls(authority.host(), files)?) } else { None };
        Ok(Target { address, tls, user, password, vhost })
    }
}

fn tls(host: &str, files: TlsFiles<'_>) -> Result<Tls, Failure> {
    let config = tls::config(files.ca_certificate, files.identity).map_err(Failure::Typed)?;
    let name = tls::server_name(host.trim_matches(['[', ']'])).map_err(Failure::Typed)?;
    Ok(Tls { config, name })
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, Failure> {
        Target::parse(url, TlsFiles::default())
    }

    #[test]
    fn a_url_says_where_and_who() {
        let target = parse("amqp://my%40app:p%2F@broker.example:5673/a%2Fb").unwrap();
        assert_eq!(target.address, "broker.example:5673");
        assert_eq!((target.user.as_str(), target.password.as_str()), ("my@app", "p/"));
        assert_eq!(target.vhost, "a/b");
        for url in ["amqp://localhost", "localhost/", "amqp://localhost:5672/%2F"] {
            let target = parse(url).unwrap();
            assert_eq!((target.address.as_str(), target.vhost.as_str()), ("localhost:5672", "/"), "{url}");
            assert_eq!((target.user.as_str(), target.password.as_str()), ("guest", "guest"));
        }
        assert_eq!(parse("amqp://[::1]").unwrap().address, "[::1]:5672");
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in
            ["amqps://u:secret@h/a/b", "http://u:secret@h", "amqp://u:secret@h:port", "amqp://u:secret@h/a/b"]
        {
            let problem = parse(url).unwrap_err().to_string();
            assert!(problem.contains("one looks like amqp://") && !problem.contains("secret"), "{problem}");
        }
    }
}
