//! Changing some of what is said of a vhost: the broker takes what a request leaves out for nothing.

use super::client::{Client, ClientError};
use super::path::path;
use serde_json::{Map, Value, json};

/// What can be said of a vhost besides its limits.
const SAID: [&str; 4] = ["description", "tags", "default_queue_type", "tracing"];

/// Puts what is wanted of a vhost; the rest stays as it is `known`.
pub(super) fn put(
    client: &mut Client,
    vhost: &str,
    wanted: &Map<String, Value>,
    known: Option<&Map<String, Value>>,
) -> Result<(), ClientError> {
    let said = |name: &str| wanted.get(name).or(known.and_then(|known| known.get(name))).cloned();
    let body: Map<String, Value> =
        SAID.iter().filter_map(|name| Some(((*name).to_owned(), said(name)?))).collect();
    client.put(&path(&["vhosts", vhost]), &body.into())?;
    Ok(())
}

/// Has a vhost that is there traced, or no longer.
pub(super) fn set_tracing(client: &mut Client, vhost: &str, tracing: bool) -> Result<(), ClientError> {
    let known = client.get(&path(&["vhosts", vhost]))?;
    let wanted = json!({ "tracing": tracing });
    put(client, vhost, wanted.as_object().unwrap_or(&Map::new()), known.as_object())
}
