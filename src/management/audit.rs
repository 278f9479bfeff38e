//! Who changed what, and from where: a line in the log for each request that may change something, with the target
//! `leveret::audit`, whatever came of it. Passwords and what else is secret stay out of it.

use super::answer::{Answer, ApiError};
use super::routes::{Method, Route};
use bytes::Bytes;
use std::net::SocketAddr;

/// The target of these lines.
pub(super) const TARGET: &str = "leveret::audit";

/// How many bytes of a body are logged.
const BODY_BYTES_MAX: usize = 512;

/// Paths that are asked with POST and change no definition.
const NO_CHANGES: [&str; 2] = ["/publish", "/get"];

/// Where bodies may hold passwords, hashes, or addresses with logins in them.
const SECRET: [&str; 4] = ["/api/users/{", "/api/definitions", "/api/parameters", "/api/global-parameters"];

/// What is logged of a request.
pub(super) struct Request {
    user: String,
    peer: SocketAddr,
    method: &'static str,
    path: String,
    body: String,
}

impl Request {
    /// What there is to log of a request of that route, if there is anything.
    pub(super) fn of(
        route: &Route,
        user: &str,
        peer: SocketAddr,
        path: &str,
        body: &Bytes,
    ) -> Option<Request> {
        if route.method == Method::Get || NO_CHANGES.iter().any(|end| route.path.ends_with(end)) {
            return None;
        }
        let is_secret = SECRET.iter().any(|beginning| route.path.starts_with(beginning));
        let told = if is_secret { &[][..] } else { &body[..body.len().min(BODY_BYTES_MAX)] };
        Some(Request {
            user: user.to_owned(),
            peer,
            method: route.method.name(),
            path: path.to_owned(),
            body: String::from_utf8_lossy(told).into_owned(),
        })
    }

    /// Says what came of it.
    pub(super) fn tell(&self, result: &Result<Answer, ApiError>) {
        let Request { user, peer, method, path, body } = self;
        let peer = peer.to_string();
        match result {
            Ok(_) => tracing::info!(target: TARGET, user, peer, method, path, body, "changed"),
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(target: TARGET, user, peer, method, path, body, error, "change refused");
            }
        }
    }
}
