//! The HTTP request that a WebSocket connection begins with (RFC 6455, section 4): whether it is answered with an upgrade, and to
//! which protocol.

#[cfg(test)]
mod tests;

use super::stream::Form;
use crate::net::pages::Asked;
use crate::protocol::Protocol;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::server::create_response_with_body;

/// Bytes of a request's head, which comes before any login.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An origin in the settings that stands for all of them.
const ANY_ORIGIN: &str = "*";

/// What can be spoken over WebSocket, and whose pages may do so.
pub struct WebSocket {
    /// The name of this node, such as `leveret@localhost`.
    pub node_name: String,
    /// The names that the broker is asked for under, as in `access.http_hosts`.
    pub hosts: Vec<String>,
    /// The origins of pages that may connect besides those of the same host; `*` is any.
    pub origins: Vec<String>,
    /// The protocols; the first one is spoken with a client that asks for none and begins like none.
    pub protocols: Vec<Subprotocol>,
}

/// A protocol as it is spoken over WebSocket.
#[derive(Clone)]
pub struct Subprotocol {
    /// The protocol that opens the session.
    pub protocol: Arc<dyn Protocol>,
    /// What clients call it in `Sec-WebSocket-Protocol`, the best one first.
    pub names: &'static [&'static str],
    /// The bytes of which one comes first from a client that asked for no protocol.
    pub first_bytes: &'static [u8],
    /// Whether it is sent in text messages, where what is sent is text.
    pub is_text: bool,
}

impl Subprotocol {
    pub(super) fn form(&self) -> Form {
        if self.is_text { Form::Text } else { Form::Binary }
    }
}

/// What a client asked for.
#[derive(Clone)]
pub(in crate::net) enum Chosen {
    /// That protocol.
    Named(Subprotocol),
    /// None by name.
    ByFirstByte,
}

/// Why a request is not answered with an upgrade.
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }
}

pub(in crate::net) type Answer = Response<Full<Bytes>>;

impl WebSocket {
    /// Where it is spoken.
    pub(in crate::net) const PATH: &str = "/ws";

    /// Answers the request that a connection begins with. Returns the stream as it is after the answer, and what is spoken on it.
    ///
    /// # Errors
    /// When it fails, or the client was refused; the client has been answered then.
    pub(super) async fn accept<S>(&self, stream: S, peer: IpAddr) -> io::Result<(S, Chosen)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let outcome = Mutex::new(None);
        let service = service_fn(|mut request| {
            let (answer, result) = self.answer_or_refuse(&mut request, peer);
            *outcome.lock() = Some(result);
            ready(Ok::<_, Infallible>(answer))
        });
        let served = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        served.map_err(io::Error::other)?;
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let (upgrade, chosen) = match outcome.into_inner() {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(reason)) => return Err(invalid(reason)),
            Some(Ok(accepted)) => accepted,
        };
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        let parts: Parts<TokioIo<S>> =
            upgraded.downcast().map_err(|_| io::Error::other("the upgraded stream is another one"))?;
        if !parts.read_buf.is_empty() {
            return Err(invalid("the client sent more before its request was answered".to_owned()));
        }
        Ok((parts.io.into_inner(), chosen))
    }

    /// The protocol that a client speaks which began with that byte.
    pub(super) fn by_first_byte(&self, first: u8) -> Option<&Subprotocol> {
        let begins = |protocol: &&Subprotocol| protocol.first_bytes.contains(&first);
        self.protocols.iter().find(begins).or_else(|| self.protocols.first())
    }

    /// Answers a request: with an upgrade, which is returned with what is spoken then, or why there is none.
    pub(in crate::net) fn answer_or_refuse<B>(
        &self,
        request: &mut Request<B>,
        peer: IpAddr,
    ) -> (Answer, Result<(OnUpgrade, Chosen), String>) {
        match self.answer(request, peer) {
            Ok((answer, accepted)) => (answer, Ok(accepted)),
            Err(refusal) => (refused(&refusal), Err(refusal.reason)),
        }
    }

    fn answer<B>(
        &self,
        request: &mut Request<B>,
        peer: IpAddr,
    ) -> Result<(Answer, (OnUpgrade, Chosen)), Refusal> {
        let path = request.uri().path();
        if path != WebSocket::PATH {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("nothing is at {path:?}; WebSocket is at {}", WebSocket::PATH),
            ));
        }
        let mut answer = create_response_with_body(request, Full::default).map_err(|error| unfit(&error))?;
        self.check_page(request.headers(), peer)?;
        let (chosen, name) = self.choose(request.headers())?;
        if let Some(name) = name {
            answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        Ok((answer, (hyper::upgrade::on(request), chosen)))
    }

    fn check_page(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), Refusal> {
        let asked = Asked {
            headers,
            peer,
            node_name: &self.node_name,
            hosts: &self.hosts,
            origins: &self.origins,
            origins_setting: "websocket.origins",
        };
        let refusal = |reason| Refusal::new(StatusCode::FORBIDDEN, reason);
        if self.origins.iter().any(|origin| origin == ANY_ORIGIN) {
            return Ok(());
        }
        asked.check_host().map_err(refusal)?;
        asked.check_origin().map(|_| ()).map_err(refusal)
    }

    /// The best protocol that the client offers, and what it calls that.
    fn choose(&self, headers: &HeaderMap) -> Result<(Chosen, Option<&'static str>), Refusal> {
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
        let offered: Vec<&str> =
            lines.flat_map(|line| line.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
        if offered.is_empty() {
            return Ok((Chosen::ByFirstByte, None));
        }
        for protocol in &self.protocols {
            if let Some(name) = protocol.names.iter().find(|name| offered.contains(name)) {
                return Ok((Chosen::Named(protocol.clone()), Some(name)));
            }
        }
        let known: Vec<&str> = self.protocols.iter().flat_map(|protocol| protocol.names).copied().collect();
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("none of the protocols {offered:?} is spoken here; known are {}", known.join(", ")),
        ))
    }
}

/// Why a request is none for an upgrade to WebSocket.
fn unfit(error: &Error) -> Refusal {
    let status = match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
        Error::Protocol(
            ProtocolError::WrongHttpVersion
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => StatusCode::UPGRADE_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, format!("no request for an upgrade to WebSocket, version 13: {error}"))
}

fn refused(refusal: &Refusal) -> Answer {
    let mut answer = Response::new(Full::from(format!("{}\n", refusal.reason)));
    *answer.status_mut() = refusal.status;
    let mut set =
        |name: HeaderName, value| answer.headers_mut().insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, "text/plain; charset=utf-8");
    set(CONNECTION, "close");
    if refusal.status == StatusCode::UPGRADE_REQUIRED {
        set(UPGRADE, "websocket");
        set(SEC_WEBSOCKET_VERSION, "13");
    }
    answer
}
