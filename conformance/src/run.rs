//! Plays a case over a transport and says what happened. Each place (connection and channel) has an inbox of its own, as
//! only the order on one channel is defined; at its end a case must have expected everything that came.

use crate::case::{Action, Broker, Case, Place, Stage};
use crate::frame::{self, Assembly, Item};
use crate::matching::{Parts, body, hex, long_name, properties};
use crate::method::{Method, Wire};
use crate::names::Names;
use crate::show;
use crate::text::{Arg, Term};
use crate::transport::{Arrived, ConnectionId, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

mod expect;
mod handshake;
mod live;
mod manage;
mod send;
mod settle;

/// The user to log in as, and how long to wait.
#[derive(Clone, Debug)]
pub struct Options {
    /// The user of connections that name no other.
    pub user: String,
    /// Their password.
    pub password: String,
    /// Their vhost.
    pub vhost: String,
    /// The broker, or `None` to recognise it by its server properties.
    pub broker: Option<Broker>,
    /// How long to wait for a frame that is expected.
    pub timeout: Duration,
    /// How long to listen for a frame that is not expected, where no round trip can show it.
    pub patience: Duration,
    /// What makes the names of this run unique.
    pub run: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            broker: None,
            timeout: Duration::from_secs(5),
            patience: Duration::from_millis(50),
            run: "run".into(),
        }
    }
}

/// How a case ended.
#[derive(Debug)]
pub enum Outcome {
    /// Everything came as expected.
    Passed,
    /// Something did not.
    Failed(Failure),
}

/// What went wrong, where.
#[derive(Debug)]
pub struct Failure {
    /// The line of the case; the one behind its last if too much came.
    pub line: usize,
    /// What differs.
    pub reason: String,
    /// What came instead, in the language of cases.
    pub got: Vec<String>,
}

/// One connection of the case.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    id: ConnectionId,
    buffer: Vec<u8>,
    partial: BTreeMap<u16, Assembly>,
    inbox: BTreeMap<u16, VecDeque<Item>>,
    /// Open channels (true), and those only the case itself may open (false).
    channels: BTreeMap<u16, bool>,
    /// Channels with a tx.commit on its way: RabbitMQ takes no other method until it is done.
    committing: BTreeSet<u16>,
    /// The handshake is done.
    ready: bool,
    /// A close was sent or has come.
    ended: bool,
    /// The socket is at its end.
    closed: bool,
    /// The case knows that it is.
    known_closed: bool,
    paused: bool,
    /// Frames were sent one by one, so that a synchronising method might fall into a content.
    raw: bool,
    frame_max: usize,
    heartbeat: u64,
}

pub(crate) struct Runner<'a> {
    transport: &'a mut dyn Transport,
    options: &'a Options,
    names: Names,
    broker: Option<Broker>,
    connections: BTreeMap<char, Connection>,
    queues: BTreeSet<Vec<u8>>,
    exchanges: BTreeSet<Vec<u8>>,
    /// What was put through the management API, in order.
    put: Vec<String>,
    /// Where something was sent last that nothing answers.
    unanswered: Option<Place>,
}

/// The runner's own connection: it recognises the broker, synchronises, and cleans up.
const CONTROL: char = '.';

type Result<T> = std::result::Result<T, String>;

/// Plays a case.
pub fn run(case: &Case, transport: &mut dyn Transport, options: &Options) -> Outcome {
    let mut runner = Runner::new(transport, options);
    let result = runner.play(case, None);
    runner.clean_up();
    match result {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure),
    }
}

impl<'a> Runner<'a> {
    pub(crate) fn new(transport: &'a mut dyn Transport, options: &'a Options) -> Self {
        let mut names = Names::new(&options.run);
        names.set("user", options.user.as_bytes());
        names.set("password", options.password.as_bytes());
        names.set_vhost(&options.vhost);
        Self {
            transport,
            options,
            names,
            broker: options.broker,
            connections: BTreeMap::new(),
            queues: BTreeSet::new(),
            exchanges: BTreeSet::new(),
            put: Vec::new(),
            unanswered: None,
        }
    }

