//! What comes from the client: frames are cut and go where they belong.

use super::{Connection, Stage};
use crate::amqp::channel::{Channel, Handled};
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::amqp::frame::{self, Frame, cut, put_method, unknown_frame};
use crate::amqp::method;
use crate::message::Millis;
use amq_protocol::protocol::{AMQPClass, channel};
use bytes::{Buf, BytesMut};

impl Connection {
    /// Handles the frames of `input`. True when it stopped before the last one: whoever asks and does not read the answers
    /// waits until there is room for more of them.
    pub(super) fn handle_frames(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        let mut done = 0;
        let stopped = loop {
            if self.lost_track || matches!(self.stage, Stage::Closed | Stage::Refused { .. }) {
                done = input.len();
                break false;
            }
            if self.is_held_up() || self.out.len() >= self.amqp.settings.transmit_bytes {
                break true;
            }
            match cut(&input[done..], self.frame_max) {
                Ok(None) => break false,
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

    /// Handles a frame, and of `behind` the content that belongs to it; adds to `done` the bytes of that.
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

    fn handle_channel_frame(
        &mut self,
        frame: &Frame<'_>,
        mut behind: &[u8],
        done: &mut usize,
    ) -> Result<(), AmqpError> {
        let number = frame.channel;
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
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
        if handled? == Handled::Closed {
            self.forget_channel(number);
        }
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
