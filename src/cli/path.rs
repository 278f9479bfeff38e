//! Paths of the management API out of names, which may hold anything.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in a segment of a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `/api/` and the segments, each encoded: `path(&["queues", "/", "q"])` is `/api/queues/%2F/q`.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut path = String::from("/api");
    for segment in segments {
        path.push('/');
        // As segments these would be left out on the way.
        match *segment {
            "." => path.push_str("%2E"),
            ".." => path.push_str("%2E%2E"),
            other => path.extend(utf8_percent_encode(other, ENCODED)),
        }
    }
    path
}

/// The same with parameters behind it.
pub(crate) fn path_with(segments: &[&str], parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let query = query.finish();
    let path = path(segments);
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_anything_in_them_are_one_segment() {
        assert_eq!(path(&["queues", "/", "a b/ü?%"]), "/api/queues/%2F/a%20b%2F%C3%BC%3F%25");
        assert_eq!(path(&["exchanges", "v", ".."]), "/api/exchanges/v/%2E%2E");
        assert_eq!(path_with(&["queues"], &[("columns", "name,vhost")]), "/api/queues?columns=name%2Cvhost");
        assert_eq!(path_with(&["queues"], &[]), "/api/queues");
    }
}
