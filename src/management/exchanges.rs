//! Exchanges: listing, declaring, deleting them.

use super::answer::{Answer, ApiError};
use super::list::{Listed, list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::exchange_stats;
use super::{bindings, json};
use crate::broker::VirtualHost;
use crate::broker::error::Resource;
use crate::broker::exchange::{Destination, Exchange, ExchangeDefinition};
use crate::broker::permissions::Access;
use crate::broker::topology::without_line_ends;
use crate::message::Value as Argument;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/exchanges", Needs::Login, exchanges, "All exchanges"),
    Route::get("/api/exchanges/{vhost}", Needs::SeeVhost, exchanges, "The exchanges of a vhost"),
    Route::get("/api/exchanges/{vhost}/{name}", Needs::SeeVhost, exchange, "An exchange"),
    Route::put("/api/exchanges/{vhost}/{name}", Needs::UseVhost, declare, "Declares an exchange"),
    Route::delete(
        "/api/exchanges/{vhost}/{name}",
        Needs::UseVhost,
        delete,
        "Deletes an exchange; with if-unused=true only one without bindings",
    ),
    Route::get(
        "/api/exchanges/{vhost}/{name}/bindings/source",
        Needs::SeeVhost,
        bindings_from,
        "The bindings that start from an exchange",
    ),
    Route::get(
        "/api/exchanges/{vhost}/{name}/bindings/destination",
        Needs::SeeVhost,
        bindings_to,
        "The bindings that lead to an exchange",
    ),
];

/// The name that the default exchange has in paths, since an empty one can't be in them.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// An exchange's name out of a path.
pub(super) fn exchange_name(in_path: &str) -> &str {
    if in_path == DEFAULT_EXCHANGE { "" } else { in_path }
}

pub(super) fn find(request: &Request) -> Result<(Arc<VirtualHost>, Arc<Exchange>), ApiError> {
    let vhost = request.vhost()?;
    let exchange = vhost.exchange(exchange_name(request.parameter("name"))).ok_or(ApiError::NotFound)?;
    Ok((vhost, exchange))
}

/// The exchanges of a vhost, by name.
pub(super) fn sorted(vhost: &VirtualHost) -> Vec<Arc<Exchange>> {
    let mut exchanges = vhost.exchanges();
    exchanges.sort_by(|a, b| a.definition().name.cmp(&b.definition().name));
    exchanges
}

fn exchanges(request: &Request) -> Result<Answer, ApiError> {
    let of_vhosts = request.vhosts()?;
    list(of_vhosts.iter().flat_map(|vhost| sorted(vhost)).collect(), request)
}

fn exchange(request: &Request) -> Result<Answer, ApiError> {
    let (_, exchange) = find(request)?;
    let mut rendered = exchange.render();
    rendered["incoming"] = json!([]);
    rendered["outgoing"] = json!([]);
    one(rendered, request)
}

impl Listed for Arc<Exchange> {
    fn name(&self) -> &str {
        &self.definition().name
    }

    fn render(&self) -> Value {
        let definition = self.definition();
        let applied = self.applied();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("arguments", json::table_to_json(&definition.arguments.decode()));
        put("auto_delete", definition.auto_delete.into());
        put("durable", definition.durable.into());
        put("internal", definition.internal.into());
        if let Some(stats) = exchange_stats(&self.counters().stats(), &self.samples()) {
            put("message_stats", stats);
        }
        put("name", (*definition.name).into());
        if let Some(policy) = &applied.policy {
            put("policy", (*policy.name).into());
        }
        put("type", (*definition.kind).into());
        put("user_who_performed_action", "rmq-internal".into());
        put("vhost", (*definition.vhost).into());
        Value::Object(fields)
    }
}

fn declare(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let name = &*without_line_ends(exchange_name(request.parameter("name")));
    let fields = request.fields()?;
    let arguments =
        json::table_from_json(&fields.object("arguments")?, request.settings().field_table_depth_max)?;
    let resource = Resource::exchange(vhost.name(), name);
    request.check_access(Access::Configure, &resource)?;
    if let Some(alternate) = arguments.field("alternate-exchange").and_then(Argument::as_str) {
        request.check_access(Access::Read, &resource)?;
        request.check_access(Access::Write, &Resource::exchange(vhost.name(), alternate))?;
    }
    let is_new = vhost.exchange(name).is_none();
    vhost
        .declare_exchange(ExchangeDefinition {
            vhost: vhost.name().clone(),
            name: name.into(),
            kind: fields.text("type")?.unwrap_or("direct").into(),
            durable: fields.flag("durable")?,
            auto_delete: fields.flag("auto_delete")?,
            internal: fields.flag("internal")?,
            arguments: arguments.into(),
        })?
        .untold();
    Ok(if is_new { Answer::Created } else { Answer::NoContent })
}

fn delete(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, exchange) = find(request)?;
    let resource = exchange.definition().resource();
    request.check_access(Access::Configure, &resource)?;
    let if_unused = request.query_flag("if-unused");
    vhost.delete_exchange(&resource.name, if_unused)?.untold();
    Ok(Answer::NoContent)
}

fn bindings_from(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, exchange) = find(request)?;
    if exchange.definition().name.is_empty() {
        return list(bindings::implied(&vhost), request);
    }
    list(bindings::from_exchange(&exchange), request)
}

fn bindings_to(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, exchange) = find(request)?;
    list(bindings::to(&vhost, &Destination::Exchange(exchange.definition().name.clone())), request)
}
