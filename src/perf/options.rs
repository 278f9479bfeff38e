//! What can be typed behind `leveret perf`.

use super::Failure;
use super::plan::Plan;
use super::sizes::Sizes;
use super::stream;
use super::target::{Target, TlsFiles};
use amq_protocol::types::{AMQPValue, FieldTable};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  leveret perf --time 10
      as fast as it goes, for ten seconds
  leveret perf --durable --persistent --confirm 1000 --multi-ack 100 --time 30 --chart out.svg
      nothing may get lost; with a chart of rate and latency
  leveret perf --rate 5000 --size 100-2000 --auto-ack --time 10
      latency under a steady load, bodies of 100 to 2000 bytes
  leveret perf --producers 4 --consumers 4 --queues 4 --count 1000000 --json > out.json
      a million messages of each producer, and the figures for a program
  leveret perf --exchange-type topic --queues 10 --routing-key a.x,b.y --binding-key 'a.#' --consumers 10 --time 10
      routing: each message goes to ten queues, or to none
  leveret perf --url amqp://app:secret@broker:5672/orders --queue invoices --producers 0 --time 60
      consumes what is in a queue that is there
  leveret perf --protocol stomp --confirm 1000 --persistent --durable --time 10
      over STOMP on port 61613 of the same host, with a receipt for each message
  leveret perf --stream --confirm 1000 --multi-ack 100 --consumers 3 --time 10
      a stream, which each consumer reads whole
  leveret perf --stream --queue visits --producers 0 --stream-offset first --time 10
      reads a stream that is there from its beginning
  leveret perf --url amqps://app:secret@broker:5671 --ca-certificate ca.pem --time 10
      over TLS

Queues and exchanges that are made for a run are deleted when it ends; what --queue and --exchange name stays, as do its bindings.
Latency is from the call that publishes to the confirm, or to the delivery; bodies of less than 12 bytes have no room for the time
of the latter. It is right within a hundredth, and between two machines as right as their clocks.

It ends with 0 when the run has come to its end or Ctrl-C ended it, 1 when the broker refuses something or goes away, 2 when the \
options make no sense, 3 when no broker answers, and 4 when the login fails.";

/// What a broker is put under load with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// AMQP 0-9-1
    Amqp,
    /// STOMP 1.2, with receipts for confirms
    Stomp,
}

/// The port that STOMP is mostly spoken on.
const STOMP_PORT: u16 = 61613;

