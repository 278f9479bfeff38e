//! What AMQP answers when a record of the journal is durable: basic.ack to a publisher, tx.commit-ok, and what comes behind that.

use super::channel_of;
use super::frame::put_raw_method;
use crate::broker::observe::connections::Progress;
use crate::client::Publishes;
use crate::message::{ChannelNumber, LinkId, PublishId};
use crate::session::Transmit;
use bytes::Bytes;

/// The answers of a connection that wait for the journal.
pub(super) type Answers = crate::client::Answers<Answer>;

/// What is sent to the client when a record is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// basic.ack.
    Confirm(Publishes),
    /// tx.commit-ok.
    CommitOk,
    /// What is said on the channel behind a tx.commit-ok, as frames.
    Behind(Bytes),
}

impl crate::client::Answer for Answer {
    fn joins(&self, next: &Answer) -> bool {
        matches!((self, next), (Answer::Confirm(_), Answer::Confirm(_)))
    }

    fn join(&mut self, next: Answer) {
        if let (Answer::Confirm(publishes), Answer::Confirm(next)) = (self, next) {
            publishes.join(next);
        }
    }

    fn confirms(&self) -> Option<PublishId> {
        match self {
            Answer::Confirm(publishes) => Some(publishes.last),
            Answer::CommitOk | Answer::Behind(_) => None,
        }
    }

    fn count(&self, link: LinkId, progress: &mut Progress) {
        if let Answer::Confirm(publishes) = self {
            progress.confirmed(channel_of(link), publishes.count());
        }
    }

    fn put(self, link: LinkId, out: &mut Transmit) {
        let channel = channel_of(link);
        match self {
            Answer::Confirm(publishes) => {
                if let Some((tag, multiple)) = publishes.ack() {
                    put_ack(out, channel, tag.0, multiple);
                }
            }
            Answer::CommitOk => put_commit_ok(out, channel),
            Answer::Behind(frames) => out.put_shared(frames),
        }
    }
}

fn put_ack(out: &mut Transmit, channel: ChannelNumber, tag: u64, multiple: bool) {
    const ACK: (u16, u16) = (60, 80);
    put_raw_method(out, channel, ACK, [&tag.to_be_bytes(), &[u8::from(multiple)]]);
}

fn put_commit_ok(out: &mut Transmit, channel: ChannelNumber) {
    const COMMIT_OK: (u16, u16) = (90, 21);
    put_raw_method(out, channel, COMMIT_OK, []);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Answer as _;
    use bytes::Buf;

    #[test]
    fn confirms_are_joined_into_one_ack_and_commits_are_not() {
        let publishes = |first, last, refused: &[u64]| {
            let refused = refused.iter().copied().map(PublishId).collect();
            Answer::Confirm(Publishes { first: PublishId(first), last: PublishId(last), refused })
        };
        let frame = |answer: Answer| {
            let mut out = Transmit::default();
            answer.put(LinkId(3), &mut out);
            out.chunk().to_vec()
        };
        let mut confirm = publishes(1, 2, &[]);
        let next = publishes(3, 4, &[4]);
        assert!(confirm.joins(&next) && !confirm.joins(&Answer::CommitOk));
        assert!(!Answer::CommitOk.joins(&Answer::CommitOk));
        confirm.join(next);
        assert_eq!(confirm.confirms(), Some(PublishId(4)));
        let ack = |tag, multiple| {
            vec![1, 0, 3, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, tag, multiple, 0xCE]
        };
        assert_eq!(frame(confirm), ack(3, 1));
        assert_eq!(frame(publishes(7, 7, &[])), ack(7, 0));
        assert!(frame(publishes(8, 8, &[8])).is_empty());
        assert_eq!(frame(Answer::CommitOk), [1, 0, 3, 0, 0, 0, 4, 0, 90, 0, 21, 0xCE]);
        assert_eq!(frame(Answer::Behind(Bytes::from_static(b"frames"))), b"frames");
    }
}
