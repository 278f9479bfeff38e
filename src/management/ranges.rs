//! Histories of numbers: a request with a range of time gets samples in steps, the newest first, beside the rate.

use super::answer::ApiError;
use super::request::Request;
use super::stats::rounded;
use crate::broker::lengths::{HISTORY_MS, Length, Lengths};
use crate::message::Millis;
use serde_json::{Map, Value, json};

/// How many steps a range may have.
const STEPS_MAX: i64 = 500;

/// What ranges there are. Of those other than lengths no history is kept; one that makes no sense is refused all the same.
const KINDS: [&str; 4] = ["lengths", "msg_rates", "data_rates", "node_stats"];

/// The times that a request wants to see lengths of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    now: Millis,
    age_ms: Millis,
    step_ms: Millis,
}

impl Range {
    /// The range of lengths that a request asks for.
    pub(super) fn of(request: &Request) -> Result<Option<Range>, ApiError> {
        let mut ranges = KINDS.into_iter().map(|kind| range(request, kind));
        let lengths = ranges.next().transpose()?.flatten();
        ranges.try_for_each(|other| other.map(drop))?;
        Ok(lengths.map(|(age_s, step_s)| Range {
            now: request.now,
            age_ms: age_s.saturating_mul(1000),
            step_ms: step_s.saturating_mul(1000),
        }))
    }

    /// The same of a list, where RabbitMQ has another word for one that makes no sense.
    pub(super) fn of_list(request: &Request) -> Result<Option<Range>, ApiError> {
        Range::of(request).map_err(|error| match error {
            ApiError::BadRequest(Value::String(reason)) => {
                ApiError::Invalid { error: "invalid_range_parameters", reason }
            }
            other => other,
        })
    }

    /// The times, the newest first: whole steps, as far back as is remembered.
    fn times(self) -> impl Iterator<Item = Millis> {
        let newest = self.now - self.now % self.step_ms;
        let steps = self.age_ms.min(HISTORY_MS) / self.step_ms;
        (0..=steps).map_while(move |step| newest.checked_sub(step * self.step_ms))
    }
}

/// The age and the step of a kind of range, in seconds.
fn range(request: &Request, kind: &str) -> Result<Option<(u64, u64)>, ApiError> {
    let number = |what: &str| request.query(&format!("{kind}_{what}"))?.parse::<i64>().ok();
    let (Some(age), Some(step)) = (number("age"), number("incr")) else { return Ok(None) };
    match (u64::try_from(age), u64::try_from(step)) {
        (Ok(age_s @ 1..), Ok(step_s @ 1..)) if age / step <= STEPS_MAX => Ok(Some((age_s, step_s))),
        _ => Err(ApiError::bad_request(format!("Invalid range parameters: age {age}, incr {step}"))),
    }
}

/// What of a length a field shows.
type Part = fn(Length) -> u64;

/// Puts the samples of a range beside the rates of `messages` and its parts.
pub(super) fn put_samples(fields: &mut Map<String, Value>, range: Range, lengths: &Lengths) {
    let parts: [(&str, Part); 3] = [
        ("messages_details", |length| length.ready + length.unacked),
        ("messages_ready_details", |length| length.ready),
        ("messages_unacknowledged_details", |length| length.unacked),
    ];
    let samples: Vec<(Millis, Length)> = range.times().map(|at| (at, lengths.at(at))).collect();
    for (name, part) in parts {
        let samples: Vec<(Millis, u64)> = samples.iter().map(|(at, length)| (*at, part(*length))).collect();
        fields.insert(name.to_owned(), details(&samples));
    }
}

fn details(samples: &[(Millis, u64)]) -> Value {
    let shown: Vec<Value> =
        samples.iter().map(|(at, count)| json!({ "sample": count, "timestamp": at })).collect();
    let [newest, .., oldest] = samples else {
        return json!({ "rate": 0.0, "samples": shown });
    };
    let rate = |(to, after): (Millis, u64), (from, before): (Millis, u64)| {
        rounded((after as f64 - before as f64) * 1000.0 / (to - from) as f64)
    };
    let sum: u64 = samples.iter().map(|(_, count)| count).sum();
    json!({
        "rate": rate(*newest, samples[1]),
        "samples": shown,
        "avg_rate": rate(*newest, *oldest),
        "avg": rounded(sum as f64 / samples.len() as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_in_whole_steps_and_the_newest_is_first() {
        let mut lengths = Lengths::default();
        lengths.note(90_000, Length { ready: 1, unacked: 0 });
        lengths.note(100_000, Length { ready: 5, unacked: 2 });
        let range = Range { now: 104_999, age_ms: 20_000, step_ms: 10_000 };
        let mut fields = Map::new();
        put_samples(&mut fields, range, &lengths);
        assert_eq!(
            fields["messages_details"],
            json!({
                "rate": 0.6,
                "samples": [
                    { "sample": 7, "timestamp": 100_000 },
                    { "sample": 1, "timestamp": 90_000 },
                    { "sample": 0, "timestamp": 80_000 },
                ],
                "avg_rate": 0.35,
                "avg": 2.667,
            })
        );
        assert_eq!(fields["messages_unacknowledged_details"]["samples"][0]["sample"], 2);
        let long = Range { now: 10_000_000, age_ms: 9_000_000, step_ms: 60_000 };
        assert_eq!(long.times().count(), 11, "no more than is remembered");
        let short = Range { now: 104_999, age_ms: 1000, step_ms: 60_000 };
        put_samples(&mut fields, short, &lengths);
        assert_eq!(
            fields["messages_details"],
            json!({ "rate": 0.0, "samples": [{ "sample": 0, "timestamp": 60_000 }] })
        );
    }
}
