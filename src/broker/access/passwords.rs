//! What is kept of passwords. As RabbitMQ keeps them: in base64, a salt of four bytes and a digest of salt and password. Or with
//! argon2id, which takes memory and time on purpose, as text in the form `$argon2id$v=19$m=19456,t=2,p=1$SALT$DIGEST`.

pub use crate::vocabulary::HashingAlgorithm;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// What a new password costs: 19 MiB and two passes, the least that is advised for logins.
const ARGON2_MEMORY_KIB: u32 = 19_456;
const ARGON2_PASSES: u32 = 2;
const ARGON2_LANES: u32 = 1;
const ARGON2_SALT_BYTES: usize = 16;
const ARGON2_DIGEST_BYTES: usize = 32;

/// What an imported hash may cost: its parameters decide how much each login takes.
const ARGON2_MEMORY_KIB_MAX: u32 = 65_536;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 4;

impl HashingAlgorithm {
    /// The algorithm of a hash that comes without one, known by its length: before 3.6 RabbitMQ had MD5 alone, and did not say so.
    pub fn of_hash(encoded: &str) -> HashingAlgorithm {
        match STANDARD.decode(encoded).map_or(0, |decoded| decoded.len()) {
            _ if encoded.starts_with("$argon2id$") => HashingAlgorithm::Argon2id,
            20 => HashingAlgorithm::Md5,
            68 => HashingAlgorithm::Sha512,
            _ => HashingAlgorithm::Sha256,
        }
    }

    /// Whether it takes long on purpose, so that it must not be computed on an event loop.
    pub fn is_slow(self) -> bool {
        self == HashingAlgorithm::Argon2id
    }
}

/// The digest of RabbitMQ's ways.
fn digest(algorithm: HashingAlgorithm, salt: [u8; 4], password: &[u8]) -> Vec<u8> {
    fn of<D: Digest>(salt: [u8; 4], password: &[u8]) -> Vec<u8> {
        D::new().chain_update(salt).chain_update(password).finalize().to_vec()
    }
    match algorithm {
        HashingAlgorithm::Sha512 => of::<Sha512>(salt, password),
        HashingAlgorithm::Md5 => of::<Md5>(salt, password),
        HashingAlgorithm::Sha256 | HashingAlgorithm::Argon2id => of::<Sha256>(salt, password),
    }
}

/// What is kept of a password. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashingAlgorithm,
    /// Empty: no password logs in.
    encoded: String,
}

impl PasswordHash {
    /// Of a password, with a salt of its own. An empty password never logs in. Argon2id takes its time.
    pub fn new(password: &[u8], algorithm: HashingAlgorithm) -> PasswordHash {
        let random = random_bytes();
        if algorithm == HashingAlgorithm::Argon2id {
            return PasswordHash { algorithm, encoded: SlowHash::of(password, random).encode() };
        }
        let [a, b, c, d, ..] = random;
        let salt = [a, b, c, d];
        PasswordHash {
            algorithm,
            encoded: STANDARD.encode([&salt[..], &digest(algorithm, salt, password)].concat()),
        }
    }

    /// Of a password with that salt, in one of RabbitMQ's ways.
    pub fn of(password: &str, salt: [u8; 4], algorithm: HashingAlgorithm) -> PasswordHash {
        let digest = digest(algorithm, salt, password.as_bytes());
        PasswordHash { algorithm, encoded: STANDARD.encode([&salt[..], &digest].concat()) }
    }

    /// As definitions have it; `None` when it is not base64, or no hash of argon2id that can be checked at a bounded cost. An empty
    /// one means that no password logs in.
    pub fn encoded(encoded: &str, algorithm: HashingAlgorithm) -> Option<PasswordHash> {
        match algorithm {
            _ if encoded.is_empty() => {}
            HashingAlgorithm::Argon2id => drop(SlowHash::decode(encoded)?),
            _ => drop(STANDARD.decode(encoded).ok()?),
        }
        Some(PasswordHash { algorithm, encoded: encoded.to_owned() })
    }

