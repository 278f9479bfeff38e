//! TCP for the small client: unlike the conformance crate's, a look at a quiet socket takes no time.

use leveret_conformance::{Arrived, ConnectionId, Transport};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// How long the broker may leave what it is sent unread.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

pub struct Tcp {
    address: String,
    streams: BTreeMap<ConnectionId, TcpStream>,
    opened: usize,
}

impl Tcp {
    /// Connections to `host:port`.
    pub fn to(address: &str) -> Tcp {
        Tcp { address: address.to_owned(), streams: BTreeMap::new(), opened: 0 }
    }
}

impl Transport for Tcp {
    fn open(&mut self) -> Result<ConnectionId, String> {
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
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
        let read = match wait.is_zero() {
            true => stream.set_nonblocking(true).and_then(|()| stream.read(&mut chunk)),
            false => stream.set_read_timeout(Some(wait)).and_then(|()| stream.read(&mut chunk)),
        };
        if wait.is_zero() {
            let _ = stream.set_nonblocking(false);
        }
        match read {
            Ok(0) => Arrived::Closed,
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                Arrived::Data
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Arrived::Quiet,
                _ => Arrived::Closed,
            },
        }
    }

    fn advance(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn close(&mut self, connection: ConnectionId) {
        if let Some(stream) = self.streams.remove(&connection) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn exact(&self) -> bool {
        false
    }
}
