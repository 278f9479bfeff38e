//! What a run needs at the broker: made before it, looked at while it ends, and gone after it.

use super::Failure;
use super::client::Client;
use super::plan::Plan;
use super::stomp;
use amq_protocol::types::FieldTable;

/// The connection that makes what a run needs.
#[derive(Debug)]
pub(super) enum Setup {
    Amqp(Client),
    /// Where STOMP can say all there is to say.
    Stomp(stomp::Setup),
}

impl Setup {
    /// Connects, and declares what the plan names. What was declared of it goes again when that fails.
    pub(super) async fn open(plan: &Plan) -> Result<Setup, Failure> {
        if let Some(address) = plan.stomp.as_ref().filter(|_| plan.needs_stomp_alone()) {
            let queues = if plan.own_queues { plan.queues.as_slice() } else { &[] };
            return stomp::Setup::open(address, &plan.target, queues).await.map(Setup::Stomp);
        }
        let mut client = Client::open(&plan.target).await?;
        match declare(&mut client, plan).await {
            Ok(()) => Ok(Setup::Amqp(client)),
            Err(failure) => {
                // The refusal is the news, whatever comes of tidying up.
                tidy_up(plan).await.ok();
                Err(failure)
            }
        }
    }

    /// Name and version of the broker.
    pub(super) fn product(&self) -> &str {
        match self {
            Setup::Amqp(client) => &client.product,
            Setup::Stomp(setup) => setup.product(),
        }
    }

    /// Lets go of what is held for consumers, once they have all subscribed.
    pub(super) async fn hand_over(&mut self) -> Result<(), Failure> {
        match self {
            Setup::Amqp(_) => Ok(()),
            Setup::Stomp(setup) => setup.unsubscribe().await,
        }
    }

    /// Whether all that was published is with consumers; `None` where nothing says so.
    pub(super) async fn are_empty(&mut self, plan: &Plan) -> Result<Option<bool>, Failure> {
        let Setup::Amqp(client) = self else { return Ok(None) };
        for queue in &plan.queues {
            if client.declare_queue(queue, FieldTable::default(), false, true).await? > 0 {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Deletes what was made.
    pub(super) async fn close(self, plan: &Plan) -> Result<(), Failure> {
        match self {
            // By a connection of its own, since this one may be gone.
            Setup::Amqp(_) => tidy_up(plan).await,
            Setup::Stomp(setup) => {
                setup.close().await;
                Ok(())
            }
        }
    }
}

async fn declare(client: &mut Client, plan: &Plan) -> Result<(), Failure> {
    if !plan.exchange.is_empty() {
        client.declare_exchange(&plan.exchange, plan.own_exchange.as_deref(), plan.durable).await?;
    }
    for queue in &plan.queues {
        client.declare_queue(queue, plan.queue_arguments.clone(), plan.durable, !plan.own_queues).await?;
    }
    for (queue, key) in plan.bindings() {
        client.bind(queue, &plan.exchange, key).await?;
    }
    Ok(())
}

async fn tidy_up(plan: &Plan) -> Result<(), Failure> {
    if !plan.own_queues && plan.own_exchange.is_none() {
        return Ok(());
    }
    let mut client = Client::open(&plan.target).await?;
    if plan.own_queues {
        for queue in &plan.queues {
            client.delete_queue(queue).await?;
        }
    }
    if plan.own_exchange.is_some() {
        client.delete_exchange(&plan.exchange).await?;
    }
    client.close().await;
    Ok(())
}
