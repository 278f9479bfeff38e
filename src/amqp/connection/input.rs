//! What comes from the client: frames are cut and go where they belong.

use super::{Connection, Stage};
use crate::amqp::channel::{Channel, ContentAssembler, Handled};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::{self, Frame, cut, put_method, unknown_frame};
use crate::amqp::method;
use crate::message::{ChannelNumber, Millis};
use crate::session::Room;
use amq_protocol::protocol::{AMQPClass, channel};
use bytes::{Buf, BytesMut};

/// A content body of at least this many bytes goes into its message as it comes, not only when all of it is there: what the socket
/// has of it is read straight into the message.
const PARTS_BYTES_MIN: usize = 32 * 1024;

/// A content body that is arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrivingBody {
    channel: ChannelNumber,
    payload_bytes: usize,
    /// Bytes of it that have yet to come.
    left: usize,
}

impl Connection {
    /// Handles the frames of `input`. True when it stopped before the last one: a client that does not read the answers
    /// waits until there is room for more of them.
    pub(super) fn handle_frames(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        let mut done = 0;
        self.go_on(now);
        if let Some(body) = self.arriving
            && !self.is_held_up()
            && self.busy.is_none()
        {
            done = self.go_on_with_body(body, input, now);
        }
        let stopped = loop {
            if self.lost_track || matches!(self.stage, Stage::Closed | Stage::Refused { .. }) {
                done = input.len();
                break false;
            }
            let unsent = self.out.len() + self.waiting_for.len();
            if self.stage == Stage::LoggingIn
                || self.busy.is_some()
                || self.turn.is_over()
                || self.is_held_up()
                || unsent >= self.amqp.settings.transmit_bytes
            {
                break true;
            }
            match cut(&input[done..], self.frame_max) {
                Ok(None) => {
                    done += self.begin_body(&input[done..]);
                    break false;
                }
                // Changes that come together become durable together; all else comes after them.
                Ok(Some(frame)) if self.waiting_for.ticket().is_some() && !is_change(&frame) => break true,
                Ok(Some(frame)) => {
                    done += frame.payload.len() + frame::ENVELOPE_BYTES;
                    if let Err(error) = self.handle_frame(&frame, &input[done..], &mut done, now) {
                        // The frames behind it are looked at: the answer to the close may be among them.
                        self.fail(&error, now);
                    }
                }
                Err(fault) => {
                    self.lost_track = true;
                    self.fail(&fault.into(), now);
                }
            }
        };
        input.advance(done);
        self.traffic.received(done);
        stopped
    }

    /// Has the channel that is busy do a part of what it has to do.
    fn go_on(&mut self, now: Millis) {
        let Some(number) = self.busy.take().filter(|_| self.stage == Stage::Running) else { return };
        self.turn_to(number);
        let Some((channel, mut context)) = self.channel(number) else { return };
        match channel.go_on(&mut context) {
            Ok(handled) => self.was_handled(number, handled),
            Err(error) => self.fail(&error, now),
        }
    }

    fn was_handled(&mut self, number: ChannelNumber, handled: Handled) {
        match handled {
            Handled::Open => {}
            Handled::Closed => self.forget_channel(number),
            Handled::ClosedBehind => {
                self.is_answering = true;
                self.channel_ended(number);
            }
            Handled::Busy => self.busy = Some(number),
        }
    }

    /// Begins to take a content body of which not all is there yet, if it is a large one, and returns how much has been taken:
    /// all there is, or nothing.
    fn begin_body(&mut self, input: &[u8]) -> usize {
        let Some((channel, payload_bytes)) = frame::begun_body(input) else { return 0 };
        if self.stage != Stage::Running || payload_bytes < PARTS_BYTES_MIN {
            return 0;
        }
        let Some(content) = self.content(channel) else { return 0 };
        if !content.takes_parts_of(payload_bytes) {
            return 0;
        }
        let part = &input[frame::HEAD_BYTES..];
        content.part_of_body(part);
        self.arriving = Some(ArrivingBody { channel, payload_bytes, left: payload_bytes - part.len() });
        input.len()
    }

