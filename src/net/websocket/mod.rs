//! WebSocket as a transport: what a session of any protocol sends and receives travels in messages of WebSocket, as it does in
//! records of TLS. The session knows nothing of it.
//!
//! Where messages begin and end means nothing here, and extensions such as permessage-deflate are not agreed to.

pub mod frames;
mod stream;
mod upgrade;

pub(super) use upgrade::Chosen;
pub use upgrade::{Subprotocol, WebSocket};

use super::drive::bell::Bell;
use super::drive::{Driven, Input, Output, drive};
use super::{Serving, Shutdown};
use crate::broker::access::newcomers::Newcomer;
use crate::message::Millis;
use crate::protocol::{Accepted, Peer, Protocol};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use stream::{WebSocketInput, WebSocketOutput, split};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection on which the upgrade is done.
pub(super) struct Opened<R, W> {
    reader: WebSocketInput<R, W>,
    pub(super) writer: WebSocketOutput<W>,
    /// What is spoken on it.
    pub(super) protocol: Arc<dyn Protocol>,
}

/// What a session begins with.
pub(super) struct Beginning {
    pub(super) peer: Peer,
    pub(super) newcomer: Newcomer,
    pub(super) bell: Arc<Bell>,
    pub(super) accepted_at: Millis,
}

impl WebSocket {
    /// Upgrades a connection, and finds out what is spoken on it. `halves` takes its stream apart.
    ///
    /// # Errors
    /// When it fails, ends before that, or the client was refused; the client has been answered then.
    pub(super) async fn open<S, R, W>(
        &self,
        stream: S,
        peer: IpAddr,
        halves: impl FnOnce(S) -> (R, W),
    ) -> io::Result<Opened<R, W>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        R: Input,
        W: Output,
    {
        let (stream, chosen) = self.accept(stream, peer).await?;
        self.begin(halves(stream), chosen).await
    }

    /// Finds out what is spoken on a connection on which the upgrade is done.
    ///
    /// # Errors
    /// When it fails or ends before that.
    pub(super) async fn begin<R: Input, W: Output>(
        &self,
        (reader, writer): (R, W),
        chosen: Chosen,
    ) -> io::Result<Opened<R, W>> {
        let (mut reader, writer) = split(reader, writer);
        let chosen = match chosen {
            Chosen::Named(subprotocol) => subprotocol,
            Chosen::ByFirstByte => {
                let first = reader.first_byte().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.by_first_byte(first).ok_or(io::ErrorKind::Unsupported)?.clone()
            }
        };
        writer.set_form(chosen.form());
        Ok(Opened { reader, writer, protocol: chosen.protocol })
    }
}

impl<R: Input, W: Output> Opened<R, W> {
    /// Runs the session until either end closes.
    ///
    /// # Errors
    /// When the connection fails, or the client sends what is not allowed.
    pub(super) async fn drive(
        self,
        beginning: Beginning,
        serving: &Serving,
        shutdown: &Shutdown,
    ) -> io::Result<()> {
        let Beginning { mut peer, newcomer, bell, accepted_at } = beginning;
        peer.is_web = true;
        let waker = {
            let bell = bell.clone();
            Box::new(move || bell.ring())
        };
        let session = self.protocol.open(Accepted { peer, waker, socket: None, newcomer, at: accepted_at });
        let driven = Driven::new(session, bell, None, accepted_at);
        drive(&driven, self.reader, self.writer, &*serving.clock, serving.limits.drive, shutdown).await
    }
}
