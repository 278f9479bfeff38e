//! Offsets that clients have stored for a name.

use super::Common;
use super::input::Next;
use super::open::Open;
use crate::broker::access::permissions::Access;
use crate::message::{ConsumerId, LinkId};
use crate::stream_protocol::code::Code;
use crate::stream_protocol::frame::{Fields, FrameWriter, Malformed, key};

/// What is asked has a link behind those of publishers.
const QUESTIONS: LinkId = LinkId(512);

/// Offsets of a connection that may be looked for at once.
const QUESTIONS_MAX: usize = 256;

/// The type of an offset that is one.
const OFFSET: u16 = 4;

impl Open {
    /// Says which offset a consumer would begin at.
    pub(super) fn resolve_offset(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let name = fields.text()?;
        let offset = super::subscribe::offset(&mut fields)?.ok_or(Malformed)?;
        let id = common.protocol.broker.next_consumer_id();
        let resolved = match self.stream(name, Access::Read, common) {
            Ok(_) if self.questions.len() >= QUESTIONS_MAX => Err(Code::PreconditionFailed),
            Ok(stream) => {
                let who = (&common.outbox, QUESTIONS, id);
                stream.resolve_offset(offset, who).map_err(|error| Code::from(&error))
            }
            Err(code) => Err(code),
        };
        match resolved {
            Ok(Some(offset)) => put_resolved(correlation, offset, common),
            Ok(None) => {
                self.questions.insert(id, correlation);
            }
            Err(code) => {
                let mut answer = FrameWriter::response(key::RESOLVE_OFFSET_SPEC, correlation);
                answer.u16(code.number()).u16(OFFSET).u64(0).put(&mut common.out);
            }
        }
        Ok(())
    }

    /// An offset was found that was asked for.
    pub(super) fn resolved(&mut self, question: ConsumerId, offset: u64, common: &mut Common) {
        if let Some(correlation) = self.questions.remove(&question) {
            put_resolved(correlation, offset, common);
        }
    }

    /// Stores an offset. Nothing is answered, not even to errors.
    pub(super) fn store_offset(
        &mut self,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<Next, Malformed> {
        let (reference, name, offset) = (fields.text()?, fields.text()?, fields.u64()?);
        // A client that may read a stream may say how far that has got.
        let stored = match self.stream(name, Access::Read, common) {
            Ok(stream) if !reference.is_empty() => {
                stream.store_offset(reference, offset, &mut common.turn).map_err(|error| Code::from(&error))
            }
            Ok(_) => Err(Code::PreconditionFailed),
            Err(code) => Err(code),
        };
        if let Err(code) = stored {
            tracing::debug!(
                "connection {} ({}): an offset of stream '{name}' for '{reference}' is not stored: {code:?}",
                common.id,
                common.peer.name
            );
        }
        Ok(Next::GoOn)
    }

    pub(super) fn query_offset(
        &mut self,
        correlation: u32,
        mut fields: Fields<'_>,
        common: &mut Common,
    ) -> Result<(), Malformed> {
        let (reference, name) = (fields.text()?, fields.text()?);
        let found = self
            .stream(name, Access::Read, common)
            .and_then(|stream| stream.stored_offset(reference).ok_or(Code::NoOffset));
        let (code, offset) = match found {
            Ok(offset) => (Code::Ok, offset),
            Err(code) => (code, 0),
        };
        let mut answer = FrameWriter::response(key::QUERY_OFFSET, correlation);
        answer.u16(code.number()).u64(offset).put(&mut common.out);
        Ok(())
    }
}

fn put_resolved(correlation: u32, offset: u64, common: &mut Common) {
    let mut answer = FrameWriter::response(key::RESOLVE_OFFSET_SPEC, correlation);
    answer.u16(Code::Ok.number()).u16(OFFSET).u64(offset).put(&mut common.out);
}
