//! A request as handlers see it: the user, the path's and the query's parameters, and the body.

use super::answer::ApiError;
use super::body::Received;
use super::routes::Needs;
use super::told::Told;
use super::{Management, ManagementSettings, auth, json};
use crate::api::{self, Form, Table};
use crate::broker::access::permissions::Access;
use crate::broker::access::users::User;
use crate::broker::error::{BrokerError, Resource};
use crate::broker::exchange::Exchange;
use crate::broker::observe::events::Headers;
use crate::broker::{Actor, Broker, Turn, VirtualHost};
use crate::message::{Millis, Name};
use axum::http::HeaderMap;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// A request; see the module.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) management: Management,
    pub(super) user: Arc<User>,
    pub(super) now: Millis,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Received,
    /// The fields of a body that is a form.
    pub(super) form: Vec<(String, Bytes)>,
}

impl Request {
    pub(super) fn broker(&self) -> &Arc<Broker> {
        &self.management.broker
    }

    pub(super) fn settings(&self) -> &ManagementSettings {
        &self.management.settings
    }

    /// A parameter of the path; empty when the path has none of that name.
    pub(super) fn parameter(&self, name: &str) -> &str {
        find(&self.parameters, name).unwrap_or_default()
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// Whether a parameter of the query says yes.
    pub(super) fn query_flag(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A text in the body, if that is a form.
    pub(super) fn form_field(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.form_bytes(name)?).ok()
    }

    /// A file in the body, if that is a form.
    pub(super) fn form_bytes(&self, name: &str) -> Option<&Bytes> {
        self.form.iter().find(|(other, _)| other == name).map(|(_, bytes)| bytes)
    }

    /// The vhost in the path.
    pub(super) fn vhost(&self) -> Result<Arc<VirtualHost>, ApiError> {
        self.broker().vhost(self.parameter("vhost")).ok_or(ApiError::NotFound)
    }

    /// The user in the path.
    pub(super) fn user_in_path(&self) -> Result<Arc<User>, ApiError> {
        self.broker().users().get(self.parameter("user")).ok_or(ApiError::NotFound)
    }

    /// The vhosts that a list is about: the one in the path, or all that the user sees, in the order of their names.
    pub(super) fn vhosts(&self) -> Result<Vec<Arc<VirtualHost>>, ApiError> {
        if self.parameters.iter().any(|(name, _)| name == "vhost") {
            return Ok(vec![self.vhost()?]);
        }
        let mut vhosts = self.broker().vhosts();
        vhosts.retain(|vhost| auth::sees_vhost(self.broker(), &self.user, vhost.name()));
        vhosts.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(vhosts)
    }

    /// What the body says; no body says nothing, and fields that the thing does not have are passed over.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.body_with(&[])
    }

    /// The same of a body that has to have these fields.
    pub(super) fn body_with<T: DeserializeOwned>(&self, required: &[&str]) -> Result<T, ApiError> {
        Ok(api::read(&Value::Object(self.fields(required)?), Form::Plain)?)
    }

    /// All fields of a body, which has to have these.
    pub(super) fn fields(&self, required: &[&str]) -> Result<Table, ApiError> {
        let body = &self.body.bytes;
        let fields = match (body.is_empty(), json::parse(body)?) {
            (true, _) => Table::new(),
            (false, Some(Value::Object(fields))) => fields,
            (false, _) => return Err(ApiError::bad_request("not_json")),
        };
        require(&fields, required)?;
        Ok(fields)
    }

    /// This node's name.
    pub(super) fn node(&self) -> Name {
        self.settings().node_name.as_str().into()
    }

    /// Checks that an administrator asks.
    pub(super) fn check_administrator(&self) -> Result<(), ApiError> {
        auth::authorise(self.broker(), &self.user, Needs::Administrator, None)
    }

    /// Checks that the user may do that to a queue or an exchange.
    pub(super) fn check_access(&self, access: Access, resource: &Resource) -> Result<(), ApiError> {
        Ok(self.broker().permissions().check(&self.user.name, access, resource)?)
    }

    /// Checks that the user may use a routing key with an exchange, if that is a topic exchange.
    pub(super) fn check_topic(
        &self,
        access: Access,
        exchange: &Exchange,
        routing_key: &[u8],
    ) -> Result<(), BrokerError> {
        self.broker().permissions().check_topic(&self.user.name, access, exchange, routing_key)
    }

    /// Who asks.
    pub(super) fn actor(&self) -> Actor<'_> {
        Actor::Operator(&self.user.name)
    }

    /// Events of what the request puts.
    pub(super) fn told(&self) -> Told<'_> {
        Told { broker: self.broker(), by: self.actor() }
    }

    /// Tells an event of what the request has done, if anybody hears it.
    pub(super) fn tell(&self, key: &'static str, fields: impl FnOnce() -> Headers) {
        self.broker().tell(key, self.actor().into(), fields);
    }

    /// Does something to the broker, and lets its turn end whatever came of it.
    pub(super) fn in_turn<T>(&self, act: impl FnOnce(&mut Turn) -> T) -> T {
        let mut turn = Turn::at(self.now);
        let result = act(&mut turn);
        self.broker().end_turn(&mut turn);
        result
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// Characters of a line of Erlang's terms.
const LINE: usize = 79;

/// Checks that all of these are among the fields of a body.
fn require(fields: &Table, names: &[&str]) -> Result<(), ApiError> {
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !fields.contains_key(**name))
        .map(|name| format!("{{key_missing,{name}}}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    // Erlang puts as many into one line as fit there.
    let in_a_line = format!("[{}]", missing.join(","));
    let reason = if in_a_line.len() <= LINE { in_a_line } else { format!("[{}]", missing.join(",\n ")) };
    Err(ApiError::bad_request(reason))
}
