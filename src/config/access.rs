//! `[[users]]` and `[[permissions]]`: who may log in, and what they may do there.

use std::fmt;

use regex::Regex;

use super::diagnose::Location;
use super::section::Section;
use super::topology::Vhost;

/// Length in base64 of a password hash: 4 bytes of salt, 32 of SHA-256.
const PASSWORD_HASH_CHARACTERS: usize = 48;

/// One of `[[users]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name. Required.
    pub name: String,
    /// `password` or `password_hash`, exactly one of them.
    pub credentials: Credentials,
    /// What the user may do in the management API: `management`, `policymaker`, `monitoring`, `administrator`; a user
    /// tagged `impersonator` may publish under another's `user_id`. Others are kept and mean nothing. Default none.
    pub tags: Vec<String>,
    /// Where it stands in the file; none for the built-in guest.
    pub declared_at: Option<Location>,
}

/// How a user proves to be one. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `password`: the password itself, not empty.
    Password(String),
    /// `password_hash`: base64 of a 4-byte salt followed by the SHA-256 of salt and password, as RabbitMQ exports it.
    PasswordHash(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Password(_) => "Password(..)",
            Credentials::PasswordHash(_) => "PasswordHash(..)",
        })
    }
}

impl User {
    pub(super) fn built_in_guest() -> User {
        User {
            name: "guest".to_owned(),
            credentials: Credentials::Password("guest".to_owned()),
            tags: vec!["administrator".to_owned()],
            declared_at: None,
        }
    }

    pub(super) fn read(section: &mut Section<'_>) -> User {
        User {
            name: section.required_name("name"),
            credentials: Credentials::read(section),
            tags: section.texts("tags"),
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
        if password_hash.as_ref().is_some_and(|hash| !is_password_hash(hash)) {
            let message = format!(
                "expected {PASSWORD_HASH_CHARACTERS} characters of base64: a salt of 4 bytes, then the SHA-256 of \
                 salt and password"
            );
            section.report("password_hash", message);
        }
        match password_hash {
            Some(hash) => Credentials::PasswordHash(hash),
            None => Credentials::Password(password.unwrap_or_default()),
        }
    }
}

fn is_password_hash(text: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len() == PASSWORD_HASH_CHARACTERS && text.bytes().all(base64)
}

/// One of `[[permissions]]`: what one user may do in one vhost. Each pattern is a regular expression that is looked for
/// anywhere in the name of an exchange or queue; an empty one fits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The user, one of `[[users]]`. Required.
    pub user: String,
    /// The vhost, one of `[[vhosts]]`. Default `/`.
    pub vhost: String,
    /// What may be declared and deleted. Required.
    pub configure: String,
    /// What may be published to and bound. Required.
    pub write: String,
    /// What may be consumed from, purged and bound to. Required.
    pub read: String,
    /// Where it stands in the file; none for the built-in guest's.
    pub declared_at: Option<Location>,
}

impl Permission {
    pub(super) fn read(section: &mut Section<'_>) -> Permission {
        Permission {
            user: section.required_name("user"),
            vhost: Vhost::read_reference(section),
            configure: read_pattern(section, "configure"),
            write: read_pattern(section, "write"),
            read: read_pattern(section, "read"),
            declared_at: section.location(),
        }
    }

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

fn read_pattern(section: &mut Section<'_>, key: &'static str) -> String {
    const EXPECTED: &str = "a regular expression, such as \".*\" for everything or \"\" for nothing";
    if !section.has(key) {
        section.report_missing(key, EXPECTED);
    }
    let pattern = section.any_text(key).unwrap_or_default();
    if let Err(error) = Regex::new(&pattern) {
        // The crate draws the pattern with a caret below it, over several lines; its last one says what is wrong.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        section.report_unexpected(key, "a regular expression", format!("{pattern:?} ({reason})"));
    }
    pattern
}
