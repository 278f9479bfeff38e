//! `leveret ctl`: what can be typed. What is done with it stands in a file for each kind of thing.

mod access;
mod browse;
mod list;
mod losses;
mod messages;
#[cfg(feature = "perf")]
mod read;
mod settings;
mod show;
mod state;
mod stream;
mod topology;
mod transfer;

use super::client::Client;
use super::target::Connect;
use super::{About, Failure};
use clap::{Args, Subcommand};
use leveret::api::Table;
use serde_json::Value;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  leveret ctl status
  leveret ctl list queues --columns name,messages,consumers
  leveret ctl show queue orders
  leveret ctl declare queue orders --type quorum --argument x-max-length=10000
  leveret ctl declare binding amq.topic orders --routing-key 'order.#'
  leveret ctl publish --exchange amq.topic --routing-key order.new 'hello'
  leveret ctl browse orders --header retry=3
  leveret ctl redrive dead --dry-run
  leveret ctl stream read visits --from 2h
  leveret ctl stream offsets visits
  echo secret | leveret ctl user add app --tags monitoring
  leveret ctl permission set app '^app\\.' '.*' '.*'
  leveret ctl policy set short '^tmp\\.' max-length=1000 message-ttl=60000
  leveret --help says what starts a broker.

It ends with 0 when the thing is done, 1 when the broker refuses or what is named is not there, 2 when the command makes no \
sense, 3 when no broker answers, and 4 when the login fails or the user may not.";

/// Looks at a running broker, and changes it
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ctl {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Says what the broker is, what it holds, and what is wrong
    Status {
        /// As JSON, with everything that /api/overview says
        #[arg(long)]
        json: bool,
    },
    /// Ends with 0 if the broker answers and takes the login
    Ping,
    /// Says whether the broker serves clients, for health checks; needs no login
    Health,
    /// Waits until the broker answers and takes the login
    Wait {
        /// After how many seconds to give up
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
    },
    List(list::List),
    Show(show::Show),
    /// Declares a queue, an exchange or a binding
    #[command(subcommand)]
    Declare(topology::Declare),
    /// Deletes a queue, an exchange or a binding
    #[command(subcommand)]
    Delete(topology::Delete),
    /// Drops the messages of a queue that wait for a consumer
    Purge {
        /// The queue
        queue: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    Publish(messages::Publish),
    Get(messages::Get),
    Browse(browse::Browse),
    Redrive(transfer::Redrive),
    Move(transfer::Move),
    CloseConnection(state::CloseConnection),
    Losses(losses::Losses),
    #[command(subcommand)]
    Stream(stream::Stream),
    /// Adds, changes and deletes users
    #[command(subcommand)]
    User(access::User),
    /// Says what a user may do in a vhost
    #[command(subcommand)]
    Permission(access::Permission),
    /// Says which routing keys a user may use with an exchange
    #[command(subcommand)]
    TopicPermission(access::TopicPermission),
    /// Adds, limits and deletes vhosts
    #[command(subcommand)]
    Vhost(settings::Vhosts),
    /// Sets and clears policies, and operator policies
    #[command(subcommand)]
    Policy(settings::Policy),
    /// Sets and clears runtime parameters
    #[command(subcommand)]
    Parameter(settings::Parameter),
}

/// In which vhost something is.
#[derive(Args, Clone, Debug)]
struct Vhost {
    /// The vhost it is in
    #[arg(id = "vhost", long, short = 'V', env = "LEVERET_VHOST", value_name = "NAME", default_value = "/")]
    name: String,
}

/// Does what was typed.
pub(super) fn run(ctl: &Ctl, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = Client::new(&ctl.connect).about(|| "the command can't be run".to_owned())?;
    let client = &mut client;
    match &ctl.command {
        Command::Status { json } => state::status(client, *json, out),
        Command::Ping => state::ping(client, out),
        Command::Health => state::health(client, out),
        Command::Wait { timeout } => state::wait(client, *timeout, out),
        Command::List(what) => what.run(client, out),
        Command::Show(what) => what.run(client, out),
        Command::Declare(what) => what.run(client, out),
        Command::Delete(what) => what.run(client, out),
        Command::Purge { queue, vhost } => topology::purge(client, &vhost.name, queue, out),
        Command::Publish(message) => message.run(client, out),
        Command::Get(which) => which.run(client, out),
        Command::Browse(which) => which.run(client, out),
        Command::Redrive(which) => which.run(client, out),
        Command::Move(which) => which.run(client, out),
        Command::CloseConnection(which) => which.run(client, out),
        Command::Losses(what) => what.run(client, out),
        Command::Stream(what) => what.run(client, out),
        Command::User(what) => what.run(client, out),
        Command::Permission(what) => what.run(client, out),
        Command::TopicPermission(what) => what.run(client, out),
        Command::Vhost(what) => what.run(client, out),
        Command::Policy(what) => what.run(client, out),
        Command::Parameter(what) => what.run(client, out),
    }
}

/// A setting as it is typed: `KEY=VALUE`.
#[derive(Clone, Debug)]
struct Setting {
    key: String,
    value: Value,
}

/// Reads `KEY=VALUE`: a number, true or false, JSON, or else a text.
fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as max-length=1000")?;
    if key.is_empty() {
        return Err("there is nothing before the =".to_owned());
    }
    let looks_like_json = value.starts_with(['[', '{', '"']);
    let value = match serde_json::from_str(value) {
        Ok(Value::Null) => Value::String(value.to_owned()),
        Ok(read) => read,
        Err(error) if looks_like_json => return Err(format!("the value of {key} is no JSON: {error}")),
        Err(_) => Value::String(value.to_owned()),
    };
    Ok(Setting { key: key.to_owned(), value })
}

fn table(settings: &[Setting]) -> Table {
    settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_as_what_they_look_like() {
        let read = |text: &str| setting(text).map(|setting| setting.value);
        assert_eq!(read("max-length=1000"), Ok(json!(1000)));
        assert_eq!(read("a=true"), Ok(json!(true)));
        assert_eq!(read("a=drop-head"), Ok(json!("drop-head")));
        assert_eq!(read("a="), Ok(json!("")));
        assert_eq!(read("a=b=c"), Ok(json!("b=c")));
        assert_eq!(read("a=\"5\""), Ok(json!("5")));
        assert_eq!(read("a=[1,\"x\"]"), Ok(json!([1, "x"])));
        assert_eq!(read("a=null"), Ok(json!("null")));
        assert!(read("a=[1,").is_err_and(|error| error.starts_with("the value of a is no JSON")));
        assert!(read("a").is_err() && read("=1").is_err());
    }
}
