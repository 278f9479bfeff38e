//! Passwords as RabbitMQ keeps them: in base64, a salt of four bytes and a digest of salt and password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use std::fmt;

/// How a password is digested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashingAlgorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5, which old exports have.
    Md5,
}

impl HashingAlgorithm {
    const ALL: [HashingAlgorithm; 3] =
        [HashingAlgorithm::Sha256, HashingAlgorithm::Sha512, HashingAlgorithm::Md5];

    /// RabbitMQ's name for it.
    pub fn name(self) -> &'static str {
        match self {
            HashingAlgorithm::Sha256 => "rabbit_password_hashing_sha256",
            HashingAlgorithm::Sha512 => "rabbit_password_hashing_sha512",
            HashingAlgorithm::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<HashingAlgorithm> {
        HashingAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn digest(self, salt: [u8; 4], password: &[u8]) -> Vec<u8> {
        fn of<D: Digest>(salt: [u8; 4], password: &[u8]) -> Vec<u8> {
            D::new().chain_update(salt).chain_update(password).finalize().to_vec()
        }
        match self {
            HashingAlgorithm::Sha256 => of::<Sha256>(salt, password),
            HashingAlgorithm::Sha512 => of::<Sha512>(salt, password),
            HashingAlgorithm::Md5 => of::<Md5>(salt, password),
        }
    }
}

/// What is kept of a password. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashingAlgorithm,
    /// Base64; empty: nobody logs in with a password.
    encoded: String,
}

impl PasswordHash {
    /// Of a password. An empty password never logs in.
    pub fn of(password: &str, salt: [u8; 4], algorithm: HashingAlgorithm) -> PasswordHash {
        let digest = algorithm.digest(salt, password.as_bytes());
        PasswordHash { algorithm, encoded: STANDARD.encode([&salt[..], &digest].concat()) }
    }

    /// As exported by RabbitMQ; `None` when it is not base64. An empty one means that nobody logs in with a password.
    pub fn encoded(encoded: &str, algorithm: HashingAlgorithm) -> Option<PasswordHash> {
        STANDARD.decode(encoded).ok()?;
        Some(PasswordHash { algorithm, encoded: encoded.to_owned() })
    }

    /// Of no password: the user logs in by other means or not at all.
    pub fn none() -> PasswordHash {
        PasswordHash { algorithm: HashingAlgorithm::default(), encoded: String::new() }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// Salt and digest in base64, as definitions have them.
    pub fn as_str(&self) -> &str {
        &self.encoded
    }

    /// Whether it is of that password. It takes a time that does not tell where the difference is.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let decoded = STANDARD.decode(&self.encoded).unwrap_or_default();
        let (salt, digest) = match decoded.split_first_chunk::<4>() {
            Some((salt, digest)) => (*salt, digest),
            None => ([0; 4], &[][..]),
        };
        let same = same(&self.algorithm.digest(salt, password), digest);
        same && !password.is_empty()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
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
    fn a_hash_is_not_shown() {
        assert!(
            !format!("{:?}", PasswordHash::of("p", [1, 2, 3, 4], HashingAlgorithm::Md5)).contains("AQID")
        );
    }
}
