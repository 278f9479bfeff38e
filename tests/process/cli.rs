//! `leveret ctl` and `leveret rabbitmqctl`, as processes, against a broker in memory: what they print, what they do, and how they
//! end.

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use leveret_test_support::api_client::TestBroker;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    errors: String,
}

/// Runs the built binary under that name, with words between spaces as its arguments; those in single quotes stay together.
fn run_as(program: &std::path::Path, url: &str, line: &str, input: &str) -> Ended {
    let mut command = Command::new(program);
    command
        .args(words(line))
        .env("LEVERET_URL", url)
        .env_remove("LEVERET_USER")
        .env_remove("LEVERET_PASSWORD")
        .env("RUST_BACKTRACE", "0");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads nothing has closed it already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}

fn leveret() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_BIN_EXE_leveret"))
}

fn url(broker: &TestBroker) -> String {
    format!("http://{}", broker.http)
}

fn run(broker: &TestBroker, line: &str) -> Ended {
    run_as(leveret(), &url(broker), line, "")
}

/// What a command prints that ends well.
fn out(broker: &TestBroker, line: &str) -> String {
    let ended = run(broker, line);
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""), "{line}: {ended:?}");
    ended.out
}

fn json_of(broker: &TestBroker, line: &str) -> Value {
    serde_json::from_str(&out(broker, line)).unwrap()
}

#[test]
fn topology_is_declared_listed_and_deleted() {
    let broker = TestBroker::start();
    let declare = "ctl declare queue orders --type quorum --argument x-max-length=5";
    assert_eq!(out(&broker, declare), "queue 'orders' in vhost '/' is declared\n");
    assert_eq!(out(&broker, declare), "queue 'orders' in vhost '/' was there already, the same\n");
    out(&broker, "ctl declare exchange events --type topic");
    out(&broker, "ctl declare exchange more --type fanout --transient");
    out(&broker, "ctl declare binding events orders --routing-key 'a b/#'");
    out(&broker, "ctl declare binding events more --to-exchange --argument x=1");
    assert_eq!(
        out(&broker, "ctl list queues --columns name,type,arguments"),
        "name    type    arguments\norders  quorum  {\"x-queue-type\":\"quorum\",\"x-max-length\":5}\n"
            .replace("{\"x-queue-type\":\"quorum\",\"x-max-length\":5}", &arguments_of(&broker, "orders"))
    );
    assert_eq!(json_of(&broker, "ctl list queues --json --columns name"), json!([{ "name": "orders" }]));
    let listed = out(&broker, "ctl list exchanges --name '^(events|more)$' --columns name,type --reverse");
    assert_eq!(listed, "name    type\nmore    fanout\nevents  topic\n");
    let bindings = "ctl list bindings --name events --columns source,destination,routing_key,arguments";
    let expected = "source  destination  routing_key  arguments\n\
                    events  more                      {\"x\":1}\n\
                    events  orders       a b/#\n";
    let mut lines: Vec<String> = out(&broker, bindings).lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines.join("\n") + "\n", expected);
    out(&broker, "ctl delete binding events orders --routing-key 'a b/#'");
    out(&broker, "ctl delete binding events more --to-exchange --argument x=1");
    assert_eq!(out(&broker, bindings).lines().count(), 1);
    assert_eq!(out(&broker, "ctl purge orders"), "queue 'orders' in vhost '/' is purged\n");
    out(&broker, "ctl delete queue orders --if-empty --if-unused");
    out(&broker, "ctl delete exchange more");
    assert_eq!(broker.get("/api/queues"), json!([]));
}

fn arguments_of(broker: &TestBroker, queue: &str) -> String {
    broker.get(&format!("/api/queues/%2F/{queue}"))["arguments"].to_string()
}

