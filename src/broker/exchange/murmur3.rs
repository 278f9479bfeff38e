//! The hash by which clients of the stream protocol find the partition of a key: MurmurHash3 of 32 bits.

/// The seed that the clients use.
const SEED: u32 = 104_729;

/// The hash of a key, as clients of the stream protocol have it; the partition is that modulo their number.
pub(super) fn hash_of_key(key: &[u8]) -> u32 {
    let mut hash = SEED;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        hash =
            (hash ^ mix(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash ^= mix(u32::from_le_bytes(last));
    }
    // The length counts modulo 2^32.
    hash ^= key.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn mix(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_stream_clients() {
        let known = [
            ("hello0", 0xcf8b_f1a5),
            ("hello1", 0x10f9_983a),
            ("k0", 0x4e86_6de7),
            ("k1", 0x3256_d695),
            ("", 0xc675_7d56),
        ];
        for (key, hash) in known {
            assert_eq!(hash_of_key(key.as_bytes()), hash, "{key:?}");
        }
    }
}