    /// Of no password: the user logs in by other means or not at all.
    pub fn none() -> PasswordHash {
        PasswordHash { algorithm: HashingAlgorithm::default(), encoded: String::new() }
    }

    /// Whether it is that of no password.
    pub fn is_none(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The hash of a random password: it takes as long to check as another.
    pub(in crate::broker) fn of_nobody(algorithm: HashingAlgorithm) -> PasswordHash {
        match algorithm {
            HashingAlgorithm::Argon2id => {
                let nobodys =
                    SlowHash { digest: vec![0; ARGON2_DIGEST_BYTES], ..SlowHash::new(random_bytes()) };
                PasswordHash { algorithm, encoded: nobodys.encode() }
            }
            algorithm => PasswordHash { algorithm, encoded: String::new() },
        }
    }

    /// The algorithm that it was made with.
    pub fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// Salt and digest, as definitions have them.
    pub fn as_str(&self) -> &str {
        &self.encoded
    }

    /// Whether it is of that password. The time that takes does not depend on where the difference is; with argon2id it is long.
    pub fn is_of(&self, password: &[u8]) -> bool {
        if self.algorithm == HashingAlgorithm::Argon2id {
            let is_of = SlowHash::decode(&self.encoded).is_some_and(|hash| hash.is_of(password));
            return is_of && !password.is_empty();
        }
        let decoded = STANDARD.decode(&self.encoded).unwrap_or_default();
        let (salt, kept) = match decoded.split_first_chunk::<4>() {
            Some((salt, kept)) => (*salt, kept),
            None => ([0; 4], &[][..]),
        };
        let same = same(&digest(self.algorithm, salt, password), kept);
        same && !password.is_empty()
    }
}

/// A hash of argon2id with what it was made with.
struct SlowHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl SlowHash {
    /// As new ones are made, without a digest yet.
    fn new(salt: [u8; ARGON2_SALT_BYTES]) -> SlowHash {
        SlowHash {
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            lanes: ARGON2_LANES,
            salt: salt.to_vec(),
            digest: Vec::new(),
        }
    }

    fn of(password: &[u8], salt: [u8; ARGON2_SALT_BYTES]) -> SlowHash {
        let hash = SlowHash::new(salt);
        let digest = hash.digest(password, ARGON2_DIGEST_BYTES);
        SlowHash { digest: digest.expect("what is ours is within argon2's bounds"), ..hash }
    }

    fn digest(&self, password: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(bytes)).ok()?;
        let mut digest = vec![0; bytes];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password, &self.salt, &mut digest).ok()?;
        Some(digest)
    }

    fn is_of(&self, password: &[u8]) -> bool {
        self.digest(password, self.digest.len()).is_some_and(|digest| same(&digest, &self.digest))
    }

    fn encode(&self) -> String {
        let SlowHash { memory_kib, passes, lanes, salt, digest } = self;
        let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${digest}")
    }

    fn decode(text: &str) -> Option<SlowHash> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let mut costs = costs.split(',').zip(["m=", "t=", "p="]);
        let mut cost = || {
            let (cost, name) = costs.next()?;
            cost.strip_prefix(name)?.parse::<u32>().ok()
        };
        let (memory_kib, passes, lanes) = (cost()?, cost()?, cost()?);
        let hash = SlowHash {
            memory_kib,
            passes,
            lanes,
            salt: STANDARD_NO_PAD.decode(salt).ok()?,
            digest: STANDARD_NO_PAD.decode(digest).ok()?,
        };
        let is_cheap_enough = (8..=ARGON2_MEMORY_KIB_MAX).contains(&memory_kib)
            && (1..=ARGON2_PASSES_MAX).contains(&passes)
            && (1..=ARGON2_LANES_MAX).contains(&lanes);
        let is_whole = (8..=64).contains(&hash.salt.len()) && (16..=64).contains(&hash.digest.len());
        (is_cheap_enough && is_whole && parts.next().is_none()).then_some(hash)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
