//! `differences.toml`: the cases in which the brokers do not all do the same, which of them Leveret follows, and why. A case with
//! lines that are not for every broker must stand there, and nothing else may.

use crate::case::{Broker, Case};
use crate::{stomp, stream};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One declared difference, in a row of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// `section/name` of each case that shows it.
    pub cases: Vec<String>,
    /// What RabbitMQ 3.10.8 does.
    pub rabbitmq3: String,
    /// What RabbitMQ 4.3.6 does, if not the same.
    #[serde(default)]
    pub rabbitmq4: Option<String>,
    /// The RabbitMQ that Leveret does as, `rabbitmq3` or `rabbitmq4`; if neither, `leveret` says what it does.
    #[serde(default)]
    pub follows: Option<String>,
    /// What Leveret does, if it follows neither.
    #[serde(default)]
    pub leveret: Option<String>,
    /// Why.
    pub why: String,
}

/// How a declared difference shows in random runs. All lines that only one broker sent must fit, and one must be its sign.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// A case that shows the same, declared above with the reason.
    pub case: String,
    /// The RabbitMQ beside which it shows, `rabbitmq3` or `rabbitmq4`; both if not given.
    #[serde(default)]
    pub only: Option<String>,
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

impl Random {
    /// Whether it shows beside that RabbitMQ.
    pub fn is_for(&self, version: Broker) -> bool {
        self.only.as_deref().is_none_or(|only| only == version.name())
    }
}

/// All that is declared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// Differences in cases.
    pub difference: Vec<Difference>,
    /// Differences in cases in STOMP.
    #[serde(default)]
    pub stomp: Vec<Difference>,
    /// Differences in cases in the stream protocol, which are played to RabbitMQ 4.3.6 alone: of it `rabbitmq3` speaks, too.
    #[serde(default)]
    pub stream: Vec<Difference>,
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

/// What is played to brokers that do not all do the same.
trait Differing {
    fn name(&self) -> &str;
    fn differs(&self) -> bool;
    fn is_same_for(&self, one: Broker, other: Broker) -> bool;
}

impl Differing for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn differs(&self) -> bool {
        Case::differs(self)
    }

    fn is_same_for(&self, one: Broker, other: Broker) -> bool {
        Case::is_same_for(self, one, other)
    }
}

impl Differing for stomp::Script {
    fn name(&self) -> &str {
        &self.name
    }

    fn differs(&self) -> bool {
        stomp::Script::differs(self)
    }

    fn is_same_for(&self, one: Broker, other: Broker) -> bool {
        stomp::Script::is_same_for(self, one, other)
    }
}

impl Differing for stream::Script {
    fn name(&self) -> &str {
        &self.name
    }

    fn differs(&self) -> bool {
        stream::Script::differs(self)
    }

    fn is_same_for(&self, one: Broker, other: Broker) -> bool {
        stream::Script::is_same_for(self, one, other)
    }
}

/// Checks that exactly the cases whose lines differ are declared, and that each says which RabbitMQ it follows, given all cases
/// there are.
pub fn check(cases: &[Case], differences: &Differences) -> Result<(), String> {
    check_those(cases, &differences.difference)
}

/// The same for the cases in STOMP.
pub fn check_stomp(scripts: &[stomp::Script], differences: &Differences) -> Result<(), String> {
    check_those(scripts, &differences.stomp)
}

/// The same for the cases in the stream protocol.
pub fn check_stream(scripts: &[stream::Script], differences: &Differences) -> Result<(), String> {
    check_those(scripts, &differences.stream)
}

fn check_those<T: Differing>(cases: &[T], differences: &[Difference]) -> Result<(), String> {
    let differing: BTreeMap<&str, &T> =
        cases.iter().filter(|case| case.differs()).map(|case| (case.name(), case)).collect();
    let mut declared = BTreeSet::new();
    for difference in differences {
        for name in &difference.cases {
            let Some(case) = differing.get(name.as_str()) else {
                return Err(format!("differences.toml declares {name}, which is no case that differs"));
            };
            if !declared.insert(name.as_str()) {
                return Err(format!("differences.toml declares {name} twice"));
            }
            difference.check(*case).map_err(|reason| format!("differences.toml: {name} {reason}"))?;
        }
    }
    match differing.keys().find(|name| !declared.contains(*name)) {
        Some(name) => Err(format!(
            "{name} has lines that are not for every broker; declare the difference in differences.toml"
        )),
        None => Ok(()),
    }
}

impl Difference {
    /// Whether what it says of who does as whom is what the case's lines say.
    fn check<T: Differing>(&self, case: &T) -> Result<(), &'static str> {
        let [old, new] = [Broker::RabbitMq3, Broker::RabbitMq4];
        let same = |broker| case.is_same_for(broker, Broker::Leveret);
        let follows = match self.follows.as_deref() {
            None => None,
            Some(name) => Some(Broker::named(name).ok_or("follows neither rabbitmq3 nor rabbitmq4")?),
        };
        if case.is_same_for(old, new) != self.rabbitmq4.is_none() {
            return Err("needs a word on rabbitmq4 where its lines are others than those of rabbitmq3");
        }
        match follows {
            Some(followed) if !same(followed) => Err("does not follow whom it says"),
            None if same(old) || same(new) => Err("has to say whom it follows"),
            _ if follows.is_some() == self.leveret.is_some() => {
                Err("says what leveret does if, and only if, that follows neither")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &str, fields: &str) -> Result<(), String> {
        let case = Case::parse("a/b", &format!("# rule\n{lines}")).map_err(|error| error.clone())?;
        let text =
            format!("random = []\n[[difference]]\ncases = ['a/b']\nrabbitmq3 = ''\nwhy = ''\n{fields}");
        check(&[case], &toml::from_str(&text).map_err(|error| error.to_string())?)
    }

    #[test]
    fn what_is_declared_has_to_fit_the_lines() {
        let (own, new, old) =
            ("[leveret] nothing", "[rabbitmq4 leveret] nothing", "[rabbitmq3 leveret] nothing");
        assert_eq!(checked(own, "leveret = ''"), Ok(()));
        assert_eq!(checked(new, "rabbitmq4 = ''\nfollows = 'rabbitmq4'"), Ok(()));
        assert_eq!(checked(old, "rabbitmq4 = ''\nfollows = 'rabbitmq3'"), Ok(()));
        for (lines, fields, complaint) in [
            (own, "", "says what leveret does"),
            (own, "leveret = ''\nrabbitmq4 = ''", "needs a word on rabbitmq4"),
            (own, "follows = 'rabbitmq3'", "does not follow whom it says"),
            (new, "follows = 'rabbitmq4'", "needs a word on rabbitmq4"),
            (new, "rabbitmq4 = ''\nfollows = 'rabbitmq3'", "does not follow whom it says"),
            (new, "rabbitmq4 = ''\nleveret = ''", "has to say whom it follows"),
            (new, "rabbitmq4 = ''\nfollows = 'rabbitmq'", "follows neither"),
            ("nothing", "leveret = ''", "no case that differs"),
        ] {
            let error = checked(lines, fields).unwrap_err();
            assert!(error.contains(complaint), "{lines} with {fields}: {error}");
        }
    }
}
