//! A script with what came, as text that can be made a case of.

use super::Step;
use super::known::Difference;
use super::observe::{self, Observation};
use crate::case::{self, Action, Place};
use crate::text::Arg;
use std::collections::BTreeSet;

/// The steps, what the left broker answered to each, and what differs in the last.
pub(super) fn text(
    steps: &[Step],
    left: &[Observation],
    difference: &Difference,
    [left_name, right_name]: [&str; 2],
) -> String {
    let mut out = String::new();
    let mut ended = BTreeSet::new();
    let mut say = |line: &str| out.push_str(&format!("{line}\n"));
    for (at, (step, observation)) in steps.iter().zip(left).enumerate() {
        for line in step {
            reopen(line, &mut ended, &mut say);
            say(line);
            note_end(line, &mut ended, &mut say);
        }
        for line in &observation.lines {
            if at + 1 < steps.len() || !difference.left.contains(line) {
                say(line);
                note_close(line, &mut ended, &mut say);
            }
        }
    }
    difference.left.iter().for_each(|line| say(&format!("[{left_name}] {line}")));
    difference.right.iter().for_each(|line| say(&format!("[{right_name}] {line}")));
    out
}

/// The place that a line sends on, and the word it begins with.
fn sent(line: &str) -> Option<(Place, String)> {
    match case::step(0, line).ok()?.action {
        Action::Send(place, _, args) => Some((place, args.first().and_then(Arg::word)?.to_string())),
        _ => None,
    }
}

/// Opens what a line uses and was closed.
fn reopen(line: &str, ended: &mut BTreeSet<Place>, say: &mut impl FnMut(&str)) {
    let Some((place, _)) = sent(line) else { return };
    if ended.remove(&(place.0, 0)) {
        ended.retain(|other| other.0 != place.0);
        say(&format!("connect {}", place.0));
    }
    if ended.remove(&place) {
        let place = observe::place(place);
        say(&format!("{place}> channel.open"));
        say(&format!("{place}< channel.open-ok"));
    }
}

fn note_end(line: &str, ended: &mut BTreeSet<Place>, say: &mut impl FnMut(&str)) {
    if let Some(letter) = line.strip_prefix("drop ").and_then(|letter| letter.chars().next()) {
        ended.insert((letter, 0));
    }
    if let Some((place, verb)) = sent(line)
        && matches!(verb.as_str(), "channel.close" | "connection.close")
    {
        ended.insert(place);
        say(&format!("{}< {verb}-ok", observe::place(place)));
    }
}

/// Answers a close that came.
fn note_close(line: &str, ended: &mut BTreeSet<Place>, say: &mut impl FnMut(&str)) {
    let Some((at, rest)) = line.split_once("< ") else { return };
    let verb = rest.split(' ').next().unwrap_or_default();
    if matches!(verb, "channel.close" | "connection.close") {
        let answer = format!("{at}> {verb}-ok");
        ended.extend(sent(&answer).map(|(place, _)| place));
        say(&answer);
    }
}
