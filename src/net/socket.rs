//! The two sides of a socket, as the loop of a connection and TLS want them.

use super::drive::{Input, Output, hung_up};
use crate::session::DirectWrite;
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

impl Input for OwnedReadHalf {
    async fn hung_up(&self) {
        hung_up(self.as_ref()).await;
    }
}

/// The side that is written to, by the loop of the connection and past it.
#[derive(Clone, Debug)]
pub(super) struct SharedWriteHalf(Arc<OwnedWriteHalf>);

impl SharedWriteHalf {
    pub(super) fn new(half: OwnedWriteHalf) -> SharedWriteHalf {
        SharedWriteHalf(Arc::new(half))
    }

    pub(super) fn stream(&self) -> &TcpStream {
        (*self.0).as_ref()
    }

    /// Has the socket reset: at once where the system can, or when it is closed.
    pub(super) fn reset(&self) {
        // A failure does not matter for a socket whose peer is gone.
        let _ = set_socket_linger(self.stream(), Some(Duration::ZERO));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::net::connect_unspec(self.stream());
    }
}

impl Output for SharedWriteHalf {
    fn reset(&mut self) {
        SharedWriteHalf::reset(self);
    }
}

impl DirectWrite for SharedWriteHalf {
    fn write_now(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes).unwrap_or(0)
    }
}

impl AsyncWrite for SharedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream().poll_write_ready(context))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            rustix::net::shutdown(self.stream(), rustix::net::Shutdown::Write).map_err(io::Error::from),
        )
    }
}