    /// Takes more of a content body, and what ends its frame if that has come too; returns how much that was.
    fn go_on_with_body(&mut self, body: ArrivingBody, input: &[u8], now: Millis) -> usize {
        let ArrivingBody { channel, payload_bytes, left } = body;
        let (part, behind) = input.split_at(left.min(input.len()));
        if let Some(content) = self.content(channel) {
            content.part_of_body(part);
        }
        let Some(&end) = behind.first() else {
            self.arriving = Some(ArrivingBody { left: left - part.len(), ..body });
            return part.len();
        };
        self.arriving = None;
        if let Err(error) = self.end_body(channel, payload_bytes, end) {
            self.fail(&error, now);
        }
        part.len() + frame::END_BYTES
    }

    /// A content body of which all has been taken ends with that octet.
    fn end_body(&mut self, number: ChannelNumber, payload_bytes: usize, end: u8) -> Result<(), AmqpError> {
        if end != frame::END {
            self.lost_track = true;
            let payload = self.content(number).map_or(&[][..], |content| content.last_of_body(payload_bytes));
            return Err(frame::no_end(frame::BODY, payload, end).into());
        }
        if self.stage != Stage::Running {
            return Ok(());
        }
        self.published = true;
        self.turn_to(number);
        let Some((channel, mut context)) = self.channel(number) else { return Ok(()) };
        // What was taken already is not part of it any more.
        let rest = Frame { kind: frame::BODY, channel: number, payload: &[] };
        let handled = channel.handle_frame(&rest, &mut context)?;
        self.was_handled(number, handled);
        Ok(())
    }

    /// The message that is arriving on a channel.
    fn content(&mut self, channel: ChannelNumber) -> Option<&mut ContentAssembler> {
        Some(self.channels.get_mut(&channel)?.content())
    }

