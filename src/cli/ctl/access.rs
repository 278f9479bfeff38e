//! Users, and what they may do.

use super::super::client::{Client, ClientError, Put};
use super::super::output::printable;
use super::super::path::path;
use super::super::secret;
use super::super::{About, Failure};
use super::Vhost;
use super::settings::set_limit;
use clap::Subcommand;
use leveret::api::{self, Table, Tags};
use std::io::Write;

const PASSWORD_HELP: &str =
    "The password is read from standard input, so that it stands in no list of processes:

  leveret ctl user add app < password-file";

#[derive(Subcommand, Debug)]
pub(super) enum User {
    /// Adds a user, or gives one that is there another password; the tags of that one stay unless --tags are said
    #[command(after_help = PASSWORD_HELP)]
    Add {
        /// Its name
        name: String,
        /// What it is besides: administrator, monitoring, policymaker, management; with commas between them
        #[arg(long, value_name = "TAGS", value_delimiter = ',')]
        tags: Option<Vec<String>>,
        /// The password, where everybody may see it
        #[arg(long, value_name = "TEXT", conflicts_with = "password_hash")]
        new_password: Option<String>,
        /// A hash of the password, as RabbitMQ exports it (SHA-256)
        #[arg(long, value_name = "HASH")]
        password_hash: Option<String>,
    },
    /// Deletes a user, with its permissions
    Delete {
        /// Its name
        name: String,
    },
    /// Gives a user another password, and leaves the rest as it is
    #[command(after_help = PASSWORD_HELP)]
    Password {
        /// Its name
        name: String,
        /// The password, where everybody may see it
        #[arg(long, value_name = "TEXT")]
        new_password: Option<String>,
    },
    /// Gives a user these tags and no others: leveret ctl user tags app monitoring
    Tags {
        /// Its name
        name: String,
        /// administrator, monitoring, policymaker, management, or none at all
        tags: Vec<String>,
    },
    /// Says how much a user may open; -1 is no limit
    Limit {
        /// Its name
        name: String,
        /// Connections at the same time
        #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
        max_connections: Option<i64>,
        /// Channels at the same time
        #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
        max_channels: Option<i64>,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Permission {
    /// Says what a user may configure, write and read in a vhost: three regular expressions for names of queues and exchanges
    Set {
        /// The user
        user: String,
        /// What it may declare and delete
        configure: String,
        /// What it may publish to and bind
        write: String,
        /// What it may consume, purge and bind to
        read: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    /// Takes all permissions in a vhost from a user
    Clear {
        /// The user
        user: String,
        #[command(flatten)]
        vhost: Vhost,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum TopicPermission {
    /// Says which routing keys a user may publish and bind with
    Set {
        /// The user
        user: String,
        /// The exchange
        exchange: String,
        /// Keys that it may publish with, a regular expression
        write: String,
        /// Keys that it may bind with, a regular expression
        read: String,
        #[command(flatten)]
        vhost: Vhost,
    },
    /// Takes these rules from a user, in a vhost
    Clear {
        /// The user
        user: String,
        #[command(flatten)]
        vhost: Vhost,
    },
}

impl User {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            User::Add { name, tags, new_password, password_hash } => {
                let tags = match tags {
                    Some(tags) => Tags(tags.clone()),
                    None => tags_of(client, name)?,
                };
                let password = match password_hash {
                    Some(_) => None,
                    None => Some(password(name, new_password.as_deref())?),
                };
                let password_hash = password_hash.clone();
                let body = api::User { tags: Some(tags), password, password_hash, ..api::User::default() };
                let put = client
                    .put(&path(&["users", name]), &body)
                    .about(|| format!("user '{name}' was not added"))?;
                match put {
                    Put::Created => writeln!(
                        out,
                        "user '{name}' is added; leveret ctl permission set opens a vhost to it"
                    )?,
                    Put::Updated => writeln!(out, "user '{name}' was there, and has a new password")?,
                }
            }
            User::Delete { name } => {
                client.delete(&path(&["users", name])).about(|| {
                    format!("user '{name}' was not deleted (leveret ctl list users shows who is there)")
                })?;
                writeln!(out, "user '{name}' is deleted")?;
            }
            User::Password { name, new_password } => {
                let user = get(client, name)?;
                let password = Some(password(name, new_password.as_deref())?);
                let (password_hash, hashing_algorithm) = (None, None);
                change(client, name, api::User { password, password_hash, hashing_algorithm, ..user })?;
                writeln!(out, "user '{name}' has a new password")?;
            }
            User::Tags { name, tags } => {
                let user = get(client, name)?;
                change(client, name, api::User { tags: Some(Tags(tags.clone())), ..user })?;
                writeln!(out, "user '{name}' has the tags [{}]", printable(&tags.join(", ")))?;
            }
            User::Limit { name, max_connections, max_channels } => {
                let limits = [("max-connections", *max_connections), ("max-channels", *max_channels)];
                set_limit(client, out, ("user", name), &limits)?;
            }
        }
        Ok(())
    }
}

/// The tags that a user has, none if there is no such user: changing a password must not lose them.
fn tags_of(client: &mut Client, name: &str) -> Result<Tags, Failure> {
    match client.get::<api::User>(&path(&["users", name])) {
        Err(ClientError::NotFound(_)) => Ok(Tags::default()),
        got => got
            .map(|user| user.tags.unwrap_or_default())
            .about(|| format!("user '{name}' can't be looked up")),
    }
}

/// What is known of a user.
fn get(client: &mut Client, name: &str) -> Result<api::User, Failure> {
    client.get(&path(&["users", name])).about(|| format!("user '{name}' can't be changed"))
}

/// Puts back what was got, with what is other. Its limits stay, whatever is said of them.
fn change(client: &mut Client, name: &str, user: api::User) -> Result<(), Failure> {
    let body = api::User { name: None, limits: Table::new(), ..user };
    client.put(&path(&["users", name]), &body).about(|| format!("user '{name}' was not changed"))?;
    Ok(())
}

/// The password that was given, or one that is read.
fn password(name: &str, given: Option<&str>) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let read = secret::read(&format!("password for user '{name}': "))?;
    if read.is_empty() {
        return Err(Failure::Typed(format!("there is no password for user '{name}' on standard input")));
    }
    Ok(read)
}

impl Permission {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Permission::Set { user, configure, write, read, vhost } => {
                let vhost = &vhost.name;
                let [configure, write, read] = [configure, write, read].map(|pattern| Some(pattern.clone()));
                let body = api::Permission { configure, write, read, ..api::Permission::default() };
                client
                    .put(&path(&["permissions", vhost, user]), &body)
                    .about(|| format!("the permissions of user '{user}' in vhost '{vhost}' were not set"))?;
                writeln!(out, "user '{user}' has these permissions in vhost '{vhost}'")?;
            }
            Permission::Clear { user, vhost } => {
                let vhost = &vhost.name;
                client.delete(&path(&["permissions", vhost, user])).about(|| {
                    format!("the permissions of user '{user}' in vhost '{vhost}' were not cleared")
                })?;
                writeln!(out, "user '{user}' has no permissions in vhost '{vhost}' any more")?;
            }
        }
        Ok(())
    }
}

impl TopicPermission {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            TopicPermission::Set { user, exchange, write, read, vhost } => {
                let vhost = &vhost.name;
                let [write, read] = [write, read].map(|pattern| Some(pattern.clone()));
                let named = Some(exchange.as_str().into());
                let body =
                    api::TopicPermission { exchange: named, write, read, ..api::TopicPermission::default() };
                client.put(&path(&["topic-permissions", vhost, user]), &body).about(|| {
                    format!("the topic permissions of user '{user}' in vhost '{vhost}' were not set")
                })?;
                writeln!(
                    out,
                    "user '{user}' has these topic permissions for exchange '{exchange}' in vhost '{vhost}'"
                )?;
            }
            TopicPermission::Clear { user, vhost } => {
                let vhost = &vhost.name;
                client.delete(&path(&["topic-permissions", vhost, user])).about(|| {
                    format!("the topic permissions of user '{user}' in vhost '{vhost}' were not cleared")
                })?;
                writeln!(out, "user '{user}' has no topic permissions in vhost '{vhost}' any more")?;
            }
        }
        Ok(())
    }
}
