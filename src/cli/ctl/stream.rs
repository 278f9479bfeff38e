//! Streams: how far those have got who use them by name, where they go on, and super streams.

use super::super::client::Client;
use super::super::output::{Look, write_table};
use super::super::path::path;
use super::super::{About, Failure};
use super::{Setting, Vhost, setting, table};
use clap::{Args, Subcommand};
use leveret::api::{StreamReset, StreamResetOffset, StreamTracking, SuperStream, SuperStreamDefinition};
use serde_json::{Value, json};
use std::io::Write;

/// Reads streams, says how far their consumers and publishers have got by name, and creates super streams
#[derive(Subcommand, Debug)]
#[command(after_help = "\
A consumer gets a name with the argument x-stream-consumer-name of basic.consume; its acknowledgements say how far it has got.

Examples:
  leveret ctl stream read visits --from 2h --follow
  leveret ctl stream offsets visits
  leveret ctl stream reset visits billing --to first
  leveret ctl stream reset visits billing --to 1200
  leveret ctl stream reset visits billing --time 1764547200000
  leveret ctl stream forget visits billing
  leveret ctl stream publishers visits
  leveret ctl stream create-super-stream orders --partitions 3 --hash --argument max-age=7D")]
pub(super) enum Stream {
    /// Lists the names with the offset that each has acknowledged, and how many messages follow
    Offsets {
        /// The stream
        stream: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    #[cfg(feature = "perf")]
    Read(super::read::Read),
    /// Lists the publishers with names, with the highest publishing id and epoch of each
    Publishers {
        /// The stream
        stream: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    Reset(Reset),
    /// Lists the super streams with their partitions
    SuperStreams {
        #[command(flatten)]
        vhost: Vhost,
    },
    #[command(name = "create-super-stream")]
    Create(CreateSuperStream),
    /// Deletes a super stream with all its partitions
    #[command(name = "delete-super-stream")]
    Delete {
        /// The super stream
        name: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    /// Forgets how far a name has got. None of its consumers may be connected
    Forget {
        /// The stream
        stream: String,
        /// The name
        name: String,
        #[command(flatten)]
        vhost: Vhost,
    },
}

/// Sets where the consumers of a name go on. None of them may be connected
#[derive(Args, Debug)]
pub(super) struct Reset {
    /// The stream
    stream: String,
    /// The name
    name: String,
    /// The offset that it gets next, or first, last, next
    #[arg(long, required_unless_present = "time")]
    to: Option<String>,
    /// Goes on with the first message published at this time or later, in milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS", conflicts_with = "to")]
    time: Option<u64>,
    #[command(flatten)]
    vhost: Vhost,
}

/// Creates a super stream: an exchange of its name, and streams for its partitions
#[derive(Args, Debug)]
pub(super) struct CreateSuperStream {
    /// The super stream
    name: String,
    /// How many partitions it has
    #[arg(long, required_unless_present = "binding_keys")]
    partitions: Option<u64>,
    /// A key for each partition in the place of their number, such as eu,us
    #[arg(long, value_name = "KEYS", value_delimiter = ',', conflicts_with = "partitions")]
    binding_keys: Option<Vec<String>>,
    /// Lets the exchange find the partition by the routing key's hash, as clients of the stream protocol do
    #[arg(long)]
    hash: bool,
    /// An argument of the partitions, such as max-age=7D; may be said more than once
    #[arg(long = "argument", short, value_name = "KEY=VALUE", value_parser = setting)]
    arguments: Vec<Setting>,
    #[command(flatten)]
    vhost: Vhost,
}

impl Stream {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Stream::Offsets { stream, vhost } => offsets(client, &vhost.name, stream, out),
            #[cfg(feature = "perf")]
            Stream::Read(read) => read.run(client, out),
            Stream::Publishers { stream, vhost } => publishers(client, &vhost.name, stream, out),
            Stream::SuperStreams { vhost } => super_streams(client, &vhost.name, out),
            Stream::Create(create) => create.run(client, out),
            Stream::Delete { name, vhost } => {
                client
                    .delete(&path(&["stream", "super-streams", &vhost.name, name]))
                    .about(|| format!("super stream '{name}' is not deleted"))?;
                Ok(writeln!(out, "deleted super stream '{name}' with its partitions")?)
            }
            Stream::Reset(reset) => reset.run(client, out),
            Stream::Forget { stream, name, vhost } => {
                client
                    .delete(&path(&["stream", &vhost.name, stream, "tracking", name]))
                    .about(|| format!("the name '{name}' of stream '{stream}' is not forgotten"))?;
                Ok(writeln!(out, "forgot how far '{name}' has got in stream '{stream}'")?)
            }
        }
    }
}

fn tracking(client: &mut Client, vhost: &str, stream: &str) -> Result<StreamTracking, Failure> {
    client
        .get(&path(&["stream", vhost, stream, "tracking"]))
        .about(|| format!("what stream '{stream}' in vhost '{vhost}' remembers can't be told"))
}

fn publishers(client: &mut Client, vhost: &str, stream: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let tracking = tracking(client, vhost, stream)?;
    let columns = ["name", "publishing_id", "epoch"].map(str::to_owned);
    let writers: Result<Vec<Value>, _> = tracking.publishers.iter().map(serde_json::to_value).collect();
    Ok(write_table(out, &columns, &writers.map_err(std::io::Error::from)?, Look::of_output())?)
}

fn super_streams(client: &mut Client, vhost: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let all: Vec<SuperStream> = client
        .get(&path(&["stream", "super-streams", vhost]))
        .about(|| format!("the super streams of vhost '{vhost}' can't be listed"))?;
    let columns = ["name", "partitions"].map(str::to_owned);
    let rows: Vec<Value> =
        all.iter().map(|each| json!({"name": each.name, "partitions": each.partitions.join(" ")})).collect();
    Ok(write_table(out, &columns, &rows, Look::of_output())?)
}

impl CreateSuperStream {
    fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let CreateSuperStream { name, vhost, .. } = self;
        let mut definition = SuperStreamDefinition {
            partitions: self.partitions,
            binding_keys: self.binding_keys.clone(),
            arguments: table(&self.arguments),
            ..SuperStreamDefinition::default()
        };
        if self.hash {
            definition.exchange_arguments.insert("x-algorithm".to_owned(), "murmur3".into());
        }
        client
            .put(&path(&["stream", "super-streams", &vhost.name, name]), &definition)
            .about(|| format!("super stream '{name}' is not created"))?;
        Ok(writeln!(out, "created super stream '{name}'")?)
    }
}

fn offsets(client: &mut Client, vhost: &str, stream: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let tracking = tracking(client, vhost, stream)?;
    let columns = ["name", "offset", "lag", "lag_seconds", "members"].map(str::to_owned);
    let groups: Result<Vec<Value>, _> = tracking.groups.iter().map(serde_json::to_value).collect();
    Ok(write_table(out, &columns, &groups.map_err(std::io::Error::from)?, Look::of_output())?)
}

impl Reset {
    fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let Reset { stream, name, to, time, vhost } = self;
        let offset = to.as_ref().map(|to| match to.parse() {
            Ok(number) => StreamResetOffset::Number(number),
            Err(_) => StreamResetOffset::Word(to.clone()),
        });
        client
            .put(
                &path(&["stream", &vhost.name, stream, "tracking", name]),
                &StreamReset { offset, timestamp: *time },
            )
            .about(|| format!("where '{name}' goes on in stream '{stream}' is not set"))?;
        Ok(writeln!(out, "set where '{name}' goes on in stream '{stream}'")?)
    }
}
