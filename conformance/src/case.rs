//! A case: its text and the steps it is made of. [`Case::parse`] refuses what cannot be played, naming the line.

use crate::matching::Parts;
use crate::text::{self, Arg};
use std::time::Duration;

/// The brokers between whose behaviour a case can distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// RabbitMQ 3.10.8.
    RabbitMq3,
    /// RabbitMQ 4.3.6.
    RabbitMq4,
    /// Leveret.
    Leveret,
}

impl Broker {
    /// The broker of this name, as in `--broker` and in front of a line.
    pub fn named(name: &str) -> Option<Self> {
        [Self::RabbitMq3, Self::RabbitMq4, Self::Leveret].into_iter().find(|broker| broker.name() == name)
    }

    /// Its name, as in front of a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::RabbitMq3 => "rabbitmq3",
            Self::RabbitMq4 => "rabbitmq4",
            Self::Leveret => "leveret",
        }
    }

    /// Whether it is a RabbitMQ of either version.
    pub fn is_rabbitmq(self) -> bool {
        self != Self::Leveret
    }
}

/// A connection's letter and a channel's number.
pub type Place = (char, u16);

/// One line of a case.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number, from 1.
    pub line: usize,
    /// The brokers that it is played against, if the line names some; otherwise all.
    pub only: Vec<Broker>,
    /// What it does.
    pub action: Action,
}

impl Step {
    /// Whether it is played against that broker.
    pub fn is_for(&self, broker: Broker) -> bool {
        self.only.is_empty() || self.only.contains(&broker)
    }
}

/// How far a connection is brought by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The socket only.
    Socket,
    /// connection.start has come.
    Start,
    /// connection.tune has come.
    Login,
    /// connection.open-ok has come.
    Open,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Opens a connection.
    Connect(char, Stage, Vec<Arg>),
    /// Calls the management API: method, path, body.
    Manage(String, String, String),
    /// Sends something a number of times.
    Send(Place, usize, Vec<Arg>),
    /// Expects something a number of times; `unordered` joins it with its neighbours.
    Expect {
        /// Where it comes.
        place: Place,
        /// How many times.
        count: usize,
        /// Whether it may come in any order among its neighbours.
        unordered: bool,
        /// The words that describe it.
        args: Vec<Arg>,
    },
    /// Lets time pass.
    Advance(Duration),
    /// Nothing may have come: anywhere, or on one channel.
    Nothing(Option<Place>),
    /// The broker closes the socket.
    Closed(char),
    /// The client closes the socket.
    Drop(char),
    /// The client stops (true) or starts (false) reading.
    Pause(char, bool),
    /// This channel is not opened by itself.
    Unopened(Place),
    /// The case is over: for brokers that can't be asked the rest.
    End,
}

/// A script and what it is about.
#[derive(Clone, Debug)]
pub struct Case {
    /// `section/name`.
    pub name: String,
    /// The rule it checks: the comment at its head.
    pub rule: String,
    /// Its lines as written.
    pub lines: Vec<String>,
    /// What to play.
    pub steps: Vec<Step>,
}

impl Case {
    /// Reads a case; the error names the line and what is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        let head = lines.iter().take_while(|line| line.starts_with('#'));
        let rule: Vec<&str> = head.map(|line| line.trim_start_matches('#').trim()).collect();
        if rule.is_empty() {
            return Err(format!("{name}: line 1: a case begins with '# ' and the rule it checks"));
        }
        let mut steps = Vec::new();
        for (number, line) in joined(&lines) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let step = step(number, &line).map_err(|reason| format!("{name}: line {number}: {reason}"))?;
            steps.push(step);
        }
        let checks = |step: &Step| {
            matches!(step.action, Action::Expect { .. } | Action::Closed(_) | Action::Nothing(_))
        };
        if !steps.iter().any(checks) {
            return Err(format!("{name}: expects nothing, so it cannot fail"));
        }
        Ok(Self { name: name.into(), rule: rule.join(" "), lines, steps })
    }

    /// Whether what it expects depends on the clock.
    pub fn lets_time_pass(&self) -> bool {
        !self.time().is_zero()
    }

    /// How much time it lets pass.
    pub fn time(&self) -> Duration {
        let times = self.steps.iter().filter_map(|step| match step.action {
            Action::Advance(time) => Some(time),
            _ => None,
        });
        times.sum()
    }

    /// Whether some of its lines are not for every broker.
    pub fn differs(&self) -> bool {
        self.steps.iter().any(|step| !step.only.is_empty())
    }

    /// Whether both brokers are played the same lines.
    pub fn is_same_for(&self, one: Broker, other: Broker) -> bool {
        self.steps.iter().all(|step| step.is_for(one) == step.is_for(other))
    }
}

/// Lines with those that end in a backslash joined to the next, each with the number of its first.
fn joined(lines: &[String]) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in lines.iter().enumerate() {
        let (text, more) = match line.trim().strip_suffix('\\') {
            Some(text) => (text, true),
            None => (line.trim(), false),
        };
        match out.last_mut() {
            Some((_, last)) if continues => last.push_str(text),
            _ => out.push((index + 1, text.to_string())),
        }
        continues = more;
    }
    out
}

/// Reads one line.
pub(crate) fn step(line: usize, text: &str) -> Result<Step, String> {
    let (only, text) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((names, rest)) => (named(names)?, rest.trim()),
        None => (Vec::new(), text),
    };
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let action = if let Some(at) = first.strip_suffix('>') {
        let (count, args) = counted(rest)?;
        check_sent(&args)?;
        Action::Send(place(at)?, count, args)
    } else if let Some(at) = first.strip_suffix("<~") {
        expect(place(at)?, rest, true)?
    } else if let Some(at) = first.strip_suffix('<') {
        expect(place(at)?, rest, false)?
    } else {
        directive(first, rest)?
    };
    Ok(Step { line, only, action })
}

