//! Which broker a command talks to, and as which user: options, variables, and the defaults.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hyper::Uri;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::time::Duration;

/// The user of a fresh broker, with its name as password.
const GUEST: &str = "guest";

/// How a broker is reached. The ids are long, since what a command calls its own arguments must not be one of them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The broker")]
pub(crate) struct Connect {
    /// Where its management API is; user and password may stand in it
    #[arg(id = "broker_url", long = "url", global = true, env = "LEVERET_URL", value_name = "URL")]
    #[arg(default_value = "http://127.0.0.1:15672", hide_env_values = true)]
    pub(crate) url: String,
    /// The user to log in as [default: the URL's user, or guest]
    #[arg(id = "login_user", long = "user", global = true, env = "LEVERET_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// That user's password; the variable keeps it out of the list of processes [default: the URL's, or guest]
    #[arg(
        id = "login_password",
        long = "password",
        global = true,
        env = "LEVERET_PASSWORD",
        value_name = "TEXT"
    )]
    #[arg(hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// For https: trusts certificates that this one (PEM) has signed, and no others [default: those that the system trusts]
    #[arg(long, global = true, env = "LEVERET_CA_CERTIFICATE", value_name = "FILE")]
    pub(crate) ca_certificate: Option<PathBuf>,
    /// How many seconds a request may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) patience: u64,
}

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// What the options come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    password: String,
    pub(super) ca_certificate: Option<PathBuf>,
    pub(super) patience: Duration,
}

impl Connect {
    /// What the options come to, or what is wrong with them.
    pub(super) fn target(&self) -> Result<Target, String> {
        // The URL may hold a password, so no message quotes it.
        let wrong = |what: &str| format!("the URL {what}; one looks like http://user:password@host:15672");
        let text = if self.url.contains("://") { self.url.clone() } else { format!("http://{}", self.url) };
        let url: Uri = text.parse().map_err(|_| wrong("can't be read"))?;
        let (scheme, default_port) = match url.scheme_str() {
            Some("http") => (Scheme::Http, 15672),
            Some("https") => (Scheme::Https, 15671),
            Some("amqp" | "amqps") => return Err(wrong("is that of AMQP, and commands use HTTP")),
            _ => return Err(wrong("is neither http nor https")),
        };
        if !matches!(url.path(), "" | "/" | "/api" | "/api/") || url.query().is_some() {
            return Err(wrong("has something behind its host"));
        }
        let authority = url.authority().ok_or_else(|| wrong("has no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err(wrong("has a port that is none"));
        }
        let (user, password) = match authority.as_str().rsplit_once('@') {
            None => (None, None),
            Some((login, _)) => match login.split_once(':') {
                None => (Some(decoded(login)), None),
                Some((user, password)) => (Some(decoded(user)), Some(decoded(password))),
            },
        };
        Ok(Target {
            scheme,
            host,
            port: authority.port_u16().unwrap_or(default_port),
            user: self.user.clone().or(user).unwrap_or_else(|| GUEST.to_owned()),
            password: self.password.clone().or(password).unwrap_or_else(|| GUEST.to_owned()),
            ca_certificate: self.ca_certificate.clone(),
            patience: Duration::from_secs(self.patience.max(1)),
        })
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl Target {
    /// Host and port, as HTTP and URLs write them.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The URL without user and password.
    pub(super) fn url(&self) -> String {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        format!("{scheme}://{}", self.authority())
    }

    /// The login, as the header `Authorization` has it.
    pub(super) fn authorization(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(url: &str) -> Connect {
        Connect { url: url.to_owned(), user: None, password: None, ca_certificate: None, patience: 5 }
    }

    #[test]
    fn a_url_says_where_and_who() {
        let target = connect("https://my%40app:p%3A%2F@broker.example").target().unwrap();
        assert_eq!((target.url().as_str(), target.user.as_str()), ("https://broker.example:15671", "my@app"));
        assert_eq!(target.password, "p:/");
        let target = connect("[::1]:8080").target().unwrap();
        assert_eq!((target.url().as_str(), target.host.as_str()), ("http://[::1]:8080", "::1"));
        assert_eq!(target.authorization(), "Basic Z3Vlc3Q6Z3Vlc3Q=");
    }

    #[test]
    fn an_option_counts_before_the_url() {
        let options =
            Connect { user: Some("b".into()), password: Some("q".into()), ..connect("http://a:p@h") };
        let target = options.target().unwrap();
        assert_eq!((target.user.as_str(), target.password.as_str()), ("b", "q"));
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in
            ["amqp://u:secret@h", "ftp://u:secret@h", "http://u:secret@h/path", "http://u:secret@h:port"]
        {
            let problem = connect(url).target().unwrap_err();
            assert!(
                problem.contains("http://user:password@host:15672") && !problem.contains("secret"),
                "{problem}"
            );
        }
    }
}
