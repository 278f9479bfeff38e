//! Making and deleting streams, and what there is to know of them.

use super::Common;
use super::open::Open;
use crate::broker::access::permissions::Access;
use crate::broker::error::BrokerError;
use crate::broker::queue::{QueueDeclaration, QueueType};
use crate::broker::topology::RESERVED_PREFIX;
use crate::broker::{Actor, Done};
use crate::message::{FieldTable, Value};
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};

/// Arguments that are numbers; they come as texts.
const NUMBERS: [&str; 4] =
    ["max-length-bytes", "stream-max-segment-size-bytes", "stream-filter-size-bytes", "initial-cluster-size"];

/// Arguments that are texts.
const TEXTS: [&str; 2] = ["max-age", "queue-leader-locator"];

/// No leader, and no replicas: all streams are here.
const NO_BROKER: u16 = 0xffff;

impl Open {
    pub(super) fn create(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (name, arguments) = (fields.text()?, fields.map()?);
        match self.create_stream(name, &arguments, common) {
            Ok(done) => self.answer_when_durable(key::CREATE, correlation, done),
            Err(code) => self.answer_with(key::CREATE, correlation, Err(code), common),
        }
        Ok(())
    }

    fn create_stream(
        &mut self,
        name: &str,
        arguments: &[(&str, &str)],
        common: &mut Common,
    ) -> Result<Done<()>, Code> {
        self.may_use(Access::Configure, name, common)?;
        if name.is_empty() || name.starts_with(RESERVED_PREFIX) {
            return Err(Code::PreconditionFailed);
        }
        let declaration = QueueDeclaration {
            name: name.into(),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: stream_arguments(arguments)?,
        };
        let existed = self.vhost.queue(name).is_some();
        let declared = self.vhost.declare_queue(declaration, Actor::Connection(common.id), &mut common.turn);
        match declared {
            Ok(_) if existed => Err(Code::StreamExists),
            Ok(Done::Now(_)) => Ok(Done::Now(())),
            Ok(Done::Later(_, ticket)) => Ok(Done::Later((), ticket)),
            Err(error) => Err(refused(&error, common)),
        }
    }

    pub(super) fn delete(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let deleted = self.stream(name, Access::Configure, common).and_then(|_| {
            let actor = Actor::Connection(common.id);
            let deleted = self.vhost.delete_queue(name, false, false, actor, &mut common.turn);
            deleted.map_err(|error| refused(&error, common))
        });
        match deleted {
            Ok(done) => self.answer_when_durable(key::DELETE, correlation, done),
            Err(code) => self.answer_with(key::DELETE, correlation, Err(code), common),
        }
        Ok(())
    }

    /// Answers a request that has changed something, when that is durable.
    pub(super) fn answer_when_durable<T>(&mut self, key: u16, correlation: u32, done: Done<T>) {
        if let Done::Later(_, ticket) = done {
            self.waiting.note(Some(ticket.record()));
        }
        self.waiting.say(FrameWriter::response(key, correlation).u16(Code::Ok.number()).finish());
    }

    pub(super) fn metadata(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        // Where a stream is may be asked by all: also who may only publish to it has to know.
        let is_there = |name: &&str| {
            let queue = self.vhost.accessible_queue(name, Actor::Connection(common.id));
            queue.is_ok_and(|queue| queue.definition().queue_type == QueueType::Stream)
        };
        let names: Vec<(&str, bool)> =
            fields.texts()?.into_iter().map(|name| (name, is_there(&name))).collect();
        let (host, port) = common.advertised();
        let mut answer = FrameWriter::response(key::METADATA, correlation);
        if names.iter().any(|(_, is_there)| *is_there) {
            answer.count(1).u16(0).text(&host).u32(port.into());
        } else {
            answer.count(0);
        }
        answer.count(names.len());
        for (name, is_there) in names {
            let (code, leader) = if is_there { (Code::Ok, 0) } else { (Code::StreamDoesNotExist, NO_BROKER) };
            answer.text(name).u16(code.number()).u16(leader).count(0);
        }
        answer.put(&mut common.out);
        Ok(())
    }

    pub(super) fn stream_stats(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let mut answer = FrameWriter::response(key::STREAM_STATS, correlation);
        match self.stream(name, Access::Read, common) {
            Ok(stream) => {
                let state = stream.stream_state().unwrap_or_default();
                let is_empty = state.next_offset <= state.first_offset;
                let offset =
                    |offset: u64| if is_empty { -1 } else { i64::try_from(offset).unwrap_or(i64::MAX) };
                let last = offset(state.next_offset.saturating_sub(1));
                let stats = [
                    ("committed_chunk_id", last),
                    ("committed_offset", last),
                    ("first_chunk_id", offset(state.first_offset)),
                    ("last_chunk_id", last),
                ];
                answer.u16(Code::Ok.number()).count(stats.len());
                for (name, value) in stats {
                    answer.text(name).i64(value);
                }
            }
            Err(code) => {
                answer.u16(code.number()).count(0);
            }
        }
        answer.put(&mut common.out);
        Ok(())
    }
}

/// The arguments of a declaration that has them with their names' beginnings.
pub(super) fn stream_arguments(given: &[(&str, &str)]) -> Result<FieldTable, Code> {
    let mut arguments: FieldTable = [("x-queue-type", Value::from("stream"))].into_iter().collect();
    for (name, value) in given {
        let value = if NUMBERS.contains(name) {
            Value::I64(value.parse().map_err(|_| Code::PreconditionFailed)?)
        } else if TEXTS.contains(name) {
            Value::from(*value)
        } else {
            // As in RabbitMQ, what is not known is passed over.
            continue;
        };
        arguments.insert(format!("x-{name}").as_str(), value);
    }
    Ok(arguments)
}

/// What the core refuses, and says so in the log of who looks closely: a code says little.
pub(super) fn refused(error: &BrokerError, common: &Common) -> Code {
    tracing::debug!("connection {} ({}): {error}", common.id, common.peer.name);
    Code::from(error)
}
