//! The log: a line for each connection that opens, is closed or is refused; levels that change at run time; and no password in
//! it, whoever logs in how.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_conformance::method::Wire;
use leveret_test_support::amqp_client::tcp::Tcp;
use leveret_test_support::amqp_client::{Client, method, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Whatever is a password here has this in it.
const SECRET: &str = "hush-hush";

/// A broker with the user `worker`, who administers too, and `reader`, who does not.
fn start(test: &str, log: &str) -> BrokerProcess {
    let folder = folder_of(test);
    let config = format!(
        "vhosts = [{{ name = '/' }}]\n\
         users = [\n\
         {{ name = 'worker', password = '{SECRET}', tags = ['administrator'] }},\n\
         {{ name = 'reader', password = '{SECRET}-2', tags = ['monitoring'] }},\n\
         ]\n\
         permissions = [{{ user = 'worker', vhost = '/', configure = '.*', write = '.*', read = '.*' }}]\n\
         [log]\n{log}\n"
    );
    fs::write(folder.join("leveret.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("--config").arg(folder.join("leveret.toml"));
    BrokerProcess::start_command(command, &folder.join("data"), &folder.join("log"))
}

/// Asks the management API, and returns the status and the body.
fn ask(address: &str, method: &str, path: &str, login: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let login = STANDARD.encode(login);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Basic {login}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn log_in(broker: &BrokerProcess, mechanism: &str, response: &str) -> Result<(Tcp, Client), String> {
    let mut transport = Tcp::to(&broker.address());
    let logged_in = Client::greet(&mut transport)
        .and_then(|(client, _)| client.authenticate(&mut transport, mechanism, response));
    let client = logged_in.map_err(|gone| gone.0)?;
    Ok((transport, client))
}

fn worker() -> String {
    format!("\0worker\0{SECRET}")
}

/// Closes a connection as clients do.
fn close(transport: &mut Tcp, client: &mut Client) {
    let close = [("reply_code", Wire::Int(200)), ("reply_text", text("Goodbye"))];
    client.send(transport, 0, &method("connection.close", &close));
    client.answer(transport, 0, "connection.close-ok").unwrap();
}

/// The lines of connections, as JSON.
fn told(broker: &BrokerProcess) -> Vec<Value> {
    let log = broker.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == "leveret::connection").collect()
}

#[test]
fn a_connection_has_a_line_when_it_opens_and_one_when_it_ends() {
    let broker = start("log-connections", "format = 'json'");
    let (mut transport, mut client) = log_in(&broker, "PLAIN", &worker()).unwrap();
    close(&mut transport, &mut client);
    broker.wait_for_log("Goodbye");
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());
    broker.wait_for_log("the peer is gone");
    assert!(log_in(&broker, "PLAIN", "\0worker\0wrong").is_err());
    assert!(log_in(&broker, "KERBEROS", "ticket").is_err());
    let mut stranger = TcpStream::connect(broker.address()).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    broker.wait_for_log("it looks like HTTP");
    // A check whether the port is open leaves no line.
    drop(TcpStream::connect(broker.address()).unwrap());
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());

    let lines = told(&broker);
    let events: Vec<_> = lines.iter().map(|line| (&line["message"], &line["user"], &line["level"])).collect();
    let [opened, closed, refused] =
        ["opened", "closed", "refused"].map(|event| json!(format!("connection {event}")));
    let (worker, info, warn) = (json!("worker"), json!("INFO"), json!("WARN"));
    let expected = [
        (&opened, &worker, &info),
        (&closed, &worker, &info),
        (&opened, &worker, &info),
        (&closed, &worker, &info),
        (&refused, &worker, &warn),
        (&refused, &Value::Null, &warn),
        (&refused, &Value::Null, &warn),
        (&opened, &worker, &info),
    ];
    assert_eq!(events[..expected.len()], expected, "{lines:#?}");
    for line in &lines {
        let (name, peer) = (line["name"].as_str().unwrap(), line["peer"].as_str().unwrap());
        assert!(
            peer.starts_with("127.0.0.1:") && name == format!("{peer} -> {}", broker.address()),
            "{line}"
        );
    }
    assert_eq!((&lines[0]["vhost"], &lines[0]["mechanism"]), (&json!("/"), &json!("PLAIN")));
    assert_eq!(lines[1]["reason"], "closed by the client: 200 Goodbye");
    assert_eq!(lines[4]["reason"], "user 'worker' - invalid credentials");
    assert_eq!(lines[5]["reason"], "COMMAND_INVALID - unknown authentication mechanism 'KERBEROS'");
    assert_eq!(lines[6]["reason"], "this is not AMQP 0-9-1: it looks like HTTP");
}

#[test]
fn levels_change_while_the_broker_runs() {
    let broker = start("log-levels", "level = 'warn'");
    let api = broker.management();
    let admin = format!("worker:{SECRET}");
    let level = || serde_json::from_str::<Value>(&ask(&api, "GET", "/api/log", &admin, "").1).unwrap();
    let opened = || broker.log().matches("connection opened").count();
    let set = |level: &str| ask(&api, "PUT", "/api/log", &admin, &json!({ "level": level }).to_string());
    assert_eq!(level(), json!({ "level": "warn" }));
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());
    assert_eq!(set("warn,leveret::connection=info").0, 204);
    assert_eq!(opened(), 0);
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());
    broker.wait_for_log("connection opened");
    assert_eq!(level(), json!({ "level": "warn,leveret::connection=info" }));
    assert_eq!(set("off").0, 204);
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());
    assert_eq!(opened(), 1);

    for wrong in ["inof", "info,leveret=inof"] {
        let (status, body) = set(wrong);
        let expected = "level: expected off, error, warn, info, debug or trace, or module=level pairs with commas between";
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["reason"]), (400, &json!(expected)), "{wrong}");
    }
    let reader = format!("reader:{SECRET}-2");
    for method in ["GET", "PUT"] {
        let (status, body) = ask(&api, method, "/api/log", &reader, r#"{"level":"trace"}"#);
        assert_eq!(status, 401, "{body}");
    }
    assert_eq!(level(), json!({ "level": "off" }));
}

