//! Cases in RabbitMQ's stream protocol: scripts of frames by name and field, played against any broker. `conformance/README.md` has the
//! form.

use crate::case::named;
use crate::{Arrived, Broker, ConnectionId, Transport};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a frame is waited for that is expected, and how long none may come where none is.
const PATIENCE: Duration = Duration::from_secs(8);
const SILENCE: Duration = Duration::from_millis(600);

/// The commands, from key 1 on.
const COMMANDS: [&str; 31] = [
    "declare-publisher",
    "publish",
    "publish-confirm",
    "publish-error",
    "query-publisher-sequence",
    "delete-publisher",
    "subscribe",
    "deliver",
    "credit",
    "store-offset",
    "query-offset",
    "unsubscribe",
    "create",
    "delete",
    "metadata",
    "metadata-update",
    "peer-properties",
    "sasl-handshake",
    "sasl-authenticate",
    "tune",
    "open",
    "close",
    "heartbeat",
    "route",
    "partitions",
    "consumer-update",
    "exchange-command-versions",
    "stream-stats",
    "create-super-stream",
    "delete-super-stream",
    "resolve-offset-spec",
];

/// Bytes of a chunk's header.
const CHUNK_HEADER_BYTES: usize = 48;

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
    /// The whole handshake as guest.
    Connect {
        client: char,
    },
    Send {
        client: char,
        key: u16,
        version: u16,
        fields: Vec<String>,
    },
    Raw {
        client: char,
        hex: String,
    },
    Frame {
        client: char,
        key: u16,
        version: u16,
        fields: Vec<String>,
    },
    Nothing {
        client: char,
    },
    Closed {
        client: char,
    },
    HangUp {
        client: char,
    },
    Pass(Duration),
    Manage {
        method: String,
        path: String,
        body: String,
    },
}

/// Where the cases are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stream")
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
    let (mut rule, mut steps) = (String::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        if let Some(words) = line.strip_prefix('#') {
            let _ = write!(rule, "{} ", words.trim());
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let (names, head) = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((names, rest)) => (Some(names), rest),
            None => (None, line),
        };
        let only = names.map_or(Ok(Vec::new()), named);
        let only = only.map_err(|error| format!("line {}: {error}", number + 1))?;
        let what = step(head).ok_or_else(|| format!("line {}: '{line}' is no step", number + 1))?;
        steps.push(Step { line: number + 1, only, what });
    }
    Ok(Script { name: name.to_owned(), rule: rule.trim().to_owned(), steps })
}

fn step(head: &str) -> Option<What> {
    if let Some(time) = head.strip_prefix("pass ") {
        return Some(What::Pass(Duration::from_secs(time.strip_suffix('s')?.parse().ok()?)));
    }
    if let Some(call) = head.strip_prefix("manage ") {
        let mut words = call.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        return Some(What::Manage { method: word(), path: word(), body: word() });
    }
    let client = head.chars().next().filter(char::is_ascii_lowercase)?;
    let rest = &head[1..];
    Some(match rest {
        "> connects" => What::Connect { client },
        "> hangs up" => What::HangUp { client },
        "< closed" => What::Closed { client },
        "< nothing" => What::Nothing { client },
        _ => {
            if let Some(hex) = rest.strip_prefix(">> ") {
                return Some(What::Raw { client, hex: hex.to_owned() });
            }
            let (direction, frame) = rest.split_at_checked(2)?;
            let mut words = frame.split(' ').filter(|word| !word.is_empty());
            let (key, version) = command(words.next()?)?;
            let fields = words.map(str::to_owned).collect();
            match direction {
                "> " => What::Send { client, key, version, fields },
                "< " => What::Frame { client, key, version, fields },
                _ => return None,
            }
        }
    })
}

/// `publish`, `publish:2` for its second version, `create!` for the response to it, or a key in hexadecimal digits.
fn command(word: &str) -> Option<(u16, u16)> {
    let (name, version) = match word.split_once(':') {
        Some((name, version)) => (name, version.parse().ok()?),
        None => (word, 1),
    };
    if let Some(hex) = name.strip_prefix("0x") {
        return Some((u16::from_str_radix(hex, 16).ok()?, version));
    }
    let (name, response) = name.strip_suffix('!').map_or((name, 0), |name| (name, 0x8000));
    let at = COMMANDS.iter().position(|command| *command == name)?;
    Some(((at as u16 + 1) | response, version))
}

