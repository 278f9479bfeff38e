//! Looking at a stream without touching it.

use super::Stream;
use super::consumers::At;
use crate::broker::observe::lengths::{Length, Lengths};
use crate::broker::observe::stats::{MessageStats, QueueSample, Samples};
use crate::broker::policy::Applied;
use crate::broker::queue::{ConsumerState, Persistent, QueueCounts, QueueSettings, QueueState};
use crate::message::Millis;
use std::sync::Arc;

/// What a stream has that other queues don't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The first offset that is kept.
    pub first_offset: u64,
    /// The offset behind the last one that can be read.
    pub next_offset: u64,
    /// How many segments its log has.
    pub segments: usize,
    /// Bytes of those segments on the disk.
    pub log_bytes: u64,
    /// When the first entry was published.
    pub first_at: Option<Millis>,
    /// How far the consumer that is furthest back is from the end; `None` without consumers.
    pub max_lag: Option<u64>,
    /// How many messages of publishers with names were not taken since they were there already.
    pub duplicates: u64,
    /// How many were refused, since a later epoch has taken over the name.
    pub refused: u64,
    /// How many times a consumer of messages was not given an entry that is no message of AMQP 1.0.
    pub passed_over: u64,
}

impl Stream {
    /// How it stands.
    pub(in crate::broker::queue) fn state(&self) -> QueueState {
        let state = self.state.lock();
        let exclusive = state.readers.iter().find(|reader| reader.new.exclusive);
        let ready_bytes = state.kept.bytes + state.tail.unwritten_bytes() as u64;
        QueueState {
            ready: state.messages(),
            persistent: Persistent { messages: state.messages(), body_bytes: ready_bytes },
            paged_bytes: state.kept.bytes,
            unacked: 0,
            unacked_resident: 0,
            ready_bytes,
            unacked_bytes: 0,
            resident_body_bytes: state.tail.bytes() as u64,
            resident: 0,
            resident_bytes: state.tail.bytes() as u64,
            consumers: state.readers.len() as u64,
            is_waiting: !state.readers.is_empty(),
            exclusive_consumer_tag: exclusive.map(|reader| reader.new.tag.clone()),
            single_active_consumer_tag: None,
            used_at: state.last_used,
            head_timestamp: None,
            oldest_at: state.kept.first_at.or_else(|| state.tail.first_at()),
            stats: state.stats,
            samples: state.samples,
        }
    }

    /// What it has that other queues don't.
    pub(in crate::broker::queue) fn stream_state(self: &Arc<Self>) -> StreamState {
        let mut state = self.state.lock();
        self.look_at_journal(&mut state);
        let next_offset = state.tail.readable();
        let lags = state.readers.iter().map(|reader| match &reader.at {
            At::Offset(at) => next_offset.saturating_sub(at.next),
            At::Time(_) | At::LastChunk => next_offset.saturating_sub(state.kept.first),
        });
        StreamState {
            first_offset: state.kept.first,
            next_offset,
            segments: state.kept.segments,
            log_bytes: state.kept.bytes,
            first_at: state.kept.first_at.or_else(|| state.tail.first_at()),
            max_lag: lags.max(),
            duplicates: state.duplicates,
            refused: state.refused,
            passed_over: state.readers.passed_over(),
        }
    }

    pub(in crate::broker::queue) fn settings(&self) -> Arc<QueueSettings> {
        self.state.lock().settings.clone()
    }

    pub(in crate::broker::queue) fn applied(&self) -> Applied {
        self.state.lock().applied.clone()
    }

    pub(in crate::broker::queue) fn published(&self) -> Vec<(String, u64)> {
        self.state.lock().published.list()
    }

    pub(in crate::broker::queue) fn stats(&self) -> MessageStats {
        self.state.lock().stats
    }

    pub(in crate::broker::queue) fn samples(&self) -> Samples<QueueSample> {
        self.state.lock().samples
    }

    pub(in crate::broker::queue) fn lengths(&self) -> Lengths {
        self.state.lock().lengths.clone()
    }

    /// The consumers, the oldest first.
    pub(in crate::broker::queue) fn consumers(&self) -> Vec<ConsumerState> {
        let state = self.state.lock();
        let states = state.readers.iter().map(|reader| ConsumerState {
            tag: reader.new.tag.clone(),
            connection: reader.new.connection,
            channel: reader.new.channel,
            ack_required: !reader.new.no_ack,
            exclusive: reader.new.exclusive,
            prefetch_count: reader.new.credit.prefetch_count(),
            active: !reader.is_standby,
            arguments: reader.new.arguments.clone(),
        });
        states.collect()
    }

    /// Takes a sample of its counters, and says how it stands.
    pub(in crate::broker::queue) fn sample(&self, now: Millis) -> QueueCounts {
        let mut state = self.state.lock();
        let sample = QueueSample { stats: state.stats, ready: state.messages(), unacked: 0 };
        state.samples.take(now, sample);
        state.lengths.note(now, Length { ready: sample.ready, unacked: 0 });
        state.counts()
    }
}
