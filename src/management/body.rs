//! The bodies of requests: how large one may be on its way, and how much of them is kept at once. All of it counts in the broker's
//! account of memory.

use super::answer::ApiError;
use super::routes::BodySize;
use super::{Management, ManagementSettings};
use crate::broker::memory::{Held, MemoryUse};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a body may take to arrive, and to be let in when there are many large ones.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of a refused body is read and forgotten, so that the client comes to read why.
const FORGOTTEN_BYTES_MAX: usize = 64 << 20;
const FORGOTTEN_PATIENCE: Duration = Duration::from_secs(10);

/// How many requests are handled at once; others wait. Each may need many times its body while its JSON is read.
const AT_ONCE: usize = 32;

const KIB: usize = 1 << 10;

/// The bounds on bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Kibibytes that large ones may take together.
    large_kib: Arc<Semaphore>,
    handlers: Arc<Semaphore>,
}

/// A body, which counts for as long as it lives.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _held: Held,
    _large: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// The request has no body.
    pub(super) fn nothing(management: &Management) -> Received {
        let held = management.broker.memory().hold(MemoryUse::HttpBodies, 0);
        Received { bytes: Bytes::new(), _held: held, _large: None }
    }
}

impl Bodies {
    pub(super) fn new(settings: &ManagementSettings) -> Bodies {
        let large_bytes = settings.bodies_bytes_max.max(settings.body_bytes_max);
        let large_kib = large_bytes.div_ceil(KIB).clamp(1, Semaphore::MAX_PERMITS);
        Bodies { large_kib: Arc::new(Semaphore::new(large_kib)), handlers: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Waits until one more request may be handled.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.handlers.clone().acquire_owned().await.map_err(|_| ApiError::Busy)
    }

    async fn let_in(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let permit = timeout(PATIENCE, self.large_kib.clone().acquire_many_owned(kib)).await;
        permit.ok().and_then(Result::ok).ok_or(ApiError::Busy)
    }
}

/// Takes a body that a route takes bodies of that size of.
pub(super) async fn receive(
    management: &Management,
    size: BodySize,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Received, ApiError> {
    let settings = &management.settings;
    let small_max = settings.small_body_bytes_max.min(settings.body_bytes_max);
    let max = if size == BodySize::Large { settings.body_bytes_max } else { small_max };
    let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let expected = declared.unwrap_or(max);
    if expected > max {
        if !headers.contains_key(header::EXPECT) {
            forget(body).await;
        }
        return Err(ApiError::TooLarge(max));
    }
    let large = if expected > small_max { Some(management.bodies.let_in(expected).await?) } else { None };
    let mut held = management.broker.memory().hold(MemoryUse::HttpBodies, 0);
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default());
    let arrived = timeout(PATIENCE, async {
        while let Some(frame) = body.frame().await {
            // The peer is gone, and will not read this.
            let frame = frame.map_err(|_| ApiError::bad_request("the body is cut short"))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > max {
                return Err(ApiError::TooLarge(max));
            }
            bytes.extend_from_slice(&data);
            held.set(bytes.capacity());
        }
        Ok(())
    });
    match arrived.await {
        Ok(Ok(())) => Ok(Received { bytes: bytes.into(), _held: held, _large: large }),
        Ok(Err(error)) => {
            drop((bytes, held, large));
            forget(body).await;
            Err(error)
        }
        Err(_) => Err(ApiError::bad_request("the body did not arrive in time")),
    }
}

/// Reads the rest of a body for nothing: a client that is answered and hung up on while it still writes may never see the answer.
async fn forget(mut body: Body) {
    let mut forgotten = 0;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            forgotten += frame.data_ref().map_or(0, Bytes::len);
            if forgotten > FORGOTTEN_BYTES_MAX {
                break;
            }
        }
    };
    // A client that takes longer may be cut off.
    let _ = timeout(FORGOTTEN_PATIENCE, read).await;
}