/// Puts a broker under load, and says how fast it is
///
/// Publishes and consumes over AMQP 0-9-1, or STOMP, on this broker or any other, until Ctrl-C or as --time and --count say. A line each
/// second has the rates and the latency, as median and 99th percentile; a summary comes at the end.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Perf {
    /// The broker, with user, password and vhost
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    #[arg(default_value = "amqp://guest:guest@127.0.0.1:5672")]
    url: String,
    /// What is published and consumed over; with stomp, exchanges, bindings and queues with arguments are made over AMQP all the same
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value_t = Protocol::Amqp)]
    protocol: Protocol,
    /// Where STOMP is spoken [default: port 61613 of the host in --url]
    #[arg(long, value_name = "HOST:PORT")]
    stomp_address: Option<String>,
    /// For amqps: trusts certificates that this one (PEM) has signed, and no others [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
    /// For amqps: shows this certificate (PEM) to a broker that asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// How many connections publish
    #[arg(short = 'x', long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=50_000))]
    producers: u32,
    /// How many connections consume
    #[arg(short = 'y', long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=50_000))]
    consumers: u32,
    /// How many queues are made; producers and consumers are spread over them
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    queues: u32,
    /// Uses these queues, which are there, instead of making some
    #[arg(short = 'u', long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "queues")]
    queue: Vec<String>,
    /// An argument of the queues that are made, such as x-queue-type=quorum; may be given several times
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "queue")]
    queue_argument: Vec<String>,
    /// Makes the queues streams, or says that those of --queue are; durable, and for consumers with acknowledgements
    #[arg(long, conflicts_with = "auto_ack")]
    stream: bool,
    /// Where consumers of streams begin: first, last, next, an offset, an interval such as 2h, or a time [default: next]
    #[arg(long, value_name = "PLACE", requires = "stream")]
    stream_offset: Option<String>,
    /// Bytes of a body: 100, or several in turn: 100,16k,1M, or any of a range: 100-2000
    #[arg(short = 's', long, value_name = "BYTES", default_value = "100")]
    size: Sizes,
    /// Publishes persistent messages
    #[arg(long)]
    persistent: bool,
    /// Makes durable queues and exchanges
    #[arg(long)]
    durable: bool,
    /// Asks for confirms, with at most this many messages of each producer unconfirmed
    #[arg(short = 'c', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    confirm: Option<u32>,
    /// Has messages returned that no queue gets, and counts them
    #[arg(long)]
    mandatory: bool,
    /// How many deliveries of a consumer may be unacknowledged; 0 is no limit
    #[arg(short = 'q', long, value_name = "COUNT", default_value_t = 1000)]
    prefetch: u16,
    /// Lets the broker take deliveries as acknowledged
    #[arg(short = 'a', long)]
    auto_ack: bool,
    /// How many deliveries are acknowledged at once
    #[arg(short = 'A', long, value_name = "COUNT", default_value_t = 1, conflicts_with = "auto_ack")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    multi_ack: u64,
    /// Messages a second of each producer [default: as many as go]
    #[arg(short = 'r', long, value_name = "COUNT")]
    rate: Option<f64>,
    /// Ends after this many seconds
    #[arg(short = 'z', long, value_name = "SECONDS")]
    time: Option<f64>,
    /// Ends when each producer has published this many, and all are confirmed and consumed
    #[arg(short = 'C', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Publishes to this exchange, which is there [default: the default exchange]
    #[arg(short = 'e', long, value_name = "NAME", conflicts_with = "exchange_type")]
    exchange: Option<String>,
    /// Makes an exchange of this type and publishes to it
    #[arg(short = 't', long, value_name = "TYPE")]
    exchange_type: Option<String>,
    /// The routing keys, which each producer takes in turn [default: the names of its queues]
    #[arg(short = 'k', long, value_name = "KEY,...", value_delimiter = ',')]
    routing_key: Vec<String>,
    /// The keys that each queue is bound with [default: the routing keys, or its name]
    #[arg(long, value_name = "KEY,...", value_delimiter = ',')]
    binding_key: Vec<String>,
    /// Prints the figures as JSON, and the lines of progress to standard error
    #[arg(long)]
    json: bool,
    /// Prints no lines of progress
    #[arg(long)]
    quiet: bool,
    /// Draws rate and latency over time: FILE.svg, or FILE.html with the summary
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

