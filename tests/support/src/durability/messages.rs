//! The messages of the workload: a number, and a body that follows from it, so that a changed one shows.

/// A body: the message's number, then bytes that follow from it.
pub fn body(id: u64, length: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(length.max(8));
    body.extend_from_slice(&id.to_be_bytes());
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while body.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        body.extend_from_slice(&state.to_be_bytes());
    }
    body.truncate(length.max(8));
    body
}

/// The number of the message that has this body. Panics when the body is not whole.
pub fn id_of(found: &[u8]) -> u64 {
    let id = u64::from_be_bytes(*found.first_chunk().unwrap());
    assert!(body(id, found.len()) == found, "the body of message {id} has changed");
    id
}
