//! Lists: filtered by name, sorted, cut into pages, and only then written out, so that a page of a long list costs no more
//! than one of a short list.

use super::answer::{Answer, ApiError};
use super::request::Request;
use crate::api::{self, at_path};
use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// The most that a page may have.
const PAGE_SIZE_MAX: i64 = 500;
const PAGE_SIZE_DEFAULT: i64 = 100;

/// Something that is listed.
pub(super) trait Listed {
    /// All that is said of it.
    type Shown<'a>: Serialize
    where
        Self: 'a;

    /// By what a list can be filtered.
    fn name(&self) -> Cow<'_, str>;

    /// Says all that. Lists are sorted by it, so it should cost little; what does may be done when it is written.
    fn shown(&self) -> Self::Shown<'_>;

    /// The same with these fields alone, which are paths such as `message_stats.publish`; others may be missing. A list is sorted
    /// by one of each item, so what takes time and is not wanted should be left out.
    fn shown_in_part(&self, _paths: &[&str]) -> Self::Shown<'_> {
        self.shown()
    }
}

/// A thing that says all of itself.
impl<T: Serialize> Listed for T {
    type Shown<'a>
        = &'a T
    where
        T: 'a;

    fn name(&self) -> Cow<'_, str> {
        match at_path(self, "name") {
            Some(Value::String(name)) => name.into(),
            _ => "".into(),
        }
    }

    fn shown(&self) -> &T {
        self
    }
}

/// Answers with what the request wants to see of `items`, which come in their usual order.
pub(super) fn list<T: Listed>(mut items: Vec<T>, request: &Request) -> Result<Answer, ApiError> {
    let page = Page::of(request)?;
    let total_count = items.len();
    if let Some(filter) = page.as_ref().and_then(|page| page.filter.as_ref()) {
        items.retain(|item| filter.matches(&item.name()));
    }
    sort(&mut items, request);
    let columns = columns(request);
    let written = |item| match columns.as_slice() {
        [] => Written::Whole(T::shown(item)),
        columns => Written::Columns(pick(&T::shown_in_part(item, columns), columns)),
    };
    let Some(Page { number, size, .. }) = page else {
        return Answer::of(&items.iter().map(written).collect::<Vec<_>>());
    };
    let filtered_count = items.len();
    let page_count = filtered_count.div_ceil(size);
    if number > page_count.saturating_add(1) {
        return Err(ApiError::Invalid {
            error: "page_out_of_range",
            reason: format!("Page out of range, page: {number} page size: {size}, len: {filtered_count}"),
        });
    }
    let of_page = items.iter().skip((number - 1).saturating_mul(size)).take(size);
    let items: Vec<_> = of_page.map(written).collect();
    Answer::of(&api::Page {
        filtered_count,
        item_count: items.len(),
        items,
        page: number,
        page_count,
        page_size: size,
        total_count,
    })
}

/// What is written of an item: all of it, or the columns that are wanted.
#[derive(Serialize)]
#[serde(untagged)]
enum Written<T> {
    Whole(T),
    Columns(Value),
}

/// Answers with one thing: of its fields those that are asked for.
pub(super) fn one<T: Serialize>(item: &T, request: &Request) -> Result<Answer, ApiError> {
    match columns(request).as_slice() {
        [] => Answer::of(item),
        columns => Ok(Answer::Json(pick(item, columns))),
    }
}

struct Page {
    number: usize,
    size: usize,
    filter: Option<Filter>,
}

enum Filter {
    Contains(String),
    Matches(Regex),
}

impl Filter {
    fn matches(&self, name: &str) -> bool {
        match self {
            Filter::Contains(text) => name.to_lowercase().contains(text),
            Filter::Matches(regex) => regex.is_match(name),
        }
    }
}

impl Page {
    /// The page that is asked for; `None` for the whole list.
    fn of(request: &Request) -> Result<Option<Page>, ApiError> {
        let Some(number) = request.query("page") else { return Ok(None) };
        let asked_size = request.query("page_size");
        let number: i64 = number.parse().map_err(|_| invalid())?;
        let size: i64 = asked_size.map_or(Ok(PAGE_SIZE_DEFAULT), str::parse).map_err(|_| invalid())?;
        if number < 1 || !(1..=PAGE_SIZE_MAX).contains(&size) {
            let size = asked_size.unwrap_or("undefined");
            return Err(ApiError::Invalid {
                error: "invalid_pagination_parameters",
                reason: format!("Invalid pagination parameters: page number {number}, page size {size}"),
            });
        }
        let whole = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Some(Page { number: whole(number), size: whole(size), filter: filter(request)? }))
    }
}

fn filter(request: &Request) -> Result<Option<Filter>, ApiError> {
    let Some(name) = request.query("name").filter(|name| !name.is_empty()) else { return Ok(None) };
    if !request.query_flag("use_regex") {
        return Ok(Some(Filter::Contains(name.to_lowercase())));
    }
    let regex = regex::RegexBuilder::new(name).case_insensitive(true).build();
    regex.map(|regex| Some(Filter::Matches(regex))).map_err(|_| invalid())
}

fn invalid() -> ApiError {
    ApiError::bad_request("Pagination parameters are invalid")
}

fn sort<T: Listed>(items: &mut Vec<T>, request: &Request) {
    if let Some(path) = request.query("sort").filter(|path| !path.is_empty()) {
        let key = |item: &T| at_path(&item.shown_in_part(&[path]), path).unwrap_or_default();
        let mut keyed: Vec<(Value, T)> = items.drain(..).map(|item| (key(&item), item)).collect();
        keyed.sort_by(|(a, _), (b, _)| compare(a, b));
        items.extend(keyed.into_iter().map(|(_, item)| item));
    }
    if request.query_flag("sort_reverse") {
        items.reverse();
    }
}

/// Numbers, then texts, then the rest, as they are written.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)).then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::Bool(_) => 2,
        Value::String(_) => 3,
        Value::Object(_) => 4,
        Value::Array(_) => 5,
    }
}

fn columns(request: &Request) -> Vec<&str> {
    let columns = request.query("columns").unwrap_or_default();
    columns.split(',').map(str::trim).filter(|column| !column.is_empty()).collect()
}

/// Those fields of a thing that are wanted.
fn pick<T: Serialize>(thing: &T, columns: &[&str]) -> Value {
    let mut picked = Value::Object(Map::new());
    for column in columns {
        at_path(thing, column).into_iter().for_each(|found| put_at_path(&mut picked, column, found));
    }
    picked
}

fn put_at_path(object: &mut Value, path: &str, value: Value) {
    let Value::Object(fields) = object else { return };
    match path.split_once('.') {
        None => drop(fields.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            put_at_path(fields.entry(first).or_insert_with(|| Value::Object(Map::new())), rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_columns_that_are_named_stay() {
        let value = json!({ "name": "q", "messages": 1, "message_stats": { "publish": 2, "ack": 3 } });
        let picked = pick(&value, &["message_stats.publish", "name", "none.such"]);
        assert_eq!(picked, json!({ "message_stats": { "publish": 2 }, "name": "q" }));
    }

    #[test]
    fn values_of_any_kind_have_an_order() {
        let mut values = vec![json!("b"), json!(10), json!(null), json!("a"), json!(9.5), json!([1])];
        values.sort_by(compare);
        assert_eq!(values, [json!(null), json!(9.5), json!(10), json!("a"), json!("b"), json!([1])]);
    }
}
