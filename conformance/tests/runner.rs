//! The runner against a broker of a few lines: what a case does not say, or says wrongly, must make it fail.

#![allow(clippy::unwrap_used)] // A test fails where it stands.

use leveret_conformance::frame::{self, METHOD};
use leveret_conformance::method::{Kind, Method, Wire, by_name, empty};
use leveret_conformance::{Arrived, Case, ConnectionId, Options, Outcome, Transport, run};
use std::collections::HashMap;
use std::time::Duration;

/// Answers what cases here need; every second queue.purge also delivers something unexpected.
#[derive(Default)]
struct Canned {
    answers: HashMap<ConnectionId, Vec<u8>>,
    input: HashMap<ConnectionId, Vec<u8>>,
    published: u64,
}

fn method(name: &str, set: &[(&str, Wire)]) -> Method {
    let spec = by_name(name).unwrap();
    let value = |(arg, kind): &(&str, Kind)| {
        set.iter().find(|(given, _)| given == arg).map_or(empty(*kind), |(_, value)| value.clone())
    };
    Method { spec, args: spec.args.iter().map(value).collect() }
}

impl Canned {
    fn answer(&mut self, connection: ConnectionId, channel: u16, request: &Method) {
        let tag = Wire::Int(self.published);
        let answers = match request.spec.name {
            "connection.start-ok" => vec![method("connection.tune", &[("frame_max", Wire::Int(4096))])],
            "connection.open" => vec![method("connection.open-ok", &[])],
            "connection.close" => vec![method("connection.close-ok", &[])],
            "channel.open" => vec![method("channel.open-ok", &[])],
            "queue.declare" => {
                let queue = request.arg("queue").unwrap().clone();
                vec![method("queue.declare-ok", &[("queue", queue), ("message_count", Wire::Int(3))])]
            }
            "queue.purge" => vec![method("queue.purge-ok", &[]), method("basic.cancel-ok", &[])],
            "basic.publish" => {
                self.published += 1;
                Vec::new()
            }
            "basic.qos" => {
                vec![method("basic.ack", &[("delivery_tag", tag), ("multiple", Wire::Bit(true))])]
            }
            _ => Vec::new(),
        };
        for answer in answers {
            let bytes = frame::encode(METHOD, channel, &answer.encode());
            self.answers.entry(connection).or_default().extend(bytes);
        }
    }
}

impl Transport for Canned {
    fn open(&mut self) -> Result<ConnectionId, String> {
        Ok(self.input.len() + 1)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let mut input = self.input.remove(&connection).unwrap_or_default();
        input.extend_from_slice(bytes);
        if input.starts_with(b"AMQP") {
            input.drain(..8);
            let start = frame::encode(METHOD, 0, &method("connection.start", &[]).encode());
            self.answers.entry(connection).or_default().extend(start);
        }
        while let Some(frame) = frame::cut(&mut input).unwrap() {
            if frame.kind == METHOD {
                self.answer(connection, frame.channel, &Method::decode(&frame.payload).unwrap());
            }
        }
        self.input.insert(connection, input);
    }

    fn receive(&mut self, connection: ConnectionId, _wait: Duration, into: &mut Vec<u8>) -> Arrived {
        match self.answers.remove(&connection) {
            Some(bytes) => {
                into.extend(bytes);
                Arrived::Data
            }
            None => Arrived::Quiet,
        }
    }

    fn advance(&mut self, _time: Duration) {}

    fn close(&mut self, _connection: ConnectionId) {}

    fn exact(&self) -> bool {
        true
    }
}

fn play(steps: &str) -> Result<(), (usize, String)> {
    let case = Case::parse("test/case", &format!("# rule\n{steps}")).unwrap();
    match run(&case, &mut Canned::default(), &Options::default()) {
        Outcome::Passed => Ok(()),
        Outcome::Failed(failure) => Err((failure.line, failure.reason)),
    }
}

#[test]
fn what_comes_as_expected_passes() {
    play("1> queue.declare queue=$q\n1< queue.declare-ok queue=$q message_count=3").unwrap();
    play("1> queue.declare queue=$q\n1< queue.declare-ok queue=?name message_count=?~3\n1> queue.declare queue=$name\n1< queue.declare-ok queue=$q message_count=3").unwrap();
}

#[test]
fn a_field_that_differs_or_is_not_named_fails_on_its_line() {
    let line = |steps| play(steps).unwrap_err();
    assert_eq!(
        line("1> queue.declare queue=$q\n1< queue.declare-ok queue=$q"),
        (3, "message_count differs".into())
    );
    assert_eq!(line("1> queue.declare queue=$q\n1< queue.declare-ok message_count=3").1, "queue differs");
    assert_eq!(line("1> channel.flow\n1< channel.flow-ok").1, "nothing came");
}

#[test]
fn what_comes_without_being_expected_fails_at_the_end() {
    let error = play("1> queue.purge\n1< queue.purge-ok").unwrap_err();
    assert_eq!(error, (4, "came without being expected".into()));
    assert_eq!(play("1> queue.purge\n1< queue.purge-ok\nnothing").unwrap_err().0, 4);
    play("1> queue.purge\n1< queue.purge-ok\n1< basic.cancel-ok").unwrap();
}

#[test]
fn only_lines_marked_as_unordered_may_come_in_another_order() {
    assert!(play("1> queue.purge\n1< basic.cancel-ok\n1< queue.purge-ok").is_err());
    play("1> queue.purge\n1<~ basic.cancel-ok\n1<~ queue.purge-ok").unwrap();
}

#[test]
fn confirms_are_counted_whether_joined_or_not() {
    let publish = "1> x3 publish key=k\n1> basic.qos\n";
    play(&format!("{publish}1< confirms ack=1-3")).unwrap();
    assert!(play(&format!("{publish}1< confirms ack=1-4")).is_err());
    assert!(play(&format!("{publish}1< confirms ack=1-2")).is_err());
    assert!(play(&format!("{publish}1< confirms ack=1,3 nack=2")).is_err());
}

#[test]
fn lines_for_another_broker_are_passed_over() {
    play("1> queue.declare queue=q\n[leveret] 1< queue.purge-ok\n[rabbitmq] 1< queue.declare-ok queue=q message_count=3").unwrap();
}
