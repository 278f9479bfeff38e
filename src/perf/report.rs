//! What is printed and written: a line a second, a summary, JSON, and a file with a chart.

use super::Failure;
use super::chart;
use super::meter::{Percentiles, Sample};
use super::plan::Plan;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// What the broker calls itself.
    pub(super) product: String,
    /// How long the load lasted.
    pub(super) seconds: f64,
    pub(super) whole: Sample,
    pub(super) samples: Vec<Sample>,
}

/// Where the lines of progress go.
#[derive(Debug)]
pub(super) struct Screen {
    quiet: bool,
    to_stderr: bool,
    /// Lines since the last heading.
    lines: usize,
}

/// The heading is printed again after this many lines.
const LINES: usize = 20;

impl Screen {
    /// Prints what the run consists of.
    pub(super) fn of(plan: &Plan, product: &str) -> Result<Screen, Failure> {
        let screen = Screen { quiet: plan.quiet, to_stderr: plan.json, lines: 0 };
        screen.say(&format!("{product} at {}: {}", plan.address(), plan.describe()))?;
        Ok(screen)
    }

    /// A second has gone by.
    pub(super) fn progress(&mut self, sample: &Sample, blocked: Option<&str>) -> Result<(), Failure> {
        if self.lines.is_multiple_of(LINES) {
            self.say(
                "     time   published/s   confirmed/s    received/s    confirm p50       p99   delivery p50       p99",
            )?;
        }
        self.lines += 1;
        self.say(&line(sample))?;
        match blocked {
            Some(reason) => self.say(&format!("          the broker takes no messages at present: {reason}")),
            None => Ok(()),
        }
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        match (self.quiet, self.to_stderr) {
            (true, _) => Ok(()),
            (false, true) => writeln!(io::stderr(), "{text}").map_err(output),
            (false, false) => writeln!(io::stdout(), "{text}").map_err(output),
        }
    }
}

fn output(error: io::Error) -> Failure {
    Failure::Output { what: "the output".to_owned(), error }
}

