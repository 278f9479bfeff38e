//! Asks the management API: a request, its answer, and every way in which that can fail, in words for the user of the command.

use super::target::{Connect, Scheme, Target};
use crate::trust;
use leveret::api::{self, Form, written};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WARNING};
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Why something was not answered as it should have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// What was typed leads nowhere.
    #[error("{0}")]
    Options(String),
    /// No broker answers.
    #[error(
        "no broker answers at {url}: {reason}\n\
         Is it running, and is its management API there? --url or LEVERET_URL name another one."
    )]
    Unreachable {
        /// Where it was asked for.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// Name and password do not go together.
    #[error(
        "the login of user '{user}' at {url} failed\n\
         --user and --password say who asks, or LEVERET_USER and LEVERET_PASSWORD."
    )]
    Login {
        /// The user who asked.
        user: String,
        /// The API's URL.
        url: String,
    },
    /// The user may not.
    #[error("user '{user}' may not do that: {reason}\n{hint}")]
    Forbidden {
        /// The user who asked.
        user: String,
        /// What the broker says.
        reason: String,
        /// What the user lacks.
        hint: &'static str,
    },
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// The broker does not want to.
    #[error("{reason}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What the broker says.
        reason: String,
    },
    /// What was answered makes no sense.
    #[error("{url} answers, but not as the management API does: {reason}")]
    Garbled {
        /// The URL that answered.
        url: String,
        /// What the answer says.
        reason: String,
    },
}

/// What became of something that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was not there before.
    Created,
    /// It was there, and is now as it was put.
    Updated,
}

/// A client of the management API of one broker. It keeps connections open between requests.
pub(crate) struct Client {
    agent: Agent,
    target: Target,
}

/// How long connecting to a port may take.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

impl Client {
    /// A client that has not asked anything yet.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub(crate) fn new(options: &Connect) -> Result<Client, ClientError> {
        let target = options.target().map_err(ClientError::Options)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(target.patience));
        if target.scheme == Scheme::Https {
            config = config.tls_config(tls(&target)?);
        }
        Ok(Client { agent: config.build().new_agent(), target })
    }

    /// Where the broker is, without the password.
    pub(crate) fn url(&self) -> String {
        self.target.url()
    }

    /// GET: what is at a path.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None, &[])?.read()
    }

    /// Whether something is there, whatever it says.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn check(&mut self, path: &str) -> Result<(), ClientError> {
        self.call(Method::GET, path, None, &[]).map(drop)
    }

    /// PUT: sets what is at a path.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn put<B: Serialize>(&mut self, path: &str, body: &B) -> Result<Put, ClientError> {
        let answer = self.call(Method::PUT, path, Some(written(body)), &[])?;
        Ok(if answer.status == StatusCode::CREATED { Put::Created } else { Put::Updated })
    }

    /// Asks for something to be done; what is answered.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(written(body)), &[])?.read()
    }

    /// Deletes what is there.
    ///
    /// # Errors
    /// When it is not answered, or refused, or nothing is there.
    pub(crate) fn delete(&mut self, path: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None, &[]).map(drop)
    }

    /// As [`Client::delete`], and says why: to a connection's client.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub(crate) fn delete_because(&mut self, path: &str, reason: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None, &[("x-reason", reason)]).map(drop)
    }

    /// The host that is asked.
    pub(crate) fn host(&self) -> &str {
        &self.target.host
    }

    /// Connects to a port, and says why that can't be done.
    pub(crate) fn reach(&self, host: &str, port: u16) -> Result<(), String> {
        let addresses = (host, port).to_socket_addrs().map_err(|error| plain_reason(&error))?;
        let mut problem = "it has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, PORT_PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    problem = format!("no answer within {} s", PORT_PATIENCE.as_secs());
                }
                Err(error) => problem = plain_reason(&error),
            }
        }
        Err(problem)
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let target = &self.target;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", target.url()))
            .header(AUTHORIZATION, target.authorization())
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let wrong = |error: &dyn Display| ClientError::Options(format!("{path}: {error}"));
        let answered = match body {
            Some(body) => self.agent.run(request.body(body).map_err(|error| wrong(&error))?),
            None => self.agent.run(request.body(()).map_err(|error| wrong(&error))?),
        };
        let lost = |error| ClientError::Unreachable { url: target.url(), reason: self.lost(error) };
        let mut answered = answered.map_err(lost)?;
        // What is exported may be of any length.
        let body = answered.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(lost)?;
        let warnings = warnings(answered.headers());
        self.judge(Answer {
            status: answered.status(),
            warnings,
            body,
            url: format!("{}{path}", target.url()),
        })
    }

    /// Why there is no answer.
    fn lost(&self, error: ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!("no answer within {} s", self.target.patience.as_secs()),
            ureq::Error::Io(error) => plain_reason(&error),
            ureq::Error::HostNotFound => format!("there is no host {}", self.target.host),
            other => trust::plain_reason(&other),
        }
    }

    fn judge(&self, answer: Answer) -> Result<Answer, ClientError> {
        if answer.status.is_success() {
            for warning in &answer.warnings {
                crate::terminal::complain(format_args!("warning: {warning}"));
            }
            return Ok(answer);
        }
        let told = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let reason = reason(&told, answer.status);
        match answer.status {
            StatusCode::UNAUTHORIZED if told["error"] != "not_authorised" => {
                Err(ClientError::Login { user: self.target.user.clone(), url: self.target.url() })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ClientError::Forbidden { user: self.target.user.clone(), hint: hint(&reason), reason })
            }
            StatusCode::NOT_FOUND => Err(ClientError::NotFound(reason)),
            status => Err(ClientError::Refused { status: status.as_u16(), reason }),
        }
    }
}

