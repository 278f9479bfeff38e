//! One of the two brokers: does a step, waits until that has had all its effects, and says what came, with what the
//! broker made up replaced and what has no defined order in a fixed one. Used by [`super`].

use super::observe::{self, ComparedHeaders, Confirms, Observation, Seen, Tags};
use crate::case::{self, Action, Broker, Place};
use crate::frame::Item;
use crate::run::{Options, Runner};
use crate::text::{Arg, Term};
use crate::transport::{Arrived, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long confirms of persistent messages may take.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);

/// How long to listen, at least, when a channel or a connection has ended: nothing says when a broker has given back all
/// that it had outstanding. RabbitMQ gives back what was fetched when the channel's process is gone, after close-ok.
const GONE: Duration = Duration::from_millis(40);

/// A broker and what is known of the channels opened on it.
pub(crate) struct Side<'a> {
    runner: Runner<'a>,
    pause: Duration,
    tags: BTreeMap<Place, Tags>,
    confirms: BTreeMap<Place, Confirms>,
    names_made: usize,
    headers: ComparedHeaders,
}

impl<'a> Side<'a> {
    /// Connects; `pause` is how long to listen for more once everything seems quiet.
    pub(crate) fn new(
        transport: &'a mut dyn Transport,
        options: &'a Options,
        pause: Duration,
    ) -> Result<Self, String> {
        let mut runner = Runner::new(transport, options);
        runner.begin()?;
        let (tags, confirms) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { runner, pause, tags, confirms, names_made: 0, headers: ComparedHeaders::default() })
    }

    /// How the headers of what comes are compared from here on.
    pub(crate) fn compare_headers(&mut self, headers: &ComparedHeaders) {
        self.headers = headers.clone();
    }

    pub(crate) fn broker(&self) -> Option<Broker> {
        self.runner.broker()
    }

    /// Ends everything and deletes what was declared.
    pub(crate) fn clean_up(&mut self) {
        self.runner.clean_up();
    }

    /// Does the lines of a step and gives what came of them. A line that can't be done is something that came, too.
    pub(crate) fn step(&mut self, lines: &[String]) -> Observation {
        let mut failure = None;
        let mut pause = self.pause;
        for line in lines {
            let ends = line.starts_with("drop ")
                || line.contains("> channel.close")
                || line.contains("> connection.close");
            pause = if ends { pause.max(GONE) } else { pause };
            if let Err(reason) = self.play(line) {
                failure = Some(format!("{line} fails: {reason}"));
                break;
            }
        }
        self.runner.quiet(pause);
        let mut answered = BTreeSet::new();
        loop {
            let closed = self.runner.answer_closes(&answered);
            if closed.is_empty() {
                break;
            }
            answered.extend(closed);
            self.runner.quiet(pause.max(GONE));
        }
        self.await_confirms();
        let mut observation = self.observe(&answered);
        observation.lines.extend(failure);
        observation
    }

    fn play(&mut self, line: &str) -> Result<(), String> {
        let mut action = case::step(0, line)?.action;
        self.prepare(&mut action);
        self.runner.act(&action)?;
        self.ended_by(&action);
        Ok(())
    }

    /// Notes what is published for confirmation, and puts the delivery tag of this broker in place of the one in the line.
    fn prepare(&mut self, action: &mut Action) {
        let Action::Send(place, count, args) = action else { return };
        let word = args.first().and_then(Arg::word).unwrap_or_default();
        match word {
            "confirm.select" => self.confirms.entry(*place).or_default().on = true,
            "publish" => {
                let confirms = self.confirms.entry(*place).or_default();
                confirms.published += if confirms.on { *count as u64 } else { 0 };
            }
            "ack" | "nack" | "reject" => {
                let multiple = args.iter().any(|arg| arg.word() == Some("multiple"));
                let Some(tags) = self.tags.get(place) else { return };
                for arg in args.iter_mut().filter(|arg| arg.key.as_deref() == Some("tag")) {
                    if let Term::Text { text, .. } = &mut arg.term
                        && let Ok(tag) = String::from_utf8_lossy(text).parse()
                    {
                        *text = tags.of_broker(tag, multiple).to_string().into_bytes();
                    }
                }
            }
            _ => {}
        }
    }

    /// Numbers begin anew on a channel that is opened again.
    fn ended_by(&mut self, action: &Action) {
        match action {
            Action::Drop(letter) => self.forget(|place| place.0 == *letter),
            Action::Send(place, _, args) => match args.first().and_then(Arg::word) {
                Some("channel.close") => self.forget(|other| other == *place),
                Some("connection.close") => self.forget(|other| other.0 == place.0),
                _ => {}
            },
            _ => {}
        }
    }

    fn forget(&mut self, ended: impl Fn(Place) -> bool) {
        self.tags.retain(|place, _| !ended(*place));
        self.confirms.retain(|place, _| !ended(*place));
    }

    fn await_confirms(&mut self) {
        if self.runner.is_exact() {
            return;
        }
        let deadline = Instant::now() + CONFIRM_PATIENCE;
        let places: Vec<Place> = self.confirms.keys().copied().collect();
        for place in places {
            while self.confirms.get(&place).is_some_and(|confirms| confirms.misses(self.runner.inbox(place)))
                && Instant::now() < deadline
            {
                if self.runner.listen(place.0, Duration::from_millis(20)) == Arrived::Closed {
                    break;
                }
            }
        }
    }

    fn observe(&mut self, answered: &BTreeSet<Place>) -> Observation {
        let came = self.runner.take(answered);
        let mut out = Observation::default();
        for (place, items) in came.items {
            self.learn_names(&items);
            let items = observe::without_confirms(items, self.confirms.entry(place).or_default(), |text| {
                out.lines.push(format!("{}< {text}", observe::place(place)));
            });
            let names = self.runner.names();
            let tags = self.tags.entry(place).or_default();
            for (item, seen) in observe::arranged(place, items, tags, names) {
                out.lines.push(format!(
                    "{}< {}",
                    observe::place(place),
                    observe::text(&item, names, &self.headers)
                ));
                out.seen.extend(seen);
            }
        }
        for letter in came.closed {
            out.lines.push(format!("{letter}< closed"));
            out.seen.push(Seen::Ended((letter, 0)));
        }
        for seen in &out.seen {
            if let Seen::Ended(ended) = seen {
                let (letter, channel) = *ended;
                self.forget(|place| place == *ended || channel == 0 && place.0 == letter);
            }
        }
        let counts = self.runner.counts();
        let names = self.runner.names();
        let mut counts: Vec<String> = counts
            .into_iter()
            .map(|(queue, answer)| observe::count(&queue, answer.as_ref(), names))
            .collect();
        counts.sort();
        out.counts = counts;
        out
    }

    /// Names and consumer tags that the broker made up get names of ours.
    fn learn_names(&mut self, items: &[Item]) {
        for item in items {
            let Some((kind, made)) = observe::made_up(item) else { continue };
            if self.runner.names().captured_value(made) {
                continue;
            }
            self.names_made += 1;
            let name = format!("{kind}{}", self.names_made);
            self.runner.names().set(&name, made);
            if kind == "gen" {
                self.runner.note_queue(made);
            }
        }
    }
}
