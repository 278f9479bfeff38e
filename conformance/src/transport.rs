//! How bytes reach a broker: TCP here, an in-memory broker with a fake clock in the broker's own tests. Called by
//! [`mod@crate::run`] only.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A connection of a [`Transport`], never used again after its end.
pub type ConnectionId = usize;

/// What a [`Transport::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Bytes were appended.
    Data,
    /// Nothing came: the wait is over or, in memory, nothing more can come before the clock moves.
    Quiet,
    /// The broker has closed the connection and everything it sent was given.
    Closed,
}

/// What plays the part of the network and of time.
pub trait Transport: Send {
    /// Opens a connection; nothing is sent on it yet. The error says why it was refused.
    fn open(&mut self) -> Result<ConnectionId, String>;

    /// Sends bytes. A connection that the broker has closed swallows them.
    fn send(&mut self, connection: ConnectionId, bytes: &[u8]);

    /// Appends what has come to `into`, waiting for the first byte at most `wait`. In memory: lets everything that can
    /// happen at this instant happen, and never waits.
    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived;

    /// Lets time pass.
    fn advance(&mut self, time: Duration);

    /// Ends a connection without connection.close.
    fn close(&mut self, connection: ConnectionId);

    /// Calls the broker's management API. `path` begins with `/api/`, `body` is JSON or empty.
    ///
    /// # Errors
    /// When it can't be reached, or answers with anything but success.
    fn manage(&mut self, _method: &str, _path: &str, _body: &str) -> Result<(), String> {
        Err("no management API is known here".into())
    }

    /// Whether [`Transport::receive`] returning [`Arrived::Quiet`] proves that nothing more will come.
    fn exact(&self) -> bool;
}

/// Where a broker's management API is.
#[derive(Clone, Debug)]
pub struct Management {
    /// `host:port`
    pub address: String,
    /// An administrator.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// TCP to a broker's address.
#[derive(Debug)]
pub struct TcpTransport {
    address: String,
    management: Option<Management>,
    streams: HashMap<ConnectionId, TcpStream>,
    opened: usize,
}

impl TcpTransport {
    /// `address` is `host:port`. Without a `management` cases that call it fail.
    pub fn new(address: &str, management: Option<Management>) -> Self {
        Self { address: address.into(), management, streams: HashMap::new(), opened: 0 }
    }
}

impl Transport for TcpTransport {
    fn open(&mut self) -> Result<ConnectionId, String> {
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(Duration::from_secs(5)))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
        self.opened += 1;
        self.streams.insert(self.opened, stream);
        Ok(self.opened)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&connection) {
            // A broker that has closed is seen by the reading side, which every case looks at.
            let _ = stream.write_all(bytes);
        }
    }

    fn receive(&mut self, connection: ConnectionId, wait: Duration, into: &mut Vec<u8>) -> Arrived {
        let Some(stream) = self.streams.get_mut(&connection) else { return Arrived::Closed };
        let mut chunk = [0; 64 * 1024];
        // The shortest timeout is that of the kernel's timer, several milliseconds.
        let _ = stream.set_nonblocking(wait.is_zero());
        let _ = stream.set_read_timeout(Some(wait.max(Duration::from_micros(100))));
        let read = stream.read(&mut chunk);
        let _ = stream.set_nonblocking(false);
        match read {
            Ok(0) => Arrived::Closed,
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                Arrived::Data
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Arrived::Quiet
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Arrived::Quiet,
            Err(_) => Arrived::Closed,
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

    fn manage(&mut self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let management = self.management.as_ref().ok_or("no management API is known here")?;
        let answer = management.call(method, path, body);
        let answer = answer.map_err(|error| format!("{}: {error}", management.address))?;
        let line = answer.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            _ => Err(format!("{line}: {}", answer.split("\r\n\r\n").nth(1).unwrap_or_default())),
        }
    }

    fn exact(&self) -> bool {
        false
    }
}

impl Management {
    /// One request on a connection of its own, and the whole answer.
    fn call(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let login = base64(format!("{}:{}", self.user, self.password).as_bytes());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {login}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_rfc_4648_shows_it() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