impl Perf {
    /// What the options come to, or what is wrong with them.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let own_queues = self.queue.is_empty();
        let run = format!("leveret-perf-{}", std::process::id());
        let target = Target::parse(&self.url, self.tls_files())?;
        let plan = Plan {
            stomp: self.stomp_address(&target),
            target,
            producers: self.producers as usize,
            consumers: self.consumers as usize,
            queues: match own_queues {
                true => (1..=self.queues).map(|number| format!("{run}-{number}")).collect(),
                false => self.queue.clone(),
            },
            own_queues,
            queue_arguments: self.queue_arguments()?,
            consumer_arguments: match self.stream {
                true => stream::consumer_arguments(self.stream_offset.as_deref().unwrap_or("next"), &[])?,
                false => FieldTable::default(),
            },
            streams: self.stream,
            exchange: match &self.exchange_type {
                Some(_) => run,
                None => self.exchange.clone().unwrap_or_default(),
            },
            own_exchange: self.exchange_type.clone(),
            keys: self.routing_key.clone(),
            binding_keys: self.binding_key.clone(),
            sizes: self.size.clone(),
            persistent: self.persistent,
            durable: self.durable || self.stream,
            confirm: self.confirm.map(|window| window as usize),
            mandatory: self.mandatory,
            prefetch: self.prefetch,
            ack_every: (!self.auto_ack).then_some(self.multi_ack),
            rate: self.rate,
            time: self.time.map(seconds).transpose()?,
            count: self.count,
            json: self.json,
            quiet: self.quiet,
            chart: self.chart.clone(),
        };
        match self.fault(&plan) {
            Some(fault) => Err(Failure::Typed(fault)),
            None => Ok(plan),
        }
    }

    /// Where STOMP is spoken, if it is to be.
    fn stomp_address(&self, target: &Target) -> Option<String> {
        let of_url = || {
            let host = target.address.rsplit_once(':').map_or(&*target.address, |(host, _)| host);
            format!("{host}:{STOMP_PORT}")
        };
        (self.protocol == Protocol::Stomp).then(|| self.stomp_address.clone().unwrap_or_else(of_url))
    }

    fn queue_arguments(&self) -> Result<FieldTable, Failure> {
        let mut table = arguments(&self.queue_argument)?;
        if self.stream {
            table.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        }
        Ok(table)
    }

    fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            ca_certificate: self.ca_certificate.as_deref(),
            identity: self.certificate.as_deref().zip(self.key.as_deref()),
        }
    }

    /// What of the options does not go together.
    fn fault(&self, plan: &Plan) -> Option<String> {
        let names = [&plan.queues, &plan.keys, &plan.binding_keys];
        let long = names.into_iter().flatten().chain([&plan.exchange]).find(|name| name.len() > 255);
        let chart_ending = plan.chart.as_ref().map(|path| path.extension().unwrap_or_default().to_owned());
        Some(if plan.producers + plan.consumers == 0 {
            "without --producers and --consumers there is nothing to do".to_owned()
        } else if plan.queues.is_empty() && plan.consumers > 0 {
            "consumers need a queue: with --queues 0 goes --consumers 0".to_owned()
        } else if plan.queues.is_empty() && plan.exchange.is_empty() {
            "with --queues 0 messages go nowhere; name an exchange with --exchange".to_owned()
        } else if plan.stomp.is_none() && self.stomp_address.is_some() {
            "--stomp-address goes with --protocol stomp".to_owned()
        } else if plan.stomp.is_some() && plan.mandatory {
            "--mandatory is for AMQP: STOMP returns no messages".to_owned()
        } else if plan.stomp.is_some() && plan.target.tls.is_some() {
            "--protocol stomp is for amqp://: it speaks no TLS".to_owned()
        } else if plan.stomp.is_some() && plan.streams {
            "--stream is for AMQP".to_owned()
        } else if plan.streams && plan.prefetch == 0 {
            "consumers of a stream need a --prefetch".to_owned()
        } else if plan.count.is_some() && plan.producers == 0 {
            "--count counts what is published: without producers say --time".to_owned()
        } else if plan.prefetch > 0 && plan.ack_every.is_some_and(|every| every > u64::from(plan.prefetch)) {
            format!("--multi-ack {} waits for ever at --prefetch {}", self.multi_ack, plan.prefetch)
        } else if plan.rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            "--rate is from 0.001 to 1000000000 messages a second".to_owned()
        } else if let Some(name) = long {
            format!("a name has at most 255 bytes, and this has {}: {name}", name.len())
        } else if chart_ending.is_some_and(|ending| ending != "svg" && ending != "html") {
            "--chart writes FILE.svg or FILE.html".to_owned()
        } else {
            return None;
        })
    }
}

fn seconds(number: f64) -> Result<Duration, Failure> {
    let fault = || Failure::Typed("--time is from 0.1 to 100000000 seconds".to_owned());
    if (0.1..=1e8).contains(&number) { Ok(Duration::from_secs_f64(number)) } else { Err(fault()) }
}

