//! Writes the expectations of a case from what a broker answers: the case is played and what each line brings, and no
//! line expects, is put behind it. The author then reads every line against the rule. Used by the binary's `--record`.

use crate::case::Case;
use crate::run::{Options, Runner};
use crate::transport::Transport;

/// The case's text with what came, and the failure that ended it early, if any.
pub fn record(case: &Case, transport: &mut dyn Transport, options: &Options) -> (String, Option<String>) {
    let mut came = Vec::new();
    let mut runner = Runner::new(transport, options);
    let failure = runner.play(case, Some(&mut came)).err();
    runner.clean_up();
    let mut out = String::new();
    for (index, line) in case.lines.iter().enumerate() {
        out.push_str(line);
        out.push('\n');
        for (_, text) in came.iter().filter(|(number, _)| *number == index + 1) {
            out.push_str(&general(text));
            out.push('\n');
        }
    }
    let failure =
        failure.map(|failure| format!("line {}: {}; {:?}", failure.line, failure.reason, failure.got));
    (out, failure)
}

/// Times and tags the broker made up are different in each run.
fn general(line: &str) -> String {
    let mut out = Vec::new();
    for word in line.split(' ') {
        let closing = word.len() - word.trim_end_matches(['}', ']']).len();
        let end = &word[word.len() - closing..];
        if word.starts_with("time=T:") {
            out.push(format!("time=T:?{end}"));
        } else if word.starts_with("consumer_tag=amq.ctag-") {
            out.push("consumer_tag=?~amq.ctag-*".into());
        } else {
            out.push(word.into());
        }
    }
    out.join(" ")
}