    /// Plays the steps. What a line brings that no line expects is written to `recorded` with that line's number, if it
    /// is given, and is a failure otherwise.
    pub(crate) fn play(
        &mut self,
        case: &Case,
        mut recorded: Option<&mut Vec<(usize, String)>>,
    ) -> std::result::Result<(), Failure> {
        let failure = |line: usize, reason: String, got: Vec<String>| Failure { line, reason, got };
        self.connect(CONTROL, Stage::Open, &[]).map_err(|reason| failure(1, reason, Vec::new()))?;
        let broker = self.broker;
        let mut steps: Vec<_> =
            case.steps.iter().filter(|step| broker.is_none_or(|broker| step.is_for(broker))).collect();
        let end = steps.iter().position(|step| matches!(step.action, Action::End));
        steps.truncate(end.unwrap_or(steps.len()));
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            let mut group = 1;
            let result = if let Action::Expect { place, unordered, .. } = &step.action {
                while *unordered && steps.get(at + group).is_some_and(|next| joins(&next.action, *place)) {
                    group += 1;
                }
                self.expect(*place, &steps[at..at + group])
            } else {
                self.perform(&step.action)
            };
            if let Err(reason) = result {
                let got = self.leftovers();
                return Err(failure(step.line, self.names.contract(&reason), got));
            }
            at += group;
            let expected_next = steps
                .get(at)
                .is_some_and(|next| matches!(next.action, Action::Expect { .. } | Action::Closed(_)));
            if let (Some(recorded), false) = (&mut recorded, expected_next) {
                self.settle();
                let mut came = self.leftovers();
                came.extend(self.ends());
                recorded.extend(came.into_iter().map(|line| (steps[at - 1].line, line)));
            }
        }
        self.settle();
        let left = self.leftovers();
        // Where a case ends early, what else comes is not what it is about.
        if left.is_empty() || end.is_some() {
            return Ok(());
        }
        Err(failure(case.lines.len() + 1, "came without being expected".into(), left))
    }

    fn perform(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Connect(letter, stage, args) => self.connect(*letter, *stage, args),
            Action::Manage(method, path, body) => self.manage(method, path, body),
            Action::Send(place, count, args) => {
                self.keep_order(*place, args);
                for index in 1..=*count {
                    self.names.set("i", index.to_string().as_bytes());
                    self.send(*place, args)?;
                }
                Ok(())
            }
            Action::Advance(time) => {
                self.transport.advance(*time);
                Ok(())
            }
            Action::Nothing(place) => self.nothing(*place),
            Action::Closed(letter) => self.expect_closed(*letter),
            Action::Drop(letter) => {
                let connection = self.connection(*letter)?;
                connection.closed = true;
                connection.known_closed = true;
                connection.inbox.clear();
                let id = connection.id;
                self.transport.close(id);
                Ok(())
            }
            Action::Pause(letter, pause) => {
                self.connection(*letter)?.paused = *pause;
                Ok(())
            }
            Action::End => Ok(()),
            Action::Unopened((letter, channel)) => {
                self.need_connection(*letter)?;
                self.connection(*letter)?.channels.insert(*channel, false);
                Ok(())
            }
            Action::Expect { .. } => Ok(()),
        }
    }

    fn connection(&mut self, letter: char) -> Result<&mut Connection> {
        self.connections.get_mut(&letter).ok_or_else(|| format!("connection {letter} was never opened"))
    }

    fn need_connection(&mut self, letter: char) -> Result<()> {
        if self.connections.contains_key(&letter) {
            return Ok(());
        }
        self.connect(letter, Stage::Open, &[])
    }

    /// Reads once from a connection and sorts what came into its inboxes.
    fn receive(&mut self, letter: char, wait: Duration) -> Arrived {
        let Some(connection) = self.connections.get_mut(&letter) else { return Arrived::Closed };
        if connection.closed {
            return Arrived::Closed;
        }
        if connection.paused {
            return Arrived::Quiet;
        }
        let arrived = self.transport.receive(connection.id, wait, &mut connection.buffer);
        connection.sort();
        connection.closed |= arrived == Arrived::Closed;
        arrived
    }

    /// The next item of a place, waiting for it until the deadline.
    fn next(&mut self, (letter, channel): Place, deadline: Instant) -> Option<Item> {
        loop {
            let inbox = self.connections.get_mut(&letter)?.inbox.entry(channel).or_default();
            if let Some(item) = inbox.pop_front() {
                return Some(item);
            }
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.receive(letter, wait) {
                Arrived::Data => {}
                Arrived::Closed => {
                    return self.connections.get_mut(&letter)?.inbox.entry(channel).or_default().pop_front();
                }
                Arrived::Quiet if wait.is_zero() || self.transport.exact() => return None,
                Arrived::Quiet => {}
            }
        }
    }

    /// The connections that the broker has closed since the last look.
    fn ends(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for (letter, connection) in &mut self.connections {
            if connection.closed && !std::mem::replace(&mut connection.known_closed, true) {
                out.push(format!("{letter}< closed"));
            }
        }
        out
    }

    /// Everything that came and was not expected, each with its place.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for (letter, connection) in &mut self.connections {
            let heartbeat = connection.heartbeat;
            for (channel, inbox) in &mut connection.inbox {
                let place = match (*letter, *channel) {
                    (letter, 0) => letter.to_string(),
                    ('a', channel) => channel.to_string(),
                    (letter, channel) => format!("{letter}{channel}"),
                };
                for item in inbox.drain(..) {
                    if *letter != CONTROL && !(heartbeat > 0 && matches!(item, Item::Heartbeat)) {
                        out.push(format!("{place}< {}", self.names.contract(&show::item(&item))));
                    }
                }
            }
        }
        out
    }
}

