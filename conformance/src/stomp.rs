//! Cases in STOMP: scripts of frames as they are written, played against any broker. `conformance/README.md` has the form.

use crate::case::named;
use crate::{Arrived, Broker, ConnectionId, Transport};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a frame is waited for that is expected, and how long none may come where none is.
const PATIENCE: Duration = Duration::from_secs(8);
const SILENCE: Duration = Duration::from_millis(400);

/// A case.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// The rule that it checks.
    pub rule: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    /// Whose step it is; of all brokers if empty.
    only: Vec<Broker>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Send { client: char, bytes: Text },
    Frame { client: char, command: String, headers: Vec<(String, String)>, body: Option<String> },
    Nothing { client: char },
    Closed { client: char },
    HangUp { client: char },
    Pass(Duration),
    Manage { method: String, path: String, body: String },
}

/// What is sent: with names to put in.
#[derive(Clone, Debug)]
enum Text {
    Frame(String),
    Raw(String),
}

/// Where the cases are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stomp")
}

/// All cases of a folder, by name.
///
/// # Errors
/// When one can't be read.
pub fn load(folder: &Path) -> Result<Vec<Script>, String> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).map_err(|error| format!("{shown}: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Script, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    parse(&name, &text).map_err(|error| format!("{}: {error}", file.display()))
}

fn parse(name: &str, text: &str) -> Result<Script, String> {
    let mut lines = text.lines().enumerate().peekable();
    let mut rule = String::new();
    while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('#')) {
        let _ = write!(rule, "{} ", line.trim_start_matches('#').trim());
    }
    let mut steps = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let (names, head) = condition(line);
        let only = names.map_or(Ok(Vec::new()), named);
        let only = only.map_err(|error| format!("line {}: {error}", number + 1))?;
        let mut block = Vec::new();
        while let Some((_, more)) = lines.next_if(|(_, more)| !is_step(condition(more).1)) {
            block.push(more);
        }
        while block.last().is_some_and(|last| last.is_empty()) {
            block.pop();
        }
        let what = step(head, &block).ok_or_else(|| format!("line {}: '{line}' is no step", number + 1))?;
        steps.push(Step { line: number + 1, only, what });
    }
    Ok(Script { name: name.to_owned(), rule: rule.trim().to_owned(), steps })
}

/// The brokers in front of a step, and the step.
fn condition(line: &str) -> (Option<&str>, &str) {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((names, rest)) => (Some(names), rest),
        None => (None, line),
    }
}

impl Step {
    fn is_for(&self, broker: Broker) -> bool {
        self.only.is_empty() || self.only.contains(&broker)
    }
}

impl Script {
    /// Whether some of its steps are not for every broker.
    pub fn differs(&self) -> bool {
        self.steps.iter().any(|step| !step.only.is_empty())
    }

    /// Whether both brokers are played the same steps.
    pub fn is_same_for(&self, one: Broker, other: Broker) -> bool {
        self.steps.iter().all(|step| step.is_for(one) == step.is_for(other))
    }
}

fn is_step(line: &str) -> bool {
    let mut letters = line.chars();
    let is_clients = letters.next().is_some_and(|letter| letter.is_ascii_lowercase())
        && letters.next().is_some_and(|sign| sign == '>' || sign == '<');
    is_clients || line.starts_with("pass ") || line.starts_with("manage ")
}

fn step(head: &str, block: &[&str]) -> Option<What> {
    if let Some(time) = head.strip_prefix("pass ") {
        let milliseconds = match time.strip_suffix("ms") {
            Some(number) => number.parse().ok()?,
            None => time.strip_suffix('s')?.parse::<u64>().ok()? * 1000,
        };
        return Some(What::Pass(Duration::from_millis(milliseconds)));
    }
    if let Some(call) = head.strip_prefix("manage ") {
        let mut words = call.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        return Some(What::Manage { method: word(), path: word(), body: word() });
    }
    let client = head.chars().next()?;
    match (&head[1..], block) {
        ("< closed", []) => Some(What::Closed { client }),
        ("< nothing", []) => Some(What::Nothing { client }),
        ("> hangs up", []) => Some(What::HangUp { client }),
        (rest, block) => {
            if let Some(raw) = rest.strip_prefix(">> ") {
                return Some(What::Send { client, bytes: Text::Raw(raw.to_owned()) });
            }
            if let Some(command) = rest.strip_prefix("> ") {
                let lines: Vec<&str> = std::iter::once(command).chain(block.iter().copied()).collect();
                return Some(What::Send { client, bytes: Text::Frame(lines.join("\n")) });
            }
            let command = rest.strip_prefix("< ")?.to_owned();
            let (headers, body) = match block.iter().position(|line| line.is_empty()) {
                Some(at) => (&block[..at], Some(block[at + 1..].join("\n"))),
                None => (block, None),
            };
            let header = |line: &&str| match line.split_once(':') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => ((*line).to_owned(), String::new()),
            };
            Some(What::Frame { client, command, headers: headers.iter().map(header).collect(), body })
        }
    }
}

