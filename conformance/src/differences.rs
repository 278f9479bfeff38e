//! `differences.toml`: the cases in which Leveret does not do what RabbitMQ 3.10.8 does, and why. A case with lines for
//! one broker only must stand there, and nothing else may.

use crate::case::Case;
use serde::Deserialize;
use std::collections::BTreeSet;

/// One declared difference, in a row of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// `section/name` of each case that shows it.
    pub cases: Vec<String>,
    /// What RabbitMQ 3.10.8 does.
    pub rabbitmq: String,
    /// What Leveret does.
    pub leveret: String,
    /// Why that is better.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// The differences declared in this repository.
pub fn declared() -> Result<Vec<Difference>, String> {
    let text = include_str!("../differences.toml");
    let parsed: Differences = toml::from_str(text).map_err(|error| format!("differences.toml: {error}"))?;
    Ok(parsed.difference)
}

/// Checks that exactly the cases with lines for one broker are declared, given all cases there are.
pub fn check(cases: &[Case], differences: &[Difference]) -> Result<(), String> {
    let differing: BTreeSet<&str> =
        cases.iter().filter(|case| case.differs()).map(|case| case.name.as_str()).collect();
    let declared: BTreeSet<&str> =
        differences.iter().flat_map(|difference| &difference.cases).map(String::as_str).collect();
    if let Some(name) = differing.difference(&declared).next() {
        return Err(format!(
            "{name} has lines for one broker only; declare the difference in differences.toml"
        ));
    }
    match declared.difference(&differing).next() {
        Some(name) => Err(format!("differences.toml declares {name}, which is no case that differs")),
        None => Ok(()),
    }
}