/// How TLS is spoken.
fn tls(target: &Target) -> Result<TlsConfig, ClientError> {
    let authorities = trust::authorities(target.ca_certificate.as_deref())
        .map_err(|reason| ClientError::Unreachable { url: target.url(), reason })?;
    let authorities: Vec<_> =
        authorities.iter().map(|authority| Certificate::from_der(authority).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// What the broker says, without what is made for pages of HTML.
fn reason(told: &Value, status: StatusCode) -> String {
    let plain = |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    match &told["reason"] {
        Value::String(text) => plain(text.trim()),
        Value::Null => format!("the broker answers with status {status}"),
        other => other.to_string(),
    }
}

/// What helps against a refusal.
fn hint(reason: &str) -> &'static str {
    if reason.contains("Not management user") {
        "It needs the tag management, or one that says more: leveret ctl user tags NAME management"
    } else if reason.contains("via localhost") {
        "Take another user, or run the command on the broker's own machine."
    } else if reason.contains("administrator") {
        "It needs the tag administrator: leveret ctl user tags NAME administrator"
    } else {
        "See its permissions with: leveret ctl list permissions"
    }
}

struct Answer {
    status: StatusCode,
    /// What of the request has no effect.
    warnings: Vec<String>,
    body: Vec<u8>,
    url: String,
}

impl Answer {
    /// What its body says; null when there is none.
    fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let garbled = |reason| ClientError::Garbled { url: self.url.clone(), reason };
        let body = if self.body.is_empty() { b"null" } else { self.body.as_slice() };
        let said: Value = serde_json::from_slice(body)
            .map_err(|error| garbled(format!("what came is no JSON ({error})")))?;
        // RabbitMQ writes an empty object as a list at times.
        api::read(&said, Form::Plain)
            .map_err(|fault| garbled(format!("what came is not what was asked for ({fault})")))
    }
}

/// The texts of headers such as `299 leveret "text"`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WARNING).iter().filter_map(|header| {
        let (_, quoted) = header.to_str().ok()?.split_once('"')?;
        Some(quoted.strip_suffix('"')?.replace("\\\"", "\"").replace("\\\\", "\\"))
    });
    texts.collect()
}

/// Why a socket does not work.
fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => trust::plain_reason(error),
    }
}
