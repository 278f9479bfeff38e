//! Queues, exchanges and bindings: declared, deleted, purged.

use super::super::client::{Client, Put};
use super::super::path::{path, path_with};
use super::super::{About, Failure};
use super::{Setting, Vhost, setting, table};
use clap::{Args, Subcommand};
use leveret::api::{self, ExchangeDefinition, QueueDefinition};
use serde::Serialize;
use serde::de::IgnoredAny;
use std::io::Write;

#[derive(Subcommand, Debug)]
pub(super) enum Declare {
    /// Declares a queue: leveret ctl declare queue orders --type quorum --argument x-delivery-limit=5
    Queue {
        /// Its name
        name: String,
        /// Its type: classic, quorum or stream [default: what the vhost says]
        #[arg(long = "type", value_name = "TYPE")]
        queue_type: Option<String>,
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Declares an exchange: leveret ctl declare exchange events --type topic
    Exchange {
        /// Its name
        name: String,
        /// Its type: direct, fanout, topic, headers or another one
        #[arg(long = "type", value_name = "TYPE", default_value = "direct")]
        exchange_type: String,
        /// Clients may not publish to it, only other exchanges
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Binds a queue to an exchange: leveret ctl declare binding events orders --routing-key 'order.#'
    Binding(Binding),
}

#[derive(Subcommand, Debug)]
pub(super) enum Delete {
    /// Deletes a queue, with the messages in it
    Queue {
        /// Its name
        name: String,
        /// Only if it is empty
        #[arg(long)]
        if_empty: bool,
        /// Only if it has no consumers
        #[arg(long)]
        if_unused: bool,
        #[command(flatten)]
        vhost: Vhost,
    },
    /// Deletes an exchange, with its bindings
    Exchange {
        /// Its name
        name: String,
        /// Only if it has no bindings
        #[arg(long)]
        if_unused: bool,
        #[command(flatten)]
        vhost: Vhost,
    },
    /// Takes a binding away; all that was said when it was made has to be said again
    Binding(Binding),
}

/// What queues and exchanges have in common.
#[derive(Args, Debug)]
pub(super) struct Lasting {
    /// It is gone after a restart of the broker
    #[arg(long)]
    transient: bool,
    /// Deleted when it is no longer used
    #[arg(long)]
    auto_delete: bool,
    /// An argument, such as x-max-length=1000; may be said more than once
    #[arg(long = "argument", short, value_name = "KEY=VALUE", value_parser = setting)]
    arguments: Vec<Setting>,
    #[command(flatten)]
    vhost: Vhost,
}

#[derive(Args, Debug)]
pub(super) struct Binding {
    /// The exchange that messages come from
    source: String,
    /// The queue that they go to
    destination: String,
    /// The destination is an exchange
    #[arg(long)]
    to_exchange: bool,
    /// The routing key, or a pattern of them
    #[arg(long, short = 'k', value_name = "KEY", default_value = "")]
    routing_key: String,
    /// An argument, such as x-match=any; may be said more than once
    #[arg(long = "argument", short, value_name = "KEY=VALUE", value_parser = setting)]
    arguments: Vec<Setting>,
    #[command(flatten)]
    vhost: Vhost,
}

impl Declare {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Declare::Queue { name, queue_type, lasting } => {
                let mut arguments = table(&lasting.arguments);
                if let Some(queue_type) = queue_type {
                    arguments.insert("x-queue-type".to_owned(), queue_type.as_str().into());
                }
                let queue = QueueDefinition {
                    durable: Some(!lasting.transient),
                    auto_delete: lasting.auto_delete,
                    arguments,
                    ..QueueDefinition::default()
                };
                declare(client, out, "queue", (&lasting.vhost.name, name), &queue)
            }
            Declare::Exchange { name, exchange_type, internal, lasting } => {
                let exchange = ExchangeDefinition {
                    kind: Some(exchange_type.as_str().into()),
                    durable: Some(!lasting.transient),
                    auto_delete: lasting.auto_delete,
                    internal: *internal,
                    arguments: table(&lasting.arguments),
                    ..ExchangeDefinition::default()
                };
                declare(client, out, "exchange", (&lasting.vhost.name, name), &exchange)
            }
            Declare::Binding(binding) => binding.declare(client, out),
        }
    }
}

