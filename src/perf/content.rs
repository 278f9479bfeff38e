//! Messages as they go over the wire, with the time of their sending at the front of each body.

use super::wire::{BODY, END, HEADER, put_frame};

/// What bodies of this tool begin with; behind it stands the time, in microseconds since the epoch.
const MARK: [u8; 4] = *b"perf";
const STAMP_BYTES: usize = 12;

/// Octets of a frame around its payload.
const ENVELOPE_BYTES: usize = 8;

/// The property delivery-mode alone (0-9-1 section 4.2.6.1).
const DELIVERY_MODE: [u8; 2] = [0x10, 0];

/// Encodes header and body frames of channel 1.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    /// As long as the largest body.
    filler: Vec<u8>,
    delivery_mode: u8,
    payload_max: usize,
}

impl Encoder {
    pub(super) fn new(largest: usize, persistent: bool, frame_max: usize) -> Encoder {
        Encoder {
            filler: filler(largest),
            delivery_mode: 1 + u8::from(persistent),
            payload_max: frame_max - ENVELOPE_BYTES,
        }
    }

    /// Appends what follows basic.publish: the header and a body of that size, which no body is above.
    pub(super) fn put(&self, out: &mut Vec<u8>, body_bytes: usize, stamp_us: u64) {
        let size = (body_bytes as u64).to_be_bytes();
        put_frame(out, HEADER, 1, &[&[0, 60, 0, 0][..], &size, &DELIVERY_MODE, &[self.delivery_mode]]);
        let body_at = out.len() + ENVELOPE_BYTES - 1;
        for piece in self.filler[..body_bytes].chunks(self.payload_max) {
            put_frame(out, BODY, 1, &[piece]);
        }
        if body_bytes >= STAMP_BYTES {
            stamp(&mut out[body_at..body_at + STAMP_BYTES], stamp_us);
        }
        debug_assert_eq!(out.last(), Some(&END));
    }
}

/// Bodies without frames around them.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// As long as the largest.
    filler: Vec<u8>,
}

impl Body {
    pub(super) fn new(largest: usize) -> Body {
        Body { filler: filler(largest) }
    }

    /// Appends a body of that size, which no body is above.
    pub(super) fn put(&self, out: &mut Vec<u8>, body_bytes: usize, stamp_us: u64) {
        let body_at = out.len();
        out.extend_from_slice(&self.filler[..body_bytes]);
        stamp(&mut out[body_at..], stamp_us);
    }
}

fn filler(largest: usize) -> Vec<u8> {
    (0..largest).map(|at| b'a' + (at % 26) as u8).collect()
}

/// Writes the time to the front of a body, if there is room.
fn stamp(body: &mut [u8], stamp_us: u64) {
    if let Some(front) = body.first_chunk_mut::<STAMP_BYTES>() {
        front[..MARK.len()].copy_from_slice(&MARK);
        front[MARK.len()..].copy_from_slice(&stamp_us.to_be_bytes());
    }
}

/// When a message was sent, in microseconds since the epoch, if the first frame of its body says so.
pub(super) fn stamp_of(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(&MARK)?;
    rest.first_chunk().map(|stamp| u64::from_be_bytes(*stamp))
}

#[cfg(test)]
mod tests {
    use super::super::wire::cut;
    use super::*;

    #[test]
    fn a_message_is_a_header_and_as_many_bodies_as_it_takes() {
        let mut out = Vec::new();
        Encoder::new(20, true, 20).put(&mut out, 20, 7);
        let mut rest = &out[..];
        let mut frames = Vec::new();
        while let Some(frame) = cut(rest).unwrap() {
            frames.push((frame.kind, frame.payload.to_vec()));
            rest = &rest[frame.payload.len() + ENVELOPE_BYTES..];
        }
        assert!(rest.is_empty());
        let header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0x10, 0, 2];
        assert_eq!(frames[0], (HEADER, header));
        assert_eq!(frames[1..].iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [12, 8]);
        assert_eq!(stamp_of(&frames[1].1), Some(7));
    }

    #[test]
    fn a_short_body_has_no_stamp() {
        let mut out = Vec::new();
        let encoder = Encoder::new(20, false, 4096);
        encoder.put(&mut out, 11, 7);
        assert_eq!(stamp_of(b"abcdefghijk"), None);
        assert_eq!(stamp_of(b"perf1234567"), None);
        let body_at = out.len() - 12;
        assert_eq!(&out[body_at..body_at + 11], b"abcdefghijk");
        out.clear();
        encoder.put(&mut out, 0, 7);
        assert_eq!(out.len(), 8 + 15, "no body, no frame");
    }
}
