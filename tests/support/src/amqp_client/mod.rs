//! A small AMQP client over any [`Transport`], for tests that have to know exactly what was sent and what was answered. It
//! speaks with the conformance crate's codec, never the broker's.

pub mod tcp;
pub mod tls;

use leveret_conformance::field::{Field, Table, Value};
use leveret_conformance::frame::{self, Assembly, Content, Item, cut, encode, encode_header};
use leveret_conformance::method::{Method, Wire, by_name, empty};
use leveret_conformance::{Arrived, ConnectionId, Transport};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connection has ended, and why if the broker said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone(pub String);

/// One connection.
pub struct Client {
    id: ConnectionId,
    input: Vec<u8>,
    channels: BTreeMap<u16, Assembly>,
    came: VecDeque<(u16, Method, Option<Content>)>,
    frame_max: usize,
    closed: Option<Gone>,
}

/// A text argument.
pub fn text(text: &str) -> Wire {
    Wire::Text(text.as_bytes().to_vec())
}

/// A table argument.
pub fn table(fields: &[(&str, Field)]) -> Wire {
    Wire::Table(fields.iter().map(|(name, field)| (name.as_bytes().to_vec(), field.clone())).collect())
}

/// A field that holds a string.
pub fn string(text: &str) -> Field {
    Field { tag: b'S', value: Value::Bytes(text.as_bytes().to_vec()) }
}

/// A field that holds an integer.
pub fn integer(number: i128) -> Field {
    Field { tag: b'I', value: Value::Int(number) }
}

/// A field of a table.
pub fn field<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    table.iter().find(|(other, _)| other == name.as_bytes()).map(|(_, field)| &field.value)
}

/// A method; arguments that are not given say nothing.
pub fn method(name: &str, given: &[(&str, Wire)]) -> Method {
    let spec = by_name(name).unwrap();
    for (name, _) in given {
        assert!(spec.args.iter().any(|(known, _)| known == name), "{} has no {name}", spec.name);
    }
    let value = |name: &str, kind| {
        given.iter().find(|(other, _)| *other == name).map_or_else(|| empty(kind), |(_, value)| value.clone())
    };
    Method { spec, args: spec.args.iter().map(|(name, kind)| value(name, *kind)).collect() }
}

/// The number in an argument.
pub fn number(method: &Method, name: &str) -> u64 {
    match method.arg(name) {
        Some(Wire::Int(number)) => *number,
        other => panic!("{} {name}: {other:?} is no number", method.spec.name),
    }
}

/// Whether a bit is set.
pub fn bit(method: &Method, name: &str) -> bool {
    method.arg(name) == Some(&Wire::Bit(true))
}

impl Client {
    /// Opens a connection as guest.
    pub fn connect(transport: &mut dyn Transport) -> Result<Client, Gone> {
        Client::log_in(transport, "PLAIN", "\0guest\0guest")
    }

    /// Opens a connection with a mechanism of SASL, if that is offered.
    pub fn log_in(transport: &mut dyn Transport, mechanism: &str, response: &str) -> Result<Client, Gone> {
        let (client, offered) = Client::greet(transport)?;
        if !offered.split(' ').any(|name| name == mechanism) {
            return Err(Gone(format!("only {offered} is offered")));
        }
        client.authenticate(transport, mechanism, response)
    }

    /// Begins a connection, and says which mechanisms are offered.
    pub fn greet(transport: &mut dyn Transport) -> Result<(Client, String), Gone> {
        let id = transport.open().map_err(Gone)?;
        let mut client = Client {
            id,
            input: Vec::new(),
            channels: BTreeMap::new(),
            came: VecDeque::new(),
            frame_max: 4096,
            closed: None,
        };
        transport.send(id, b"AMQP\x00\x00\x09\x01");
        let start = client.answer(transport, 0, "connection.start")?;
        let Some(Wire::Text(offered)) = start.arg("mechanisms") else { panic!("no mechanisms in {start:?}") };
        let offered = String::from_utf8_lossy(offered).into_owned();
        Ok((client, offered))
    }

    /// Goes on with a mechanism, offered or not, until the vhost is open.
    pub fn authenticate(
        self,
        transport: &mut dyn Transport,
        mechanism: &str,
        response: &str,
    ) -> Result<Client, Gone> {
        let mut client = self;
        let can = |name: &str| (name.as_bytes().to_vec(), Field { tag: b't', value: Value::Bool(true) });
        let capabilities =
            ["connection.blocked", "basic.nack", "authentication_failure_close"].into_iter().map(can);
        let capabilities = Value::Table(capabilities.collect());
        let properties = table(&[("capabilities", Field { tag: b'F', value: capabilities })]);
        let login = [
            ("client_properties", properties),
            ("mechanism", text(mechanism)),
            ("response", text(response)),
            ("locale", text("en_US")),
        ];
        client.send(transport, 0, &method("connection.start-ok", &login));
        let tune = client.answer(transport, 0, "connection.tune")?;
        let frame_max = number(&tune, "frame_max");
        let agreed =
            [("channel_max", Wire::Int(number(&tune, "channel_max"))), ("frame_max", Wire::Int(frame_max))];
        client.send(transport, 0, &method("connection.tune-ok", &agreed));
        client.frame_max = frame_max as usize;
        client.call(transport, 0, &method("connection.open", &[("virtual_host", text("/"))]))?;
        Ok(client)
    }

