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

/// How a declared difference shows in random runs. All lines that only one broker sent must fit, and one must be its sign.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// A case that shows the same, declared above with the reason.
    pub case: String,
    /// The glob of the line by which it is known.
    #[serde(default)]
    pub sign: String,
    /// Globs of the lines that only RabbitMQ sends.
    #[serde(default)]
    pub rabbitmq: Vec<String>,
    /// Globs of the lines that only Leveret sends.
    #[serde(default)]
    pub leveret: Vec<String>,
    /// Globs that lines of the script up to there must fit.
    #[serde(default)]
    pub after: Vec<String>,
    /// Headers that are not compared; `*` at the end stands for anything.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// All that is declared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// Differences in cases.
    pub difference: Vec<Difference>,
    /// How they show in random runs.
    pub random: Vec<Random>,
}

/// The differences declared in this repository.
pub fn declared() -> Result<Differences, String> {
    let text = include_str!("../differences.toml");
    let parsed: Differences = toml::from_str(text).map_err(|error| format!("differences.toml: {error}"))?;
    let cases: BTreeSet<&String> =
        parsed.difference.iter().flat_map(|difference| &difference.cases).collect();
    match parsed.random.iter().find(|random| !cases.contains(&random.case)) {
        Some(random) => Err(format!("differences.toml: no difference is declared for {}", random.case)),
        None => Ok(parsed),
    }
}

/// Checks that exactly the cases with lines for one broker are declared, given all cases there are.
pub fn check(cases: &[Case], differences: &Differences) -> Result<(), String> {
    let differing: BTreeSet<&str> =
        cases.iter().filter(|case| case.differs()).map(|case| case.name.as_str()).collect();
    let declared: BTreeSet<&str> =
        differences.difference.iter().flat_map(|difference| &difference.cases).map(String::as_str).collect();
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
