//! Prometheus' text format, version 0.0.4.

use crate::net::commits::Distribution;
use std::fmt::{self, Write};

/// The content type of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a value does in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the broker starts again.
    Counter,
    /// It moves up and down.
    Gauge,
    /// Neither: the labels are what it says.
    Untyped,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        })
    }
}

/// A metric of one kind of thing.
pub(super) struct Metric<T> {
    /// Its name, without the prefix.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: fn(&T) -> f64,
    pub(super) together: Together,
}

/// What the values of several things say of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Together {
    /// The sum of the values.
    Sum,
    /// The greatest of them.
    Greatest,
    /// Nothing. So it is with counters: what is gone would make the sum fall.
    Nothing,
}

impl<T> Metric<T> {
    pub(super) const fn counter(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Metric<T> {
        Metric { name, kind: Kind::Counter, help, value, together: Together::Nothing }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Metric<T> {
        Metric { name, kind: Kind::Gauge, help, value, together: Together::Sum }
    }

    /// A gauge of which only the greatest value says something of all.
    pub(super) const fn greatest(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Metric<T> {
        Metric { name, kind: Kind::Gauge, help, value, together: Together::Greatest }
    }

    /// A gauge that says nothing of several things together.
    pub(super) const fn single(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Metric<T> {
        Metric { name, kind: Kind::Gauge, help, value, together: Together::Nothing }
    }
}

/// Labels as they are written, without the braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(String);

impl Labels {
    pub(super) fn new(labels: &[(&str, &str)]) -> Labels {
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(text, "{comma}{name}=\"{value}\"").expect("a String takes everything");
        }
        Labels(text)
    }
}

/// A text that grows.
pub(super) struct Exposition {
    text: String,
    prefix: &'static str,
}

impl Exposition {
    /// Every name gets the prefix.
    pub(super) fn new(prefix: &'static str) -> Exposition {
        Exposition { text: String::new(), prefix }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// From now on names get that prefix.
    pub(super) fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    fn head(&mut self, name: &str, kind: &dyn fmt::Display, help: &str) {
        let prefix = self.prefix;
        self.put(format_args!("# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &Labels, value: f64) {
        let prefix = self.prefix;
        match labels.0.as_str() {
            "" => self.put(format_args!("{prefix}{name} {value}\n")),
            labels => self.put(format_args!("{prefix}{name}{{{labels}}} {value}\n")),
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes everything");
    }

    /// A line for those who read the text themselves.
    pub(super) fn comment(&mut self, text: &str) {
        let text = text.replace('\n', " ");
        self.put(format_args!("# {text}\n"));
    }

    /// One value without labels.
    pub(super) fn one(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.with_labels(name, kind, help, &[(Labels::default(), value)]);
    }

    /// Several metrics of a kind without labels: name, help and value of each.
    pub(super) fn several(&mut self, kind: Kind, metrics: &[(&str, &str, f64)]) {
        metrics.iter().for_each(|(name, help, value)| self.one(name, kind, help, *value));
    }

    /// The same of whole numbers.
    pub(super) fn several_whole(&mut self, kind: Kind, metrics: &[(&str, &str, u64)]) {
        metrics.iter().for_each(|(name, help, value)| self.one(name, kind, help, *value as f64));
    }

    /// Some values of one metric.
    pub(super) fn with_labels(&mut self, name: &str, kind: Kind, help: &str, values: &[(Labels, f64)]) {
        self.head(name, &kind, help);
        for (labels, value) in values {
            self.sample(name, labels, *value);
        }
    }

    /// Every metric of every thing.
    pub(super) fn each<T>(&mut self, metrics: &[Metric<T>], things: &[(Labels, T)]) {
        for metric in metrics {
            self.head(metric.name, &metric.kind, metric.help);
            for (labels, thing) in things {
                self.sample(metric.name, labels, (metric.value)(thing));
            }
        }
    }

    /// Every metric of all things together, but for those of which that says nothing.
    pub(super) fn totals<T>(&mut self, metrics: &[Metric<T>], things: &[(Labels, T)]) {
        for metric in metrics {
            let values = things.iter().map(|(_, thing)| (metric.value)(thing));
            let total = match metric.together {
                Together::Sum => values.sum(),
                Together::Greatest => values.fold(0.0, f64::max),
                Together::Nothing => continue,
            };
            self.one(metric.name, metric.kind, metric.help, total);
        }
    }

    /// With at most one label.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        label: Option<(&str, &str)>,
        distribution: &Distribution,
    ) {
        self.head(name, &"histogram", help);
        let prefix = self.prefix;
        let label = label.map(|(name, value)| format!("{name}=\"{value}\"")).unwrap_or_default();
        let (first, alone) = match label.is_empty() {
            true => (String::new(), String::new()),
            false => (format!("{label},"), format!("{{{label}}}")),
        };
        for (bound, count) in &distribution.buckets {
            self.put(format_args!("{prefix}{name}_bucket{{{first}le=\"{bound}\"}} {count}\n"));
        }
        let Distribution { sum, count, .. } = distribution;
        self.put(format_args!(
            "{prefix}{name}_bucket{{{first}le=\"+Inf\"}} {count}\n{prefix}{name}_sum{alone} {sum}\n{prefix}{name}_count{alone} {count}\n"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_prometheus_reads_it() {
        let metrics = [
            Metric::<f64>::counter("things_total", "Things.", |thing| *thing),
            Metric::greatest("age_seconds", "Age.", |thing| thing / 2.0),
            Metric::single("use", "Use.", |_| f64::NAN),
        ];
        let things = [(Labels::new(&[("a", "x\\\"\n"), ("b", "")]), 1.0), (Labels::new(&[("a", "y")]), 3.0)];
        let mut out = Exposition::new("p_");
        out.each(&metrics, &things);
        out.totals(&metrics, &things);
        out.histogram(
            "size_bytes",
            "Size.",
            None,
            &Distribution { buckets: vec![(0.5, 1), (1.0, 2)], sum: 7.25, count: 3 },
        );
        let expected = r#"# HELP p_things_total Things.
# TYPE p_things_total counter
p_things_total{a="x\\\"\n",b=""} 1
p_things_total{a="y"} 3
# HELP p_age_seconds Age.
# TYPE p_age_seconds gauge
p_age_seconds{a="x\\\"\n",b=""} 0.5
p_age_seconds{a="y"} 1.5
# HELP p_use Use.
# TYPE p_use gauge
p_use{a="x\\\"\n",b=""} NaN
p_use{a="y"} NaN
# HELP p_age_seconds Age.
# TYPE p_age_seconds gauge
p_age_seconds 1.5
# HELP p_size_bytes Size.
# TYPE p_size_bytes histogram
p_size_bytes_bucket{le="0.5"} 1
p_size_bytes_bucket{le="1"} 2
p_size_bytes_bucket{le="+Inf"} 3
p_size_bytes_sum 7.25
p_size_bytes_count 3
"#;
        assert_eq!(out.into_text(), expected);
    }
}
