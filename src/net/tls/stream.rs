//! The two halves of a TLS connection, as the loop of a connection wants them.

use crate::net::drive::{Input, Output, hung_up};
use crate::net::socket::SharedWriteHalf;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio_rustls::server::TlsStream;

/// A socket in halves, of which one can be asked whether the peer has hung up, which a TLS stream can't.
pub(crate) type SplitTcp = Join<OwnedReadHalf, SharedWriteHalf>;

/// Splits a socket, for TLS to be spoken on both halves.
pub(super) fn split_tcp(stream: TcpStream) -> SplitTcp {
    let (reader, writer) = stream.into_split();
    tokio::io::join(reader, SharedWriteHalf::new(writer))
}

/// Takes a TLS connection apart.
pub(crate) fn split(stream: TlsStream<SplitTcp>) -> (TlsInput, TlsOutput) {
    let tcp = stream.get_ref().0.writer().clone();
    let (reader, writer) = tokio::io::split(stream);
    let output = TlsOutput { half: writer, tcp: tcp.clone(), holds_bytes: false };
    (TlsInput { half: reader, tcp }, output)
}

/// What the peer sends.
pub(crate) struct TlsInput {
    half: ReadHalf<TlsStream<SplitTcp>>,
    tcp: SharedWriteHalf,
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
        hung_up(self.tcp.stream()).await;
    }
}

/// What the peer is sent.
pub(crate) struct TlsOutput {
    half: WriteHalf<TlsStream<SplitTcp>>,
    tcp: SharedWriteHalf,
    /// Encrypted bytes wait in the TLS connection, since the socket did not take them at once.
    holds_bytes: bool,
}

impl TlsOutput {
    /// After bytes were taken: what was taken is taken, so a failure to pass it on comes with the next call.
    fn has_taken(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<io::Result<usize>> {
        self.holds_bytes = !matches!(Pin::new(&mut self.half).poll_flush(context), Poll::Ready(Ok(())));
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for TlsOutput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.half).poll_write(context, bytes))?;
        self.has_taken(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.half).poll_write_vectored(context, slices))?;
        self.has_taken(context, written)
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

    fn reset(&mut self) {
        self.tcp.reset();
    }
}
