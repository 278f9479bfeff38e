//! Opening a connection up to a stage, and the calls that wait for one answer.

use super::*;
use crate::field::{Field, Value};
use crate::text::parse;

impl Runner<'_> {
    /// Opens connection `letter` up to `stage`.
    pub(super) fn connect(&mut self, letter: char, stage: Stage, args: &[Arg]) -> Result<()> {
        let id = self.transport.open()?;
        self.connections.insert(letter, Connection { id, ..Connection::default() });
        if stage == Stage::Socket {
            return Ok(());
        }
        self.transport.send(id, b"AMQP\x00\x00\x09\x01");
        let start = self.answer((letter, 0), "connection.start")?;
        if self.broker.is_none() {
            self.broker = Some(told_by(&start));
        }
        if stage == Stage::Start {
            return Ok(());
        }
        self.log_in(letter, args)?;
        let tune = self.answer((letter, 0), "connection.tune")?;
        if stage == Stage::Login {
            return Ok(());
        }
        self.open_vhost(letter, args, &tune)
    }

    fn log_in(&mut self, letter: char, args: &[Arg]) -> Result<()> {
        let user = given(args, "user").unwrap_or("$user".into());
        let password = given(args, "password").unwrap_or("$password".into());
        let capabilities = match given(args, "capabilities") {
            Some(list) => list.split(',').filter(|name| *name != "none").map(str::to_string).collect(),
            None => CAPABILITIES.map(str::to_string).to_vec(),
        };
        let capabilities: Vec<String> = capabilities.iter().map(|name| format!("{name}=true")).collect();
        let line = format!(
            "connection.start-ok client_properties={{product=leveret-conformance capabilities={{{}}}}} \
             mechanism=PLAIN response=\"\\0{user}\\0{password}\" locale=en_US",
            capabilities.join(" ")
        );
        self.send((letter, 0), &parse(&line)?)
    }

    fn open_vhost(&mut self, letter: char, args: &[Arg], tune: &Method) -> Result<()> {
        let offered = |name| match tune.arg(name) {
            Some(Wire::Int(number)) => *number,
            _ => 0,
        };
        let number = |name: &str, default: u64| match given(args, name) {
            Some(text) => text.parse().map_err(|_| format!("{name}: a number expected")),
            None => Ok(default),
        };
        let channel_max = number("channel_max", offered("channel_max"))?;
        let frame_max = number("frame_max", offered("frame_max"))?;
        let heartbeat = number("heartbeat", 0)?;
        let line = format!(
            "connection.tune-ok channel_max={channel_max} frame_max={frame_max} heartbeat={heartbeat}"
        );
        self.send((letter, 0), &parse(&line)?)?;
        let vhost = given(args, "vhost").unwrap_or(self.options.vhost.replace('$', "$$"));
        self.send((letter, 0), &parse(&format!("connection.open virtual_host=\"{vhost}\""))?)?;
        self.answer((letter, 0), "connection.open-ok")?;
        let connection = self.connection(letter)?;
        connection.ready = true;
        connection.frame_max = frame_max as usize;
        connection.heartbeat = heartbeat;
        Ok(())
    }

    /// Sends a method without arguments and waits for its answer.
    pub(super) fn call(&mut self, place: Place, method: &str, answer: &str) -> Result<()> {
        self.send(place, &parse(method)?)?;
        self.answer(place, answer).map(|_| ())
    }

    /// The next method of a place, which must be this one.
    pub(super) fn answer(&mut self, place: Place, name: &str) -> Result<Method> {
        match self.next(place, Instant::now() + self.options.timeout) {
            Some(Item::Method(method, _)) if method.spec.name == name => Ok(method),
            Some(other) => Err(format!("{name} expected, got {}", show::item(&other))),
            None => Err(format!("{name} expected, nothing came")),
        }
    }
}

const CAPABILITIES: [&str; 6] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
];

fn given(args: &[Arg], name: &str) -> Option<String> {
    args.iter().find(|arg| arg.key.as_deref() == Some(name)).and_then(|arg| match &arg.term {
        Term::Text { text, .. } => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

/// Leveret says so in a property of its own; anything else is taken for RabbitMQ, of the version that it says.
fn told_by(start: &Method) -> Broker {
    let Some(Wire::Table(table)) = start.arg("server_properties") else { return Broker::RabbitMq3 };
    if table.iter().any(|(name, _)| name == b"leveret_version") {
        return Broker::Leveret;
    }
    let is_new = |(name, field): &(Vec<u8>, Field)| {
        name == b"version" && matches!(&field.value, Value::Bytes(version) if !version.starts_with(b"3."))
    };
    if table.iter().any(is_new) { Broker::RabbitMq4 } else { Broker::RabbitMq3 }
}
