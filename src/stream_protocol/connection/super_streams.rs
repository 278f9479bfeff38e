//! Super streams: making and deleting them, their partitions, and which of those a key leads to.

use super::Common;
use super::open::Open;
use super::topology::{refused, stream_arguments};
use crate::broker::queue::QueueHandle;
use crate::broker::topology::super_streams::SuperStreamDeclaration;
use crate::broker::{Actor, Done};
use crate::message::Name;
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};

impl Open {
    pub(super) fn create_super_stream(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let (partitions, binding_keys) = (owned(fields.texts()?), owned(fields.texts()?));
        let arguments = fields.map()?;
        let created = stream_arguments(&arguments).and_then(|arguments| {
            let declaration = SuperStreamDeclaration {
                name: name.to_owned(),
                partitions,
                binding_keys,
                arguments,
                ..SuperStreamDeclaration::default()
            };
            self.may_have(&declaration, common)?;
            let actor = Actor::Connection(common.id);
            let created = self.vhost.create_super_stream(&declaration, actor, &mut common.turn);
            created.map_err(|error| refused(&error, common))
        });
        self.answer_super_stream(key::CREATE_SUPER_STREAM, correlation, created, common);
        Ok(())
    }

    pub(super) fn delete_super_stream(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let deleted = match self.vhost.super_stream(name) {
            Err(error) => Err(Code::from(&error)),
            Ok(exchange) => {
                let partitions =
                    self.vhost.partitions(&exchange).iter().map(|name| name.to_string()).collect();
                let declaration = SuperStreamDeclaration {
                    name: name.to_owned(),
                    partitions,
                    ..SuperStreamDeclaration::default()
                };
                self.may_have(&declaration, common).and_then(|()| {
                    let actor = Actor::Connection(common.id);
                    let deleted = self.vhost.delete_super_stream(name, actor, &mut common.turn);
                    deleted.map_err(|error| refused(&error, common))
                })
            }
        };
        self.answer_super_stream(key::DELETE_SUPER_STREAM, correlation, deleted, common);
        Ok(())
    }

    /// Checks that the user may have such a super stream made, or deleted.
    fn may_have(&mut self, declaration: &SuperStreamDeclaration, common: &Common) -> Result<(), Code> {
        let permissions = common.protocol.broker.permissions();
        for (access, resource) in declaration.needs(self.vhost.name()) {
            let checked = self.grants.check(permissions, access, resource.kind, &resource.name);
            checked.map_err(|error| refused(&error, common))?;
        }
        Ok(())
    }

    fn answer_super_stream(
        &mut self,
        key: u16,
        correlation: u32,
        done: Result<Done<()>, Code>,
        common: &mut Common,
    ) {
        match done {
            Ok(done) => self.answer_when_durable(key, correlation, done),
            Err(code) => self.answer_with(key, correlation, Err(code), common),
        }
    }

    /// The partitions that a routing key leads to: none is no fault.
    pub(super) fn route(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (routing_key, name) = (fields.text()?, fields.text()?);
        let found = self.vhost.exchange(name);
        let streams = found.map(|exchange| self.vhost.route_super_stream(&exchange, routing_key));
        put_streams(key::ROUTE, correlation, streams, common);
        Ok(())
    }

    /// Which partition of a super stream that is.
    pub(super) fn partition(&self, super_stream: &str, stream: &QueueHandle) -> Option<usize> {
        let exchange = self.vhost.exchange(super_stream)?;
        let name = &stream.definition().name;
        self.vhost.partitions(&exchange).iter().position(|partition| partition == name)
    }

    /// The partitions of a super stream, in their order.
    pub(super) fn partitions(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let streams = self.vhost.exchange(name).map(|exchange| self.vhost.partitions(&exchange));
        put_streams(key::PARTITIONS, correlation, streams, common);
        Ok(())
    }
}

fn put_streams(key: u16, correlation: u32, streams: Option<Vec<Name>>, common: &mut Common) {
    let code = if streams.is_some() { Code::Ok } else { Code::StreamDoesNotExist };
    let streams = streams.unwrap_or_default();
    let mut answer = FrameWriter::response(key, correlation);
    answer.u16(code.number()).count(streams.len());
    for stream in &streams {
        answer.text(stream);
    }
    answer.put(&mut common.out);
}
