//! A SEND whose head is that of the one before, byte for byte: where it goes and its properties are known, and only its body is new.
//! Programs that publish send such heads as long as their messages have one size and ask for no receipts.

use super::Connection;
use super::send::{Asked, Publishes, message};
use crate::message::Millis;
use std::borrow::Cow;

/// A longer head is not remembered.
const HEAD_BYTES_MAX: usize = 1024;

/// A head of SEND that may come again.
#[derive(Debug)]
pub(super) struct RepeatedHead {
    head: Vec<u8>,
    /// What its content-length says.
    body_bytes: usize,
    properties: Cow<'static, [u8]>,
}

impl Connection {
    /// Remembers the head of a SEND that was handled just now and takes the route in [`Publishes`], or forgets the one before.
    /// `frame` is the whole frame, `body_bytes` the length of its body.
    pub(super) fn remember_head(&mut self, frame: &[u8], body_bytes: usize) {
        let Publishes { repeatable, repeated, target, .. } = &mut self.publishes;
        let properties = repeatable.take().filter(|_| target.is_some());
        let head = frame.len().checked_sub(body_bytes + 1).map(|end| &frame[..end]);
        let head = head.filter(|head| head.len() <= HEAD_BYTES_MAX);
        let (Some(properties), Some(head)) = (properties, head) else {
            *repeated = None;
            return;
        };
        let mut kept = repeated.take().map(|last| last.head).unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(head);
        *repeated = Some(RepeatedHead { head: kept, body_bytes, properties });
    }

    /// Handles the SEND that `input` begins with, if it is whole and has the head of the last one. Returns its length.
    pub(super) fn send_again(&mut self, input: &[u8], now: Millis) -> Option<usize> {
        let Publishes { repeated: Some(repeated), target: Some(target), .. } = &self.publishes else {
            return None;
        };
        let (body, behind) = input.strip_prefix(&*repeated.head)?.split_at_checked(repeated.body_bytes)?;
        let open = self.open.as_ref().filter(|open| open.vhost.version() == target.version)?;
        if behind.first() != Some(&0) || self.stomp.broker.alarms().reason().is_some() {
            return None;
        }
        let bytes = repeated.head.len() + body.len() + 1;
        let asked = Asked { version: target.version, ..Asked::default() };
        let sent = message(target, &repeated.properties, body, &open.user);
        if let Err(error) = sent.and_then(|message| self.publish_routed(message, asked)) {
            self.fail(error, now);
        }
        Some(bytes)
    }
}