fn name_of(key: u16) -> String {
    let known = COMMANDS.get(usize::from(key & 0x7fff).wrapping_sub(1));
    let response = if key & 0x8000 == 0 { "" } else { "!" };
    known.map_or_else(|| format!("{key:#06x}"), |name| format!("{name}{response}"))
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

/// A case that is being played.
struct Player<'a> {
    transport: &'a mut dyn Transport,
    clients: BTreeMap<char, (ConnectionId, Vec<u8>)>,
    /// What names are made of that no other run uses.
    run: &'a str,
}

/// Plays a case as `broker` is to do it.
///
/// # Errors
/// The first step that went otherwise, with what came.
pub fn play(script: &Script, transport: &mut dyn Transport, broker: Broker, run: &str) -> Result<(), String> {
    let mut player = Player { transport, clients: BTreeMap::new(), run };
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

/// A frame that has come.
struct Received {
    key: u16,
    version: u16,
    body: Vec<u8>,
}

impl Received {
    fn shown(&self) -> String {
        let hex: String = self.body.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        format!("{}:{} x={hex}", name_of(self.key), self.version)
    }
}

enum Came {
    Frame(Received),
    Nothing,
    Closed,
}

impl Player<'_> {
    fn step(&mut self, what: &What) -> Result<(), String> {
        match what {
            What::Pass(time) => self.transport.advance(*time),
            What::Manage { method, path, body } => {
                let (path, body) = (self.filled(path), self.filled(body));
                self.transport.manage(method, &path, &body)?;
            }
            What::Connect { client } => self.connect(*client)?,
            What::Send { client, key, version, fields } => self.send(*client, *key, *version, fields)?,
            What::Raw { client, hex } => {
                let bytes = unhex(hex).ok_or("no hexadecimal digits")?;
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
                Came::Frame(frame) => return Err(format!("the end was to come, and {} came", frame.shown())),
                Came::Nothing => return Err("the connection was to be closed, and is open".to_owned()),
            },
            What::Nothing { client } => match self.next(*client, SILENCE)? {
                Came::Nothing => {}
                Came::Closed => return Err("nothing was to come, and the connection is closed".to_owned()),
                Came::Frame(frame) => return Err(format!("nothing was to come, and {} came", frame.shown())),
            },
            What::Frame { client, key, version, fields } => self.expect(*client, *key, *version, fields)?,
        }
        Ok(())
    }

    fn connect(&mut self, client: char) -> Result<(), String> {
        let fields = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        self.send(client, 0x11, 1, &fields(&["u32=899", "n=0"]))?;
        self.expect(client, 0x8011, 1, &fields(&["u32=899", "u16=1", "*"]))?;
        self.send(client, 0x12, 1, &fields(&["u32=900"]))?;
        self.expect(client, 0x8012, 1, &fields(&["u32=900", "u16=1", "*"]))?;
        self.send(client, 0x13, 1, &fields(&["u32=901", "s=PLAIN", "b=\\x00guest\\x00guest"]))?;
        self.expect(client, 0x8013, 1, &fields(&["u32=901", "u16=1"]))?;
        self.expect(client, 0x14, 1, &fields(&["*"]))?;
        self.send(client, 0x14, 1, &fields(&["u32=1048576", "u32=0"]))?;
        self.send(client, 0x15, 1, &fields(&["u32=902", "s=/"]))?;
        self.expect(client, 0x8015, 1, &fields(&["u32=902", "u16=1", "*"]))
    }

    fn send(&mut self, client: char, key: u16, version: u16, fields: &[String]) -> Result<(), String> {
        let mut body = Vec::new();
        for field in fields {
            let field = self.filled(field);
            body.extend(encoded(&field).ok_or_else(|| format!("'{field}' is no field"))?);
        }
        let mut frame = (body.len() as u32 + 4).to_be_bytes().to_vec();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(body);
        let connection = self.client(client)?;
        self.transport.send(connection, &frame);
        Ok(())
    }

    fn expect(&mut self, client: char, key: u16, version: u16, fields: &[String]) -> Result<(), String> {
        let name = name_of(key);
        let frame = match self.next(client, PATIENCE)? {
            Came::Frame(frame) => frame,
            Came::Closed => return Err(format!("{name} was to come, and the connection is closed")),
            Came::Nothing => return Err(format!("{name} was to come, and nothing did")),
        };
        let shown = frame.shown();
        if (frame.key, frame.version) != (key, version) {
            return Err(format!("{name}:{version} was to come, and {shown} did"));
        }
        let mut rest = &frame.body[..];
        for field in fields {
            let field = self.filled(field);
            rest =
                passed(rest, &field).map_err(|error| format!("{field} was to come: {error}, in {shown}"))?;
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{} more bytes came in {shown}", rest.len())) }
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
            if let Some(frame) = cut(input) {
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

    /// A text with names in braces made such that no other run has them.
    fn filled(&self, text: &str) -> String {
        text.replace('}', &format!("-{}", self.run)).replace('{', "")
    }
}

/// Cuts the next frame off that is no heartbeat.
fn cut(input: &mut Vec<u8>) -> Option<Received> {
    loop {
        let size = u32::from_be_bytes(*input.first_chunk()?) as usize;
        let frame = input.get(4..4 + size)?;
        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let received = Received { key: number(0), version: number(2), body: frame[4..].to_vec() };
        input.drain(..4 + size);
        if received.key != 0x17 {
            return Some(received);
        }
    }
}

/// The bytes of a field.
fn encoded(field: &str) -> Option<Vec<u8>> {
    if field == "null" {
        return Some(vec![0xff; 2]);
    }
    let (kind, value) = field.split_once('=')?;
    Some(match kind {
        "u8" => vec![value.parse().ok()?],
        "u16" => value.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        "u32" => value.parse::<u32>().ok()?.to_be_bytes().to_vec(),
        "u64" => value.parse::<u64>().ok()?.to_be_bytes().to_vec(),
        "i64" => value.parse::<i64>().ok()?.to_be_bytes().to_vec(),
        // How many elements follow.
        "n" => value.parse::<i32>().ok()?.to_be_bytes().to_vec(),
        "s" => {
            let text = unescaped(value);
            [&(text.len() as u16).to_be_bytes(), &text[..]].concat()
        }
        "b" => counted(&unescaped(value)),
        // A message of AMQP 1.0 that is a body alone.
        "m" => {
            let body = unescaped(value);
            counted(&[&[0, 0x53, 0x75, 0xa0, body.len() as u8], &body[..]].concat())
        }
        "x" => unhex(value)?,
        _ => return None,
    })
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// What is left of a frame behind a field that is to be there.
fn passed<'a>(rest: &'a [u8], field: &str) -> Result<&'a [u8], String> {
    if field == "*" {
        return Ok(&[]);
    }
    let cut = |bytes: usize| rest.get(bytes..).ok_or_else(|| "the frame ends".to_owned());
    let (kind, value) = field.split_once('=').unwrap_or((field, ""));
    if value == "*" {
        let length = |bytes: usize| {
            let length = rest.get(..bytes).ok_or("the frame ends")?;
            Ok::<usize, String>(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        };
        return match kind {
            "u8" => cut(1),
            "u16" => cut(2),
            "u32" | "n" => cut(4),
            "u64" | "i64" => cut(8),
            "s" => cut(2 + length(2)?),
            "b" | "m" => cut(4 + length(4)?),
            _ => Err("no such field".to_owned()),
        };
    }
    // The header of a chunk: its first offset, and how many entries follow.
    if kind == "chunk" {
        let header = rest.get(..CHUNK_HEADER_BYTES).ok_or("the frame ends")?;
        let (first, entries) = value.split_once('+').ok_or("a chunk is FIRST+ENTRIES")?;
        let number = |at: usize, bytes: usize| {
            header[at..at + bytes].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let found = format!("{}+{}", number(24, 8), number(2, 2));
        let sizes_agree = number(36, 4) as usize == rest.len() - CHUNK_HEADER_BYTES;
        return match header[..2] == [0x50, 0] && found == format!("{first}+{entries}") && sizes_agree {
            true => cut(CHUNK_HEADER_BYTES),
            false => Err(format!("it is chunk={found}")),
        };
    }
    let expected = encoded(field).ok_or("no such field")?;
    rest.strip_prefix(&expected[..]).ok_or_else(|| format!("{} bytes that differ came", rest.len()))
}

/// A text with its escapes: `\_` for a blank, `\xHH` for a byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = behind.strip_prefix('x').and_then(|hex| hex.get(..2)).and_then(unhex);
        rest = match byte {
            Some(byte) => {
                bytes.extend(byte);
                &behind[3..]
            }
            None => {
                bytes.push(b' ');
                behind.get(1..).unwrap_or_default()
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
