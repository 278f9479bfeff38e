//! TLS for the small client.

use leveret_conformance::{Arrived, ConnectionId, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long the shortest look at a socket takes.
const LOOK: Duration = Duration::from_millis(1);

/// A connection over TLS to a server that is called `localhost`.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub struct Tls {
    address: String,
    config: Arc<ClientConfig>,
    streams: BTreeMap<ConnectionId, Stream>,
    opened: usize,
}

impl Tls {
    /// Connections to `host:port`.
    pub fn to(address: &str, config: Arc<ClientConfig>) -> Tls {
        Tls { address: address.to_owned(), config, streams: BTreeMap::new(), opened: 0 }
    }

    /// The connection below.
    pub fn stream(&mut self, connection: ConnectionId) -> &mut Stream {
        self.streams.get_mut(&connection).expect("the test has opened it")
    }
}

impl Transport for Tls {
    fn open(&mut self) -> Result<ConnectionId, String> {
        let connect = || -> Result<Stream, Box<dyn std::error::Error>> {
            let socket = TcpStream::connect(&self.address)?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from("localhost")?;
            let mut stream = Stream::new(ClientConnection::new(self.config.clone(), name)?, socket);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            Ok(stream)
        };
        let stream = connect().map_err(|error| error.to_string())?;
        self.opened += 1;
        self.streams.insert(self.opened, stream);
        Ok(self.opened)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&connection) {
            // A broker that is gone is seen by the reading side.
            let _ = stream.write_all(bytes);
        }
    }

    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived {
        let Some(stream) = self.streams.get_mut(&connection) else { return Arrived::Closed };
        let mut chunk = [0; 64 * 1024];
        let read = stream.sock.set_read_timeout(Some(wait.max(LOOK))).and_then(|()| stream.read(&mut chunk));
        match read {
            Ok(0) => Arrived::Closed,
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                Arrived::Data
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Arrived::Quiet
            }
            Err(_) => Arrived::Closed,
        }
    }

    fn advance(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.streams.remove(&connection);
    }

    fn exact(&self) -> bool {
        false
    }
}