/// The brokers in front of a line; `rabbitmq` stands for both of its versions.
pub(crate) fn named(names: &str) -> Result<Vec<Broker>, String> {
    let mut only = Vec::new();
    for name in names.split(' ') {
        match name {
            "rabbitmq" => only.extend([Broker::RabbitMq3, Broker::RabbitMq4]),
            _ => only.push(Broker::named(name).ok_or_else(|| format!("no broker '{name}'"))?),
        }
    }
    Ok(only)
}

fn expect(place: Place, rest: &str, unordered: bool) -> Result<Action, String> {
    match rest {
        "nothing" => return Ok(Action::Nothing(Some(place))),
        "closed" => return Ok(Action::Closed(place.0)),
        _ => {}
    }
    let (count, args) = counted(rest)?;
    match args.first().and_then(Arg::word) {
        Some("heartbeat" | "protocol" | "confirms") => {}
        _ => {
            Parts::new(&args)?;
        }
    }
    Ok(Action::Expect { place, count, unordered, args })
}

fn check_sent(args: &[Arg]) -> Result<(), String> {
    match args.first().and_then(Arg::word) {
        Some("frame" | "hex" | "header" | "body" | "protocol" | "heartbeat") => Ok(()),
        Some("method") => Parts::new(&args[1..]).map(|_| ()),
        _ => Parts::new(args).map(|_| ()),
    }
}

fn directive(verb: &str, rest: &str) -> Result<Action, String> {
    match verb {
        "nothing" if rest.is_empty() => return Ok(Action::Nothing(None)),
        "end" if rest.is_empty() => return Ok(Action::End),
        _ => {}
    }
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    let letter = || place(first).map(|(letter, _)| letter);
    Ok(match verb {
        "PUT" | "DELETE" | "POST" if first.starts_with("/api/") => {
            Action::Manage(verb.into(), first.into(), more.trim().into())
        }
        "connect" => Action::Connect(letter()?, Stage::Open, text::parse(more)?),
        "login" => Action::Connect(letter()?, Stage::Login, text::parse(more)?),
        "start" => Action::Connect(letter()?, Stage::Start, Vec::new()),
        "socket" => Action::Connect(letter()?, Stage::Socket, Vec::new()),
        "advance" => Action::Advance(duration(first)?),
        "drop" => Action::Drop(letter()?),
        "pause" => Action::Pause(letter()?, true),
        "resume" => Action::Pause(letter()?, false),
        "unopened" => Action::Unopened(place(first)?),
        _ => return Err(format!("'{verb}' is neither a step nor a place like 'a1>' or 'a1<'")),
    })
}

/// `x10 rest`: how often, and the words.
fn counted(rest: &str) -> Result<(usize, Vec<Arg>), String> {
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    match first.strip_prefix('x').and_then(|digits| digits.parse().ok()) {
        Some(count) => Ok((count, text::parse(tail)?)),
        None => Ok((1, text::parse(rest)?)),
    }
}

/// `a1`, `1` (on connection a), `a` (channel 0).
fn place(text: &str) -> Result<Place, String> {
    let letter = text.chars().next().filter(char::is_ascii_lowercase);
    let digits = if letter.is_some() { &text[1..] } else { text };
    let channel = if digits.is_empty() && letter.is_some() { Ok(0) } else { digits.parse() };
    let channel =
        channel.map_err(|_| format!("'{text}' is no place; one is written a1, b2, or a for channel 0"))?;
    Ok((letter.unwrap_or('a'), channel))
}

fn duration(text: &str) -> Result<Duration, String> {
    let parse =
        |digits: &str| digits.parse().map_err(|_| format!("'{text}' is no time; one is written 150ms or 2s"));
    match text.strip_suffix("ms") {
        Some(digits) => Ok(Duration::from_millis(parse(digits)?)),
        None => Ok(Duration::from_secs(parse(text.strip_suffix('s').unwrap_or(""))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_needs_a_rule_and_an_expectation_and_known_methods() {
        assert!(Case::parse("x", "1> queue.declare").unwrap_err().contains("line 1"));
        assert!(Case::parse("x", "# rule\n1> queue.declare").unwrap_err().contains("cannot fail"));
        let error = Case::parse("x", "# rule\n\n1> queue.declare nam=$q\n1< nothing").unwrap_err();
        assert_eq!(error, "x: line 3: queue.declare has no argument 'nam'");
        let case = Case::parse("x", "# a\n# b\n[leveret] b12< queue.declare-ok \\\n  queue=$q\nadvance 20ms")
            .unwrap();
        assert_eq!((case.rule.as_str(), case.steps.len(), case.differs()), ("a b", 2, true));
    }

    #[test]
    fn a_line_may_be_for_some_brokers() {
        let case = Case::parse("x", "# a\n[rabbitmq4 leveret] nothing\n[rabbitmq3] nothing").unwrap();
        assert!(case.is_same_for(Broker::RabbitMq4, Broker::Leveret));
        assert!(!case.is_same_for(Broker::RabbitMq3, Broker::Leveret));
        let case = Case::parse("x", "# a\n[rabbitmq] nothing\n").unwrap();
        assert!(case.is_same_for(Broker::RabbitMq3, Broker::RabbitMq4) && case.differs());
        assert!(Case::parse("x", "# a\n[rabbit] nothing\n").unwrap_err().contains("no broker 'rabbit'"));
    }
}
