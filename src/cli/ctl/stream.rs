//! Streams: how far those have got who consume them by name, and where they go on.

use super::super::client::Client;
use super::super::output::{Look, write_table};
use super::super::path::path;
use super::super::{About, Failure};
use super::Vhost;
use clap::{Args, Subcommand};
use leveret::api::{StreamReset, StreamResetOffset, StreamTracking};
use serde_json::Value;
use std::io::Write;

/// Reads streams, says how far their consumers have got by name, and sets where those go on
#[derive(Subcommand, Debug)]
#[command(after_help = "\
A consumer gets a name with the argument x-stream-consumer-name of basic.consume; its acknowledgements say how far it has got.

Examples:
  leveret ctl stream read visits --from 2h --follow
  leveret ctl stream offsets visits
  leveret ctl stream reset visits billing --to first
  leveret ctl stream reset visits billing --to 1200
  leveret ctl stream reset visits billing --time 1764547200000
  leveret ctl stream forget visits billing")]
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
    Reset(Reset),
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

impl Stream {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Stream::Offsets { stream, vhost } => offsets(client, &vhost.name, stream, out),
            #[cfg(feature = "perf")]
            Stream::Read(read) => read.run(client, out),
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

fn offsets(client: &mut Client, vhost: &str, stream: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let tracking: StreamTracking = client
        .get(&path(&["stream", vhost, stream, "tracking"]))
        .about(|| format!("the offsets of stream '{stream}' in vhost '{vhost}' can't be told"))?;
    let columns = ["name", "offset", "lag", "members"].map(str::to_owned);
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
