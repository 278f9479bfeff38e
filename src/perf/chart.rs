//! A chart of rate and latency over time, as SVG that needs nothing else: two panels above one axis of time. Its colours follow
//! the reader's light or dark mode.

use super::meter::Sample;
use super::report::{duration, grouped};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;

/// More samples than this are drawn together, so that a long run has a small chart.
const POINTS_MAX: usize = 600;

/// Few samples are drawn as points too: a run of one second has no line.
const DOTS_MAX: usize = 40;

/// Colours are said as such: viewers that are no browsers know no CSS variables, and would draw all of it black.
const STYLE: &str = "\
.chart text { font: 12px system-ui, sans-serif; fill: #66727f; }
.chart .title { font-size: 17px; font-weight: 600; }
.chart .name { font-weight: 600; }
.chart .title, .chart .name { fill: #1f2933; }
.chart .ground { fill: #ffffff; }
.chart .grid { stroke: #e2e6ea; stroke-width: 1; }
.chart .axis { stroke: #66727f; stroke-width: 1; }
.chart polyline { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .thin { stroke-dasharray: 2 4; }
.chart .dashed { stroke-dasharray: 9 7; }
.chart .a { stroke: #1769c4; } .chart circle.a { fill: #1769c4; }
.chart .b { stroke: #c2410c; } .chart circle.b { fill: #c2410c; }
.chart .c { stroke: #15803d; } .chart circle.c { fill: #15803d; }
.chart .d { stroke: #8b5cf6; } .chart circle.d { fill: #8b5cf6; }
@media (prefers-color-scheme: dark) {
.chart text { fill: #98a4b0; }
.chart .title, .chart .name { fill: #e6eaee; }
.chart .ground { fill: #14181d; }
.chart .grid { stroke: #2a323a; }
.chart .axis { stroke: #98a4b0; }
.chart .a { stroke: #60a5fa; } .chart circle.a { fill: #60a5fa; }
.chart .b { stroke: #fb923c; } .chart circle.b { fill: #fb923c; }
.chart .c { stroke: #4ade80; } .chart circle.c { fill: #4ade80; }
.chart .d { stroke: #b79cff; } .chart circle.d { fill: #b79cff; }
}
";

/// A line's name, its class, and what of a sample it shows.
type Shown<T> = (&'static str, &'static str, fn(&Sample) -> T);

/// The title above the chart.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) title: String,
    pub(super) subtitle: String,
}

/// A line in a panel; a point is missing where there was nothing to measure.
struct Curve {
    name: &'static str,
    class: &'static str,
    points: Vec<Option<f64>>,
}

/// One of the two diagrams.
struct Panel {
    name: &'static str,
    top: f64,
    height: f64,
    curves: Vec<Curve>,
    scale: Scale,
}

/// What a height means.
enum Scale {
    /// From 0.
    Linear { most: f64, step: f64 },
    /// Between two powers of ten.
    Logarithmic { least: i32, most: i32 },
}

impl Scale {
    fn linear(curves: &[Curve]) -> Scale {
        let most = values(curves).fold(1.0, f64::max);
        let step = step(most, 5);
        Scale::Linear { most: (most / step).ceil() * step, step }
    }

    fn logarithmic(curves: &[Curve]) -> Scale {
        let least = values(curves).fold(f64::INFINITY, f64::min).clamp(1.0, 1e9);
        let most = values(curves).fold(10.0, f64::max);
        let least = (least.log10().floor() as i32).min(most.log10().ceil() as i32 - 1);
        Scale::Logarithmic { least, most: most.log10().ceil() as i32 }
    }

    /// From 0 at the bottom to 1 at the top.
    fn part(&self, value: f64) -> f64 {
        match self {
            Scale::Linear { most, .. } => value / most,
            Scale::Logarithmic { least, most } => {
                (value.max(1.0).log10() - f64::from(*least)) / f64::from(most - least)
            }
        }
        .clamp(0.0, 1.0)
    }

    /// Values with a line of the grid, and their texts.
    fn marks(&self) -> Vec<(f64, String)> {
        match self {
            Scale::Linear { most, step } => {
                let count = (most / step).round() as u64;
                (0..=count).map(|number| number as f64 * step).map(|value| (value, grouped(value))).collect()
            }
            Scale::Logarithmic { least, most } => {
                let values = (*least..=*most).map(|power| 10f64.powi(power));
                values.map(|us| (us, short_duration(us as u64))).collect()
            }
        }
    }
}

/// A power of ten of microseconds, without the digits that say nothing.
fn short_duration(us: u64) -> String {
    duration(us).replace(".00", "").replace(".0", "")
}

fn values(curves: &[Curve]) -> impl Iterator<Item = f64> {
    curves.iter().flat_map(|curve| curve.points.iter().flatten().copied())
}

/// 1, 2 or 5 times a power of ten, so that about `count` of them make `most`.
fn step(most: f64, count: u32) -> f64 {
    let rough = most / f64::from(count);
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= rough);
    times.unwrap_or(10.0) * power
}

/// The chart as a file of its own.
pub(super) fn svg(head: &Head, samples: &[Sample]) -> String {
    let samples = thinned(samples, POINTS_MAX);
    let end_s = samples.last().map_or(1.0, |sample| sample.at_s).max(0.1);
    let times: Vec<f64> = samples.iter().map(|sample| sample.at_s).collect();
    let rates = rate_curves(&samples);
    let latencies = latency_curves(&samples);
    let panels = [
        Panel {
            name: "messages a second",
            top: 96.0,
            height: 200.0,
            scale: Scale::linear(&rates),
            curves: rates,
        },
        Panel {
            name: "latency",
            top: 346.0,
            height: 190.0,
            scale: Scale::logarithmic(&latencies),
            curves: latencies,
        },
    ];
    let mut out = String::new();
    put(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n\
             <text class=\"title\" x=\"24\" y=\"34\">{title}</text>\n<text x=\"24\" y=\"54\">{subtitle}</text>\n",
            title = escaped(&head.title),
            subtitle = escaped(&head.subtitle),
        ),
    );
    for panel in &panels {
        put_panel(&mut out, panel, &times, end_s);
    }
    let bottom = panels[1].top + panels[1].height;
    put_times(&mut out, bottom, end_s);
    out.push_str("</svg>\n");
    out
}

/// The chart on a page, with the figures below it.
pub(super) fn page(head: &Head, samples: &[Sample], summary: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
         <style>body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 15px system-ui, sans-serif; }}\n\
         pre {{ font: 13px ui-monospace, monospace; overflow-x: auto; margin-left: {:.2}%; }}</style>\n{}<pre>{}</pre>\n</html>\n",
        escaped(&head.title),
        // They begin where the curves do.
        100.0 * LEFT / WIDTH,
        svg(head, samples),
        escaped(summary),
    )
}

fn rate_curves(samples: &[Sample]) -> Vec<Curve> {
    let counts: [Shown<u64>; 3] = [
        // Above all others, with gaps: where it is the same as received, both are seen.
        ("published", "a dashed", |sample| sample.counts.published),
        ("confirmed", "c", |sample| sample.counts.confirmed),
        ("received", "b", |sample| sample.counts.received),
    ];
    let curve = |(name, class, count): Shown<u64>| {
        let points = samples.iter().map(|sample| Some(sample.rate(count(sample)))).collect();
        samples.iter().any(|sample| count(sample) > 0).then_some(Curve { name, class, points })
    };
    counts.into_iter().filter_map(curve).collect()
}

fn latency_curves(samples: &[Sample]) -> Vec<Curve> {
    let percentiles: [Shown<Option<u64>>; 4] = [
        ("confirm, median", "c thin", |sample| sample.confirm.map(|found| found.p50)),
        ("confirm, 99%", "c", |sample| sample.confirm.map(|found| found.p99)),
        ("delivery, median", "d thin", |sample| sample.delivery.map(|found| found.p50)),
        ("delivery, 99%", "d", |sample| sample.delivery.map(|found| found.p99)),
    ];
    let curve = |(name, class, percentile): Shown<Option<u64>>| {
        let points: Vec<Option<f64>> =
            samples.iter().map(|sample| percentile(sample).map(|us| us as f64)).collect();
        points.iter().any(Option::is_some).then_some(Curve { name, class, points })
    };
    percentiles.into_iter().filter_map(curve).collect()
}

fn put_panel(out: &mut String, panel: &Panel, times: &[f64], end_s: f64) {
    let y_of = |value: f64| panel.top + panel.height * (1.0 - panel.scale.part(value));
    put(
        out,
        format_args!("<text class=\"name\" x=\"24\" y=\"{:.0}\">{}</text>\n", panel.top - 14.0, panel.name),
    );
    for (value, text) in panel.scale.marks() {
        let y = y_of(value);
        put(
            out,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
            ),
        );
    }
    put_legend(out, panel);
    for curve in panel.curves.iter().rev() {
        let places: Vec<Option<(f64, f64)>> = times
            .iter()
            .zip(&curve.points)
            .map(|(at_s, point)| point.map(|value| (x_of(*at_s, end_s), y_of(value))))
            .collect();
        put_curve(out, curve.class, &places);
    }
}

/// What the colours mean, above the right end of the panel.
fn put_legend(out: &mut String, panel: &Panel) {
    let mut x = WIDTH - RIGHT;
    let y = panel.top - 14.0;
    for curve in panel.curves.iter().rev() {
        put(out, format_args!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"end\">{}</text>\n", curve.name));
        x -= 6.6 * curve.name.len() as f64 + 6.0;
        put(
            out,
            format_args!(
                "<polyline class=\"{}\" points=\"{:.0},{line:.0} {x:.0},{line:.0}\"/>\n",
                curve.class,
                x - 22.0,
                line = y - 4.0,
            ),
        );
        x -= 40.0;
    }
}

/// One line for each stretch without gaps.
fn put_curve(out: &mut String, class: &str, places: &[Option<(f64, f64)>]) {
    for stretch in places.split(Option::is_none).filter(|stretch| !stretch.is_empty()) {
        let points: Vec<String> = stretch.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(out, format_args!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" ")));
    }
    if places.len() <= DOTS_MAX {
        for (x, y) in places.iter().flatten() {
            let colour = class.split(' ').next().unwrap_or_default();
            put(out, format_args!("<circle class=\"{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>\n"));
        }
    }
}

fn x_of(at_s: f64, end_s: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * at_s / end_s
}

/// The axis of time.
fn put_times(out: &mut String, bottom: f64, end_s: f64) {
    put(
        out,
        format_args!(
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{:.1}\" y2=\"{bottom}\"/>\n",
            WIDTH - RIGHT
        ),
    );
    let step = step(end_s, 10);
    let decimals = usize::from(step < 1.0) + usize::from(step < 0.1);
    for number in 0..=(end_s / step + 1e-9) as u64 {
        let at_s = number as f64 * step;
        let x = x_of(at_s, end_s);
        put(
            out,
            format_args!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at_s:.decimals$}</text>\n",
                bottom + 18.0
            ),
        );
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    put(
        out,
        format_args!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds since the start</text>\n",
            bottom + 40.0
        ),
    );
}

/// Reduces samples to that number: several become one, with their mean rates, and the latency of the worst of them.
fn thinned(samples: &[Sample], most: usize) -> Vec<Sample> {
    let together = samples.len().div_ceil(most).max(1);
    samples.chunks(together).filter_map(|chunk| chunk.iter().cloned().reduce(joined)).collect()
}

fn joined(mut sum: Sample, next: Sample) -> Sample {
    sum.at_s = next.at_s;
    sum.seconds += next.seconds;
    sum.counts += next.counts;
    if next.confirm.map(|found| found.p99) > sum.confirm.map(|found| found.p99) {
        sum.confirm = next.confirm;
    }
    if next.delivery.map(|found| found.p99) > sum.delivery.map(|found| found.p99) {
        sum.delivery = next.delivery;
    }
    sum
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String can't fail");
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    fn samples(count: u64) -> Vec<Sample> {
        (1..=count)
            .map(|second| {
                let mut meter = Meter::default();
                meter.counts.published = 1000 * second;
                meter.counts.received = 900 * second;
                meter.delivery.record(100 * second);
                Sample::of(&meter, second as f64 - 1.0, second as f64)
            })
            .collect()
    }

    fn head() -> Head {
        Head { title: "a < b".to_owned(), subtitle: "1 producer".to_owned() }
    }

    #[test]
    fn steps_are_round_numbers() {
        let steps = [(10.0, 2.0), (9.0, 2.0), (23.0, 5.0), (100_000.0, 20_000.0), (1.0, 0.2)];
        for (most, right) in steps {
            assert!((step(most, 5) - right).abs() < 1e-9, "{most}: {}", step(most, 5));
        }
    }

    #[test]
    fn a_chart_names_its_axes_and_what_there_was() {
        let chart = svg(&head(), &samples(10));
        for text in
            ["a &lt; b", "messages a second", "latency", "seconds since the start", "published", "10,000"]
        {
            assert!(chart.contains(text), "{text}: {chart}");
        }
        assert!(chart.contains(">100 us<") && chart.contains(">1 ms<"), "{chart}");
        assert!(!chart.contains("confirm, "), "nothing was confirmed");
        assert!(chart.contains("prefers-color-scheme: dark") && !chart.contains("NaN"));
        assert!(!chart.contains("var("), "only browsers know what that is");
        // Two curves of rates and two of latencies, each with its sample in the legend.
        assert_eq!(chart.matches("<polyline").count(), 8);
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        for samples in [samples(0), samples(1)] {
            let chart = svg(&head(), &samples);
            assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
        }
    }

    #[test]
    fn a_gap_is_no_line() {
        let mut out = String::new();
        put_curve(&mut out, "a", &[Some((1.0, 1.0)), Some((2.0, 1.0)), None, Some((4.0, 1.0))]);
        assert_eq!((out.matches("<polyline").count(), out.matches("<circle").count()), (2, 3));
    }

    #[test]
    fn a_long_run_is_thinned() {
        let thin = thinned(&samples(1500), 600);
        assert_eq!(thin.len(), 500);
        assert_eq!((thin[0].at_s, thin[0].seconds, thin[0].counts.published), (3.0, 3.0, 6000));
        assert!(thin[0].delivery.is_some_and(|found| found.p99.abs_diff(300) <= 3), "the worst counts");
        assert!(svg(&head(), &samples(1500)).len() < 60_000);
    }

    #[test]
    fn a_page_has_the_figures_too() {
        let page = page(&head(), &samples(2), "published 1 <");
        assert!(
            page.starts_with("<!doctype html>")
                && page.contains("<svg ")
                && page.contains("published 1 &lt;")
        );
    }
}