#[test]
fn messages_are_published_looked_at_and_taken() {
    let broker = TestBroker::start();
    out(&broker, "ctl declare queue orders");
    let to_queue = "the default exchange in vhost '/' with key 'orders'\n";
    assert_eq!(out(&broker, "ctl publish -k orders 'first one'"), format!("published to {to_queue}"));
    let second =
        "ctl publish -x amq.direct -k a - --transient --property content_type=text/plain --header retry=3";
    let refused = run_as(leveret(), &url(&broker), second, "second");
    let nowhere =
        "leveret: the message reached no queue from exchange 'amq.direct' in vhost '/' with key 'a'";
    assert!(refused.code == 1 && refused.errors.starts_with(nowhere), "{refused:?}");
    out(&broker, "ctl declare binding amq.direct orders -k a");
    assert_eq!(run_as(leveret(), &url(&broker), second, "second").code, 0);

    for _ in 0..2 {
        let looked = json_of(&broker, "ctl get orders --count 1000 --json");
        assert_eq!(looked.as_array().unwrap().len(), 2, "looking takes nothing: {looked}");
        assert_eq!(looked[0]["payload"], "first one");
        assert_eq!(looked[0]["properties"], json!({ "delivery_mode": 2 }));
        assert_eq!(looked[0]["redelivered"], false);
        let properties =
            json!({ "delivery_mode": 1, "content_type": "text/plain", "headers": { "retry": 3 } });
        assert_eq!(looked[1]["properties"], properties);
    }
    assert_eq!(out(&broker, "ctl get orders --payload --count 2"), "first onesecond");
    let table = out(&broker, "ctl get orders --take");
    assert!(table.starts_with("exchange  routing_key  redelivered  payload_bytes  properties"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    assert_eq!(out(&broker, "ctl get orders --take --payload"), "second");
    assert_eq!(out(&broker, "ctl get orders --take"), "queue 'orders' in vhost '/' is empty\n");
    let ended = run(&broker, "ctl get nowhere");
    assert!(
        ended.code == 1 && ended.errors.contains("queue 'nowhere' in vhost '/' can't be looked into"),
        "{ended:?}"
    );
}

#[test]
fn messages_are_browsed_redriven_and_moved() {
    let broker = TestBroker::start();
    out(&broker, "ctl declare queue dead");
    out(&broker, "ctl declare queue parked");
    out(
        &broker,
        "ctl declare queue work --argument x-dead-letter-exchange= --argument x-dead-letter-routing-key=dead --argument x-max-length=2",
    );
    for (tenant, body) in [(1, "a"), (2, "b"), (1, "c"), (1, "d"), (2, "e")] {
        out(&broker, &format!("ctl publish -k work --header tenant={tenant} {body}"));
    }
    out(&broker, "ctl publish -k dead stray");
    let browsed = json_of(&broker, "ctl browse dead --header tenant=1 --json");
    let bodies: Vec<&str> =
        browsed.as_array().unwrap().iter().map(|m| m["payload"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["a", "c"]);
    assert_eq!(broker.get("/api/queues/%2F/dead")["messages_ready"], 4, "nothing was touched");
    let table = out(&broker, "ctl browse dead --count 2");
    assert!(table.starts_with("place  exchange  routing_key  delivery_count"), "{table}");
    assert!(table.ends_with("or a larger --count\n") && table.lines().count() == 4, "{table}");
    assert_eq!(out(&broker, "ctl browse dead --header none"), "no such messages: 4 were looked at\n");
    assert_eq!(json_of(&broker, "ctl browse dead --state unacked --json"), json!([]));
    assert_eq!(
        out(&broker, "ctl redrive dead --dry-run"),
        "3 of 4 messages would be moved out of queue 'dead' in vhost '/'\n  3 into queue 'work'\n  \
         1 stay: they are no dead letters; --to or leveret ctl move send them somewhere\n"
    );
    assert_eq!(
        json_of(&broker, "ctl move dead parked --header tenant=2 --json"),
        json!({ "scanned": 4, "moved": 1, "targets": { "parked": 1 }, "skipped": {}, "dry_run": false })
    );
    out(&broker, "ctl purge work");
    let moved = out(&broker, "ctl redrive dead --limit 1");
    assert_eq!(moved, "1 of 1 messages moved out of queue 'dead' in vhost '/'\n  1 into queue 'work'\n");
    assert_eq!(out(&broker, "ctl get work --take --payload"), "a");
    let moved = out(&broker, "ctl redrive dead --to parked --rate 1000");
    assert_eq!(moved, "2 of 2 messages moved out of queue 'dead' in vhost '/'\n  2 into queue 'parked'\n");
    assert_eq!(out(&broker, "ctl get parked --payload --count 9"), "bcstray");
    let ended = run(&broker, "ctl move parked parked");
    assert!(ended.code == 1 && ended.errors.contains("can't be moved into itself"), "{ended:?}");
    let ended = run(&broker, "ctl redrive nowhere");
    assert!(ended.code == 1 && ended.errors.contains("queue 'nowhere' in vhost '/'"), "{ended:?}");
}

#[test]
fn long_moves_go_piece_by_piece() {
    let broker = TestBroker::start();
    out(&broker, "ctl declare queue from");
    out(&broker, "ctl declare queue to");
    for body in 0..5 {
        out(&broker, &format!("ctl publish -k from {body}"));
    }
    let ask = |body: &str| broker.ask("POST", "/api/queues/%2F/from/move", body).json();
    let first = ask(r#"{"target":"to","scan":2}"#);
    assert_eq!((&first["scanned"], &first["moved"]), (&json!(2), &json!(2)));
    let next = first["next"].as_str().unwrap().to_owned();
    let second = ask(&format!(r#"{{"target":"to","scan":2,"limit":1,"after":"{next}","dry_run":true}}"#));
    assert_eq!((&second["scanned"], &second["moved"]), (&json!(1), &json!(1)));
    assert_eq!(broker.ask("POST", "/api/queues/%2F/from/move", r#"{"target":"to","after":"x"}"#).status, 400);
    assert_eq!(
        out(&broker, "ctl move from to"),
        "3 of 3 messages moved out of queue 'from' in vhost '/'\n  3 into queue 'to'\n"
    );
}

#[test]
fn a_column_that_nothing_has_is_refused() {
    let broker = TestBroker::start();
    out(&broker, "ctl declare queue q");
    for (line, text) in [
        ("ctl list queues --columns name,mesages", "queues have no column mesages: did you mean messages?"),
        ("ctl list queues --sort messages_redy", "did you mean messages_ready?"),
        ("ctl list vhosts --columns qqqq", "vhosts have no column qqqq (leveret ctl list vhosts --json"),
    ] {
        let ended = run(&broker, line);
        assert!(ended.code == 2 && ended.errors.contains(text), "{line}: {ended:?}");
    }
    for line in [
        "ctl list queues --columns name,message_stats.publish_details.rate,idle_since,arguments.x-max-length",
        "ctl list queues --sort messages_ready --reverse",
        "ctl list connections --columns name,user",
        "ctl list channels --columns consumer_count",
    ] {
        out(&broker, line);
    }
}

#[test]
fn one_thing_is_shown_with_its_fields() {
    let broker = TestBroker::start();
    out(&broker, "ctl declare queue orders --argument x-max-length=5");
    let shown = out(&broker, "ctl show queue orders");
    let value = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {shown}")).trim_start()
    };
    assert_eq!((value("name"), value("arguments.x-max-length"), value("messages")), ("orders", "5", "0"));
    let shown = json_of(&broker, "ctl show queue orders --json");
    assert_eq!(shown["arguments"], json!({ "x-max-length": 5 }));
    assert!(out(&broker, "ctl show user guest").contains("administrator"));
    assert!(out(&broker, "ctl show exchange amq.topic").contains("topic"));
    assert!(out(&broker, "ctl show vhost /").contains("name"));
    let ended = run(&broker, "ctl show queue none");
    assert!(
        ended.code == 1 && ended.errors.contains("leveret ctl list queues shows what is there"),
        "{ended:?}"
    );
}

#[test]
fn users_vhosts_and_policies_are_managed() {
    let broker = TestBroker::start();
    let added = run_as(leveret(), &url(&broker), "ctl user add app --tags monitoring", "secret\n");
    assert_eq!(added.code, 0, "{added:?}");
    let again = run_as(leveret(), &url(&broker), "ctl user add app", "secret\n");
    assert_eq!((again.code, again.out.as_str()), (0, "user 'app' was there, and has a new password\n"));
    assert_eq!(broker.get("/api/users/app")["tags"], json!(["monitoring"]), "who says no tags keeps them");
    out(&broker, "ctl vhost add shop --description 'what is sold'");
    out(&broker, "ctl permission set app '^a' '.*' '' --vhost shop");
    out(&broker, "ctl topic-permission set app amq.topic '^a' '^b' --vhost shop");
    assert_eq!(
        json_of(&broker, "ctl list permissions --json --vhost shop --name app"),
        json!([{ "user": "app", "vhost": "shop", "configure": "^a", "write": ".*", "read": "" }])
    );
    assert_eq!(out(&broker, "ctl list vhosts --columns name,description").lines().count(), 3);
    let as_app = "ctl --user app --password secret ping";
    assert_eq!(out(&broker, as_app), format!("{} answers user 'app'\n", url(&broker)));
    out(&broker, "ctl user tags app management policymaker");
    out(&broker, as_app);
    out(&broker, "ctl user password app --new-password other");
    assert_eq!(run(&broker, as_app).code, 4);
    assert_eq!(
        json_of(&broker, "ctl list users --json --name app --columns tags")[0]["tags"],
        json!(["management", "policymaker"])
    );
    out(&broker, "ctl user limit app --max-connections 5");
    out(&broker, "ctl vhost limit shop --max-queues 7 --max-connections -1");
    assert_eq!(
        json_of(&broker, "ctl list user-limits --json"),
        json!([{ "user": "app", "value": { "max-connections": 5 } }])
    );
    out(
        &broker,
        "ctl policy set short '^tmp' max-length=10 overflow=reject-publish --priority 3 --apply-to queues --vhost shop",
    );
    assert_eq!(out(&broker, "ctl vhost trace shop on"), "vhost 'shop' is traced\n");
    let vhosts = broker.get("/api/definitions")["vhosts"].clone();
    let shop = json!({ "name": "shop", "metadata": { "description": "what is sold" }, "tracing": true });
    assert!(vhosts.as_array().is_some_and(|vhosts| vhosts.contains(&shop)), "nothing else changed: {vhosts}");
    assert_eq!(out(&broker, "ctl vhost trace shop off"), "vhost 'shop' is not traced\n");
    assert_eq!(run(&broker, "ctl vhost trace none on").code, 1);
    out(&broker, "ctl policy set bound '.*' expires=60000 --operator --vhost shop");
    assert_eq!(
        json_of(&broker, "ctl list policies --json")[0],
        json!({
            "vhost": "shop", "name": "short", "pattern": "^tmp", "apply-to": "queues", "priority": 3,
            "definition": { "max-length": 10, "overflow": "reject-publish" },
        })
    );
    out(&broker, "ctl parameter set mine '{\"a\":1}'");
    out(&broker, "ctl parameter clear mine");
    out(&broker, "ctl policy clear short --vhost shop");
    out(&broker, "ctl policy clear bound --operator --vhost shop");
    out(&broker, "ctl topic-permission clear app --vhost shop");
    out(&broker, "ctl permission clear app --vhost shop");
    out(&broker, "ctl vhost delete shop");
    out(&broker, "ctl user delete app");
    assert_eq!(json_of(&broker, "ctl list users --json --columns name"), json!([{ "name": "guest" }]));
}

#[test]
fn a_failure_says_what_happened_and_what_helps() {
    let broker = TestBroker::start();
    let refused = |line: &str, code: i32, text: &str| {
        let ended = run(&broker, line);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{line}: {ended:?}");
        assert!(ended.errors.contains(text), "{line}: {}", ended.errors);
    };
    refused("ctl delete queue none", 1, "queue 'none' in vhost '/' was not deleted");
    out(&broker, "ctl declare queue q");
    refused("ctl declare queue q --transient", 1, "inequivalent arg 'durable' for queue 'q' in vhost '/'");
    refused(
        "ctl policy set p '.*' max-lengthy=1",
        1,
        "there is no policy setting max-lengthy: did you mean max-length?",
    );
    refused("ctl permission set nobody '' '' ''", 1, "there is no such vhost, or no such user");
    refused("ctl delete binding amq.topic q", 1, "it is not there");
    refused("ctl --password wrong list queues", 4, "the login of user 'guest'");
    refused("ctl list users --vhost /", 2, "users are in no vhost");
    refused("ctl list nothing", 2, "[possible values: queues,");
    refused("ctl user add nobody", 2, "there is no password for user 'nobody' on standard input");
    refused("ctl --url amqp://127.0.0.1 ping", 2, "is that of AMQP");
    out(&broker, "ctl user add app --new-password p --tags management");
    refused(
        "ctl --user app --password p vhost add v",
        4,
        "user 'app' may not do that: Not administrator user",
    );
    let address = broker.http;
    drop(broker);
    let ended = run_as(leveret(), &format!("http://{address}"), "ctl wait --timeout 0", "");
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.errors.contains("no broker answers at http://127.0.0.1:"), "{}", ended.errors);
}

#[test]
fn status_and_wait_answer() {
    let broker = TestBroker::start();
    let status = out(&broker, "ctl status");
    assert!(
        status.starts_with("broker      Leveret ") && status.contains("\nalarms      none\n"),
        "{status}"
    );
    assert_eq!(json_of(&broker, "ctl status --json")["object_totals"]["queues"], 0);
    assert_eq!(out(&broker, "ctl wait"), format!("{} answers\n", url(&broker)));
    assert_eq!(out(&broker, "ctl close-connection --all"), "0 connections are closed\n");
}

#[test]
fn shells_get_their_completions() {
    for (shell, text) in
        [("bash", "_leveret()"), ("zsh", "#compdef leveret"), ("fish", "complete -c leveret")]
    {
        let ended = run_as(leveret(), "", &format!("completions {shell}"), "");
        assert!(
            ended.code == 0
                && ended.out.contains(text)
                && ["close-connection", "publish", "payload", "show"]
                    .iter()
                    .all(|word| ended.out.contains(word)),
            "{shell}"
        );
    }
}

/// Plays what is in a file on a broker: what stands in braces is the broker's own.
fn converse(tool: &str, conversation: &str) {
    let broker = TestBroker::start();
    let overview = broker.get("/api/overview");
    let mut ports: Vec<u64> =
        overview["listeners"].as_array().unwrap().iter().map(|l| l["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    let connects: Vec<String> =
        ports.iter().map(|port| format!("Will connect to 127.0.0.1:{port}")).collect();
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    let conversation = conversation
        .replace("{node}", overview["node"].as_str().unwrap())
        .replace("{amqp}", &broker.amqp.port().to_string())
        .replace("{ports}", &ports.join(", "))
        .replace("{connects}", &connects.join("\n"));
    let mut faults = Vec::new();
    for paragraph in conversation.split("$ ").filter(|paragraph| !paragraph.is_empty()) {
        let (line, expected) = paragraph.split_once('\n').unwrap();
        let ended = run(&broker, &format!("{tool} {line}"));
        // RabbitMQ does not say what has no effect.
        let errors = ended.errors.trim_end().lines().filter(|line| !line.starts_with("warning: "));
        let errors = errors.map(|line| format!("E| {line}").trim_end().to_owned() + "\n").collect::<String>();
        // What acts on a terminal is written as cat -v does.
        let found = format!("{}{errors}-> {}\n", ended.out, ended.code).replace('\x1b', "^[");
        if found != expected {
            faults.push(format!("$ {line}\n{found}should be\n{expected}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let broker = TestBroker::start();
    for command in [
        r#"rabbitmqctl set_policy p ^a {"ha-mode":"all"}"#,
        r#"rabbitmqctl set_operator_policy p ^a {"delayed-retry-min":5}"#,
        r#"rabbitmqctl set_parameter shovel s {}"#,
    ] {
        let ended = run(&broker, command);
        assert!(ended.code == 0 && ended.errors.starts_with("warning: "), "{command}: {}", ended.errors);
    }
    assert_eq!(run(&broker, r#"rabbitmqctl set_policy p ^a {"max-length":5}"#).errors, "");
}

#[test]
fn rabbitmqctl_prints_what_rabbitmqs_command_prints() {
    converse("rabbitmqctl", include_str!("rabbitmqctl.txt"));
}

#[test]
fn rabbitmq_diagnostics_prints_what_rabbitmqs_command_prints() {
    converse("rabbitmq-diagnostics", include_str!("rabbitmq-diagnostics.txt"));
}

#[test]
fn rabbitmq_plugins_prints_what_there_is() {
    converse("rabbitmq-plugins", include_str!("rabbitmq-plugins.txt"));
}

#[test]
fn health_checks_need_no_login_and_fail_when_nobody_answers() {
    let broker = TestBroker::start();
    for line in ["-q ping", "-q check_running", "-q is_running"] {
        let mut command = Command::new(leveret());
        command.arg("rabbitmq-diagnostics").args(line.split(' '));
        command.env("LEVERET_URL", url(&broker)).env("LEVERET_USER", "x").env("LEVERET_PASSWORD", "wrong");
        assert!(command.output().unwrap().status.success(), "{line}");
    }
    let node = broker.get("/api/overview")["node"].as_str().unwrap().to_owned();
    let attempts = broker.get(&format!("/api/auth/attempts/{node}")).to_string();
    assert!(!attempts.contains("\"auth_attempts_failed\":1"), "no check counts as an attack: {attempts}");
    let pid = std::process::id();
    let waited = run(&broker, &format!("rabbitmqctl -q wait --pid {pid}"));
    assert_eq!(waited.code, 0, "{waited:?}");
    let address = broker.http;
    drop(broker);
    let url = format!("http://{address}");
    for (line, code) in [
        ("rabbitmq-diagnostics -q ping".to_owned(), 69),
        ("rabbitmq-diagnostics check_running".to_owned(), 69),
        (format!("rabbitmqctl wait --pid {pid} --timeout 0"), 75),
        ("rabbitmqctl wait /nonexistent/pid --timeout 0".to_owned(), 75),
        ("rabbitmq-plugins -q enable --offline rabbitmq_management".to_owned(), 0),
    ] {
        let ended = run_as(leveret(), &url, &line, "");
        assert_eq!(ended.code, code, "{line}: {ended:?}");
    }
}

#[test]
fn rabbitmqs_commands_say_what_they_do() {
    let broker = TestBroker::start();
    let help = out(&broker, "rabbitmqctl help list_queues");
    assert!(
        help.contains("list_queues [--vhost <vhost>]") && help.contains("must be one of name, messages"),
        "{help}"
    );
    assert!(out(&broker, "rabbitmq-diagnostics help").contains("check_port_connectivity"));
    let gone = run(&broker, "rabbitmqctl close_connection nobody bye");
    assert!(gone.code == 69 && gone.errors.contains("there is no connection nobody"), "{gone:?}");
    out(&broker, "rabbitmqctl set_disk_free_limit 12345");
    assert_eq!(broker.get("/api/disk-limit"), json!({ "bytes": 12345 }));
    assert_eq!(broker.get("/api/nodes")[0]["disk_free_limit"], 12345);
    let environment = out(&broker, "rabbitmqctl environment");
    assert!(environment.contains("{disk_free_limit,12345}"), "{environment}");
    for body in ["{}", r#"{"bytes":-1}"#, r#"{"mem_relative":-1}"#, r#"{"mem_relative":1,"bytes":1}"#] {
        assert_eq!(broker.put("/api/disk-limit", body).status, 400, "{body}");
    }
}

/// A client with a queue of five messages at most that it consumes, and another queue with one message in it.
async fn connect(broker: &TestBroker) -> (Connection, Channel, Consumer) {
    let url = format!("amqp://guest:guest@{}/%2f", broker.amqp);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    for (queue, arguments) in [("busy", arguments), ("idle", FieldTable::default())] {
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), arguments).await.unwrap();
    }
    let consume = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("busy".into(), "tag".into(), consume, FieldTable::default());
    let consumer = consumer.await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    let confirm = channel.basic_publish("".into(), "idle".into(), publish, b"x", properties).await.unwrap();
    confirm.await.unwrap();
    (connection, channel, consumer)
}

#[test]
fn what_clients_have_open_is_listed_and_closed() {
    let broker = TestBroker::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _open = runtime.block_on(connect(&broker));
    let name = broker.get("/api/connections")[0]["name"].as_str().unwrap().to_owned();
    let port = name.split([':', ' ']).nth(1).unwrap();
    let printed = |line: &str| out(&broker, &format!("rabbitmqctl {line}"));
    assert_eq!(
        printed("list_queues name messages consumers arguments"),
        "Timeout: 60.0 seconds ...\nListing queues for vhost / ...\nname\tmessages\tconsumers\targuments\n\
         busy\t0\t1\t[{\"x-max-length\",5}]\nidle\t1\t0\t[]\n"
    );
    assert_eq!(
        printed("--formatter json list_queues name messages arguments"),
        "[\n{\"name\":\"busy\",\"messages\":0,\"arguments\":[[\"x-max-length\",\"signedint\",5]]}\n\
         ,{\"name\":\"idle\",\"messages\":1,\"arguments\":[]}\n]\n"
    );
    assert_eq!(
        printed("-q list_connections"),
        format!("user\tpeer_host\tpeer_port\tstate\nguest\t127.0.0.1\t{port}\trunning\n")
    );
    assert_eq!(printed("-s list_channels"), format!("{name} (1)\tguest\t1\t0\n"));
    assert_eq!(
        printed("-q list_consumers"),
        format!(
            "queue_name\tchannel_pid\tconsumer_tag\tack_required\tprefetch_count\tactive\targuments\n\
             busy\t{name} (1)\ttag\ttrue\t0\ttrue\t[]\n"
        )
    );
    assert_eq!(
        printed("-q list_bindings"),
        "source_name\tsource_kind\tdestination_name\tdestination_kind\trouting_key\targuments\n\
         \texchange\tbusy\tqueue\tbusy\t[]\n\texchange\tidle\tqueue\tidle\t[]\n"
    );
    assert_eq!(
        printed("delete_queue idle"),
        "Deleting queue 'idle' on vhost '/' ...\nQueue was successfully deleted with 1 ready messages\n"
    );
    let in_use = run(&broker, "rabbitmqctl delete_queue busy --if-empty --if-unused");
    let asked = "Deleting queue 'busy' on vhost '/' if queue is empty and if queue is unused ...\n";
    assert_eq!(
        (in_use.code, in_use.out.as_str(), in_use.errors.as_str()),
        (64, asked, "Error:\nQueue is in use\n")
    );
    assert_eq!(out(&broker, "ctl list connections --columns name,user").lines().count(), 2);
    let closed = "Closing all connections in vhost /, reason: maintenance...\nClosed 1 connections\n";
    assert_eq!(printed("close_all_connections maintenance"), closed);
    let gone = run(&broker, &format!("ctl close-connection '{name}'"));
    while broker.get("/api/connections") != json!([]) {
        std::thread::yield_now();
    }
    assert!(gone.code == 0 || gone.errors.contains("was not closed"), "{gone:?}");
}

#[test]
fn rabbitmqctl_writes_definitions_and_reads_them() {
    let broker = TestBroker::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("definitions.json");
    let file = file.to_str().unwrap();
    out(&broker, "ctl declare queue orders");
    let exporting = format!("Exporting definitions in JSON to a file at \"{file}\" ...\n");
    assert_eq!(out(&broker, &format!("rabbitmqctl export_definitions {file}")), exporting);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(written["queues"][0]["name"], "orders");
    assert_eq!(json_of(&broker, "rabbitmqctl export_definitions - --format json"), written);
    out(&broker, "ctl delete queue orders");
    let importing = "Importing definitions in JSON from";
    let done = "Successfully started definition import. This process is asynchronous and can take some time.";
    let imported = out(&broker, &format!("rabbitmqctl import_definitions {file}"));
    assert_eq!(imported, format!("{importing} a file at \"{file}\" ...\n{done}\n"));
    assert_eq!(broker.get("/api/queues")[0]["name"], "orders");
    let refused = |line: &str, input: &str, code: i32, text: &str| {
        let ended = run_as(leveret(), &url(&broker), &format!("rabbitmqctl {line}"), input);
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert!(ended.errors.contains(text), "{line}: {ended:?}");
    };
    refused(
        "export_definitions /nonexistent/x.json",
        "",
        65,
        "Bad argument: Directory /nonexistent does not exist",
    );
    refused(
        "import_definitions /nonexistent.json",
        "",
        65,
        "Bad argument: File /nonexistent.json does not exist",
    );
    refused("export_definitions - --format erlang", "", 65, "Bad argument: Format should be json");
    refused("import_definitions", "{bad", 65, "Error:\nFailed to deserialise input (format: JSON)");
    refused("import_definitions -", "{\"users\":[{\"name\":\"x\"}]}", 69, "Error:\n");
}

#[test]
fn rabbitmqctl_tells_of_the_cluster_and_sets_its_memory_limit() {
    let broker = TestBroker::start();
    let node = broker.get("/api/overview")["node"].as_str().unwrap().to_owned();
    let status = out(&broker, "rabbitmqctl cluster_status");
    assert!(
        status.starts_with(&format!("Cluster status of node {node} ...\nBasics\n\nCluster name: ")),
        "{status}"
    );
    assert!(
        status.contains(&format!("\n\nRunning Nodes\n\n{node}\n\nVersions\n\n{node}: RabbitMQ ")),
        "{status}"
    );
    assert!(
        status.contains("\n\nAlarms\n\n(none)\n\nNetwork Partitions\n\n(none)\n\nListeners\n\nNode: "),
        "{status}"
    );
    assert!(status.ends_with("Flag: virtual_host_metadata, state: enabled\n"), "{status}");
    assert_eq!(
        out(&broker, "rabbitmqctl set_vm_memory_high_watermark absolute 1kB"),
        format!("Setting memory threshold on {node} to 1kB bytes ...\n")
    );
    assert_eq!(broker.get("/api/memory-limit"), json!({ "bytes": 1000 }));
    assert_eq!(broker.get("/api/nodes")[0]["mem_limit"], 1000);
    let status = json_of(&broker, "rabbitmqctl cluster_status --formatter json");
    assert_eq!(status["alarms"], json!([{ "node": node, "resource": "memory", "type": "resource_limit" }]));
    assert_eq!(status["running_nodes"], json!([node]));
    let alarm = format!("\n\nAlarms\n\nMemory alarm on node {node}\n\n");
    assert!(out(&broker, "rabbitmqctl status").contains(&alarm));
    assert_eq!(
        out(&broker, "rabbitmqctl set_vm_memory_high_watermark 0.9"),
        format!("Setting memory threshold on {node} to 0.9 ...\n")
    );
    assert_eq!(broker.get("/api/nodes")[0]["mem_alarm"], false);
    for body in ["{}", r#"{"bytes":-1}"#, r#"{"fraction":1.5}"#, r#"{"fraction":0.5,"bytes":1}"#] {
        assert_eq!(broker.put("/api/memory-limit", body).status, 400, "{body}");
    }
}

#[test]
fn a_link_named_rabbitmqctl_is_that_command() {
    let broker = TestBroker::start();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("rabbitmqctl");
    std::os::unix::fs::symlink(leveret(), &link).unwrap();
    let ended = run_as(&link, &url(&broker), "-q -n rabbit@nowhere list_vhosts", "");
    assert_eq!((ended.code, ended.out.as_str()), (0, "name\n/\n"), "{ended:?}");
    for (name, line) in [("rabbitmq-diagnostics", "-q ping"), ("rabbitmq-plugins", "-q list -m")] {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(leveret(), &link).unwrap();
        assert_eq!(run_as(&link, &url(&broker), line, "").code, 0, "{name}");
    }
    let ended = run_as(&link, &url(&broker), "eval '1+1.'", "");
    assert_eq!(ended.code, 64);
    assert!(ended.errors.contains("it runs Erlang on the broker, and there is none"), "{}", ended.errors);
}
