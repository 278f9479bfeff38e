//! Exchanges: listing, declaring, deleting them.

use super::answer::{Answer, ApiError};
use super::list::{Listed, list, one};
use super::request::Request;
use super::routes::{Needs, Route};
use super::stats::exchange_stats;
use super::{bindings, json};
use crate::api;
use crate::broker::VirtualHost;
use crate::broker::access::permissions::Access;
use crate::broker::error::Resource;
use crate::broker::exchange::{Destination, Exchange, ExchangeDefinition};
use crate::broker::topology::without_line_ends;
use crate::message::Value as Argument;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/api/exchanges", Needs::Login, exchanges, "All exchanges").lists::<api::Exchange>(),
    Route::get("/api/exchanges/{vhost}", Needs::SeeVhost, exchanges, "The exchanges of a vhost")
        .lists::<api::Exchange>(),
    Route::get("/api/exchanges/{vhost}/{name}", Needs::SeeVhost, exchange, "An exchange")
        .answers::<api::Exchange>(),
    Route::put("/api/exchanges/{vhost}/{name}", Needs::UseVhost, declare, "Declares an exchange")
        .takes::<api::ExchangeDefinition>(),
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
    )
    .lists::<api::Binding>(),
    Route::get(
        "/api/exchanges/{vhost}/{name}/bindings/destination",
        Needs::SeeVhost,
        bindings_to,
        "The bindings that lead to an exchange",
    )
    .lists::<api::Binding>(),
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

/// An exchange to be listed.
struct Row(Arc<Exchange>);

impl Listed for Row {
    type Shown<'a> = api::Exchange;

    fn name(&self) -> Cow<'_, str> {
        (*self.0.definition().name).into()
    }

    fn shown(&self) -> api::Exchange {
        describe(&self.0)
    }
}

fn exchanges(request: &Request) -> Result<Answer, ApiError> {
    let of_vhosts = request.vhosts()?;
    list(of_vhosts.iter().flat_map(|vhost| sorted(vhost)).map(Row).collect(), request)
}

fn exchange(request: &Request) -> Result<Answer, ApiError> {
    let (_, exchange) = find(request)?;
    let (incoming, outgoing) = (Some(Vec::new()), Some(Vec::new()));
    one(&api::Exchange { incoming, outgoing, ..describe(&exchange) }, request)
}

/// All that is said of an exchange.
fn describe(exchange: &Exchange) -> api::Exchange {
    let definition = exchange.definition();
    api::Exchange {
        arguments: json::table(&definition.arguments.decode()),
        auto_delete: definition.auto_delete,
        durable: definition.durable,
        internal: definition.internal,
        message_stats: exchange_stats(&exchange.counters().stats(), &exchange.samples()),
        name: definition.name.clone(),
        policy: exchange.applied().policy.as_ref().map(|policy| policy.name.clone()),
        kind: definition.kind.clone(),
        user_who_performed_action: "rmq-internal".to_owned(),
        vhost: definition.vhost.clone(),
        ..api::Exchange::default()
    }
}

/// An exchange as definitions have it.
pub(super) fn definition(exchange: &ExchangeDefinition) -> api::ExchangeDefinition {
    api::ExchangeDefinition {
        name: Some(exchange.name.clone()),
        vhost: Some(exchange.vhost.clone()),
        kind: Some(exchange.kind.clone()),
        durable: Some(exchange.durable),
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: json::table(&exchange.arguments.decode()),
    }
}

fn declare(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let name = &*without_line_ends(exchange_name(request.parameter("name")));
    let wanted: api::ExchangeDefinition = request.body()?;
    let arguments = json::table_from_json(&wanted.arguments, request.settings().field_table_depth_max)?;
    let resource = Resource::exchange(vhost.name(), name);
    request.check_access(Access::Configure, &resource)?;
    if let Some(alternate) = arguments.field("alternate-exchange").and_then(Argument::as_str) {
        request.check_access(Access::Read, &resource)?;
        request.check_access(Access::Write, &Resource::exchange(vhost.name(), alternate))?;
    }
    let is_new = vhost.exchange(name).is_none();
    let definition = ExchangeDefinition {
        vhost: vhost.name().clone(),
        name: name.into(),
        kind: wanted.kind.unwrap_or_else(|| "direct".into()),
        durable: wanted.durable.unwrap_or(false),
        auto_delete: wanted.auto_delete,
        internal: wanted.internal,
        arguments: arguments.into(),
    };
    vhost.declare_exchange(definition, request.actor())?.into_value();
    Ok(if is_new { Answer::Created } else { Answer::NoContent })
}

fn delete(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, exchange) = find(request)?;
    let resource = exchange.definition().resource();
    request.check_access(Access::Configure, &resource)?;
    let if_unused = request.query_flag("if-unused");
    vhost.delete_exchange(&resource.name, if_unused, request.actor())?.into_value();
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
