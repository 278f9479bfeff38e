//! The management API of the broker in memory, without a socket.

use super::InMemory;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::Request;
use leveret::management::{Management, ManagementSettings};
use leveret::net::{PeerAddress, Shutdown};
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use tower::ServiceExt;

impl InMemory {
    /// Calls the API as the user guest, and returns status and body.
    pub fn call(&self, method: &str, path: &str, body: &(impl AsRef<[u8]> + ?Sized)) -> (u16, String) {
        let journal = self.amqp.broker.journal();
        let mut answer = pin!(self.ask(method, path, body));
        runtime().block_on(poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            // No committer runs that would commit what the request waits for.
            if polled.is_pending() && journal.defined() > journal.durable() {
                // When that fails, the answer says so.
                drop(journal.commit());
            }
            polled
        }))
    }

    /// The same for who commits, and polls.
    pub fn ask<B: AsRef<[u8]> + ?Sized>(
        &self,
        method: &str,
        path: &str,
        body: &B,
    ) -> impl Future<Output = (u16, String)> + use<B> {
        let broker = self.amqp.broker.clone();
        let management = Management::new(broker, Arc::new(self.clock.clone()), settings());
        let here = PeerAddress(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
            .extension(ConnectInfo(here))
            .body(Body::from(body.as_ref().to_owned()))
            .unwrap();
        async move {
            let (head, body) = management.router().oneshot(request).await.unwrap().into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            (head.status.as_u16(), String::from_utf8(body.into()).unwrap())
        }
    }
}

/// What a request runs on.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings() -> ManagementSettings {
    ManagementSettings {
        node_name: "leveret@localhost".to_owned(),
        product: "RabbitMQ".to_owned(),
        version: "3.13.7".to_owned(),
        cluster_name: "leveret@localhost".to_owned(),
        listeners: Vec::new(),
        http_hosts: Vec::new(),
        http_origins: Vec::new(),
        body_bytes_max: 16 << 20,
        small_body_bytes_max: 64 << 10,
        bodies_bytes_max: 16 << 20,
        field_table_depth_max: 64,
        consumer_timeout_ms: 0,
        message_bytes_max: 128 << 20,
        data_dir: None,
        disk_limit: Arc::default(),
        memory: None,
        tls: None,
        shutdown: Shutdown::default(),
        connections_max: 0,
    }
}
