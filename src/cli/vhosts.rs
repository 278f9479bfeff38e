//! Changing some of what is said of a vhost: the broker takes what a request leaves out for nothing.

use super::client::{Client, ClientError};
use super::path::path;
use leveret::api::{self, Form, Table, VhostMetadata};

/// Puts what is wanted of a vhost; the rest stays as it is `known`.
pub(super) fn put(
    client: &mut Client,
    vhost: &str,
    wanted: &Table,
    known: Option<&Table>,
) -> Result<(), ClientError> {
    let mut said = known.cloned().unwrap_or_default();
    said.extend(wanted.clone());
    let body: VhostMetadata = api::read(&said.into(), Form::Plain)
        .map_err(|fault| ClientError::Options(format!("vhost '{vhost}' can't be changed: {fault}")))?;
    client.put(&path(&["vhosts", vhost]), &body).map(drop)
}

/// Has a vhost that is there traced, or no longer.
pub(super) fn set_tracing(client: &mut Client, vhost: &str, tracing: bool) -> Result<(), ClientError> {
    let known: VhostMetadata = client.get(&path(&["vhosts", vhost]))?;
    client.put(&path(&["vhosts", vhost]), &VhostMetadata { tracing: Some(tracing), ..known }).map(drop)
}
