//! Frames against byte vectors, in pieces of any size, and against another implementation.

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame of a client, masked with [`MASK`].
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(0x80 | short as u8),
        middle @ ..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

const CONTINUED: u8 = 0x80;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What the frames carry, read in pieces of that many bytes, the last ping, and how they end.
fn decode(frames: &[Vec<u8>], piece_bytes: usize) -> (Vec<u8>, Option<Vec<u8>>, Option<End>) {
    let mut decoder = Decoder::default();
    let (mut payload, mut ping) = (Vec::new(), None);
    for piece in frames.concat().chunks_mut(piece_bytes) {
        let count = decoder.decode(piece);
        payload.extend_from_slice(&piece[..count]);
        ping = decoder.take_ping().or(ping);
    }
    (payload, ping, decoder.end())
}

/// As [`decode`], with pieces of any size, which make no difference.
fn decoded(frames: &[Vec<u8>]) -> (Vec<u8>, Option<Vec<u8>>, Option<End>) {
    let whole = decode(frames, usize::MAX);
    for piece_bytes in [1, 2, 3, 5, 7, 8, 13, 64, 1000] {
        let (payload, ping, end) = decode(frames, piece_bytes);
        assert_eq!(end, whole.2, "in pieces of {piece_bytes}");
        // Of text that is none as much has been passed on as came before.
        if !matches!(end, Some(End::Violated(Violation { code: CloseCode::Invalid, .. }))) {
            assert_eq!((&payload, &ping), (&whole.0, &whole.1), "in pieces of {piece_bytes}");
        }
    }
    whole
}

fn violation(frames: &[Vec<u8>]) -> (Vec<u8>, CloseCode) {
    match decoded(frames) {
        (payload, _, Some(End::Violated(violation))) => (payload, violation.code),
        other => panic!("{frames:x?} comes to {other:?}"),
    }
}

#[test]
fn frames_of_any_length_are_one_stream() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
        let frames = [frame(BINARY, &payload), frame(BINARY, b"end")];
        assert_eq!(decoded(&frames), ([&payload[..], b"end"].concat(), None, None), "{length}");
    }
}

#[test]
fn the_example_of_the_specification_is_read() {
    // Section 5.7: "A single-frame masked text message".
    let hello = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decoded(&[hello]).0, b"Hello");
}

#[test]
fn control_frames_come_between_fragments() {
    let frames = [
        frame(0x02, b"one "),
        frame(PING, b"first"),
        frame(0x00, b"and "),
        frame(0x00, b""),
        frame(PONG, b"unasked"),
        frame(PING, b"last"),
        frame(CONTINUED, b"two"),
        frame(BINARY, b"!"),
        frame(CLOSE, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
        frame(BINARY, b"after the end"),
    ];
    let (payload, ping, end) = decoded(&frames);
    assert_eq!(payload, b"one and two!");
    assert_eq!(ping.as_deref(), Some(&b"last"[..]));
    assert_eq!(end, Some(End::Closed(Some(CloseCode::Normal))));
    assert_eq!(decoded(&[frame(CLOSE, b"")]).2, Some(End::Closed(None)));
    assert_eq!(decoded(&[frame(PING, &[b'p'; 125])]).1, Some(vec![b'p'; 125]));
}

#[test]
fn what_is_not_allowed_ends_the_stream_behind_what_was() {
    let begun = || frame(BINARY, b"sent");
    let mut unmasked = frame(BINARY, b"x");
    unmasked[1] &= 0x7f;
    let too_long = [&[BINARY, 0xff, 0x80][..], &[0; 7], &MASK].concat();
    for (what, bad) in [
        ("not masked", unmasked),
        ("reserved bit 1", frame(0xc2, b"x")),
        ("reserved bit 2", frame(0xa2, b"x")),
        ("reserved bit 3", frame(0x92, b"x")),
        ("unknown data", frame(0x83, b"x")),
        ("unknown control", frame(0x8b, b"")),
        ("length with its highest bit", too_long),
        ("fragmented ping", frame(0x09, b"x")),
        ("long ping", frame(PING, &[0; 126])),
        ("nothing to continue", frame(CONTINUED, b"x")),
        ("half a code", frame(CLOSE, b"x")),
        ("code 999", frame(CLOSE, &999_u16.to_be_bytes())),
        ("code 1005", frame(CLOSE, &1005_u16.to_be_bytes())),
        ("code 2000", frame(CLOSE, &2000_u16.to_be_bytes())),
    ] {
        assert_eq!(violation(&[begun(), bad]), (b"sent".to_vec(), CloseCode::Protocol), "{what}");
    }
    let interrupted = [frame(0x02, b"a"), frame(BINARY, b"b")];
    assert_eq!(violation(&interrupted), (b"a".to_vec(), CloseCode::Protocol));
    let reason = [&1000_u16.to_be_bytes()[..], b"\xff"].concat();
    assert_eq!(violation(&[frame(CLOSE, &reason)]).1, CloseCode::Invalid);
}

#[test]
fn text_is_utf8_however_it_is_cut() {
    let text = "κόσμε, 𐍈, ä and \u{10ffff}".as_bytes();
    for cut in 0..=text.len() {
        let (start, rest) = text.split_at(cut);
        let frames = [frame(0x01, start), frame(PING, b""), frame(CONTINUED, rest)];
        assert_eq!(decoded(&frames).0, text, "cut at {cut}");
    }
    for bad in
        [&b"\xff"[..], b"a\xc3", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x82"]
    {
        assert_eq!(violation(&[frame(TEXT, bad)]).1, CloseCode::Invalid, "{bad:x?}");
        assert_eq!(decoded(&[frame(BINARY, bad)]).0, bad, "binary messages may be anything");
    }
    let half = [frame(TEXT, b"\xc3"), frame(TEXT, b"\xa4")];
    assert_eq!(violation(&half).1, CloseCode::Invalid, "each message is text of its own");
}

#[test]
fn another_reader_agrees_on_any_frames() {
    // tungstenite gathers whole messages; what these hold must be the stream.
    use std::io::Cursor;
    use tungstenite::protocol::{Message, Role, WebSocket};
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % below
    };
    for _ in 0..500 {
        let mut frames = Vec::new();
        for _ in 0..next(6) {
            let kind = [0x01, 0x02][next(2)];
            let parts = 1 + next(4);
            for part in 0..parts {
                let opcode = if part == 0 { kind } else { 0 };
                let last = if part + 1 == parts { 0x80 } else { 0 };
                frames.push(frame(opcode | last, &vec![b'a' + next(26) as u8; next(300)]));
                if next(3) == 0 {
                    frames.push(frame(PING, b"ping"));
                }
            }
        }
        let mut other = WebSocket::from_raw_socket(Both(Cursor::new(frames.concat())), Role::Server, None);
        let mut gathered = Vec::new();
        while let Ok(message) = other.read() {
            if matches!(message, Message::Text(_) | Message::Binary(_)) {
                gathered.extend(message.into_data());
            }
        }
        assert_eq!(decode(&frames, 1 + next(500)), {
            let pinged = frames.iter().any(|frame| frame[0] == PING);
            (gathered, pinged.then(|| b"ping".to_vec()), None)
        });
    }
}

/// Something to read from, and to write to in vain.
struct Both(Cursor<Vec<u8>>);

impl std::io::Read for Both {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl std::io::Write for Both {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
