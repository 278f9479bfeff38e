//! The commands about users and permissions.

use super::super::client::{Client, ClientError};
use super::super::path::path;
use super::super::secret;
use super::lists::words_of;
use super::{Call, Command, Done, MANY, Refusal, command, status};
use leveret::api::{Permission, Tags, TopicPermission, User};
use serde::Serialize;

pub(super) const COMMANDS: &[Command] = &[
    command("add_user", (1, 2), add_user, "<username> <password>"),
    command("delete_user", (1, 1), delete_user, "<username>"),
    command("change_password", (1, 2), change_password, "<username> <password>"),
    command("clear_password", (1, 1), clear_password, "<username>"),
    command("set_user_tags", (1, MANY), set_user_tags, "<username> <tag> [...]"),
    command("authenticate_user", (1, 2), authenticate_user, "<username> <password>"),
    command("set_permissions", (4, 4), set_permissions, "[--vhost <vhost>] <username> <conf> <write> <read>"),
    command("clear_permissions", (1, 1), clear_permissions, "[--vhost <vhost>] <username>"),
    command(
        "set_topic_permissions",
        (4, 4),
        set_topic_permissions,
        "[--vhost <vhost>] <username> <exchange> <write> <read>",
    ),
    command(
        "clear_topic_permissions",
        (1, 2),
        clear_topic_permissions,
        "[--vhost <vhost>] <username> [<exchange>]",
    ),
    command("set_user_limits", (2, 2), set_user_limits, "<username> <definition>"),
    command("clear_user_limits", (2, 2), clear_user_limits, "<username> <limit_type> | all"),
    command("list_user_limits", (0, 0), list_user_limits, "[--user <username>] [--global]"),
];

/// The user is not there, as commands about users say it.
fn no_user(name: &str) -> Refusal {
    Refusal::Error(status::NO_USER, format!("User \"{name}\" does not exist"))
}

/// The user as the broker has it.
fn user(call: &mut Call, name: &str) -> Result<User, Refusal> {
    match call.client.get(&path(&["users", name])) {
        Err(ClientError::NotFound(_)) => Err(no_user(name)),
        got => Ok(got?),
    }
}

/// The password that was typed, or the line that is read.
fn password(call: &Call) -> Result<String, Refusal> {
    if let Some(password) = call.typed.arguments.get(1) {
        return Ok(password.clone());
    }
    let read = secret::read("Password: ")?;
    if read.is_empty() {
        let text = "Password is not provided via argument or stdin".to_owned();
        return Err(Refusal::Error(status::SOFTWARE, text));
    }
    Ok(read)
}

fn add_user(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Adding user \"{name}\" ..."))?;
    let password = password(call)?;
    match call.client.check(&path(&["users", &name])) {
        Err(ClientError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(()) => {
            return Err(Refusal::Error(status::SOFTWARE, format!("User \"{name}\" already exists")));
        }
    }
    let (password, password_hash) =
        if call.typed.has("--pre-hashed-password") { (None, Some(password)) } else { (Some(password), None) };
    let user = User { tags: Some(Tags::default()), password, password_hash, ..User::default() };
    call.client.put(&path(&["users", &name]), &user)?;
    call.banner(
        "Done. Don't forget to grant the user permissions to some virtual hosts! \
         See 'rabbitmqctl help set_permissions' to learn more.",
    )?;
    Ok(())
}

fn delete_user(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Deleting user \"{name}\" ..."))?;
    match call.client.delete(&path(&["users", &name])) {
        Err(ClientError::NotFound(_)) => Err(no_user(&name)),
        deleted => Ok(deleted?),
    }
}

fn change_password(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Changing password for user \"{name}\" ..."))?;
    let password = password(call)?;
    let tags = user(call, &name)?.tags;
    call.client.put(&path(&["users", &name]), &User { tags, password: Some(password), ..User::default() })?;
    Ok(())
}

fn clear_password(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Clearing password for user \"{name}\" ..."))?;
    let (tags, nothing) = (user(call, &name)?.tags, Some(String::new()));
    call.client.put(&path(&["users", &name]), &User { tags, password_hash: nothing, ..User::default() })?;
    Ok(())
}

fn set_user_tags(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    let tags: Vec<String> =
        call.typed.arguments[1..].iter().flat_map(|tag| words_of(&tag.as_str().into())).collect();
    call.banner(&format!("Setting tags for user \"{name}\" to [{}] ...", tags.join(", ")))?;
    let User { password_hash, hashing_algorithm, .. } = user(call, &name)?;
    let changed = User { tags: Some(Tags(tags)), password_hash, hashing_algorithm, ..User::default() };
    call.client.put(&path(&["users", &name]), &changed)?;
    Ok(())
}

