//! JUnit XML and a Markdown table of a run. Called by the binary.

use crate::run::Failure;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The result of one case.
#[derive(Debug)]
pub struct Line {
    /// `section/name`.
    pub name: String,
    /// The rule it checks.
    pub rule: String,
    /// Whether a difference between the brokers is declared for it.
    pub declared: bool,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Line {
    fn section(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// Passed, declared and failed cases of each section, in order of their names.
pub fn sections(lines: &[Line]) -> BTreeMap<&str, [usize; 3]> {
    let mut out = BTreeMap::new();
    for line in lines {
        let counts: &mut [usize; 3] = out.entry(line.section()).or_default();
        counts[if line.failure.is_some() { 2 } else { usize::from(line.declared) }] += 1;
    }
    out
}

/// A table of the sections and one of what failed.
pub fn markdown(lines: &[Line], broker: &str) -> String {
    let mut out = format!(
        "## {broker}\n\n| Section | As RabbitMQ | Declared difference | Failed |\n|---|---|---|---|\n"
    );
    let mut total = [0; 3];
    for (section, counts) in sections(lines) {
        let _ = writeln!(out, "| {section} | {} | {} | {} |", counts[0], counts[1], counts[2]);
        counts.iter().zip(&mut total).for_each(|(count, sum)| *sum += count);
    }
    let _ = writeln!(out, "| **all** | {} | {} | {} |", total[0], total[1], total[2]);
    for line in lines {
        if let Some(failure) = &line.failure {
            let _ = writeln!(out, "\n- `{}` line {}: {}", line.name, failure.line, failure.reason);
        }
    }
    out
}

/// JUnit XML, one test suite a section.
pub fn junit(lines: &[Line]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (section, counts) in sections(lines) {
        let tests: usize = counts.iter().sum();
        let _ =
            writeln!(out, "  <testsuite name=\"{section}\" tests=\"{tests}\" failures=\"{}\">", counts[2]);
        for line in lines.iter().filter(|line| line.section() == section) {
            let _ = write!(
                out,
                "    <testcase classname=\"{section}\" name=\"{}\" time=\"{:.3}\"",
                escaped(&line.name),
                line.took.as_secs_f64()
            );
            match &line.failure {
                None => out.push_str("/>\n"),
                Some(failure) => {
                    let got = failure.got.join("\n");
                    let _ = writeln!(
                        out,
                        "><failure message=\"line {}: {}\">{}</failure></testcase>",
                        failure.line,
                        escaped(&failure.reason),
                        escaped(&got)
                    );
                }
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    text.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
}