/// A frame that a broker has sent.
#[derive(Debug)]
struct Received {
    command: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Cuts the next frame off.
    fn cut(input: &mut Vec<u8>) -> Option<Received> {
        let noise = input.iter().take_while(|byte| matches!(byte, 0 | b'\n' | b'\r')).count();
        input.drain(..noise);
        let head_end = input.windows(2).position(|pair| pair == b"\n\n")?;
        let head = String::from_utf8_lossy(&input[..head_end]).into_owned();
        let mut lines = head.lines();
        let command = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let behind = &input[head_end + 2..];
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = match length.and_then(|(_, length)| length.parse::<usize>().ok()) {
            Some(length) if behind.len() > length => length,
            Some(_) => return None,
            None => behind.iter().position(|byte| *byte == 0)?,
        };
        let body = String::from_utf8_lossy(&behind[..length]).into_owned();
        input.drain(..head_end + 2 + length + 1);
        Some(Received { command, headers, body })
    }
}

/// A case that is being played.
struct Player<'a> {
    transport: &'a mut dyn Transport,
    clients: BTreeMap<char, (ConnectionId, Vec<u8>)>,
    names: BTreeMap<String, String>,
    /// What names are made of that no other run uses.
    run: &'a str,
}

/// Plays a case as `broker` is to do it.
///
/// # Errors
/// The first step that went otherwise, with what came.
pub fn play(script: &Script, transport: &mut dyn Transport, broker: Broker, run: &str) -> Result<(), String> {
    let mut player = Player { transport, clients: BTreeMap::new(), names: BTreeMap::new(), run };
    let mut result = Ok(());
    for step in script.steps.iter().filter(|step| step.is_for(broker)) {
        result = player.step(&step.what).map_err(|error| format!("line {}: {error}", step.line));
        if result.is_err() {
            break;
        }
    }
    for (connection, _) in player.clients.into_values() {
        player.transport.close(connection);
    }
    result
}

