//! `[access]`, `[[users]]`, `[[permissions]]` and `[[topic_permissions]]`: who may log in, and what they may do there.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::pattern::Pattern;
use crate::vocabulary::HashingAlgorithm;

use super::diagnose::Location;
use super::section::Section;
use super::table::{Shown, settings, word};
use super::topology::{DEFAULT_VHOST, Vhost};

settings! {
    /// The table `[access]`.
    AccessSettings {
        /// Users who may only log in from this machine.
        loopback_users: Vec<String> = vec!["guest".to_owned()], optional_texts();
        /// Whether logins are also counted by address and user.
        track_login_sources: bool = false, optional_boolean();
        /// Names that the management API is asked for under besides IP addresses and names without a dot. With none, requests from this
        /// machine may use no others, and requests from elsewhere may use any.
        http_hosts: Vec<String> = Vec::new(), optional_texts();
        /// Origins of pages that may use the management API besides its own, such as `https://ops.example`.
        http_origins: Vec<String> = Vec::new(), optional_texts();
        /// How new passwords are kept, and after its next login one that was kept in a weaker way. RabbitMQ can't import those of
        /// argon2id, which takes memory and time on purpose.
        password_hash: HashingAlgorithm = HashingAlgorithm::Sha256, choice(PASSWORD_HASHES);
    }
}

/// How new passwords can be kept; MD5 is for imports alone.
const PASSWORD_HASHES: &[(&str, HashingAlgorithm)] = &[
    ("sha256", HashingAlgorithm::Sha256),
    ("sha512", HashingAlgorithm::Sha512),
    ("argon2id", HashingAlgorithm::Argon2id),
];

impl Shown for HashingAlgorithm {
    fn shown(&self) -> String {
        word(PASSWORD_HASHES, self)
    }
}

/// A user to declare at start: one of `[[users]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name, which has to be there.
    pub name: String,
    /// `password` or `password_hash`, exactly one of them.
    pub credentials: Credentials,
    /// What the user may do in the management API: `management`, `policymaker`, `monitoring`, `administrator`; a user
    /// tagged `impersonator` may publish under another's `user_id`. Others are kept and mean nothing. Default none.
    pub tags: Vec<String>,
    /// Connections of the user at once; -1 is no limit. Default: as it was.
    pub max_connections: Option<i64>,
    /// Channels of all these connections at once; -1 is no limit. Default: as it was.
    pub max_channels: Option<i64>,
    /// Where it stands in the file; none for the built-in guest.
    pub declared_at: Option<Location>,
}

/// How a user proves to be one. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `password`: the password itself, not empty.
    Password(String),
    /// `password_hash`, as RabbitMQ exports it.
    PasswordHash {
        /// Base64 of a 4-byte salt followed by the digest of salt and password. Empty: no password logs in, but a
        /// certificate may.
        hash: String,
        /// `hashing_algorithm`, by RabbitMQ's name. Default `rabbit_password_hashing_sha256`.
        algorithm: HashingAlgorithm,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Password(_) => "Password(..)",
            Credentials::PasswordHash { .. } => "PasswordHash(..)",
        })
    }
}

impl User {
    pub(super) fn built_in_guest() -> User {
        User {
            name: "guest".to_owned(),
            credentials: Credentials::Password("guest".to_owned()),
            tags: vec!["administrator".to_owned()],
            max_connections: None,
            max_channels: None,
            declared_at: None,
        }
    }

    pub(super) fn read(section: &mut Section<'_>) -> User {
        User {
            name: section.required_name("name").unwrap_or_default(),
            credentials: Credentials::read(section),
            tags: section.texts("tags"),
            max_connections: section.optional_whole("max_connections", -1..),
            max_channels: section.optional_whole("max_channels", -1..),
            declared_at: section.location(),
        }
    }
}

impl Credentials {
    fn read(section: &mut Section<'_>) -> Credentials {
        let has_both = section.has("password") && section.has("password_hash");
        let has_none = !section.has("password") && !section.has("password_hash");
        let password = section.secret("password");
        let password_hash = section.secret("password_hash");
        let has_algorithm = section.has("hashing_algorithm");
        let names = HashingAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
        let algorithm = section.choice("hashing_algorithm", &names).unwrap_or_default();
        if has_algorithm && password_hash.is_none() {
            section.report(
                "hashing_algorithm",
                "goes with password_hash only; a password is hashed as access.password_hash says",
            );
        }
        if has_both {
            section.report("password_hash", "password is set too; keep one of the two");
        }
        if has_none {
            section.report_missing("password", "a password, or password_hash in its place");
        }
        if password.as_ref().is_some_and(String::is_empty) {
            section
                .report("password", "expected a password that is not empty: an empty one can never log in");
        }
        let given = password_hash.as_ref().filter(|hash| !hash.is_empty());
        if let Some(expected) = given.and_then(|hash| fault_of_hash(hash, algorithm)) {
            section.report("password_hash", expected);
        }
        match password_hash {
            Some(hash) => Credentials::PasswordHash { hash, algorithm },
            None => Credentials::Password(password.unwrap_or_default()),
        }
    }
}

