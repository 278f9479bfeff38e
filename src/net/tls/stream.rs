//! The two halves of a TLS connection, as the loop of a connection wants them.

use crate::net::drive::{Input, Output, hung_up};
use crate::net::socket::{poll_write_shared, shut_down_writing};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A socket of which somebody else may ask whether the peer has hung up, which TLS does not tell.
#[derive(Debug)]
pub(crate) struct SharedTcp(Arc<TcpStream>);

impl SharedTcp {
    pub(super) fn new(stream: TcpStream) -> SharedTcp {
        SharedTcp(Arc::new(stream))
    }
}

impl AsyncRead for SharedTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for SharedTcp {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_shared(&self.0, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shut_down_writing(&self.0))
    }
}

/// Takes a TLS connection apart.
pub(crate) fn split(stream: TlsStream<SharedTcp>) -> (TlsInput, TlsOutput) {
    let tcp = stream.get_ref().0.0.clone();
    let (reader, writer) = tokio::io::split(stream);
    (TlsInput { half: reader, tcp }, TlsOutput { half: writer, holds_bytes: false })
}

/// What the peer sends.
pub(crate) struct TlsInput {
    half: ReadHalf<TlsStream<SharedTcp>>,
    tcp: Arc<TcpStream>,
}

impl AsyncRead for TlsInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.half).poll_read(context, buffer)) {
            // Many clients close the socket and not the TLS on it. AMQP has a close of its own, so nothing hangs on that.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl Input for TlsInput {
    async fn hung_up(&self) {
        hung_up(&self.tcp).await;
    }
}

/// What the peer is sent.
pub(crate) struct TlsOutput {
    half: WriteHalf<TlsStream<SharedTcp>>,
    /// Encrypted bytes wait in the TLS connection, since the socket did not take them at once.
    holds_bytes: bool,
}

impl AsyncWrite for TlsOutput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.half).poll_write(context, bytes))?;
        self.holds_bytes = true;
        // What was taken is taken, so a failure to pass it on comes with the next call.
        if let Poll::Ready(Ok(())) = Pin::new(&mut self.half).poll_flush(context) {
            self.holds_bytes = false;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.half).poll_flush(context))?;
        self.holds_bytes = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(context)
    }
}

impl Output for TlsOutput {
    fn holds_bytes(&self) -> bool {
        self.holds_bytes
    }
}
