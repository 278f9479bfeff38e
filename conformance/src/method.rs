//! The methods of AMQP 0-9-1 with RabbitMQ's extensions, as one table: name, ids, arguments. Cases name arguments as
//! here. The codec is this crate's own, so that a fault of the codec a broker uses can show; a test holds the two together.

use crate::field::{Reader, Table, write_long_string, write_short_string, write_table};
use std::sync::LazyLock;

/// The type of an argument on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One bit; neighbours share a byte.
    Bit,
    /// Unsigned, this many bytes wide.
    Int(usize),
    /// At most 255 bytes.
    Short,
    /// A string with a four-byte length.
    Long,
    /// A field table.
    Table,
}

/// One argument's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Wire {
    /// A bit.
    Bit(bool),
    /// Any unsigned integer.
    Int(u64),
    /// Either kind of string.
    Text(Vec<u8>),
    /// A field table.
    Table(Table),
}

/// One method of the protocol.
#[derive(Debug)]
pub struct Spec {
    /// Such as `queue.declare-ok`.
    pub name: &'static str,
    /// The class id.
    pub class: u16,
    /// The method id in its class.
    pub method: u16,
    /// Names and types of the arguments, in order.
    pub args: Vec<(&'static str, Kind)>,
}

impl Spec {
    /// Whether a content header and body follow this method.
    pub fn has_content(&self) -> bool {
        matches!(self.name, "basic.publish" | "basic.return" | "basic.deliver" | "basic.get-ok")
    }
}

/// A method with its arguments, one for each of the [`Spec`]'s.
#[derive(Clone, Debug)]
pub struct Method {
    /// Which method this is.
    pub spec: &'static Spec,
    /// Its arguments in order.
    pub args: Vec<Wire>,
}

const TABLE: &[&str] = &[
    "connection.start 10.10 octet:version_major octet:version_minor table:server_properties long:mechanisms long:locales",
    "connection.start-ok 10.11 table:client_properties short:mechanism long:response short:locale",
    "connection.secure 10.20 long:challenge",
    "connection.secure-ok 10.21 long:response",
    "connection.tune 10.30 u16:channel_max u32:frame_max u16:heartbeat",
    "connection.tune-ok 10.31 u16:channel_max u32:frame_max u16:heartbeat",
    "connection.open 10.40 short:virtual_host short:capabilities bit:insist",
    "connection.open-ok 10.41 short:known_hosts",
    "connection.close 10.50 u16:reply_code short:reply_text u16:class_id u16:method_id",
    "connection.close-ok 10.51",
    "connection.blocked 10.60 short:reason",
    "connection.unblocked 10.61",
    "connection.update-secret 10.70 long:new_secret short:reason",
    "connection.update-secret-ok 10.71",
    "channel.open 20.10 short:out_of_band",
    "channel.open-ok 20.11 long:channel_id",
    "channel.flow 20.20 bit:active",
    "channel.flow-ok 20.21 bit:active",
    "channel.close 20.40 u16:reply_code short:reply_text u16:class_id u16:method_id",
    "channel.close-ok 20.41",
    "access.request 30.10 short:realm bit:exclusive bit:passive bit:active bit:write bit:read",
    "access.request-ok 30.11 u16:ticket",
    "exchange.declare 40.10 u16:ticket short:exchange short:type bit:passive bit:durable bit:auto_delete bit:internal bit:nowait table:arguments",
    "exchange.declare-ok 40.11",
    "exchange.delete 40.20 u16:ticket short:exchange bit:if_unused bit:nowait",
    "exchange.delete-ok 40.21",
    "exchange.bind 40.30 u16:ticket short:destination short:source short:routing_key bit:nowait table:arguments",
    "exchange.bind-ok 40.31",
    "exchange.unbind 40.40 u16:ticket short:destination short:source short:routing_key bit:nowait table:arguments",
    "exchange.unbind-ok 40.51",
    "queue.declare 50.10 u16:ticket short:queue bit:passive bit:durable bit:exclusive bit:auto_delete bit:nowait table:arguments",
    "queue.declare-ok 50.11 short:queue u32:message_count u32:consumer_count",
    "queue.bind 50.20 u16:ticket short:queue short:exchange short:routing_key bit:nowait table:arguments",
    "queue.bind-ok 50.21",
    "queue.purge 50.30 u16:ticket short:queue bit:nowait",
    "queue.purge-ok 50.31 u32:message_count",
    "queue.delete 50.40 u16:ticket short:queue bit:if_unused bit:if_empty bit:nowait",
    "queue.delete-ok 50.41 u32:message_count",
    "queue.unbind 50.50 u16:ticket short:queue short:exchange short:routing_key table:arguments",
    "queue.unbind-ok 50.51",
    "basic.qos 60.10 u32:prefetch_size u16:prefetch_count bit:global",
    "basic.qos-ok 60.11",
    "basic.consume 60.20 u16:ticket short:queue short:consumer_tag bit:no_local bit:no_ack bit:exclusive bit:nowait table:arguments",
    "basic.consume-ok 60.21 short:consumer_tag",
    "basic.cancel 60.30 short:consumer_tag bit:nowait",
    "basic.cancel-ok 60.31 short:consumer_tag",
    "basic.publish 60.40 u16:ticket short:exchange short:routing_key bit:mandatory bit:immediate",
    "basic.return 60.50 u16:reply_code short:reply_text short:exchange short:routing_key",
    "basic.deliver 60.60 short:consumer_tag u64:delivery_tag bit:redelivered short:exchange short:routing_key",
    "basic.get 60.70 u16:ticket short:queue bit:no_ack",
    "basic.get-ok 60.71 u64:delivery_tag bit:redelivered short:exchange short:routing_key u32:message_count",
    "basic.get-empty 60.72 short:cluster_id",
    "basic.ack 60.80 u64:delivery_tag bit:multiple",
    "basic.reject 60.90 u64:delivery_tag bit:requeue",
    "basic.recover-async 60.100 bit:requeue",
    "basic.recover 60.110 bit:requeue",
    "basic.recover-ok 60.111",
    "basic.nack 60.120 u64:delivery_tag bit:multiple bit:requeue",
    "confirm.select 85.10 bit:nowait",
    "confirm.select-ok 85.11",
    "tx.select 90.10",
    "tx.select-ok 90.11",
    "tx.commit 90.20",
    "tx.commit-ok 90.21",
    "tx.rollback 90.30",
    "tx.rollback-ok 90.31",
];

static SPECS: LazyLock<Vec<Spec>> = LazyLock::new(|| TABLE.iter().map(|line| spec(line)).collect());

fn spec(line: &'static str) -> Spec {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let (class, method) = words.next().and_then(|ids| ids.split_once('.')).expect("the table gives the ids");
    let number = |text: &str| text.parse().expect("the table's ids are numbers");
    let args = words.map(|word| {
        let (kind, name) = word.split_once(':').expect("the table types every argument");
        (name, kind_of(kind))
    });
    Spec { name, class: number(class), method: number(method), args: args.collect() }
}

fn kind_of(name: &str) -> Kind {
    match name {
        "bit" => Kind::Bit,
        "octet" => Kind::Int(1),
        "u16" => Kind::Int(2),
        "u32" => Kind::Int(4),
        "u64" => Kind::Int(8),
        "short" => Kind::Short,
        "long" => Kind::Long,
        _ => Kind::Table,
    }
}

/// Every method there is.
pub fn specs() -> &'static [Spec] {
    &SPECS
}

