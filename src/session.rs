//! The contract between a socket and any protocol: bytes in, bytes out, deadlines. `net` drives it, a protocol implements it.

use crate::message::Millis;
use bytes::buf::Limit;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// What the socket's owner does after a session has been polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Everything there is to send has been given. Read on.
    Open,
    /// There is more to send: poll again when some of it has left.
    More,
    /// Like `More`, but nothing is read from the peer for a moment, until the next deadline or until the session is woken: it is
    /// faster than consumers or the store, or another thread writes to its socket.
    Slowed,
    /// The session is blocked: nothing may be read from the peer until it is woken or a deadline passes. There may be more
    /// to send; poll again when some of it has left.
    Paused,
    /// The session is over: send what was given, then close the socket.
    Closed,
    /// The session is over, and its peer is given up: nothing is sent any more, and whatever the peer sends next is to fail.
    Reset,
}

/// Where what a peer sends next is read to.
#[derive(Debug)]
pub enum Room<'a> {
    /// Into the input, as much as there is.
    Input,
    /// Into the input too, but no more than that many bytes: what is behind them may have a place of its own.
    Short(usize),
    /// To where it belongs, without a copy in between.
    Own(Limit<&'a mut Vec<u8>>),
}

/// One peer's conversation in one protocol. Synchronous; the same code runs behind a socket and in a test.
pub trait Session: Send {
    /// Takes whatever whole units `input` holds, and leaves an unfinished one in it, unless that is large. True when it stopped
    /// earlier, since it is blocked or much waits to be sent already: it is to be called again with the rest when it goes on.
    fn handle_input(&mut self, input: &mut BytesMut, now: Millis) -> bool;

    /// Where to read to while nothing of the input is left.
    fn room(&mut self) -> Room<'_> {
        Room::Input
    }

    /// That many bytes were put into a [`Room::Own`]. Never called for a session that gives none.
    fn handle_own_room(&mut self, bytes: usize, now: Millis) {
        let _ = (bytes, now);
    }

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Millis);

    /// The peer is gone, or the socket failed with that fault: gives everything back that the session holds.
    fn handle_disconnect(&mut self, fault: Option<&str>, now: Millis);

    /// The broker is to stop: begins an orderly close.
    fn handle_shutdown(&mut self, now: Millis);

    /// Puts into `out` what is to be sent, as far as its limit allows.
    fn poll_transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow;

    /// When to call [`Session::handle_timeout`] next.
    fn poll_timeout(&self) -> Option<Millis>;
}

/// A session of any protocol, as a listener has it.
impl<S: Session + ?Sized> Session for Box<S> {
    fn handle_input(&mut self, input: &mut BytesMut, now: Millis) -> bool {
        (**self).handle_input(input, now)
    }

    fn room(&mut self) -> Room<'_> {
        (**self).room()
    }

    fn handle_own_room(&mut self, bytes: usize, now: Millis) {
        (**self).handle_own_room(bytes, now);
    }

    fn handle_timeout(&mut self, now: Millis) {
        (**self).handle_timeout(now);
    }

    fn handle_disconnect(&mut self, fault: Option<&str>, now: Millis) {
        (**self).handle_disconnect(fault, now);
    }

    fn handle_shutdown(&mut self, now: Millis) {
        (**self).handle_shutdown(now);
    }

    fn poll_transmit(&mut self, out: &mut Transmit, now: Millis) -> Flow {
        (**self).poll_transmit(out, now)
    }

    fn poll_timeout(&self) -> Option<Millis> {
        (**self).poll_timeout()
    }
}

/// The way past a session to its socket, for the committer's confirms while the session has nothing to send.
pub trait DirectWrite: Send + Sync {
    /// Writes what the socket takes of `bytes` at once, and returns how many those are: none after an error, which the session
    /// meets itself when it sends.
    fn write_now(&self, bytes: &[u8]) -> usize;
}

/// Bodies of at least this many bytes are sent from where they lie; smaller ones are cheaper to copy.
pub(crate) const SHARE_BYTES_MIN: usize = 16 * 1024;

/// Bytes on their way to a socket: small pieces copied together, large ones shared.
#[derive(Debug, Default)]
pub struct Transmit {
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    segment_bytes: usize,
}

/// Room in a [`Transmit`], filled from the front.
pub(crate) struct Pieces<'a> {
    room: &'a mut [u8],
}

impl Pieces<'_> {
    /// Inlined: most pieces have a length that is known where they are put.
    #[inline(always)]
    pub(crate) fn put(&mut self, piece: &[u8]) {
        let (start, rest) = std::mem::take(&mut self.room).split_at_mut(piece.len());
        start.copy_from_slice(piece);
        self.room = rest;
    }

    /// As [`Pieces::put`], for a piece of few bytes: they are stored, where others are copied by a call.
    #[inline(always)]
    pub(crate) fn put_array<const BYTES: usize>(&mut self, piece: [u8; BYTES]) {
        let room = std::mem::take(&mut self.room);
        let (start, rest) = room.split_first_chunk_mut().expect("there is room for all pieces");
        *start = piece;
        self.room = rest;
    }
}

impl Transmit {
    /// Appends a copy of the bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends `bytes` bytes that `fill` puts there piece by piece: one look for memory instead of one for each.
    #[inline]
    pub(crate) fn put_pieces(&mut self, bytes: usize, fill: impl FnOnce(&mut Pieces<'_>)) {
        let start = self.tail.len();
        self.tail.resize(start + bytes, 0);
        let mut pieces = Pieces { room: &mut self.tail[start..] };
        fill(&mut pieces);
        debug_assert!(pieces.room.is_empty(), "{} of {bytes} bytes were not put there", pieces.room.len());
    }

    /// Appends without copying when that pays.
    pub fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        self.seal_tail();
        self.segment_bytes += bytes.len();
        self.segments.push_back(bytes);
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut Transmit) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        if !other.segments.is_empty() {
            self.seal_tail();
            self.segment_bytes += std::mem::take(&mut other.segment_bytes);
            self.segments.append(&mut other.segments);
        }
        self.tail.unsplit(other.tail.split());
    }

    /// Bytes that wait to be sent.
    pub fn len(&self) -> usize {
        self.segment_bytes + self.tail.len()
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let sealed = self.tail.split().freeze();
            self.segment_bytes += sealed.len();
            self.segments.push_back(sealed);
        }
    }
}

impl Buf for Transmit {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&self.tail[..], |segment| &segment[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let tail = std::iter::once(&self.tail[..]).filter(|tail| !tail.is_empty());
        for (slice, bytes) in
            slices.iter_mut().zip(self.segments.iter().map(|segment| &segment[..]).chain(tail))
        {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.segments.front_mut() {
            if count == 0 {
                return;
            }
            let step = count.min(front.len());
            front.advance(step);
            self.segment_bytes -= step;
            count -= step;
            if front.is_empty() {
                self.segments.pop_front();
            }
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_and_shared_bytes_leave_in_order() {
        let mut out = Transmit::default();
        out.put(b"ab");
        out.put_shared(Bytes::from(vec![b'x'; SHARE_BYTES_MIN]));
        out.put(b"cd");
        assert_eq!(out.len(), SHARE_BYTES_MIN + 4);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(out.chunks_vectored(&mut slices), 3);
        out.advance(3);
        assert_eq!(out.chunk().len(), SHARE_BYTES_MIN - 1);
        out.advance(SHARE_BYTES_MIN);
        assert_eq!(out.chunk(), b"d");
        out.advance(1);
        assert!(out.is_empty());
    }
}
