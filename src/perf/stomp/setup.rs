//! Makes queues for a run. STOMP has no frame that declares one: a subscription does. A queue that is deleted with its last consumer is
//! kept by a subscription until the consumers have theirs, or until the end where there are none.

use super::{Client, destination};
use crate::perf::Failure;
use crate::perf::target::Target;

/// The connection that holds the queues.
#[derive(Debug)]
pub(in crate::perf) struct Setup {
    client: Client,
    /// How many queues it is subscribed to.
    subscriptions: usize,
}

impl Setup {
    /// Connects and makes the queues. They are durable, since others over STOMP are their connection's alone.
    pub(in crate::perf) async fn open(
        address: &str,
        target: &Target,
        queues: &[String],
    ) -> Result<Setup, Failure> {
        let mut client = Client::open(address, target).await?;
        for (id, queue) in queues.iter().enumerate() {
            // Of what is published without consumers, it gets one message at most.
            let subscribe = format!(
                "SUBSCRIBE\nid:{id}\ndestination:{}\ndurable:true\nauto-delete:true\nexclusive:false\nack:client-individual\n\
                 prefetch-count:1\n\n\0",
                declaring(queue)
            );
            client.wire.output.extend_from_slice(subscribe.as_bytes());
        }
        client.settle().await?;
        Ok(Setup { client, subscriptions: queues.len() })
    }

    /// What the broker calls itself.
    pub(in crate::perf) fn product(&self) -> &str {
        &self.client.product
    }

    /// Ends the subscriptions: others have theirs.
    pub(in crate::perf) async fn unsubscribe(&mut self) -> Result<(), Failure> {
        for id in 0..std::mem::take(&mut self.subscriptions) {
            self.client.wire.output.extend_from_slice(format!("UNSUBSCRIBE\nid:{id}\n\n\0").as_bytes());
        }
        self.client.settle().await
    }

    /// Disconnects. Queues that it still holds go.
    pub(in crate::perf) async fn close(self) {
        self.client.close().await;
    }
}

/// The destination that declares a queue.
fn declaring(queue: &str) -> String {
    destination("", queue).replacen("/amq/queue/", "/queue/", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_declared_by_its_name() {
        assert_eq!(declaring("leveret-perf-7-1"), "/queue/leveret-perf-7-1");
    }
}
