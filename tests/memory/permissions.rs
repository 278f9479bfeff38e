//! Every operation that permissions guard, and each permission that it needs: with that one missing it is refused in exactly
//! these words, and the same connection may do it as soon as the permission is given, until it is taken away again.

use leveret_conformance::case::Case;
use leveret_conformance::{Broker as Kind, Options, Outcome, run};
use leveret_test_support::in_memory::InMemory;
use std::fmt::Write;

/// What is there before: `q` is a queue, the others are exchanges.
const THERE: &str = "\
a1> queue.declare queue=q
a1< queue.declare-ok queue=q
a1> exchange.declare exchange=x type=direct
a1< exchange.declare-ok
a1> exchange.declare exchange=y type=fanout
a1< exchange.declare-ok
a1> exchange.declare exchange=t type=topic
a1< exchange.declare-ok
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Configure(&'static str),
    Write(&'static str),
    Read(&'static str),
    /// The routing key `k` of the exchange `t`.
    WriteTopic,
    ReadTopic,
}

use Right::{Configure, Read, ReadTopic, Write as Writes, WriteTopic};

impl Right {
    /// What is refused without it.
    fn refusal(self) -> String {
        let (access, what) = match self {
            Configure(what) => ("configure", what),
            Writes(what) => ("write", what),
            Read(what) => ("read", what),
            WriteTopic => ("write", "topic 'k' in exchange 't'"),
            ReadTopic => ("read", "topic 'k' in exchange 't'"),
        };
        format!("ACCESS_REFUSED - {access} access to {what} in vhost '/' refused for user 'u'")
    }
}

/// An operation.
struct Row {
    /// What is sent, without its place.
    sent: &'static str,
    /// What is answered; empty: nothing.
    answer: &'static str,
    /// Class and method, as a refusal names them.
    ids: &'static str,
    /// All that it takes, in the order in which it is asked for.
    needs: &'static [Right],
}

const ROWS: &[Row] = &[
    Row {
        sent: "exchange.declare exchange=new type=direct",
        answer: "exchange.declare-ok",
        ids: "40.10",
        needs: &[Configure("exchange 'new'")],
    },
    Row {
        sent: "exchange.declare exchange=new type=direct arguments={alternate-exchange=y}",
        answer: "exchange.declare-ok",
        ids: "40.10",
        needs: &[Configure("exchange 'new'"), Read("exchange 'new'"), Writes("exchange 'y'")],
    },
    Row {
        sent: "exchange.declare exchange=x passive",
        answer: "exchange.declare-ok",
        ids: "40.10",
        needs: &[],
    },
    Row {
        sent: "exchange.delete exchange=x",
        answer: "exchange.delete-ok",
        ids: "40.20",
        needs: &[Configure("exchange 'x'")],
    },
    Row {
        sent: "exchange.bind destination=y source=x key=k",
        answer: "exchange.bind-ok",
        ids: "40.30",
        needs: &[Writes("exchange 'y'"), Read("exchange 'x'")],
    },
    Row {
        sent: "exchange.unbind destination=y source=x key=k",
        answer: "exchange.unbind-ok",
        ids: "40.40",
        needs: &[Writes("exchange 'y'"), Read("exchange 'x'")],
    },
    Row {
        sent: "exchange.bind destination=y source=t key=k",
        answer: "exchange.bind-ok",
        ids: "40.30",
        needs: &[Writes("exchange 'y'"), Read("exchange 't'"), ReadTopic],
    },
    Row {
        sent: "exchange.unbind destination=y source=t key=k",
        answer: "exchange.unbind-ok",
        ids: "40.40",
        needs: &[Writes("exchange 'y'"), Read("exchange 't'"), ReadTopic],
    },
    Row {
        sent: "queue.declare queue=new",
        answer: "queue.declare-ok queue=new",
        ids: "50.10",
        needs: &[Configure("queue 'new'")],
    },
    Row {
        sent: "queue.declare queue=new arguments={x-dead-letter-exchange=y}",
        answer: "queue.declare-ok queue=new",
        ids: "50.10",
        needs: &[Configure("queue 'new'"), Read("queue 'new'"), Writes("exchange 'y'")],
    },
    Row {
        sent: "queue.declare queue=q passive",
        answer: "queue.declare-ok queue=q",
        ids: "50.10",
        needs: &[],
    },
    Row {
        sent: "queue.bind queue=q exchange=x key=k",
        answer: "queue.bind-ok",
        ids: "50.20",
        needs: &[Writes("queue 'q'"), Read("exchange 'x'")],
    },
    Row {
        sent: "queue.unbind queue=q exchange=x key=k",
        answer: "queue.unbind-ok",
        ids: "50.50",
        needs: &[Writes("queue 'q'"), Read("exchange 'x'")],
    },
    Row {
        sent: "queue.bind queue=q exchange=t key=k",
        answer: "queue.bind-ok",
        ids: "50.20",
        needs: &[Writes("queue 'q'"), Read("exchange 't'"), ReadTopic],
    },
    Row {
        sent: "queue.unbind queue=q exchange=t key=k",
        answer: "queue.unbind-ok",
        ids: "50.50",
        needs: &[Writes("queue 'q'"), Read("exchange 't'"), ReadTopic],
    },
    Row { sent: "queue.purge queue=q", answer: "queue.purge-ok", ids: "50.30", needs: &[Read("queue 'q'")] },
    Row {
        sent: "queue.delete queue=q",
        answer: "queue.delete-ok",
        ids: "50.40",
        needs: &[Configure("queue 'q'")],
    },
    Row { sent: "basic.get queue=q", answer: "basic.get-empty", ids: "60.70", needs: &[Read("queue 'q'")] },
    Row {
        sent: "basic.consume queue=q consumer_tag=c",
        answer: "basic.consume-ok consumer_tag=c",
        ids: "60.20",
        needs: &[Read("queue 'q'")],
    },
    Row {
        sent: "publish exchange=x key=k \"b\"",
        answer: "",
        ids: "60.40",
        needs: &[Writes("exchange 'x'")],
    },
    Row { sent: "publish key=k \"b\"", answer: "", ids: "60.40", needs: &[Writes("exchange 'amq.default'")] },
    Row {
        sent: "publish exchange=t key=k \"b\"",
        answer: "",
        ids: "60.40",
        needs: &[Writes("exchange 't'"), WriteTopic],
    },
];

/// Gives the user exactly these rights.
fn grant(steps: &mut String, rights: &[Right]) {
    let pattern = |of: fn(&Right) -> Option<&'static str>| {
        let names = rights.iter().filter_map(of).filter_map(|what| what.split('\'').nth(1));
        names.map(|name| format!("^{name}$")).collect::<Vec<_>>().join("|")
    };
    let configure = pattern(|right| if let Configure(what) = right { Some(what) } else { None });
    let write = pattern(|right| if let Writes(what) = right { Some(what) } else { None });
    let read = pattern(|right| if let Read(what) = right { Some(what) } else { None });
    let patterns = format!(r#"{{"configure":"{configure}","write":"{write}","read":"{read}"}}"#);
    writeln!(steps, "PUT /api/permissions/%2F/u {patterns}").unwrap();
    let key = |right| if rights.contains(&right) { "^k$" } else { "^other$" };
    let (write, read) = (key(WriteTopic), key(ReadTopic));
    let patterns = format!(r#"{{"exchange":"t","write":"{write}","read":"{read}"}}"#);
    writeln!(steps, "PUT /api/topic-permissions/%2F/u {patterns}").unwrap();
}

fn allowed(steps: &mut String, row: &Row) {
    writeln!(steps, "b1> {}", row.sent).unwrap();
    if row.answer.is_empty() {
        // What comes next shows that the channel is open.
        writeln!(steps, "b1> basic.qos prefetch_count=0\nb1< basic.qos-ok").unwrap();
    } else {
        writeln!(steps, "b1< {}", row.answer).unwrap();
    }
}

fn refused(steps: &mut String, row: &Row, missing: Right) {
    writeln!(steps, "b1> {}", row.sent).unwrap();
    writeln!(steps, "b1< channel.close 403 {} \"{}\"", row.ids, missing.refusal()).unwrap();
    writeln!(steps, "b1> channel.close-ok\nb1> channel.open\nb1< channel.open-ok").unwrap();
}

fn play(name: &str, steps: &str) {
    let case = Case::parse(name, steps).unwrap();
    let options = Options { broker: Some(Kind::Leveret), ..Options::default() };
    if let Outcome::Failed(failure) = run(&case, &mut InMemory::new(), &options) {
        panic!("{name}: line {}: {}, got {:?}\n{steps}", failure.line, failure.reason, failure.got);
    }
}

#[test]
fn each_permission_that_is_missing_is_named_and_counts_at_once() {
    for row in ROWS {
        for missing in row.needs.iter().copied().map(Some).chain([None]) {
            let mut steps =
                format!("# {}\n\nPUT /api/users/u {{\"password\":\"p\",\"tags\":\"\"}}\n", row.sent);
            steps.push_str(THERE);
            let rest: Vec<Right> =
                row.needs.iter().copied().filter(|right| Some(*right) != missing).collect();
            grant(&mut steps, &rest);
            steps.push_str("connect b user=u password=p\n");
            if let Some(missing) = missing {
                refused(&mut steps, row, missing);
                grant(&mut steps, row.needs);
                allowed(&mut steps, row);
                grant(&mut steps, &rest);
                refused(&mut steps, row, missing);
            } else {
                allowed(&mut steps, row);
            }
            play(row.sent, &steps);
        }
    }
}
