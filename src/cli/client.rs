//! Asks the management API: a request, its answer, and every way in which that can fail, in words for the user of the command.

use super::target::{Connect, Scheme, Target};
use crate::trust;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, WARNING};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

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

/// A client of the management API of one broker. It keeps a connection open between requests.
pub(crate) struct Client {
    runtime: Runtime,
    target: Target,
    connection: Option<SendRequest<Full<Bytes>>>,
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Options(format!("the system gives no event loop: {error}")))?;
        Ok(Client { runtime, target, connection: None })
    }

    /// Where the broker is, without the password.
    pub(crate) fn url(&self) -> String {
        self.target.url()
    }

    /// GET: what is at a path.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, None, &[])?.json()
    }

    /// PUT: sets what is at a path.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Result<Put, ClientError> {
        let answer = self.call(Method::PUT, path, Some(body), &[])?;
        Ok(if answer.status == StatusCode::CREATED { Put::Created } else { Put::Updated })
    }

    /// Asks for something to be done; what is answered, or null.
    ///
    /// # Errors
    /// When it is not answered, or refused.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.call(Method::POST, path, Some(body), &[])?.json()
    }

    /// Deletes what is there; null, or what is answered.
    ///
    /// # Errors
    /// When it is not answered, or refused, or nothing is there.
    pub(crate) fn delete(&mut self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None, &[])?.json()
    }

    /// As [`Client::delete`], and says why: to a connection's client.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub(crate) fn delete_because(&mut self, path: &str, reason: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None, &[("x-reason", reason)]).map(drop)
    }

    /// Waits for that time.
    pub(crate) fn pause(&self, duration: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(duration).await });
    }

    /// The host that is asked.
    pub(crate) fn host(&self) -> &str {
        &self.target.host
    }

    /// Connects to a port, and says why that can't be done.
    pub(crate) fn reach(&self, host: &str, port: u16) -> Result<(), String> {
        let attempt = async { timeout(PORT_PATIENCE, TcpStream::connect((host, port))).await };
        match self.runtime.block_on(attempt) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(plain_reason(&error)),
            Err(_) => Err(format!("no answer within {} s", PORT_PATIENCE.as_secs())),
        }
    }

    fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = || {
            let uri: Uri = path.parse().map_err(|error| ClientError::Options(format!("{path}: {error}")))?;
            let mut request = Request::builder()
                .method(method.clone())
                .uri(uri)
                .header(HOST, self.target.authority())
                .header(AUTHORIZATION, self.target.authorization())
                .header(CONTENT_TYPE, "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(Full::new(body.clone())).map_err(|error| ClientError::Options(error.to_string()))
        };
        let (first, again) = (request()?, request()?);
        if method == Method::POST {
            // It must not be sent twice, so no connection is tried that may be gone.
            self.connection = None;
        }
        let (target, connection) = (&self.target, &mut self.connection);
        let exchange = async {
            // The broker may have closed a connection that was not used for a while.
            if let Some(open) = connection
                && open.ready().await.is_ok()
                && let Ok(answer) = send(open, first).await
            {
                return Ok(answer);
            }
            let fresh = connection.insert(open(target).await?);
            send(fresh, again).await
        };
        let exchanged = self.runtime.block_on(async { timeout(target.patience, exchange).await });
        let answer = exchanged
            .unwrap_or_else(|_| Err(format!("no answer within {} s", target.patience.as_secs())))
            .map_err(|reason| {
                *connection = None;
                ClientError::Unreachable { url: target.url(), reason }
            })?;
        self.judge(answer)
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
    body: Bytes,
    url: String,
}

impl Answer {
    /// Its body; null when there is none.
    fn json(&self) -> Result<Value, ClientError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Garbled {
            url: self.url.clone(),
            reason: format!("what came is no JSON ({error})"),
        })
    }
}

async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let url = request.uri().to_string();
    let answer: Response<Incoming> =
        connection.send_request(request).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Answer { status: head.status, warnings: warnings(&head.headers), body, url })
}

/// The texts of headers such as `299 leveret "text"`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WARNING).iter().filter_map(|header| {
        let (_, quoted) = header.to_str().ok()?.split_once('"')?;
        Some(quoted.strip_suffix('"')?.replace("\\\"", "\"").replace("\\\\", "\\"))
    });
    texts.collect()
}

/// Opens a connection, over TLS if the URL says so.
async fn open(target: &Target) -> Result<SendRequest<Full<Bytes>>, String> {
    let place = (target.host.as_str(), target.port);
    let stream = TcpStream::connect(place).await.map_err(|error| plain_reason(&error))?;
    // A request is written whole; a failure only makes it slower.
    let _ = stream.set_nodelay(true);
    match target.scheme {
        Scheme::Http => greet(stream).await,
        Scheme::Https => {
            let connector = TlsConnector::from(trust::config(target.ca_certificate.as_deref(), None)?);
            let name = trust::server_name(&target.host)?;
            let stream =
                connector.connect(name, stream).await.map_err(|error| trust::plain_reason(&error))?;
            greet(stream).await
        }
    }
}

async fn greet<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // What goes wrong there fails the request that waits.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}