#[test]
fn nobody_writes_lines_of_its_own_into_the_log() {
    let forged = "x\nERROR forged\r\u{1b}[2K\u{85}\u{2028}\u{202e}";
    for format in ["text", "json"] {
        let broker =
            start(&format!("log-forging-{format}"), &format!("format = '{format}'\nlevel = 'trace'"));
        let api = broker.management();
        ask(&api, "GET", "/api/whoami", &format!("{forged}:y"), "");
        assert!(log_in(&broker, "PLAIN", &format!("\0{forged}\0y")).is_err());
        assert!(log_in(&broker, forged, "y").is_err());
        let (mut transport, mut client) = log_in(&broker, "PLAIN", &worker()).unwrap();
        let close_with = [("reply_code", Wire::Int(200)), ("reply_text", text(forged))];
        client.send(&mut transport, 0, &method("connection.close", &close_with));
        client.answer(&mut transport, 0, "connection.close-ok").unwrap();
        let admin = format!("worker:{SECRET}");
        for place in ["users", "vhosts", "permissions/%2F", "queues/%2F", "exchanges/%2F", "policies/%2F"] {
            let body = r#"{"password":"p","tags":"","type":"direct","configure":"","write":"","read":"","pattern":"","definition":{"max-length":1}}"#;
            let path = format!("/api/{place}/x%0AERROR%20forged%0D%1B%5B2K%C2%85%E2%80%A8%E2%80%AE");
            ask(&api, "PUT", &path, &admin, body);
            ask(&api, "DELETE", &path, &admin, "");
        }
        broker.wait_for_log("connection closed");
        let log = broker.log();
        assert!(log.matches("forged").count() > 3, "{log}");
        for line in log.lines() {
            match format {
                "json" => assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}"),
                // Each begins with the time, and has no more of what is no text.
                _ => {
                    assert!(line.starts_with("20") && line.as_bytes()[10] == b'T', "{line:?}");
                    assert!(!line.contains(['\r', '\u{1b}', '\u{85}', '\u{2028}', '\u{202e}']), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn the_audit_says_who_changed_what_from_where() {
    let broker = start("log-audit", "format = 'json'\nlevel = 'off,leveret::audit=info'");
    let api = broker.management();
    let (admin, reader) = (format!("worker:{SECRET}"), format!("reader:{SECRET}-2"));
    for (method, path, login, body) in [
        ("PUT", "/api/users/app", &admin, r#"{"password":"hush-hush-3","tags":""}"#),
        ("PUT", "/api/permissions/%2F/app", &admin, r#"{"configure":"^a","write":"","read":""}"#),
        ("GET", "/api/overview", &admin, ""),
        ("PUT", "/api/vhosts/orders", &admin, ""),
        ("PUT", "/api/policies/%2F/p", &admin, r#"{"pattern":"(","definition":{"max-length":1}}"#),
        ("PUT", "/api/queues/%2F/q", &admin, "{}"),
        (
            "POST",
            "/api/exchanges/%2F/amq.default/publish",
            &admin,
            r#"{"routing_key":"q","payload":"x","payload_encoding":"string","properties":{}}"#,
        ),
        ("DELETE", "/api/queues/%2F/q/contents", &admin, ""),
        ("DELETE", "/api/queues/%2F/q", &admin, ""),
        (
            "POST",
            "/api/definitions",
            &admin,
            r#"{"users":[{"name":"b","password":"hush-hush-4","tags":""}]}"#,
        ),
        ("DELETE", "/api/users/app", &reader, ""),
        ("DELETE", "/api/users/app", &"nobody:x".to_owned(), ""),
    ] {
        ask(&api, method, path, login, body);
    }
    assert!(log_in(&broker, "PLAIN", "\0worker\0wrong").is_err());
    let lines: Vec<Value> = broker.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            let fields =
                ["message", "user", "method", "path", "body", "protocol"].map(|field| text(line, field));
            fields.iter().filter(|field| !field.is_empty()).cloned().collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected = [
        "changed worker PUT /api/users/app",
        "changed worker PUT /api/permissions/%2F/app {\"configure\":\"^a\",\"write\":\"\",\"read\":\"\"}",
        "changed worker PUT /api/vhosts/orders",
        "change refused worker PUT /api/policies/%2F/p {\"pattern\":\"(\",\"definition\":{\"max-length\":1}}",
        "changed worker PUT /api/queues/%2F/q {}",
        "changed worker DELETE /api/queues/%2F/q/contents",
        "changed worker DELETE /api/queues/%2F/q",
        "changed worker POST /api/definitions",
        "change refused reader DELETE /api/users/app",
        "login refused nobody http",
        "login refused worker amqp091",
    ];
    assert_eq!(told, expected);
    for line in &lines {
        let peer = text(line, "peer") + &text(line, "address");
        assert!(line["target"] == "leveret::audit" && peer.starts_with("127.0.0.1"), "{line}");
    }
    assert!(!broker.log().contains(SECRET), "{}", broker.log());
}

#[test]
fn no_password_is_ever_logged() {
    let broker = start("log-secrets", "level = 'trace'");
    let api = broker.management();
    let encoded = |text: &str| STANDARD.encode(text);
    let amqplain = |password: &str| {
        let mut fields = b"\x05LOGINS\x00\x00\x00\x06worker\x08PASSWORDS".to_vec();
        fields.extend_from_slice(&u32::try_from(password.len()).unwrap().to_be_bytes());
        fields.extend_from_slice(password.as_bytes());
        String::from_utf8(fields).unwrap()
    };
    drop(log_in(&broker, "PLAIN", &worker()).unwrap());
    drop(log_in(&broker, "AMQPLAIN", &amqplain(SECRET)).unwrap());
    let wrong = format!("{SECRET}-wrong");
    for (mechanism, response) in [
        ("PLAIN", format!("\0worker\0{wrong}")),
        ("PLAIN", format!("\0nobody\0{wrong}")),
        ("PLAIN", format!("worker:{wrong}")),
        ("AMQPLAIN", amqplain(&wrong)),
        ("AMQPLAIN", format!("worker {wrong}")),
        ("EXTERNAL", wrong.clone()),
        ("UNKNOWN", wrong.clone()),
    ] {
        assert!(log_in(&broker, mechanism, &response).is_err(), "{mechanism}");
    }
    let (mut transport, mut client) = log_in(&broker, "PLAIN", &worker()).unwrap();
    let secret = [("new_secret", text(&wrong)), ("reason", text("renewed"))];
    client.send(&mut transport, 0, &method("connection.update-secret", &secret));
    client.answer(&mut transport, 0, "connection.update-secret-ok").unwrap();

    let admin = format!("worker:{SECRET}");
    let user = json!({ "password": wrong, "tags": "monitoring" }).to_string();
    let broken = format!(r#"{{"password":"{wrong}","tags":"#);
    let parameter = json!({ "value": { "uri": format!("amqp://u:{wrong}@elsewhere") } }).to_string();
    let definitions = json!({ "users": [{ "name": "imported", "password": wrong, "tags": "" }] }).to_string();
    for (method, path, login, body) in [
        ("GET", "/api/whoami", admin.as_str(), ""),
        ("GET", "/api/whoami", &format!("worker:{wrong}"), ""),
        ("GET", "/api/whoami", &wrong, ""),
        ("PUT", "/api/users/other", &admin, &user),
        ("PUT", "/api/users/other", &admin, &broken),
        ("PUT", "/api/parameters/federation-upstream/%2F/up", &admin, &parameter),
        ("POST", "/api/definitions", &admin, &definitions),
        ("GET", &format!("http://worker:{wrong}@{api}/api/overview"), &admin, ""),
        ("GET", &format!("/api/overview?password={wrong}"), &admin, ""),
    ] {
        ask(&api, method, path, login, body);
    }
    let log = broker.log();
    assert!(log.contains("connection refused") && log.contains("TRACE"), "{log}");
    for secret in [SECRET.to_owned(), encoded(&admin), encoded(&format!("worker:{wrong}")), encoded(&wrong)] {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "the log has {secret}");
    }
    // The bytes one by one are no better than the text.
    let bytes = format!("{:?}", SECRET.as_bytes());
    assert!(!log.contains(bytes.trim_matches(['[', ']'])));
}

#[test]
fn complaints_about_the_configuration_quote_no_password() {
    let folder = folder_of("log-config");
    let file = folder.join("leveret.toml");
    for config in [
        format!("users = [{{ name = 'a', password = ['{SECRET}'] }}]"),
        format!("users = [{{ name = 'a', password_hash = '{SECRET}' }}]"),
        format!("users = [{{ name = 'a', password = '{SECRET}', password_hash = 'x' }}]"),
        format!("users = [{{ name = 'a', password = '{SECRET}', tags = 1 }}]"),
        format!("users = [{{ name = 'a', passwrd = '{SECRET}' }}]"),
        format!("[[users]]\nname = 'a'\npassword = \"{SECRET}"),
        format!("[listeners.amqp]\nbind = 'amqp://a:{SECRET}@127.0.0.1:5672'"),
        format!("[store]\nengine = 'amqp://a:{SECRET}@127.0.0.1:5672'"),
    ] {
        fs::write(&file, &config).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_leveret")).arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && !said.contains(SECRET), "{config}: {said}");
    }
    fs::remove_dir_all(folder).unwrap();
}
