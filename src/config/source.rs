//! From text and environment to one tree of values, with the line of every key.
//!
//! The crate `config` merges the two and knows no lines, so the text is parsed once more with spans. Called by
//! `Config::load_from`.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;

use config::{Environment, File, FileFormat, Map, Value};
use toml::de::{DeFloat, DeTable, DeValue};

use super::diagnose::{Problems, is_bare, join};
use crate::steps;

/// What every variable of ours begins with. The second underscore matters: orchestrators inject variables such as
/// `LEVERET_PORT` for a service of that name, and those are none of ours.
const PREFIX: &str = "LEVERET__";
const SEPARATOR: &str = "__";

/// Bytes of a file; what is larger is no configuration, and some files never end.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The file's text, or what is wrong with the file and what helps.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => format!("cannot be read: {error}; let the broker's user read it"),
        io::ErrorKind::IsADirectory => format!("cannot be read: {error}; name the file in it"),
        _ => format!("cannot be read: {error}; name a file that exists, or none to use the defaults"),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB; no configuration is", FILE_BYTES_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let whole = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..whole].iter().filter(|byte| **byte == b'\n').count();
        format!("is not UTF-8 in line {line}; save it in that encoding")
    })
}

/// The file's tree with the variables merged over it; none if the text is not usable TOML, which is then reported.
pub(super) fn merge(
    text: &str,
    environment: impl Iterator<Item = (OsString, OsString)>,
    problems: &mut Problems,
) -> Option<Map<String, Value>> {
    let usable = index_lines(text, problems);
    let variables = variables(environment, problems);
    if !usable {
        return None;
    }
    let environment = Environment::with_prefix("LEVERET").separator(SEPARATOR).source(Some(variables));
    let merged = config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(environment)
        .build()
        .and_then(|merged| merged.cache.into_table());
    merged.map_err(|error| problems.report_line(1, "", error.to_string().replace('\n', " "))).ok()
}

/// Notes the line of every key and reports what is not TOML or has no place in a configuration.
fn index_lines(text: &str, problems: &mut Problems) -> bool {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    for error in &errors {
        let span = error.span().unwrap_or_default();
        let line = lines.at(span.start);
        match error.message() {
            // The one error that points at a key, which its text leaves out.
            "duplicate key" => {
                let key = text.get(span).unwrap_or_default();
                problems.report_line(line, key, "duplicate key; keep one of the two");
            }
            message => problems.report_line(line, "", message),
        }
    }
    for (key, _) in table.get_ref() {
        if !is_bare(key.get_ref()) {
            // The merge would take `"limits.heartbeat_s"` for a path, and `"queues[9]"` for nine empty items more.
            let line = lines.at(key.span().start);
            problems.report_line(
                line,
                &join("", key.get_ref()),
                "unknown key; no key of Leveret's needs quotes",
            );
        }
    }
    lines.index_table("", table.get_ref(), problems);
    problems.is_empty()
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The number of the line that a byte is in, from 1.
    fn at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| {
            steps::count(1);
            *start <= offset
        })
    }

    fn index_table(&self, path: &str, table: &DeTable<'_>, problems: &mut Problems) {
        for (key, value) in table {
            let line = self.at(key.span().start);
            let path = join(path, key.get_ref());
            problems.set_line(&path, line);
            self.index_value(&path, value.get_ref(), problems);
        }
    }

    fn index_value(&self, path: &str, value: &DeValue<'_>, problems: &mut Problems) {
        match value {
            DeValue::Table(table) => self.index_table(path, table, problems),
            DeValue::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    problems.set_line(&path, self.at(value.span().start));
                    self.index_value(&path, value.get_ref(), problems);
                }
            }
            DeValue::Datetime(_) => {
                problems.report(
                    path,
                    "",
                    "dates have no place here; put the value in quotes to mean a string",
                );
            }
            DeValue::Integer(integer) if i64::from_str_radix(integer.as_str(), integer.radix()).is_err() => {
                problems.report(path, "", "expected a whole number that fits in 64 bits with its sign");
            }
            DeValue::Float(float) if is_too_large(float) => {
                problems.report(path, "", "expected a number that fits in 64 bits of floating point");
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::String(_) | DeValue::Boolean(_) => {}
        }
    }
}

fn is_too_large(float: &DeFloat<'_>) -> bool {
    let overflows = float.as_str().parse::<f64>().is_ok_and(f64::is_infinite);
    overflows && !float.as_str().contains("inf")
}

/// Our variables, each noted under the key path it sets. Those that could not be a key path are reported here,
/// because the merge would read some of them (`A[5]`) as a path with an index.
fn variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
    problems: &mut Problems,
) -> Map<String, String> {
    let mut variables = Map::new();
    for (name, value) in environment {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let keys: Vec<_> = rest.split(SEPARATOR).map(str::to_lowercase).collect();
        let is_key = |key: &String| {
            key.starts_with(|first: char| first.is_ascii_alphabetic())
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !keys.iter().all(is_key) {
            let message = "names no setting; write LEVERET__SECTION__KEY, such as LEVERET__LISTENERS__AMQP__BIND. \
                           Lists are set in the file";
            problems.report_variable(&name, message);
            continue;
        }
        let Ok(value) = value.into_string() else {
            problems.report_variable(&name, "expected text in UTF-8");
            continue;
        };
        problems.set_variable(&keys.join("."), &name);
        variables.insert(name.into_owned(), value);
    }
    // `A` before `A__B`, which then turns the setting into a table and is noticed.
    variables.sort_keys();
    variables
}