fn line(sample: &Sample) -> String {
    let counts = sample.counts;
    let latency = |percentiles: Option<Percentiles>| match percentiles {
        Some(found) => (duration(found.p50), duration(found.p99)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let (confirm, delivery) = (latency(sample.confirm), latency(sample.delivery));
    let mut line = format!(
        "{:>7.1} s {:>13} {:>13} {:>13} {:>14} {:>9} {:>14} {:>9}",
        sample.at_s,
        grouped(sample.rate(counts.published)),
        grouped(sample.rate(counts.confirmed)),
        grouped(sample.rate(counts.received)),
        confirm.0,
        confirm.1,
        delivery.0,
        delivery.1,
    );
    for (count, what) in
        [(counts.rejected, "rejected"), (counts.returned, "returned"), (counts.redelivered, "redelivered")]
    {
        if count > 0 {
            line.push_str(&format!("  {count} {what}"));
        }
    }
    line
}

/// `1,234,567`.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds, with three digits that count: `87 us`, `1.23 ms`, `4.56 s`.
pub(super) fn duration(us: u64) -> String {
    let (number, unit) = match us {
        0..1000 => return format!("{us} us"),
        1000..1_000_000 => (us as f64 / 1e3, "ms"),
        _ => (us as f64 / 1e6, "s"),
    };
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {unit}")
}

/// Prints the summary or the JSON, and writes the chart.
pub(super) fn tell(plan: &Plan, report: &Report) -> Result<(), Failure> {
    let text = match plan.json {
        true => format!("{:#}\n", to_json(plan, report)),
        false => format!("\n{}", summary(report)),
    };
    io::stdout().write_all(text.as_bytes()).map_err(output)?;
    let Some(path) = &plan.chart else { return Ok(()) };
    let head =
        chart::Head { title: format!("{} at {}", report.product, plan.address()), subtitle: plan.describe() };
    let drawing = match path.extension().is_some_and(|ending| ending == "html") {
        true => chart::page(&head, &report.samples, &summary(report)),
        false => chart::svg(&head, &report.samples),
    };
    let cannot = |error| Failure::Output { what: path.display().to_string(), error };
    std::fs::write(path, drawing).map_err(cannot)
}

/// The figures of the whole run, for people.
fn summary(report: &Report) -> String {
    let counts = report.whole.counts;
    let mut text = format!("in {:.1} s\n", report.seconds);
    for (count, what) in [
        (counts.published, "published"),
        (counts.confirmed, "confirmed"),
        (counts.rejected, "rejected"),
        (counts.returned, "returned"),
        (counts.received, "received"),
        (counts.redelivered, "redelivered"),
    ] {
        if count > 0 || what == "published" || what == "received" {
            let rate = grouped(report.whole.rate(count));
            text.push_str(&format!("{what:<12} {:>15} {rate:>13}/s\n", grouped(count as f64)));
        }
    }
    for (found, what) in [(report.whole.confirm, "confirm"), (report.whole.delivery, "delivery")] {
        if let Some(found) = found {
            text.push_str(&format!("{what:<12}"));
            for (name, us) in named(found) {
                text.push_str(&format!(" {name} {:<9}", duration(us)));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    text
}

fn named(found: Percentiles) -> [(&'static str, u64); 7] {
    [
        ("min", found.least),
        ("p50", found.p50),
        ("p75", found.p75),
        ("p95", found.p95),
        ("p99", found.p99),
        ("p99.9", found.p999),
        ("max", found.most),
    ]
}

fn to_json(plan: &Plan, report: &Report) -> Value {
    let mut json = json!({
        "leveret_perf": env!("CARGO_PKG_VERSION"),
        "broker": { "address": plan.address(), "vhost": plan.target.vhost, "product": report.product },
        "load": {
            "producers": plan.producers,
            "consumers": plan.consumers,
            "queues": plan.queues.len(),
            "exchange": plan.exchange,
            "exchange_type": plan.own_exchange,
            "size_bytes": plan.sizes.to_string(),
            "persistent": plan.persistent,
            "durable": plan.durable,
            "confirm": plan.confirm,
            "prefetch": plan.prefetch,
            "auto_ack": plan.ack_every.is_none(),
            "multi_ack": plan.ack_every,
            "rate": plan.rate,
            "time_s": plan.time.map(|time| time.as_secs_f64()),
            "count": plan.count,
        },
        "seconds": rounded(report.seconds),
    });
    extend(&mut json, figures(&report.whole));
    let samples: Vec<Value> = report
        .samples
        .iter()
        .map(|sample| {
            let mut value = json!({ "at_s": rounded(sample.at_s) });
            extend(&mut value, figures(sample));
            value
        })
        .collect();
    json["samples"] = Value::Array(samples);
    json
}

fn extend(value: &mut Value, with: Map<String, Value>) {
    if let Value::Object(map) = value {
        map.extend(with);
    }
}

fn figures(sample: &Sample) -> Map<String, Value> {
    let counts = sample.counts;
    let latency = |found: Option<Percentiles>| {
        found.map(|found| {
            named(found).into_iter().map(|(name, us)| (name.to_owned(), json!(us))).collect::<Map<_, _>>()
        })
    };
    let value = json!({
        "published": counts.published,
        "confirmed": counts.confirmed,
        "rejected": counts.rejected,
        "returned": counts.returned,
        "received": counts.received,
        "redelivered": counts.redelivered,
        "published_per_s": sample.rate(counts.published).round(),
        "confirmed_per_s": sample.rate(counts.confirmed).round(),
        "received_per_s": sample.rate(counts.received).round(),
        "confirm_us": latency(sample.confirm),
        "delivery_us": latency(sample.delivery),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Seconds, to the millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    fn sample() -> Sample {
        let mut meter = Meter::default();
        meter.counts.published = 1_234_567;
        meter.counts.received = 10;
        meter.counts.returned = 2;
        meter.delivery.record(123);
        Sample::of(&meter, 1.0, 3.0)
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0.0, 999.4, 1000.0, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let durations = [0, 999, 1000, 12_345, 123_456, 4_560_000].map(duration);
        assert_eq!(durations, ["0 us", "999 us", "1.00 ms", "12.3 ms", "123 ms", "4.56 s"]);
    }

    #[test]
    fn a_line_tells_a_second() {
        let words: Vec<String> = line(&sample()).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.join(" "), "3.0 s 617,284 0 5 - - 123 us 123 us 2 returned");
    }

    #[test]
    fn a_summary_leaves_out_what_did_not_happen() {
        let report = Report { product: "x".to_owned(), seconds: 2.0, whole: sample(), samples: Vec::new() };
        let text = summary(&report);
        assert!(text.contains("published          1,234,567       617,284/s\n"), "{text}");
        assert!(text.contains("\ndelivery     min 123 us"), "{text}");
        assert!(!text.contains("confirm") && !text.contains("redelivered"), "{text}");
    }

    #[test]
    fn json_has_the_figures_of_the_whole_and_of_each_second() {
        let map = figures(&sample());
        assert_eq!((map["published"].as_u64(), map["received_per_s"].as_f64()), (Some(1_234_567), Some(5.0)));
        assert_eq!(map["delivery_us"]["p50"], 123);
        assert!(map["confirm_us"].is_null());
    }
}
