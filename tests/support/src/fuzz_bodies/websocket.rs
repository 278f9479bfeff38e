//! Frames of WebSocket clients.

use leveret::net::websocket::frames::{Decoder, End};

/// What frames carry, the last ping in them, and how they end.
type Decoded = (Vec<u8>, Option<Vec<u8>>, Option<End>);

/// Frames of a client, read at once and in pieces of as many bytes as the first one says: that makes no difference.
pub(super) fn websocket(data: &[u8]) {
    let Some((&piece, frames)) = data.split_first() else { return };
    let whole = decode(frames, frames.len().max(1));
    let pieces = decode(frames, usize::from(piece).max(1));
    assert_eq!(whole.2, pieces.2, "the pieces make a difference");
    // Of text that is no UTF-8 as much has been passed on as came before.
    let is_text = |end: &End| matches!(end, End::Violated(violation) if u16::from(violation.code) == 1007);
    if !whole.2.as_ref().is_some_and(is_text) {
        assert_eq!((&whole.0, &whole.1), (&pieces.0, &pieces.1), "the pieces make a difference");
    }
    assert!(whole.0.len() <= frames.len(), "more has come out than went in");
    assert!(whole.1.is_none_or(|ping| ping.len() <= 125), "a pong may carry 125 bytes");
}

fn decode(frames: &[u8], piece_bytes: usize) -> Decoded {
    let mut decoder = Decoder::default();
    let (mut payload, mut ping) = (Vec::new(), None);
    for piece in frames.to_vec().chunks_mut(piece_bytes) {
        let count = decoder.decode(piece);
        payload.extend_from_slice(&piece[..count]);
        ping = decoder.take_ping().or(ping);
    }
    (payload, ping, decoder.end())
}
