//! The same load over STOMP 1.2: producers and consumers, above a client of few words. Queues are made over STOMP as well, unless they
//! have arguments or are bound.

mod consumer;
mod frame;
mod producer;
mod setup;

pub(super) use consumer::Consumer;
pub(super) use producer::Producer;
pub(super) use setup::Setup;

use super::Failure;
use super::target::Target;
use super::wire::Wire;
use frame::escaped;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a broker may take to let us in, and to say farewell.
const BRIEF: Duration = Duration::from_secs(10);

/// What the receipt of the last frame is called.
const LAST: &[u8] = b"last";

/// What the receipt is called that stands for all before it.
const READY: &[u8] = b"ready";

/// A connection that is logged in.
#[derive(Debug)]
struct Client {
    wire: Wire,
    /// Name and version of the broker, as it shows them.
    product: String,
}

impl Client {
    /// Connects to `address` and logs in as the target's user.
    async fn open(address: &str, target: &Target) -> Result<Client, Failure> {
        let unreachable = |reason| Failure::Unreachable { address: address.to_owned(), reason };
        let wire = match timeout(BRIEF, Wire::connect(address, None)).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable(format!("nothing came back in {} s", BRIEF.as_secs()))),
        };
        let mut client = Client { wire, product: String::new() };
        // CONNECT has no escapes (STOMP 1.2, "Value Encoding").
        let connect = format!(
            "CONNECT\naccept-version:1.2\nhost:{}\nlogin:{}\npasscode:{}\nheart-beat:0,0\n\n\0",
            target.vhost, target.user, target.password
        );
        client.wire.output.extend_from_slice(connect.as_bytes());
        match timeout(BRIEF, client.connected()).await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(Failure::Error(text))) => Err(Failure::Login { address: address.to_owned(), text }),
            Ok(Err(Failure::Lost(reason))) => {
                Err(Failure::Garbled { address: address.to_owned(), protocol: "STOMP 1.2", reason })
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(unreachable(format!("the login was not answered in {} s", BRIEF.as_secs()))),
        }
    }

    async fn connected(&mut self) -> Result<(), Failure> {
        loop {
            if let Some(frame) = self.wire.input.next(frame::cut)? {
                frame.check()?;
                if frame.command != b"CONNECTED" {
                    return Err(Failure::Lost("it answers with another frame than CONNECTED".to_owned()));
                }
                let server = frame.header(b"server").unwrap_or(b"a broker without a name");
                self.product = String::from_utf8_lossy(server).replacen('/', " ", 1);
                return Ok(());
            }
            self.wire.move_bytes(None).await?;
        }
    }

    /// Asks for a receipt, by a transaction with nothing in it: it comes when all that was put before is done.
    fn put_ready(&mut self) {
        self.wire.output.extend_from_slice(
            b"BEGIN\ntransaction:ready\n\n\0ABORT\ntransaction:ready\nreceipt:ready\n\n\0",
        );
    }

    /// Waits until all that was put before is done; of what comes meanwhile only an error counts.
    async fn settle(&mut self) -> Result<(), Failure> {
        self.put_ready();
        loop {
            while let Some(frame) = self.wire.input.next(frame::cut)? {
                frame.check()?;
                if frame.header(b"receipt-id") == Some(READY) {
                    return Ok(());
                }
            }
            self.wire.move_bytes(None).await?;
        }
    }

    /// Disconnects after all that was put before, and waits until the broker has done that. A broker that is gone by then is no
    /// error.
    async fn close(mut self) {
        self.wire.output.extend_from_slice(b"DISCONNECT\nreceipt:last\n\n\0");
        let until = Instant::now() + BRIEF;
        while Instant::now() < until {
            while let Ok(Some(frame)) = self.wire.input.next(frame::cut) {
                if frame.header(b"receipt-id") == Some(LAST) {
                    return;
                }
            }
            if self.wire.move_bytes(Some(until)).await.is_err() {
                return;
            }
        }
    }
}

/// The destination of an exchange and a routing key; of the default exchange that is a queue that is there.
fn destination(exchange: &str, key: &str) -> String {
    if exchange.is_empty() {
        return format!("/amq/queue/{}", escaped(key));
    }
    let part = |text: &str| escaped(&text.replace('/', "%2F"));
    format!("/exchange/{}/{}", part(exchange), part(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_name_queues_and_exchanges() {
        assert_eq!(destination("", "work"), "/amq/queue/work");
        assert_eq!(destination("amq.topic", "a/b:c"), "/exchange/amq.topic/a%2Fb\\cc");
    }
}