    /// Opens a channel.
    pub fn open_channel(&mut self, transport: &mut dyn Transport, number: u16) -> Result<(), Gone> {
        self.call(transport, number, &method("channel.open", &[])).map(|_| ())
    }

    /// Sends a method.
    pub fn send(&mut self, transport: &mut dyn Transport, channel: u16, method: &Method) {
        transport.send(self.id, &encode(frame::METHOD, channel, &method.encode()));
    }

    /// Sends bytes that [`Client::put_publish`] and its like have put together.
    pub fn send_bytes(&mut self, transport: &mut dyn Transport, bytes: &[u8]) {
        transport.send(self.id, bytes);
    }

    /// Puts a basic.publish with its content into `out`.
    pub fn put_publish(
        &self,
        out: &mut Vec<u8>,
        channel: u16,
        (exchange, key): (&str, &str),
        properties: &[(&'static str, Wire)],
        body: &[u8],
    ) {
        let arguments =
            [("exchange", text(exchange)), ("routing_key", text(key)), ("mandatory", Wire::Bit(true))];
        out.extend(encode(frame::METHOD, channel, &method("basic.publish", &arguments).encode()));
        let header = encode_header(60, 0, body.len() as u64, properties);
        out.extend(encode(frame::HEADER, channel, &header));
        for piece in body.chunks(self.frame_max - 8) {
            out.extend(encode(frame::BODY, channel, piece));
        }
    }

    /// Sends a method and waits for the `-ok` that answers it.
    pub fn call(
        &mut self,
        transport: &mut dyn Transport,
        channel: u16,
        method: &Method,
    ) -> Result<Method, Gone> {
        self.send(transport, channel, method);
        self.answer(transport, channel, &format!("{}-ok", method.spec.name))
    }

    /// Waits for a method of that name. Others that come meanwhile wait to be taken.
    pub fn answer(
        &mut self,
        transport: &mut dyn Transport,
        channel: u16,
        name: &str,
    ) -> Result<Method, Gone> {
        let deadline = Instant::now() + PATIENCE;
        let mut looked = 0;
        loop {
            let is_answer = |(at, method, _): &(u16, Method, _)| *at == channel && method.spec.name == name;
            if let Some(at) = self.came.iter().skip(looked).position(is_answer) {
                let (_, answer, _) = self.came.remove(looked + at).unwrap();
                return Ok(answer);
            }
            looked = self.came.len();
            if let Some(gone) = &self.closed {
                return Err(gone.clone());
            }
            if self.read(transport, Duration::from_millis(20)) == Arrived::Quiet && transport.exact() {
                panic!("{name} does not come");
            }
            assert!(Instant::now() < deadline, "{name} does not come");
        }
    }

    /// What has come, in order, without waiting for more. Once all was taken of a connection that has ended, says so.
    pub fn take(
        &mut self,
        transport: &mut dyn Transport,
    ) -> Result<Vec<(u16, Method, Option<Content>)>, Gone> {
        while self.closed.is_none() && self.read(transport, Duration::ZERO) == Arrived::Data {}
        match &self.closed {
            Some(gone) if self.came.is_empty() => Err(gone.clone()),
            _ => Ok(self.came.drain(..).collect()),
        }
    }

    /// Waits until something has come, and takes it.
    pub fn wait(
        &mut self,
        transport: &mut dyn Transport,
    ) -> Result<Vec<(u16, Method, Option<Content>)>, Gone> {
        let deadline = Instant::now() + PATIENCE;
        while self.closed.is_none() && self.came.is_empty() {
            assert!(Instant::now() < deadline, "nothing comes");
            let arrived = self.read(transport, Duration::from_millis(20));
            assert!(arrived != Arrived::Quiet || !transport.exact(), "nothing comes");
        }
        self.take(transport)
    }

    /// Ends the connection without a word.
    pub fn hang_up(self, transport: &mut dyn Transport) {
        transport.close(self.id);
    }

    fn read(&mut self, transport: &mut dyn Transport, wait: Duration) -> Arrived {
        let arrived = transport.receive(self.id, wait, &mut self.input);
        while let Some(frame) = cut(&mut self.input).unwrap() {
            let channel = frame.channel;
            match self.channels.entry(channel).or_default().accept(frame) {
                Some(Item::Method(method, content)) => self.came(transport, channel, method, content),
                Some(Item::Fault(reason)) => panic!("channel {channel}: {reason}"),
                Some(Item::Heartbeat | Item::Protocol(_)) | None => {}
            }
        }
        if arrived == Arrived::Closed && self.closed.is_none() {
            self.closed = Some(Gone("the socket was closed".to_owned()));
        }
        arrived
    }

    fn came(&mut self, transport: &mut dyn Transport, channel: u16, came: Method, content: Option<Content>) {
        match came.spec.name {
            "connection.close" => {
                self.closed = Some(Gone(show(&came)));
                self.send(transport, 0, &method("connection.close-ok", &[]));
            }
            "channel.close" => panic!("channel {channel} was closed: {}", show(&came)),
            "basic.return" => panic!("channel {channel}: a message came back: {}", show(&came)),
            _ => self.came.push_back((channel, came, content)),
        }
    }
}

fn show(close: &Method) -> String {
    match close.arg("reply_text") {
        Some(Wire::Text(text)) => {
            format!("{} {}", number(close, "reply_code"), String::from_utf8_lossy(text))
        }
        other => format!("{other:?}"),
    }
}