    /// Where what comes next goes: into its message while a content body is arriving.
    pub(super) fn room_of_body(&mut self) -> Room<'_> {
        let Some(arriving) = self.arriving.filter(|_| self.held_up.is_none()) else { return Room::Input };
        if arriving.left == 0 {
            // What ends the frame, and the head of the next one, which may be a content body too.
            return Room::Short(frame::END_BYTES + frame::HEAD_BYTES);
        }
        let room = self.content(arriving.channel).and_then(|content| content.room(arriving.left));
        room.map_or(Room::Input, Room::Own)
    }

    /// So much of it has been read there.
    pub(super) fn room_of_body_was_filled(&mut self, bytes: usize) {
        self.traffic.received(bytes);
        let Some(body) = &mut self.arriving else { return };
        body.left -= bytes;
        let channel = body.channel;
        if let Some(content) = self.content(channel) {
            content.room_was_filled(bytes);
        }
        self.count_arriving();
    }

    /// Counts what has come of the message whose frame is arriving.
    pub(super) fn count_arriving(&mut self) {
        let Some(arriving) = self.arriving else { return };
        if let Some(channel) = self.channels.get_mut(&arriving.channel) {
            channel.content().count(self.amqp.broker.memory());
        }
    }

    /// Handles a frame, and of `behind` the content that belongs to it; adds to `done` the bytes of that. Inlined, as what cuts it.
    #[inline(always)]
    fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        behind: &[u8],
        done: &mut usize,
        now: Millis,
    ) -> Result<(), AmqpError> {
        if let Stage::Closing { .. } = self.stage {
            return self.handle_closing(frame);
        }
        let payload = frame.payload;
        match frame.kind {
            frame::HEARTBEAT if !payload.is_empty() => return Err(unknown_frame(frame.kind, payload)),
            frame::HEARTBEAT if frame.channel != 0 => {
                let text = "type 8, all octets = <<>>";
                return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
            }
            frame::HEARTBEAT => return Ok(()),
            frame::METHOD if payload.len() < 4 => return Err(unknown_frame(frame.kind, payload)),
            frame::HEADER if payload.len() < frame::HEADER_BYTES_MIN => {
                return Err(unknown_frame(frame.kind, payload));
            }
            frame::METHOD | frame::HEADER | frame::BODY => {}
            _ => return Err(unknown_frame(frame.kind, payload)),
        }
        if frame.channel == 0 {
            return self.handle_connection_frame(frame, now);
        }
        if self.stage != Stage::Running {
            let text =
                format!("frame on channel {} in connection state {}", frame.channel, self.stage.name());
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
        }
        self.handle_channel_frame(frame, behind, done)
    }

    /// A channel is spoken to. What another one has gathered is done before, so that all happens in the order in which it came.
    #[inline(always)]
    fn turn_to(&mut self, number: ChannelNumber) {
        if self.touched.last() != Some(&number) {
            self.leave_channel();
            self.touched.push(number);
        }
    }

    fn leave_channel(&mut self) {
        if let Some(last) = self.touched.last().copied()
            && let Some((channel, mut context)) = self.channel(last)
        {
            channel.flush(&mut context);
        }
    }

    fn handle_channel_frame(
        &mut self,
        frame: &Frame<'_>,
        mut behind: &[u8],
        done: &mut usize,
    ) -> Result<(), AmqpError> {
        let number = frame.channel;
        self.turn_to(number);
        // While an alarm is up, a header passes and its body does not, see `is_held_up`.
        let is_content_next = self.amqp.broker.alarms().reason().is_none();
        let frame_max = self.frame_max;
        let Some((channel, mut context)) = self.channel(number) else {
            return self.open_channel(frame);
        };
        let mut frame = *frame;
        let mut handled = channel.handle_frame(&frame, &mut context);
        // What has to be seen to between frames is not touched by content, which comes in greater numbers than all else.
        while is_content_next
            && matches!(handled, Ok(Handled::Open))
            && let Ok(Some(content)) = cut(behind, frame_max)
            && content.is_content_of(number)
        {
            let content_bytes = content.payload.len() + frame::ENVELOPE_BYTES;
            *done += content_bytes;
            behind = &behind[content_bytes..];
            frame = content;
            handled = channel.handle_frame(&frame, &mut context);
        }
        self.published |= frame.kind != frame::METHOD;
        self.was_handled(number, handled?);
        Ok(())
    }

    /// The first frame of a channel has to be channel.open.
    fn open_channel(&mut self, frame: &Frame<'_>) -> Result<(), AmqpError> {
        const OPEN: (u16, u16) = (20, 10);
        let ids = method::ids(frame.payload);
        if frame.kind != frame::METHOD {
            let text = "expected method frame, got non method frame instead";
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text).without_method());
        }
        if ids != OPEN {
            let error = AmqpError::new(ReplyCode::ChannelError, "expected 'channel.open'");
            return Err(AmqpError { method: Some(ids), ..error });
        }
        if self.channel_max > 0 && self.channels.len() >= usize::from(self.channel_max) {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            );
            return Err(AmqpError::new(ReplyCode::NotAllowed, text).without_method());
        }
        self.check_channel_limits()?;
        self.channels.insert(frame.channel, Box::new(Channel::new(frame.channel)));
        self.channel_opened(frame.channel);
        let ok = channel::AMQPMethod::OpenOk(channel::OpenOk {});
        put_method(&mut self.out, frame.channel, AMQPClass::Channel(ok));
        Ok(())
    }
}

/// Whether it is a method that may change the topology.
fn is_change(frame: &Frame<'_>) -> bool {
    const EXCHANGE: u16 = 40;
    const QUEUE: u16 = 50;
    const PURGE: u16 = 30;
    frame.kind == frame::METHOD
        && frame.channel != 0
        && match method::ids(frame.payload) {
            (EXCHANGE, _) => true,
            (QUEUE, method) => method != PURGE,
            _ => false,
        }
}