impl Player<'_> {
    fn step(&mut self, what: &What) -> Result<(), String> {
        match what {
            What::Pass(time) => self.transport.advance(*time),
            What::Manage { method, path, body } => {
                let (path, body) = (self.filled(path), self.filled(body));
                self.transport.manage(method, &path, &body)?;
            }
            What::Send { client, bytes } => {
                let bytes = match bytes {
                    Text::Raw(raw) => unescaped(&self.filled(raw)),
                    Text::Frame(frame) => {
                        let frame = self.filled(frame);
                        let (head, body) = frame.split_once("\n\n").unwrap_or((&frame, ""));
                        [head.as_bytes(), b"\n\n", &unescaped(body), b"\0"].concat()
                    }
                };
                let connection = self.client(*client)?;
                self.transport.send(connection, &bytes);
            }
            What::HangUp { client } => {
                if let Some((connection, _)) = self.clients.remove(client) {
                    self.transport.close(connection);
                }
            }
            What::Closed { client } => match self.next(*client, PATIENCE)? {
                Came::Closed => {}
                Came::Frame(frame) => {
                    return Err(format!("the connection was to be closed, and {frame:?} came"));
                }
                Came::Nothing => return Err("the connection was to be closed, and is open".to_owned()),
            },
            What::Nothing { client } => match self.next(*client, SILENCE)? {
                Came::Nothing => {}
                Came::Closed => return Err("nothing was to come, and the connection is closed".to_owned()),
                Came::Frame(frame) => return Err(format!("nothing was to come, and {frame:?} came")),
            },
            What::Frame { client, command, headers, body } => match self.next(*client, PATIENCE)? {
                Came::Frame(frame) => self.compare(&frame, command, headers, body.as_deref())?,
                Came::Closed => return Err(format!("{command} was to come, and the connection is closed")),
                Came::Nothing => return Err(format!("{command} was to come, and nothing did")),
            },
        }
        Ok(())
    }

    fn client(&mut self, name: char) -> Result<ConnectionId, String> {
        if let Some((connection, _)) = self.clients.get(&name) {
            return Ok(*connection);
        }
        let connection = self.transport.open()?;
        self.clients.insert(name, (connection, Vec::new()));
        Ok(connection)
    }

    fn next(&mut self, client: char, patience: Duration) -> Result<Came, String> {
        let connection = self.client(client)?;
        let Some((_, input)) = self.clients.get_mut(&client) else { return Ok(Came::Closed) };
        let mut waits = 0;
        loop {
            if let Some(frame) = Received::cut(input) {
                return Ok(Came::Frame(frame));
            }
            let part = patience / 4;
            match self.transport.receive(connection, part, input) {
                Arrived::Data => {}
                Arrived::Closed => return Ok(Came::Closed),
                Arrived::Quiet if self.transport.exact() && patience == SILENCE => return Ok(Came::Nothing),
                Arrived::Quiet if waits == 4 => return Ok(Came::Nothing),
                Arrived::Quiet => {
                    waits += 1;
                    if self.transport.exact() {
                        // What is to come may come with time.
                        self.transport.advance(part);
                    }
                }
            }
        }
    }

    fn compare(
        &mut self,
        frame: &Received,
        command: &str,
        headers: &[(String, String)],
        body: Option<&str>,
    ) -> Result<(), String> {
        if frame.command != command {
            return Err(format!("{command} was to come, and {frame:?} did"));
        }
        for (name, value) in headers {
            if let Some(absent) = name.strip_prefix('-') {
                if let Some(value) = frame.header(absent) {
                    return Err(format!("there was to be no header {absent}, and it is '{value}'"));
                }
                continue;
            }
            let Some(found) = frame.header(name) else {
                return Err(format!("header {name} is missing in {frame:?}"));
            };
            if let Some(new) = value.strip_prefix('{').and_then(|value| value.strip_suffix('}'))
                && !self.names.contains_key(new)
            {
                self.names.insert(new.to_owned(), found.to_owned());
                continue;
            }
            let expected = self.filled(value);
            if expected != "*" && expected != found {
                return Err(format!("header {name} was to be '{expected}', and is '{found}'"));
            }
        }
        let expected = body.map(|body| unescaped(&self.filled(body)));
        match expected {
            Some(expected) if expected != frame.body.as_bytes() => {
                let expected = String::from_utf8_lossy(&expected).into_owned();
                Err(format!("the body was to be {expected:?}, and is {:?}", frame.body))
            }
            _ => Ok(()),
        }
    }

    /// A text with what names in braces stand for. One that is new gets a name that no other run has.
    fn filled(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            filled.push_str(before);
            match behind.split_once('}') {
                Some((name, behind)) if name.chars().all(|letter| letter.is_ascii_alphanumeric()) => {
                    let run = self.run;
                    let value = self.names.entry(name.to_owned()).or_insert_with(|| format!("{name}-{run}"));
                    filled.push_str(value);
                    rest = behind;
                }
                _ => {
                    filled.push('{');
                    rest = behind;
                }
            }
        }
        filled + rest
    }
}

enum Came {
    Frame(Received),
    Nothing,
    Closed,
}

/// A text with its escapes: `\0`, `\n`, `\r`, `\\`, and `\*N*X` for N times X.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            let mut buffer = [0; 4];
            bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match letters.next() {
            Some('0') => bytes.push(0),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('*') => {
                let number: String = letters.by_ref().take_while(|letter| *letter != '*').collect();
                let repeated = letters.next().unwrap_or_default() as u8;
                bytes.extend(std::iter::repeat_n(repeated, number.parse().unwrap_or_default()));
            }
            Some(other) => bytes.push(other as u8),
            None => bytes.push(b'\\'),
        }
    }
    bytes
}