/// Logs in as that user. A user who may not use the management API has given the right password too.
fn authenticate_user(call: &mut Call) -> Done {
    let name = call.argument(0).to_owned();
    call.banner(&format!("Authenticating user \"{name}\" ..."))?;
    let password = password(call)?;
    let mut options = call.options.clone();
    (options.user, options.password) = (Some(name.clone()), Some(password));
    match Client::new(&options)?.check(&path(&["whoami"])) {
        Ok(()) | Err(ClientError::Forbidden { .. }) => Ok(call.say("Success")?),
        Err(ClientError::Login { .. }) => Err(Refusal::Error(
            status::DATA,
            format!("Error: failed to authenticate user \"{name}\"\nuser '{name}' - invalid credentials"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Says which of the two is not there, when a permission's path leads nowhere; neither, when it is the permission.
fn missing(call: &mut Call, name: &str, vhost: &str) -> Result<Option<Refusal>, Refusal> {
    match call.client.check(&path(&["vhosts", vhost])) {
        Err(ClientError::NotFound(_)) => {
            let text = format!("Virtual host {vhost} does not exist");
            return Ok(Some(Refusal::Error(status::UNAVAILABLE, text)));
        }
        got => got?,
    }
    match call.client.check(&path(&["users", name])) {
        Err(ClientError::NotFound(_)) => {
            let text = format!("User {name} does not exist");
            Ok(Some(Refusal::Error(status::NO_USER, text)))
        }
        got => Ok(got.map(|()| None)?),
    }
}

/// Puts a permission for the user that was typed.
fn put_permission<B: Serialize>(call: &mut Call, kind: &str, body: &B) -> Done {
    let (name, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    match call.client.put(&path(&[kind, &vhost, &name]), body) {
        Ok(_) => Ok(()),
        Err(error) => match missing(call, &name, &vhost)? {
            Some(refusal) => Err(refusal),
            None => Err(error.into()),
        },
    }
}

/// Deletes permissions of the user that was typed, and is content when there were none.
fn clear_permission(call: &mut Call, kind: &str, exchange: Option<&str>) -> Done {
    let (name, vhost) = (call.argument(0).to_owned(), call.typed.vhost().to_owned());
    let segments = [kind, &vhost, &name].into_iter().chain(exchange);
    match call.client.delete(&path(&segments.collect::<Vec<_>>())) {
        Ok(_) => Ok(()),
        Err(error) => match (missing(call, &name, &vhost)?, error) {
            (Some(refusal), _) => Err(refusal),
            (None, ClientError::NotFound(_)) => Ok(()),
            (None, error) => Err(error.into()),
        },
    }
}

fn set_permissions(call: &mut Call) -> Done {
    let (name, vhost) = (call.argument(0), call.typed.vhost());
    let [configure, write, read] = [1, 2, 3].map(|index| Some(call.argument(index).to_owned()));
    let body = Permission { configure, write, read, ..Permission::default() };
    call.banner(&format!("Setting permissions for user \"{name}\" in vhost \"{vhost}\" ..."))?;
    put_permission(call, "permissions", &body)
}

fn clear_permissions(call: &mut Call) -> Done {
    let (name, vhost) = (call.argument(0), call.typed.vhost());
    call.banner(&format!("Clearing permissions for user \"{name}\" in vhost \"{vhost}\" ..."))?;
    clear_permission(call, "permissions", None)
}

fn set_topic_permissions(call: &mut Call) -> Done {
    let (name, vhost, exchange) = (call.argument(0), call.typed.vhost(), call.argument(1));
    let body = TopicPermission {
        exchange: Some(exchange.into()),
        write: Some(call.argument(2).to_owned()),
        read: Some(call.argument(3).to_owned()),
        ..TopicPermission::default()
    };
    call.banner(&format!(
        "Setting topic permissions on \"{exchange}\" for user \"{name}\" in vhost \"{vhost}\" ..."
    ))?;
    put_permission(call, "topic-permissions", &body)
}

fn clear_topic_permissions(call: &mut Call) -> Done {
    let (name, vhost) = (call.argument(0), call.typed.vhost());
    let exchange = call.typed.arguments.get(1).cloned();
    call.banner(&format!("Clearing topic permissions for user \"{name}\" in vhost \"{vhost}\" ..."))?;
    clear_permission(call, "topic-permissions", exchange.as_deref())
}

fn set_user_limits(call: &mut Call) -> Done {
    let (name, definition) = (call.argument(0).to_owned(), call.argument(1).to_owned());
    call.banner(&format!("Setting user limits to \"{definition}\" for user \"{name}\" ..."))?;
    let limits = super::settings::parse_json(&definition)?;
    user(call, &name)?;
    super::settings::put_limits(call, "user-limits", &name, &limits)
}

fn clear_user_limits(call: &mut Call) -> Done {
    let (name, limit) = (call.argument(0).to_owned(), call.argument(1).to_owned());
    let limits: &[&str] = if limit == "all" { &["max-connections", "max-channels"] } else { &[&limit] };
    match limit.as_str() {
        "all" => call.banner(&format!("Clearing all limits for user \"{name}\" ..."))?,
        one => call.banner(&format!("Clearing \"{one}\" limit for user \"{name}\" ..."))?,
    }
    user(call, &name)?;
    super::settings::clear_limits(call, "user-limits", &name, limits)
}

fn list_user_limits(call: &mut Call) -> Done {
    match call.typed.option("--user").map(str::to_owned) {
        Some(name) => {
            call.banner(&format!("Listing limits for user \"{name}\" ..."))?;
            user(call, &name)?;
            super::settings::say_limits(call, &["user-limits", &name])
        }
        None => {
            call.banner("Listing limits for all users ...")?;
            super::settings::list_limits(call, "user-limits", "user")
        }
    }
}
