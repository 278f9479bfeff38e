//! Hashing of keys: fast tables for the types' indexes, and a stable hash for those that spread messages by key.
//!
//! Tables are seeded at random for each process, since clients choose what goes into them and must not be able to pile it up in
//! one bucket. The stable hash is the same on every machine and in every version.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// A table by something that clients choose.
pub(super) type KeyMap<K, V> = HashMap<K, V, KeyHashSeed>;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const STABLE_SEED: u64 = 0x6c65_7665_7265_7431;

/// The hash of some bytes that never changes, not with the process, the machine or the version.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    scramble(hash_bytes(bytes, STABLE_SEED))
}

/// Turns numbers that may differ little into numbers that differ in about half of their bits, one to one.
pub(super) fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = fold(seed, bytes.len() as u64);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        hash = fold(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    fold(hash, u64::from_le_bytes(last))
}

/// Both halves of a product of 128 bits, so that every bit of the input reaches every part of the result.
fn fold(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * u128::from(FACTOR);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Makes the hashers of [`KeyMap`]. Without a field, since a topic's trie has a table at every node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHashSeed;

impl BuildHasher for KeyHashSeed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        static SEED: OnceLock<u64> = OnceLock::new();
        KeyHasher { hash: *SEED.get_or_init(|| RandomState::new().hash_one(FACTOR)) }
    }
}

/// Hashes one key of a [`KeyMap`].
#[derive(Debug)]
pub(super) struct KeyHasher {
    hash: u64,
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        self.hash = hash_bytes(bytes, self.hash);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.hash = fold(self.hash, number);
    }

    // The length before a slice: the bytes' own hash has it already.
    fn write_usize(&mut self, _: usize) {}

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_stable_hash_stays_what_it_was() {
        assert_eq!(stable_hash(b""), 11_649_928_194_608_469_807);
        assert_eq!(stable_hash(b"orders.eu"), 14_399_321_269_694_375_896);
    }

    #[test]
    fn similar_keys_have_different_hashes() {
        let mut seen = HashSet::new();
        for number in 0..100_000 {
            assert!(seen.insert(stable_hash(format!("key-{number}").as_bytes())));
        }
        for length in 0..64 {
            assert!(seen.insert(stable_hash(&vec![0; length])), "zeroes of length {length}");
        }
    }

    #[test]
    fn every_bit_of_the_hash_is_set_for_half_of_the_keys() {
        for bit in 0..64 {
            let set = (0..10_000).filter(|n| stable_hash(format!("{n}").as_bytes()) >> bit & 1 == 1).count();
            assert!((4_700..5_300).contains(&set), "bit {bit} is set for {set} keys of 10000");
            let hash = |n: u32| KeyHashSeed.hash_one(format!("{n}").as_bytes());
            let set = (0..10_000).filter(|n| hash(*n) >> bit & 1 == 1).count();
            assert!((4_500..5_500).contains(&set), "bit {bit} is set for {set} keys of 10000");
        }
    }
}