fn declare<T: Serialize>(
    client: &mut Client,
    out: &mut dyn Write,
    kind: &str,
    (vhost, name): (&str, &str),
    wanted: &T,
) -> Result<(), Failure> {
    let put = client
        .put(&path(&[&format!("{kind}s"), vhost, name]), wanted)
        .about(|| format!("{kind} '{name}' in vhost '{vhost}' was not declared"))?;
    match put {
        Put::Created => writeln!(out, "{kind} '{name}' in vhost '{vhost}' is declared")?,
        Put::Updated => writeln!(out, "{kind} '{name}' in vhost '{vhost}' was there already, the same")?,
    }
    Ok(())
}

impl Delete {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Delete::Queue { name, if_empty, if_unused, vhost } => {
                let conditions = [("if-empty", *if_empty), ("if-unused", *if_unused)];
                delete(client, out, "queue", (&vhost.name, name), &conditions)
            }
            Delete::Exchange { name, if_unused, vhost } => {
                delete(client, out, "exchange", (&vhost.name, name), &[("if-unused", *if_unused)])
            }
            Delete::Binding(binding) => binding.delete(client, out),
        }
    }
}

/// Deletes what is called so in that vhost, under those conditions that are set.
fn delete(
    client: &mut Client,
    out: &mut dyn Write,
    kind: &str,
    (vhost, name): (&str, &str),
    conditions: &[(&str, bool)],
) -> Result<(), Failure> {
    let parameters: Vec<(&str, &str)> =
        conditions.iter().filter(|(_, is_set)| *is_set).map(|(condition, _)| (*condition, "true")).collect();
    client.delete(&path_with(&[&format!("{kind}s"), vhost, name], &parameters)).about(|| {
        format!("{kind} '{name}' in vhost '{vhost}' was not deleted (leveret ctl list {kind}s shows what is there)")
    })?;
    writeln!(out, "{kind} '{name}' in vhost '{vhost}' is deleted")?;
    Ok(())
}

/// Drops the ready messages of a queue.
pub(super) fn purge(
    client: &mut Client,
    vhost: &str,
    queue: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    client
        .delete(&path(&["queues", vhost, queue, "contents"]))
        .about(|| format!("queue '{queue}' in vhost '{vhost}' was not purged"))?;
    writeln!(out, "queue '{queue}' in vhost '{vhost}' is purged")?;
    Ok(())
}

impl Binding {
    /// The path of all bindings between the two.
    fn segments(&self) -> [&str; 6] {
        let kind = if self.to_exchange { "e" } else { "q" };
        ["bindings", &self.vhost.name, "e", &self.source, kind, &self.destination]
    }

    fn text(&self) -> String {
        let kind = if self.to_exchange { "exchange" } else { "queue" };
        let (source, destination, vhost) = (&self.source, &self.destination, &self.vhost.name);
        let key = &self.routing_key;
        format!(
            "binding of {kind} '{destination}' to exchange '{source}' in vhost '{vhost}' with key '{key}'"
        )
    }

    fn declare(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let arguments = table(&self.arguments);
        let body =
            api::Binding { routing_key: self.routing_key.clone(), arguments, ..api::Binding::default() };
        client
            .post::<_, IgnoredAny>(&path(&self.segments()), &body)
            .about(|| format!("the {} was not made", self.text()))?;
        writeln!(out, "the {} is made", self.text())?;
        Ok(())
    }

    fn delete(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let was_not = || format!("the {} was not deleted", self.text());
        let bindings: Vec<api::Binding> = client.get(&path(&self.segments())).about(was_not)?;
        let arguments = table(&self.arguments);
        let found = bindings
            .iter()
            .find(|binding| binding.routing_key == self.routing_key && binding.arguments == arguments);
        // The broker has a name of its own for each binding between two things.
        let Some(key) = found.and_then(|binding| binding.properties_key.as_deref()) else {
            return Err(Failure::State(format!("{}: it is not there", was_not())));
        };
        client.delete(&path(&[&self.segments()[..], &[key]].concat())).about(was_not)?;
        writeln!(out, "the {} is deleted", self.text())?;
        Ok(())
    }
}
