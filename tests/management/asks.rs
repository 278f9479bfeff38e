//! Plays the files of `asks/`: what is asked over HTTP, and below each request what RabbitMQ 3.10.8 answers. `record` writes
//! these answers down anew. Where Leveret answers something else, that stands there too, with the reason.

use base64::Engine;
use leveret_test_support::api_client::{AS_GUEST, Answered, TestBroker, ask};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A request, and its answers.
#[derive(Default)]
struct Step {
    /// The lines before it: empty ones and comments.
    before: Vec<String>,
    method: String,
    path: String,
    body: String,
    /// `with` and a header, `as` and a login.
    options: Vec<String>,
    rabbitmq: String,
    leveret: Option<String>,
    because: Option<String>,
}

impl Step {
    fn parse_all(text: &str) -> (Vec<Step>, Vec<String>) {
        let (mut steps, mut before): (Vec<Step>, Vec<String>) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let Some(answer) = line.strip_prefix("  ") else {
                if line.is_empty() || line.starts_with('#') {
                    before.push(line.to_owned());
                    continue;
                }
                let mut words = line.splitn(3, ' ').map(str::to_owned);
                let mut next = || words.next().unwrap_or_default();
                let (method, path, body) = (next(), next(), next());
                let before = std::mem::take(&mut before);
                steps.push(Step { before, method, path, body, ..Step::default() });
                continue;
            };
            let step = steps.last_mut().expect("an answer stands below its request");
            match answer.split_once(' ').unwrap_or((answer, "")) {
                ("with" | "as", _) => step.options.push(answer.to_owned()),
                ("leveret", rest) => step.leveret = Some(rest.to_owned()),
                ("because", rest) => step.because = Some(rest.to_owned()),
                _ => step.rabbitmq = answer.to_owned(),
            }
        }
        (steps, before)
    }

    fn ask(&self, address: SocketAddr) -> String {
        let mut headers = vec![AS_GUEST.to_owned()];
        for option in &self.options {
            match option.split_once(' ') {
                Some(("as", login)) => {
                    let login = base64::engine::general_purpose::STANDARD.encode(login);
                    headers[0] = format!("Authorization: Basic {login}");
                }
                Some(("with", header)) => headers.push(header.to_owned()),
                _ => unreachable!("parsed so"),
            }
        }
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        shown(&ask(address, &self.method, &self.path, &headers, self.body.as_bytes()))
    }

    fn write(&self, answer: &str, out: &mut String) {
        for line in &self.before {
            *out += &format!("{line}\n");
        }
        *out += format!("{} {} {}", self.method, self.path, self.body).trim_end();
        for option in &self.options {
            *out += &format!("\n  {option}");
        }
        *out += &format!("\n  {answer}\n");
        if let (Some(leveret), Some(because)) = (&self.leveret, &self.because) {
            *out += &format!("  leveret {leveret}\n  because {because}\n");
        }
    }
}

/// Status, place and body in a line. The fields of objects are in the order of their names.
fn shown(answered: &Answered) -> String {
    let mut line = answered.status.to_string();
    if let Some(location) = answered.header("location") {
        line += &format!(" at {location}");
    }
    if !answered.body.is_empty() {
        let mut value: Value = answered.json();
        value.sort_all_objects();
        // Erlang does not tell an object without fields from a list without items.
        line += &format!(" {value}").replace("\"properties\":[]", "\"properties\":{}");
    }
    line
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/management/asks");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn answers_are_those_of_rabbitmq() {
    if let Ok(oracle) = std::env::var("RABBITMQ_HTTP") {
        return record(oracle.parse().unwrap());
    }
    let mut wrong = String::new();
    for file in files() {
        let broker = TestBroker::start();
        let (steps, _) = Step::parse_all(&fs::read_to_string(&file).unwrap());
        for step in steps {
            let expected = step.leveret.as_ref().unwrap_or(&step.rabbitmq);
            let got = step.ask(broker.http);
            let what = format!("{}: {} {}", file.file_stem().unwrap().display(), step.method, step.path);
            if got != *expected {
                wrong += &format!("{what}\n  expected {expected}\n  got      {got}\n");
            }
            if step.leveret.is_some() && (step.because.is_none() || step.leveret == Some(step.rabbitmq)) {
                wrong += &format!("{what}: a difference that is none, or that lacks its reason\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Asks RabbitMQ, and puts its answers into the files. What is in its vhost `/` is deleted before each file.
fn record(oracle: SocketAddr) {
    for file in files() {
        let (steps, rest) = Step::parse_all(&fs::read_to_string(&file).unwrap());
        clear(oracle);
        let mut out = String::new();
        for step in steps {
            step.write(&step.ask(oracle), &mut out);
        }
        out.extend(rest.iter().map(|line| format!("{line}\n")));
        fs::write(&file, out).unwrap();
    }
    clear(oracle);
}

/// Deletes all queues and exchanges of the vhost `/`.
pub(crate) fn clear(broker: SocketAddr) {
    for kind in ["queues", "exchanges"] {
        let all = ask(broker, "GET", &format!("/api/{kind}/%2F?columns=name"), &[AS_GUEST], b"").json();
        let names = all.as_array().unwrap().iter().filter_map(|item| item["name"].as_str());
        for name in names.filter(|name| !name.is_empty() && !name.starts_with("amq.")) {
            ask(broker, "DELETE", &format!("/api/{kind}/%2F/{name}"), &[AS_GUEST], b"");
        }
    }
}