/// What is expected in place of a hash that its algorithm can't have made.
fn fault_of_hash(hash: &str, algorithm: HashingAlgorithm) -> Option<String> {
    // Salt and digest together, in base64.
    let (digest, characters) = match algorithm {
        HashingAlgorithm::Argon2id => return (!is_argon2id(hash)).then(|| EXPECTED_ARGON2ID.to_owned()),
        HashingAlgorithm::Sha256 => ("SHA-256", 48),
        HashingAlgorithm::Sha512 => ("SHA-512", 92),
        HashingAlgorithm::Md5 => ("MD5", 28),
    };
    (!is_password_hash(hash, characters)).then(|| {
        format!("expected {characters} characters of base64: a salt of 4 bytes, then the {digest} of salt and password")
    })
}

const EXPECTED_ARGON2ID: &str = "expected $argon2id$v=19$m=..,t=..,p=..$SALT$DIGEST, with at most 64 MiB (m=65536), 10 passes and \
                                 4 lanes; what is exported of a user has it";

/// Whether it is a hash of argon2id that may be checked at each login.
fn is_argon2id(text: &str) -> bool {
    let Some((costs, rest)) = text.strip_prefix("$argon2id$v=19$").and_then(|rest| rest.split_once('$'))
    else {
        return false;
    };
    let mut named = costs.split(',').map(|cost| cost.split_once('='));
    let mut is_within = |name: &str, least: u32, most: u32| {
        let cost = named.next().flatten().filter(|(found, _)| *found == name);
        cost.and_then(|(_, number)| number.parse().ok())
            .is_some_and(|number| (least..=most).contains(&number))
    };
    let is_cheap_enough = is_within("m", 8, 65_536) && is_within("t", 1, 10) && is_within("p", 1, 4);
    let decoded =
        rest.split_once('$').map(|(salt, digest)| [salt, digest].map(|part| STANDARD_NO_PAD.decode(part)));
    let is_whole = decoded.is_some_and(|[salt, digest]| {
        salt.is_ok_and(|salt| (8..=64).contains(&salt.len()))
            && digest.is_ok_and(|digest| (16..=64).contains(&digest.len()))
    });
    is_cheap_enough && is_whole && named.next().is_none()
}

fn is_password_hash(text: &str, characters: usize) -> bool {
    text.len() == characters && STANDARD.decode(text).is_ok()
}

settings! {
    /// One of `[[permissions]]`: what one user may do in one vhost. Each pattern is a regular expression that is looked for
    /// anywhere in the name of an exchange or queue; an empty one fits nothing.
    Permission, declared_at {
        /// The user, one of `[[users]]`. Required.
        user: String = String::new(), required_name();
        /// The vhost, one of `[[vhosts]]`.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// What may be declared and deleted. Required.
        configure: String = String::new(), permission_pattern();
        /// What may be published to and bound. Required.
        write: String = String::new(), permission_pattern();
        /// What may be consumed from, purged and bound to. Required.
        read: String = String::new(), permission_pattern();
    }
}

impl Permission {
    /// Lets the built-in guest do everything in each vhost for which the file does not say what guest may do.
    pub(super) fn grant_guest_everything(vhosts: &[Vhost], permissions: &mut Vec<Permission>) {
        for vhost in vhosts {
            if permissions.iter().any(|given| given.user == "guest" && given.vhost == vhost.name) {
                continue;
            }
            let everything = || ".*".to_owned();
            permissions.push(Permission {
                user: "guest".to_owned(),
                vhost: vhost.name.clone(),
                configure: everything(),
                write: everything(),
                read: everything(),
                declared_at: None,
            });
        }
    }
}

settings! {
    /// One of `[[topic_permissions]]`: which routing keys a user may use with a topic exchange. Without an entry it is all.
    TopicPermission, declared_at {
        /// The user, one of `[[users]]`. Required.
        user: String = String::new(), required_name();
        /// The vhost, one of `[[vhosts]]`.
        vhost: String = DEFAULT_VHOST.to_owned(), name();
        /// The exchange. Required.
        exchange: String = String::new(), required_name();
        /// What may be published with; `{username}` and `{vhost}` stand for the user's and the vhost's name. Required.
        write: String = String::new(), permission_pattern();
        /// What may be bound with. Required.
        read: String = String::new(), permission_pattern();
    }
}

impl Section<'_> {
    /// A pattern of a permission, which has to be there.
    fn permission_pattern(&mut self, key: &'static str) -> Option<String> {
        const EXPECTED: &str = "a regular expression, such as \".*\" for everything or \"\" for nothing";
        if !self.has(key) {
            self.report_missing(key, EXPECTED);
        }
        let pattern = self.any_text(key)?;
        if let Err(error) = Pattern::of_permission(&pattern) {
            self.report_unexpected(key, "a regular expression", format!("{pattern:?} ({error})"));
        }
        Some(pattern)
    }
}