pub(in crate::broker) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Unpredictable bytes, from the system's random numbers.
pub(in crate::broker) fn random_bytes() -> [u8; 16] {
    let halves = [RandomState::new(), RandomState::new()].map(|state| state.hash_one(0_u8).to_be_bytes());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&halves[0]);
    bytes[8..].copy_from_slice(&halves[1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_rabbitmq_made_fit_their_passwords() {
        // The first is the example in RabbitMQ's guide to passwords: salt 90 8D C6 0A, password test12. The others were
        // made by rabbit_password:hash/2 of RabbitMQ 3.10.8 for the password secret.
        for (password, encoded, algorithm) in [
            ("test12", "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", HashingAlgorithm::Sha256),
            (
                "secret",
                "2fQRtMvQ8rrAtFOwMXgn/dOldchYTqmy+85lgSCIX0tlebck6UV6fDp/0Fay3toKuA97JaQxZ+ImqSpAH5/NQOKSq7c=",
                HashingAlgorithm::Sha512,
            ),
            ("secret", "SSBqd1UNsMn9D5w29fQSg6+Wor8=", HashingAlgorithm::Md5),
        ] {
            let hash = PasswordHash::encoded(encoded, algorithm).unwrap();
            assert!(hash.is_of(password.as_bytes()), "{algorithm:?}");
            assert!(!hash.is_of(b"other") && !hash.is_of(b""), "{algorithm:?}");
            assert_eq!(HashingAlgorithm::named(algorithm.name()), Some(algorithm));
            assert_eq!(HashingAlgorithm::of_hash(encoded), algorithm);
        }
    }

    #[test]
    fn what_is_no_hash_fits_nothing() {
        assert!(!PasswordHash::none().is_of(b""));
        assert!(!PasswordHash::of("", [1, 2, 3, 4], HashingAlgorithm::Sha256).is_of(b""));
        assert!(PasswordHash::encoded("!!", HashingAlgorithm::Sha256).is_none());
        assert!(!PasswordHash::encoded("YWJj", HashingAlgorithm::Sha256).unwrap().is_of(b"abc"));
    }

    #[test]
    fn argon2id_takes_what_is_its_own_and_costs_no_more_than_it_may() {
        let hash = PasswordHash::new(b"secret", HashingAlgorithm::Argon2id);
        assert!(hash.is_of(b"secret") && !hash.is_of(b"other") && !hash.is_of(b""));
        assert_eq!(PasswordHash::encoded(hash.as_str(), HashingAlgorithm::Argon2id), Some(hash.clone()));
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        assert_ne!(PasswordHash::new(b"secret", HashingAlgorithm::Argon2id), hash, "the salt is its own");
        assert!(!PasswordHash::of_nobody(HashingAlgorithm::Argon2id).is_of(b"secret"));
        assert!(!PasswordHash::new(b"", HashingAlgorithm::Argon2id).is_of(b""));
        // The example of the reference implementation: password, somesalt, t=2, m=65536, p=1.
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(PasswordHash::encoded(reference, HashingAlgorithm::Argon2id).unwrap().is_of(b"password"));
        let (_, rest) = reference.split_once("p=1").unwrap();
        for costs in [
            "m=65537,t=2,p=1",
            "m=65536,t=11,p=1",
            "m=65536,t=2,p=5",
            "m=7,t=1,p=1",
            "t=2,m=8,p=1",
            "m=8,t=2",
        ] {
            let text = format!("$argon2id$v=19${costs}{rest}");
            assert_eq!(PasswordHash::encoded(&text, HashingAlgorithm::Argon2id), None, "{costs}");
        }
        for text in [
            "YWJjZA==",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$",
            "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AA",
        ] {
            assert_eq!(PasswordHash::encoded(text, HashingAlgorithm::Argon2id), None, "{text}");
        }
    }

    #[test]
    fn a_hash_is_not_shown() {
        assert!(
            !format!("{:?}", PasswordHash::of("p", [1, 2, 3, 4], HashingAlgorithm::Md5)).contains("AQID")
        );
    }
}
