//! How much there is of something, and how fast it moves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How fast a count moves, and how it stood at times that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Details {
    /// By how much it grows in a second
    pub rate: f64,
    /// How it stood, the newest first: of a range of time that was asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<Sample>>,
    /// By how much it grew in a second, over the whole range
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg_rate: Option<f64>,
    /// What it was on the average of the samples
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg: Option<f64>,
}

impl Details {
    /// Of a count that moves so fast in a second. Rates have three decimals; more would pretend to know more.
    pub fn of(rate: f64) -> Details {
        Details { rate: rounded(rate), ..Details::default() }
    }
}

/// A number with three decimals.
pub fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// A count at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// How much it was
    pub sample: u64,
    /// When, in milliseconds since 1970
    pub timestamp: u64,
}

/// How many messages a queue has, or several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lengths {
    /// Messages that wait for a consumer or for their acknowledgement
    pub messages: u64,
    /// How that number moves
    pub messages_details: Details,
    /// Messages that wait for a consumer
    pub messages_ready: u64,
    /// How that number moves
    pub messages_ready_details: Details,
    /// Messages that a consumer has and has not acknowledged
    pub messages_unacknowledged: u64,
    /// How that number moves
    pub messages_unacknowledged_details: Details,
}

/// What was done with messages: for each count, such as `publish`, a number and beside it its details, such as `publish_details`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Counts(pub Map<String, Value>);

impl Counts {
    /// Adds a count, and how fast it moves.
    pub fn put(&mut self, name: &str, count: u64, rate: f64) {
        self.0.insert(name.to_owned(), count.into());
        self.0.insert(format!("{name}_details"), serde_json::json!({ "rate": rounded(rate) }));
    }
}
