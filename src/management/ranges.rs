//! Histories of numbers: a request with a range of time gets samples in steps, the newest first, beside the rate.

use super::answer::ApiError;
use super::request::Request;
use crate::api::{self, Details, Sample, rounded};
use crate::broker::observe::lengths::{HISTORY_MS, Length, Lengths};
use crate::message::Millis;
use serde_json::Value;

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

/// Puts the samples of a range in the place of the rates that are known without one.
pub(super) fn put_samples(lengths: &mut api::Lengths, range: Range, history: &Lengths) {
    let known: Vec<(Millis, Length)> = range.times().map(|at| (at, history.at(at))).collect();
    let details = |part: fn(&Length) -> u64| {
        details(known.iter().map(|(at, length)| Sample { sample: part(length), timestamp: *at }).collect())
    };
    lengths.messages_details = details(|length| length.ready + length.unacked);
    lengths.messages_ready_details = details(|length| length.ready);
    lengths.messages_unacknowledged_details = details(|length| length.unacked);
}

fn details(samples: Vec<Sample>) -> Details {
    let rate = |to: &Sample, from: &Sample| {
        let grown = to.sample as f64 - from.sample as f64;
        rounded(grown * 1000.0 / (to.timestamp - from.timestamp) as f64)
    };
    let (now, avg_rate, avg) = match samples.as_slice() {
        [newest, second, ..] => {
            let oldest = samples.last().unwrap_or(second);
            let sum: u64 = samples.iter().map(|sample| sample.sample).sum();
            let avg = rounded(sum as f64 / samples.len() as f64);
            (rate(newest, second), Some(rate(newest, oldest)), Some(avg))
        }
        _ => (0.0, None, None),
    };
    Details { rate: now, samples: Some(samples), avg_rate, avg }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_stand_in_whole_steps_and_the_newest_is_first() {
        let mut lengths = Lengths::default();
        lengths.note(90_000, Length { ready: 1, unacked: 0 });
        lengths.note(100_000, Length { ready: 5, unacked: 2 });
        let range = Range { now: 104_999, age_ms: 20_000, step_ms: 10_000 };
        let mut shown = api::Lengths::default();
        put_samples(&mut shown, range, &lengths);
        assert_eq!(
            json!(shown.messages_details),
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
        assert_eq!(json!(shown.messages_unacknowledged_details)["samples"][0]["sample"], 2);
        let long = Range { now: 10_000_000, age_ms: 9_000_000, step_ms: 60_000 };
        assert_eq!(long.times().count(), 11, "no more than is remembered");
        let short = Range { now: 104_999, age_ms: 1000, step_ms: 60_000 };
        put_samples(&mut shown, short, &lengths);
        assert_eq!(
            json!(shown.messages_details),
            json!({ "rate": 0.0, "samples": [{ "sample": 0, "timestamp": 60_000 }] })
        );
    }
}
