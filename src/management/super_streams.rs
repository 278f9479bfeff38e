//! Super streams: their partitions, creating and deleting them.

use super::answer::{Answer, ApiError};
use super::json;
use super::request::Request;
use super::routes::{Needs, Route};
use crate::api::{self, SuperStreamDefinition};
use crate::broker::exchange::Exchange;
use crate::broker::topology::super_streams::SuperStreamDeclaration;
use crate::broker::vhost::VirtualHost;
use crate::message::{FieldTable, ShortStr};

pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/stream/super-streams/{vhost}",
        Needs::SeeVhost,
        list,
        "The super streams of a vhost with their partitions",
    )
    .lists::<api::SuperStream>(),
    Route::put(
        "/api/stream/super-streams/{vhost}/{name}",
        Needs::UseVhost,
        create,
        "Creates a super stream: an exchange with streams for its partitions",
    )
    .takes::<SuperStreamDefinition>(),
    Route::delete(
        "/api/stream/super-streams/{vhost}/{name}",
        Needs::UseVhost,
        delete,
        "Deletes a super stream with all its partitions",
    ),
];

fn shown(vhost: &VirtualHost, exchange: &Exchange) -> api::SuperStream {
    api::SuperStream {
        name: exchange.definition().name.to_string(),
        vhost: vhost.name().to_string(),
        partitions: vhost.partitions(exchange).iter().map(ToString::to_string).collect(),
    }
}

fn list(request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.vhost()?;
    let all: Vec<_> = vhost.super_streams().iter().map(|exchange| shown(&vhost, exchange)).collect();
    Answer::of(&all)
}

/// Arguments are those of a stream; clients of the stream protocol say them without `x-`.
fn with_prefix(arguments: FieldTable) -> FieldTable {
    let named = arguments.iter().map(|(name, value)| {
        let name = name.to_string();
        let name = if name.starts_with("x-") { name } else { format!("x-{name}") };
        (ShortStr::from(name.as_str()), value.clone())
    });
    named.collect()
}

fn create(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.vhost()?, request.parameter("name"));
    let wanted: SuperStreamDefinition = request.body()?;
    let table = |table| json::table_from_json(table, request.settings().field_table_depth_max);
    let arguments = with_prefix(table(&wanted.arguments)?);
    let mut declaration = match (wanted.partitions, wanted.binding_keys) {
        (Some(partitions), None) => {
            // What is too many is refused with the others.
            SuperStreamDeclaration::numbered(
                name,
                usize::try_from(partitions).unwrap_or(usize::MAX),
                arguments,
            )
        }
        (None, Some(keys)) => SuperStreamDeclaration::keyed(name, keys, arguments),
        _ => return Err(ApiError::bad_request("one of partitions and binding-keys has to be given")),
    };
    declaration.exchange_arguments = table(&wanted.exchange_arguments)?;
    check_access(request, &vhost, &declaration)?;
    request
        .in_turn(|turn| {
            let created = vhost.create_super_stream(&declaration, request.actor(), turn);
            vhost.apply_effects(turn);
            created
        })?
        .into_value();
    Ok(Answer::NoContent)
}

fn check_access(
    request: &Request,
    vhost: &VirtualHost,
    declaration: &SuperStreamDeclaration,
) -> Result<(), ApiError> {
    let needs = declaration.needs(vhost.name());
    needs.iter().try_for_each(|(access, resource)| request.check_access(*access, resource))
}

fn delete(request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.vhost()?, request.parameter("name"));
    let exchange = vhost.super_stream(name)?;
    let partitions = vhost.partitions(&exchange).iter().map(ToString::to_string).collect();
    let existing = SuperStreamDeclaration { name: name.to_owned(), partitions, ..Default::default() };
    check_access(request, &vhost, &existing)?;
    request
        .in_turn(|turn| {
            let deleted = vhost.delete_super_stream(name, request.actor(), turn);
            vhost.apply_effects(turn);
            deleted
        })?
        .into_value();
    Ok(Answer::NoContent)
}
