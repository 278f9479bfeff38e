//! The API's own description, after the OpenAPI specification 3.1. It is made of the list of routes, so that it can't lack one, and
//! of the types in `crate::api` that requests and answers are.

use super::ROUTES;
use super::answer::{Answer, ApiError};
use super::request::Request;
use super::routes::{Answers, Method, Needs, Route};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub(super) const DOCUMENT: &[Route] = &[
    Route::get(
        "/api/openapi.json",
        Needs::Nothing,
        document,
        "This description of the API, after OpenAPI 3.1",
    ),
    Route::get("/", Needs::Nothing, page, "A page with all that can be asked, for people"),
    Route::get("/api", Needs::Nothing, page, "The same page"),
    Route::get("/api/index.html", Needs::Nothing, page, "The same page"),
];

/// What every list can be asked for.
const LIST_PARAMETERS: [(&str, &str, &str); 8] = [
    ("page", "integer", "The page, counted from 1; without it everything is listed"),
    ("page_size", "integer", "Items on a page: 100 unless it says so, 500 at most"),
    ("name", "string", "Only what has this in its name, with page"),
    ("use_regex", "boolean", "Whether name is a regular expression"),
    ("sort", "string", "The field that it is sorted by, such as message_stats.publish"),
    ("sort_reverse", "boolean", "Whether the order is the other way round"),
    ("columns", "string", "Only these fields, with commas between them"),
    ("disable_stats", "boolean", "Of queues only what they are, not what is done with them"),
];

fn document(request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::Json(describe(&request.settings().version)))
}

/// What can be asked, for people who open the API in a browser, and for tools that look whether it is there.
fn page(_: &Request) -> Result<Answer, ApiError> {
    let mut rows = String::new();
    for route in ROUTES.iter().copied().flatten() {
        let (method, path) = (route.method.name(), route.path);
        let (summary, who) = (route.summary, who(route.needs));
        rows.push_str(&format!(
            "<tr><td>{method}</td><td><code>{path}</code></td><td>{summary}. <small>{who}</small></td></tr>\n"
        ));
    }
    Ok(Answer::Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Leveret management API</title>\n\
         <h1>Leveret management API</h1>\n\
         <p>RabbitMQ's management API, and a little more; <a href=\"/api/openapi.json\">as OpenAPI 3.1</a>.</p>\n\
         <table>\n{rows}</table>\n</html>\n"
    )))
}

fn describe(version: &str) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths = Map::new();
    for route in ROUTES.iter().copied().flatten() {
        let path = paths.entry(route.path).or_insert_with(|| parameters(route.path));
        path[route.method.name().to_lowercase()] = operation(route, &mut schemas);
    }
    let mut schemas = schemas.take_definitions(true);
    schemas.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Leveret management API",
            "summary": "RabbitMQ's management API, and a little more",
            "version": version,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "basic": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } },
            "parameters": list_parameters(),
            "schemas": schemas,
        },
    })
}

/// What every refusal says.
fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error", "reason"],
        "properties": {
            "error": { "type": "string" },
            "reason": { "description": "A text, or what is wrong as a list of words" },
        },
    })
}

/// A list of such items: all of them, or a page.
fn list_of(item: &Schema) -> Value {
    let counts = ["filtered_count", "item_count", "page", "page_count", "page_size", "total_count"];
    let mut properties: Map<String, Value> =
        counts.into_iter().map(|count| (count.to_owned(), json!({ "type": "integer" }))).collect();
    let items = json!({ "type": "array", "items": item });
    properties.insert("items".to_owned(), items.clone());
    json!({ "oneOf": [items, { "type": "object", "properties": properties }] })
}

/// What is in braces in a path.
fn parameters(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    json!({ "parameters": names.map(parameter).collect::<Vec<_>>() })
}

fn list_parameters() -> Map<String, Value> {
    let described = LIST_PARAMETERS.into_iter().map(|(name, kind, text)| {
        let parameter =
            json!({ "name": name, "in": "query", "description": text, "schema": { "type": kind } });
        (name.to_owned(), parameter)
    });
    described.collect()
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag(route.path)],
        "description": who(route.needs),
        "responses": responses(route, schemas),
    });
    if route.needs == Needs::Nothing {
        operation["security"] = json!([]);
    }
    let of_lists = LIST_PARAMETERS.iter();
    let of_lists = of_lists.map(|(name, ..)| json!({ "$ref": format!("#/components/parameters/{name}") }));
    match route.answers {
        Answers::List(_) => operation["parameters"] = of_lists.collect(),
        Answers::One(_) if route.method == Method::Get => {
            operation["parameters"] = json!([{ "$ref": "#/components/parameters/columns" }]);
        }
        _ => {}
    }
    if let Some(takes) = route.takes {
        let schema = takes(schemas);
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// Method and path as one word: `get_queues_vhost_name`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api").replace(['/', '-', '.'], "_").replace(['{', '}'], "");
    format!("{}{path}", route.method.name().to_lowercase())
}