/// The method of this name, if there is one.
pub fn by_name(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}

/// A value of this kind that says nothing: false, 0, empty.
pub fn empty(kind: Kind) -> Wire {
    match kind {
        Kind::Bit => Wire::Bit(false),
        Kind::Int(_) => Wire::Int(0),
        Kind::Short | Kind::Long => Wire::Text(Vec::new()),
        Kind::Table => Wire::Table(Vec::new()),
    }
}

/// Appends one value, unless it is a bit (those are packed by [`Method::encode`]).
pub fn write_value(into: &mut Vec<u8>, kind: Kind, value: &Wire) {
    match (kind, value) {
        (Kind::Int(width), Wire::Int(value)) => into.extend_from_slice(&value.to_be_bytes()[8 - width..]),
        (Kind::Short, Wire::Text(text)) => write_short_string(into, text),
        (Kind::Long, Wire::Text(text)) => write_long_string(into, text),
        (Kind::Table, Wire::Table(table)) => write_table(into, table),
        _ => {}
    }
}

/// Reads one value that is no bit.
pub fn read_value(reader: &mut Reader<'_>, kind: Kind) -> Result<Wire, String> {
    Ok(match kind {
        Kind::Bit => Wire::Bit(false),
        Kind::Int(width) => Wire::Int(reader.unsigned(width)?),
        Kind::Short => Wire::Text(reader.short_string()?),
        Kind::Long => Wire::Text(reader.long_string()?.to_vec()),
        Kind::Table => Wire::Table(reader.table()?),
    })
}