/// Numbers are numbers, true and false are truth values, the rest is text.
fn arguments(texts: &[String]) -> Result<FieldTable, Failure> {
    let mut table = FieldTable::default();
    for text in texts {
        let fault = || Failure::Typed(format!("'{text}' is no argument; one looks like x-max-length=1000"));
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(fault)?;
        if key.len() > 255 {
            return Err(fault());
        }
        let value = match (value, value.parse::<i64>()) {
            (_, Ok(number)) => AMQPValue::LongLongInt(number),
            ("true", _) => AMQPValue::Boolean(true),
            ("false", _) => AMQPValue::Boolean(false),
            (value, _) => AMQPValue::LongString(value.into()),
        };
        table.insert(key.into(), value);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        perf: Perf,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = ["perf"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.perf.plan().map_err(|failure| failure.to_string())
    }

    #[test]
    fn without_options_one_queue_is_filled_and_emptied() {
        let plan = plan("--url amqp://h").unwrap();
        assert_eq!(plan.queues.len(), 1);
        assert_eq!(plan.routing_keys(0), plan.queues);
        assert_eq!(plan.queues_of_consumer(0), plan.queues);
        assert!(plan.own_queues && plan.bindings().is_empty() && plan.exchange.is_empty());
        assert_eq!(plan.describe(), "1 producer, 1 consumer, 1 queue, 100 bytes, prefetch 1000");
    }

    #[test]
    fn stomp_is_spoken_beside_amqp() {
        assert_eq!(plan("--url amqp://h:7/v").unwrap().stomp, None);
        let of = |line: &str| plan(line).unwrap().stomp.unwrap();
        assert_eq!(of("--url amqp://h:7/v --protocol stomp"), "h:61613");
        assert_eq!(of("--protocol stomp --url amqp://[::1]"), "[::1]:61613");
        assert_eq!(of("--protocol stomp --stomp-address other:5"), "other:5");
        let words = plan("--url amqp://h --protocol stomp").unwrap().describe();
        assert_eq!(words, "1 producer, 1 consumer, 1 queue, 100 bytes, over STOMP, prefetch 1000");
    }

    #[test]
    fn queues_are_bound_to_what_is_made_for_them() {
        let own = plan("--exchange-type topic --queues 2 --routing-key a,b --binding-key x.*,y").unwrap();
        assert_eq!(own.routing_keys(0), ["a", "b"]);
        let bindings = own.bindings();
        assert_eq!(bindings.iter().map(|(_, key)| *key).collect::<Vec<_>>(), ["x.*", "y", "x.*", "y"]);
        let by_name = plan("--exchange amq.direct").unwrap();
        assert_eq!(by_name.bindings(), [(by_name.queues[0].as_str(), by_name.queues[0].as_str())]);
        assert!(plan("--exchange e --queue q").unwrap().bindings().is_empty(), "both were there");
    }

    #[test]
    fn arguments_have_types() {
        let plan = plan("--queue-argument a=1 --queue-argument b=true --queue-argument c=quorum").unwrap();
        let table = plan.queue_arguments.inner();
        assert_eq!(table.get("a"), Some(&AMQPValue::LongLongInt(1)));
        assert_eq!(table.get("b"), Some(&AMQPValue::Boolean(true)));
        assert_eq!(table.get("c"), Some(&AMQPValue::LongString("quorum".into())));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (line, problem) in [
            ("--producers 0 --consumers 0", "nothing to do"),
            ("--queues 0", "consumers need a queue"),
            ("--queues 0 --consumers 0", "name an exchange"),
            ("--producers 0 --count 5", "say --time"),
            ("--prefetch 10 --multi-ack 11", "waits for ever"),
            ("--rate 0", "--rate is from"),
            ("--time nan", "--time is from"),
            ("--chart out.png", "FILE.svg or FILE.html"),
            ("--size 5-1", "5 is more than 1"),
            ("--queue-argument x", "'x' is no argument"),
            ("--url ftp://h", "neither amqp:// nor amqps://"),
            ("--ca-certificate ca.pem", "certificates are for amqps://"),
            ("--certificate c.pem", "--key <FILE>"),
            ("--confirm 0", "invalid value"),
            ("--stomp-address h:1", "goes with --protocol stomp"),
            ("--protocol stomp --mandatory", "--mandatory is for AMQP"),
            ("--protocol stomp --url amqps://h", "speaks no TLS"),
            ("--protocol mqtt", "possible values: amqp, stomp"),
            ("--exchange e --exchange-type t", "cannot be used with"),
        ] {
            let found = plan(line).unwrap_err();
            assert!(found.contains(problem), "{line}: {found}");
        }
    }
}