/// The kind of thing that a path is about.
fn tag(path: &str) -> &str {
    path.split('/').find(|part| !part.is_empty() && *part != "api").unwrap_or_default()
}

fn who(needs: Needs) -> &'static str {
    match needs {
        Needs::Nothing => "Needs no login.",
        Needs::Login => "For everybody who may use the API.",
        Needs::SeeVhost => "For users of the vhost, and those with the tag monitoring or administrator.",
        Needs::UseVhost => "For users of the vhost.",
        Needs::Policymaker => "For users of the vhost with the tag policymaker, and administrators.",
        Needs::Monitoring => "For users with the tag monitoring or administrator.",
        Needs::Administrator => "For users with the tag administrator.",
    }
}

fn responses(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut answered = json!({ "description": "What was asked for" });
    let schema = match route.answers {
        Answers::Nothing => Value::Null,
        Answers::One(thing) => thing(schemas).into(),
        Answers::List(item) => list_of(&item(schemas)),
    };
    if !schema.is_null() {
        answered["content"] = json!({ "application/json": { "schema": schema } });
    }
    let done = match route.method {
        Method::Get | Method::Post => json!({ "200": answered }),
        Method::Put => json!({
            "201": { "description": "It is new" },
            "204": { "description": "It was there, and is now as it was put" },
        }),
        Method::Delete => json!({ "204": { "description": "It is gone" } }),
    };
    let Value::Object(mut responses) = done else { return Value::Null };
    if route.method == Method::Post {
        responses
            .insert("201".to_owned(), json!({ "description": "It was made; Location says where it is" }));
        responses.insert("204".to_owned(), json!({ "description": "It is done" }));
    }
    let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    let mut refused = vec![("400", "It can't be done like that")];
    if route.needs != Needs::Nothing {
        refused.push(("401", "There was no login, or the user may not do that"));
    }
    if matches!(route.method, Method::Put | Method::Post) {
        refused.push(("413", "The body is larger than such a request's may be"));
    }
    if route.path.contains('{') {
        refused.push(("404", "It is not there"));
    }
    for (status, text) in refused {
        responses.insert(status.to_owned(), json!({ "description": text, "content": content }));
    }
    Value::Object(responses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_once() {
        let described = describe("1");
        let mut ids = BTreeSet::new();
        let mut count = 0;
        for route in ROUTES.iter().copied().flatten() {
            let path = &described["paths"][route.path];
            let operation = &path[route.method.name().to_lowercase()];
            assert_eq!(operation["summary"], route.summary, "{} {}", route.method.name(), route.path);
            assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
            assert_eq!(path["parameters"].as_array().unwrap().len(), route.path.matches('{').count());
            count += 1;
        }
        let paths = described["paths"].as_object().unwrap().values();
        let operations = paths.map(|path| path.as_object().unwrap().len() - 1).sum::<usize>();
        assert_eq!(operations, count, "no route hides another one");
    }

    /// All values of that name, wherever they are.
    fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get(name));
                fields.values().for_each(|field| all(field, name, found));
            }
            Value::Array(items) => items.iter().for_each(|item| all(item, name, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_said_is_described_field_by_field() {
        let described = describe("1");
        let mut refs = Vec::new();
        all(&described, "$ref", &mut refs);
        assert!(refs.len() > 100);
        for name in refs {
            let path = name.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(described.pointer(path).is_some(), "{path}");
        }
        let auto_delete = &described["components"]["schemas"]["QueueDefinition"]["properties"]["auto_delete"];
        assert_eq!(auto_delete["type"], "boolean");
        assert_eq!(auto_delete["description"], "Whether it goes with its last consumer");
        for route in ROUTES.iter().copied().flatten() {
            let operation = &described["paths"][route.path][route.method.name().to_lowercase()];
            let is_typed = operation["responses"]["200"]["content"].is_object();
            assert_eq!(is_typed, !matches!(route.answers, Answers::Nothing), "{}", route.path);
        }
    }
}