/// Whether a step joins an unordered group at this place.
fn joins(action: &Action, group: Place) -> bool {
    matches!(action, Action::Expect { place, unordered: true, .. } if *place == group)
}

impl Connection {
    /// Cuts the buffer into items.
    fn sort(&mut self) {
        loop {
            if self.buffer.starts_with(b"AMQP") && self.buffer.len() >= 8 {
                let bytes: Vec<u8> = self.buffer.drain(..8).collect();
                let bytes = <[u8; 8]>::try_from(bytes).expect("eight bytes were drained");
                self.inbox.entry(0).or_default().push_back(Item::Protocol(bytes));
                continue;
            }
            let frame = match frame::cut(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some(frame)) => frame,
                Err(reason) => {
                    self.buffer.clear();
                    self.inbox.entry(0).or_default().push_back(Item::Fault(reason));
                    return;
                }
            };
            let (channel, size) = (frame.channel, frame.payload.len() + 8);
            let inbox = self.inbox.entry(channel).or_default();
            if self.frame_max > 0 && size > self.frame_max {
                inbox.push_back(Item::Fault(format!("a frame of {size} bytes, above the frame_max agreed")));
            }
            if let Some(item) = self.partial.entry(channel).or_default().accept(frame) {
                inbox.push_back(item);
                self.note_last(channel);
            }
        }
    }

    /// What the method that came last says of the state of the channel and the connection.
    fn note_last(&mut self, channel: u16) {
        let last = self.inbox.get(&channel).and_then(VecDeque::back);
        let Some(Item::Method(method, _)) = last else { return };
        match method.spec.name {
            "channel.open-ok" => {
                self.channels.insert(channel, true);
            }
            "tx.commit-ok" => {
                self.committing.remove(&channel);
            }
            "channel.close" | "channel.close-ok" => {
                self.committing.remove(&channel);
                self.channels.insert(channel, false);
            }
            "connection.close" | "connection.close-ok" => self.ended = true,
            "connection.open-ok" => self.ready = true,
            _ => {}
        }
    }
}