impl Method {
    /// The payload of a method frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.spec.class.to_be_bytes());
        out.extend_from_slice(&self.spec.method.to_be_bytes());
        let mut bit = 0;
        for ((_, kind), value) in self.spec.args.iter().zip(&self.args) {
            let Wire::Bit(set) = value else {
                write_value(&mut out, *kind, value);
                bit = 0;
                continue;
            };
            if bit % 8 == 0 {
                out.push(0);
            }
            if let Some(last) = out.last_mut() {
                *last |= u8::from(*set) << (bit % 8);
            }
            bit += 1;
        }
        out
    }

    /// Reads the payload of a method frame; the error says what is wrong with it.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(payload);
        let (class, method) = (reader.unsigned(2)? as u16, reader.unsigned(2)? as u16);
        let spec = SPECS
            .iter()
            .find(|spec| (spec.class, spec.method) == (class, method))
            .ok_or_else(|| format!("no method {class}.{method} is known"))?;
        let mut args = Vec::new();
        let (mut bit, mut byte) = (0, 0);
        for (name, kind) in &spec.args {
            if *kind == Kind::Bit {
                if bit % 8 == 0 {
                    byte = reader.unsigned(1)?;
                }
                args.push(Wire::Bit(byte >> (bit % 8) & 1 == 1));
                bit += 1;
                continue;
            }
            bit = 0;
            let value = read_value(&mut reader, *kind);
            args.push(value.map_err(|reason| format!("{} {name}: {reason}", spec.name))?);
        }
        if reader.rest().is_empty() {
            return Ok(Self { spec, args });
        }
        Err(format!("{} has {} bytes too many", spec.name, reader.rest().len()))
    }

    /// The value of the argument of this name.
    pub fn arg(&self, name: &str) -> Option<&Wire> {
        self.spec.args.iter().zip(&self.args).find(|((key, _), _)| *key == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::frame::WriteContext;
    use amq_protocol::protocol::{gen_class, parse_class};

    /// Arguments the specification reserves; that codec does not keep them.
    const RESERVED: [&str; 9] = [
        "ticket",
        "out_of_band",
        "channel_id",
        "capabilities",
        "insist",
        "known_hosts",
        "cluster_id",
        "prefetch_size",
        "no_local",
    ];

    fn filled(spec: &'static Spec) -> Method {
        let value = |(position, (name, kind)): (usize, &(&str, Kind))| match kind {
            _ if RESERVED.contains(name) => empty(*kind),
            Kind::Bit => Wire::Bit(position % 2 == 0),
            Kind::Int(width) => Wire::Int(0x0102_0304_0506_0708 >> (64 - 8 * width)),
            Kind::Short | Kind::Long => Wire::Text(format!("text {position}").into_bytes()),
            Kind::Table => Wire::Table(Vec::new()),
        };
        Method { spec, args: spec.args.iter().enumerate().map(value).collect() }
    }

    #[test]
    fn amq_protocol_reads_and_writes_every_method_the_same() {
        for spec in specs() {
            let method = filled(spec);
            let bytes = method.encode();
            assert_eq!(Method::decode(&bytes).unwrap().args, method.args, "{}", spec.name);
            let (rest, class) = parse_class(bytes.as_slice()).expect(spec.name);
            assert!(rest.is_empty(), "{}", spec.name);
            let written = gen_class(&class)(WriteContext::from(Vec::new())).unwrap().into_inner().0;
            if spec.class != 30 {
                assert_eq!(written, bytes, "{}", spec.name);
            }
        }
    }
}
