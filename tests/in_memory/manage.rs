//! The management API of the broker in memory, without a socket.

use super::InMemory;
use axum::body::Body;
use axum::http::Request;
use leveret::management::{Management, ManagementSettings};
use std::sync::Arc;

impl InMemory {
    /// Calls the API as the user guest, and returns status and body.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let broker = self.amqp.broker.clone();
        let management = Management::new(broker, Arc::new(self.clock.clone()), ManagementSettings::default());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (head, body) = management.call(request).await.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            (head.status.as_u16(), String::from_utf8(body.into()).unwrap())
        })
    }
}
