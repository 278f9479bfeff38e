//! Holds the structure of `src/`: which layer may know which, and rules of form that no lint checks. A failure names the
//! file, the line and the rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A layer is a folder or a file of `src/`; behind it stand the layers that it may know besides itself. The first entry
/// whose path begins a file's path counts.
const LAYERS: &[(&str, &[&str])] = &[
    ("message", &["steps"]),
    ("vocabulary", &[]),
    ("api", &["message"]),
    ("clock", &["message"]),
    ("session", &["message"]),
    ("protocol", &["broker", "message", "session"]),
    // Counting steps, for tests.
    ("steps", &[]),
    ("pattern", &["steps"]),
    ("files", &[]),
    ("config", &["pattern", "steps", "vocabulary"]),
    ("store", &["files", "message", "steps", "vocabulary"]),
    ("broker", &["clock", "message", "pattern", "steps", "store", "vocabulary"]),
    // What the edges say in RabbitMQ's words.
    ("rabbit", &["broker", "message", "pattern"]),
    // What a session keeps for its client, whatever they speak.
    ("client", &["broker", "message", "session", "steps"]),
    ("amqp", &["broker", "client", "message", "protocol", "rabbit", "session", "steps"]),
    ("stomp", &["broker", "client", "message", "protocol", "rabbit", "session", "steps"]),
    ("stream_protocol", &["broker", "client", "message", "protocol", "rabbit", "session", "store"]),
    // The loop behind a socket knows no protocol and no broker.
    ("net/drive", &["clock", "message", "session"]),
    // Which protocols there are is said by the server alone.
    ("net", &["broker", "clock", "config", "message", "protocol", "session", "steps", "store"]),
    ("management", &["amqp", "api", "broker", "clock", "log", "message", "net", "rabbit", "steps", "store"]),
    ("log", &["config"]),
    ("metrics", &["broker", "clock", "message", "net", "pattern", "rabbit"]),
    ("server", EVERYTHING),
    // The commands talk to a broker over HTTP alone; of its management they know how definitions are read.
    (
        "cli",
        &[
            "api",
            "broker",
            "config",
            "files",
            "management",
            "perf",
            "rabbit",
            "server",
            "terminal",
            "trust",
            "vocabulary",
        ],
    ),
    ("notify", &[]),
    ("terminal", &[]),
    // The load tool is a client of any broker.
    ("perf", &["message", "terminal", "trust"]),
    ("trust", &[]),
    ("command_line", &["broker", "cli", "config", "perf", "serve", "server", "terminal"]),
    ("serve", &["broker", "config", "notify", "server", "terminal"]),
    ("lib", EVERYTHING),
    ("main", EVERYTHING),
];

const EVERYTHING: &[&str] = &[
    "amqp",
    "api",
    "broker",
    "cli",
    "client",
    "clock",
    "command_line",
    "config",
    "files",
    "log",
    "management",
    "message",
    "metrics",
    "net",
    "notify",
    "pattern",
    "perf",
    "protocol",
    "rabbit",
    "server",
    "session",
    "steps",
    "stomp",
    "store",
    "stream_protocol",
    "terminal",
    "trust",
    "vocabulary",
];

/// What only some layers may use of the world outside.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("tokio::", &["management", "metrics", "net", "perf", "serve", "server"]),
    ("std::net::", &["cli", "management", "net", "config", "serve", "server"]),
    ("Instant::now", &["cli", "clock", "net", "perf", "server"]),
    ("SystemTime", &["clock", "perf"]),
    ("amq_protocol::", &["amqp", "perf"]),
    ("sled::", &["store"]),
    ("tungstenite::", &["net"]),
    ("axum::", &["management", "metrics", "net"]),
    // Names of RabbitMQ's modules.
    ("rabbit_", &["api", "cli", "management", "rabbit", "vocabulary"]),
];

/// What stands nowhere but in tests.
const FORBIDDEN: &[(&str, &str)] = &[
    (".unwrap()", "no unwrap: return an error, or say in expect why it can't fail"),
    ("todo!", "no todo!"),
    ("unimplemented!", "no unimplemented!"),
    ("dbg!", "no dbg!"),
    ("println!", "no println!, which panics when nobody reads any more: terminal::say"),
    ("eprintln!", "no eprintln!, which panics when nobody reads any more: terminal::complain"),
    ("print!", "no print!, which panics when nobody reads any more"),
    ("eprint!", "no eprint!, which panics when nobody reads any more"),
    ("thread::sleep", "no sleeping: wait for what is to happen"),
];

const LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files and functions that are longer, each with its lines. None is added, none grows, and one that no longer is goes.
const LONGER: &[(&str, usize)] = &[];

/// The floors of `src/broker/`, the lowest first: a module may know those of its own floor and of lower ones. The longest entry that
/// a module's path begins with counts.
const FLOORS: &[&[&str]] = &[
    &["access/newcomers", "access/passwords", "actor", "dialect", "error", "memory", "outcome", "timer"],
    // Queues and exchanges, what passes between them and the sessions, and how all of it is kept.
    &[
        "access/permissions",
        "access/users",
        "chores",
        "delivery",
        "done",
        "exchange",
        "observe/lengths",
        "observe/losses",
        "observe/stats",
        "policy",
        "queue",
        "topology/definitions",
        "topology/parameters",
        "topology/vhost_settings",
        "turn",
    ],
    &[
        "dead_lettering",
        "observe/events",
        "observe/trace",
        // Policies are applied where the vhost is.
        "policy/apply",
        "routing",
        "sequencing",
        "spread",
        "topology",
        "topology/capacity",
        "topology/declare",
        "topology/existing",
        "topology/super_streams",
        "vhost",
    ],
    &[
        "access",
        "access/admission",
        "access/logins",
        "alarms",
        "due",
        "observe",
        "observe/browse",
        "observe/connections",
        "opening",
        "topology/administration",
        "topology/rehearsal",
    ],
];

/// Words that stand neither in comments nor on pages: what the trade calls it does.
const WORDS: &[(&str, &str)] = &[
    ("somebody", "a client, a caller, a user, another thread"),
    ("whoever", "a client that, the caller"),
    ("so many", "this many, a number of"),
    ("heeds", "recognises, follows, is in effect"),
    ("heeded", "recognised, in effect"),
    ("dies of age", "expires"),
    ("die of age", "expire"),
    ("dead of age", "expired"),
    ("lest", "so that ... not, or"),
    ("for ever", "no limit, never again"),
    ("held up", "blocked, slowed down"),
    ("lets go out", "flushes"),
    ("let go", "paged out, released, discarded"),
    ("told of", "reported, logged"),
    ("is told", "is called, is notified, gets"),
    ("are told", "are called, are notified, get"),
    ("nobody asked", "without a request, without a waiter"),
    ("/// see the module.", "say what it is, then refer to the module"),
];

/// Words that no name in the code has, each with what a reader would search for.
const NAMES: &[(&str, &str)] = &[
    ("elsewhere", "unsupported, paged out, workers"),
    ("heeded", "recognised"),
    ("somebody", "client, caller"),
    ("whoever", "client, caller"),
    ("untold", "unlogged, unreported, unanswered"),
    ("bury", "dead_letter"),
    ("buried", "dead_lettered"),
    ("burying", "dead_lettering"),
    ("dying", "dead_lettering, expiring"),
];

/// A file of `src/`.
struct Source {
    /// Its path below `src/`, without the ending.
    module: String,
    is_folder: bool,
    text: String,
    /// How many lines there are before the tests at its end.
    product_lines: usize,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let relative = path.strip_prefix(root).expect("the file was found there").with_extension("");
        let module = relative.to_str().expect("our own names are UTF-8").to_owned();
        let text = fs::read_to_string(path).expect("our own files can be read");
        let lines: Vec<&str> = text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        let product_lines = tests.unwrap_or(lines.len());
        let folder = module.strip_suffix("/mod").map(str::to_owned);
        Source { is_folder: folder.is_some(), module: folder.unwrap_or(module), text, product_lines }
    }

    fn path(&self) -> String {
        let ending = if self.is_folder { "/mod.rs" } else { ".rs" };
        format!("src/{}{ending}", self.module)
    }

    fn layer(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }

    /// The lines that are neither comments nor tests, each with its number.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take(self.product_lines).enumerate();
        lines.map(|(index, line)| (index + 1, without_comment(line))).filter(|(_, line)| !line.is_empty())
    }

    /// Its lines, with an import that goes over several of them as one; each with the number of its first line.
    fn statements(&self) -> Vec<(usize, String)> {
        let mut statements: Vec<(usize, String)> = Vec::new();
        for (number, line) in self.code() {
            match statements.last_mut().filter(|(_, open)| is_open_import(open)) {
                Some((_, open)) => open.push_str(line),
                None => statements.push((number, line.to_owned())),
            }
        }
        statements
    }

    /// Modules of this one that are only there for tests.
    fn test_modules(&self) -> impl Iterator<Item = String> {
        let is_root = self.module == "lib" || self.module == "main";
        let parent = Path::new(if is_root { "" } else { &self.module });
        let lines: Vec<&str> = self.text.lines().collect();
        let names: Vec<String> = lines
            .windows(2)
            .filter(|pair| pair[0] == "#[cfg(test)]")
            .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'))
            .map(|name| parent.join(name).display().to_string())
            .collect();
        names.into_iter()
    }
}

/// Strings in `src/` have `//` only behind a colon, as in a URL.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with("//") { "" } else { line.split(" //").next().unwrap_or_default() }
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `word` stands in `line` and is not the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
        !word.starts_with(|c: char| c.is_ascii_alphabetic()) || !before.is_some_and(is_identifier)
    })
}

/// The first names of what a path leads to: one, or those in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().bytes().take_while(|byte| is_identifier(*byte)).map(char::from).collect();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0;
    let mut names = vec![String::new()];
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            _ if depth == 0 => names.last_mut().expect("there is always one").push(letter),
            _ => {}
        }
    }
    names.iter().map(|text| name(text)).filter(|name: &String| !name.is_empty()).collect()
}

/// The layers that a statement names: behind `crate::`, or behind as many `super::` as lead to the root.
fn layers_named(statement: &str, depth: usize) -> Vec<String> {
    names_behind(statement, &["crate::", &"super::".repeat(depth)])
}

/// The names that stand behind one of these beginnings of paths.
fn names_behind(statement: &str, prefixes: &[&str]) -> Vec<String> {
    let mut named = Vec::new();
    for prefix in prefixes {
        for (at, _) in statement.match_indices(prefix) {
            let before = &statement[..at];
            let is_start = !before.ends_with("::") && !before.bytes().last().is_some_and(is_identifier);
            if !prefix.is_empty() && is_start {
                named.extend(first_names(&statement[at + prefix.len()..]));
            }
        }
    }
    named
}

/// The paths that stand behind this beginning, with slashes: those in braces each by itself, without what braces in braces lead to.
fn paths_behind(statement: &str, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in statement.match_indices(prefix) {
        let before = &statement[..at];
        if !before.ends_with("::") && !before.bytes().last().is_some_and(is_identifier) {
            expand(&statement[at + prefix.len()..], "", &mut paths);
        }
    }
    paths
}

/// Adds the paths that `rest` begins with; returns what is behind them.
fn expand<'a>(mut rest: &'a str, before: &str, paths: &mut Vec<String>) -> &'a str {
    let mut path = before.to_owned();
    loop {
        rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            while !rest.trim_start().is_empty() && !rest.trim_start().starts_with('}') {
                let behind = expand(rest, &path, paths);
                let behind = behind.trim_start_matches([',', ' ']);
                // Something that is no path, such as an alias, is skipped.
                rest = if behind.len() < rest.len() { behind } else { &rest[rest.len().min(1)..] };
            }
            return rest.trim_start().strip_prefix('}').unwrap_or_default();
        }
        let length = rest.bytes().take_while(|byte| is_identifier(*byte)).count();
        if length > 0 && path.is_empty() {
            path = rest[..length].to_owned();
        } else if length > 0 {
            path = format!("{path}/{}", &rest[..length]);
        }
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(further) if length > 0 => rest = further,
            _ => {
                paths.push(path);
                return rest;
            }
        }
    }
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src/ can be read") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "src/ was not found where it should be");
    files.iter().map(|path| Source::read(&root, path)).collect()
}

fn check_layers(source: &Source, faults: &mut Vec<String>) {
    let belongs = |layer: &str| source.module == layer || source.module.starts_with(&format!("{layer}/"));
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| belongs(layer)) else {
        faults.push(format!("{}: is in no layer; say in LAYERS which others it may know", source.path()));
        return;
    };
    let depth = source.module.split('/').count();
    for (number, statement) in source.statements() {
        for layer in layers_named(&statement, depth) {
            let is_layer = EVERYTHING.contains(&layer.as_str());
            if is_layer && layer != source.layer() && !allowed.contains(&layer.as_str()) {
                faults.push(format!("{}:{number}: {} may not know {layer}", source.path(), source.layer()));
            }
        }
        for (name, layers) in OUTSIDE {
            if has_word(&statement, name) && !layers.contains(&source.layer()) {
                let layer = source.layer();
                faults.push(format!("{}:{number}: {layer} may not use {name}", source.path()));
            }
        }
    }
}

fn is_open_import(statement: &str) -> bool {
    let starts = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
    starts.iter().any(|start| statement.starts_with(start)) && !statement.ends_with(';')
}

fn check_form(source: &Source, faults: &mut Vec<String>) {
    if !source.text.starts_with("//! ") {
        faults.push(format!("{}:1: a file opens with //! and what it owns", source.path()));
    }
    let lines: Vec<&str> = source.text.lines().collect();
    check_length(&source.path(), lines.len(), LINES_MAX, faults);
    for (name, _, length) in functions(&lines[..source.product_lines]) {
        check_length(&format!("{} {name}", source.path()), length, FUNCTION_LINES_MAX, faults);
    }
    for (number, line) in source.code() {
        for (word, rule) in FORBIDDEN {
            if has_word(line, word) {
                faults.push(format!("{}:{number}: {rule}", source.path()));
            }
        }
        let is_unsafe =
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe");
        if is_unsafe {
            faults.push(format!("{}:{number}: no unsafe", source.path()));
        }
    }
}

/// The functions among these lines, each with its name, the line that it begins on and how many lines it has.
fn functions<'a>(lines: &[&'a str]) -> Vec<(&'a str, usize, usize)> {
    const MODIFIERS: [&str; 3] = ["const", "async", "fn"];
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let before = |word: &&str| word.starts_with("pub") || MODIFIERS.contains(word) || word.ends_with(')');
        let signature =
            code.split_once("fn ").filter(|(words, _)| words.split_whitespace().all(|word| before(&word)));
        let Some((_, signature)) = signature else { continue };
        let rest = &lines[begin..];
        let opening = rest.iter().find(|line| line.ends_with(['{', ';', '}']));
        let end = format!("{indent}}}");
        let end = rest
            .iter()
            .position(|line| **line == end)
            .filter(|_| opening.is_some_and(|line| line.ends_with('{')));
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        found.extend(end.map(|end| (name, begin + 1, end + 1)));
    }
    found
}

/// How long a file or function may be: as long as others, or as `LONGER` says.
fn check_length(name: &str, lines: usize, max: usize, faults: &mut Vec<String>) {
    match LONGER.iter().find(|(longer, _)| *longer == name) {
        Some((_, known)) if lines > *known => {
            faults.push(format!(
                "{name}: has grown from {known} to {lines} lines, where {max} are allowed; divide it"
            ));
        }
        Some(_) if lines <= max => {
            faults.push(format!("{name}: has {lines} lines, which is allowed; take it out of LONGER"));
        }
        None if lines > max => {
            faults.push(format!("{name}: has {lines} lines, where {max} are allowed; divide it"))
        }
        _ => {}
    }
}

/// The floor of what this path below `src/broker/` leads to.
fn floor_of(path: &str) -> Option<usize> {
    let begins =
        |entry: &str| path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let entries = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, entries)| entries.iter().map(move |entry| (floor, *entry)));
    entries.filter(|(_, entry)| begins(entry)).max_by_key(|(_, entry)| entry.len()).map(|(floor, _)| floor)
}

fn check_floors(source: &Source, faults: &mut Vec<String>) {
    let Some(module) = source.module.strip_prefix("broker/") else { return };
    let Some(own) = floor_of(module) else {
        faults.push(format!("{}: is on no floor; say in FLOORS on which", source.path()));
        return;
    };
    // A room that is only its list of modules knows all of them.
    let is_list = source.code().all(|(_, line)| line.contains("mod ") || line.contains("use "));
    if is_list {
        return;
    }
    let parts: Vec<&str> = module.split('/').collect();
    for (number, statement) in source.statements() {
        let mut named = paths_behind(&statement, "crate::broker::");
        for (level, parent) in (0..parts.len()).map(|level| (level, &parts[..parts.len() - 1 - level])) {
            let below = paths_behind(&statement, &"super::".repeat(level + 1));
            let below = below.into_iter().filter(|path| !path.starts_with("super"));
            named.extend(below.map(|path| [&parent.join("/"), path.as_str()].join("/")));
        }
        for path in named {
            let path = path.trim_start_matches('/');
            if floor_of(path).is_some_and(|floor| floor > own) {
                faults.push(format!(
                    "{}:{number}: {module} may not know {path}, on a higher floor",
                    source.path()
                ));
            }
        }
    }
}

fn check_words<'a>(path: &str, lines: impl Iterator<Item = (usize, &'a str)>, faults: &mut Vec<String>) {
    for (index, line) in lines {
        let line = line.to_lowercase();
        for (word, better) in WORDS {
            let ends = line.match_indices(word).map(|(at, _)| line.as_bytes().get(at + word.len()).copied());
            if has_word(&line, word) && ends.into_iter().any(|next| !next.is_some_and(is_identifier)) {
                faults.push(format!("{path}:{}: '{word}' is not the trade's word: {better}", index + 1));
            }
        }
    }
}

/// The pages that users and developers read, but for the one that lists these words.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "docs/decisions", "docs/measurements", "tests", "conformance"];
    let entries = folders.iter().flat_map(|folder| {
        let folder = root.join(folder);
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    });
    let mut pages: Vec<PathBuf> =
        entries.map(|entry| entry.expect("our own folders can be read").path()).collect();
    pages.retain(|path| {
        path.extension().is_some_and(|ending| ending == "md") && !path.ends_with("CONTRIBUTING.md")
    });
    pages.sort();
    assert!(pages.len() > 20, "the pages were not found where they should be");
    pages
}

/// The words of the names in a line of code, in lower case; what stands in quotes is none.
fn words_of_names(line: &str) -> Vec<String> {
    let code: Vec<&str> = line.split('"').step_by(2).collect();
    let code = code.join(" ");
    let names = code.split(|c: char| !c.is_ascii_alphanumeric());
    let mut words = Vec::new();
    for name in names {
        let mut word = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            word.push(letter.to_ascii_lowercase());
        }
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    words
}

fn check_names(source: &Source, faults: &mut Vec<String>) {
    for (number, line) in source.code() {
        for word in words_of_names(line) {
            let better = NAMES.iter().find(|(refused, _)| *refused == word);
            faults.extend(better.map(|(_, better)| {
                format!("{}:{number}: '{word}' in a name is not the trade's word: {better}", source.path())
            }));
        }
    }
}

#[test]
fn the_layers_and_the_form_of_src_hold() {
    let sources = sources();
    let test_modules: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !test_modules.contains(&source.module)) {
        check_layers(source, &mut faults);
        check_floors(source, &mut faults);
        check_form(source, &mut faults);
        check_names(source, &mut faults);
    }
    for source in &sources {
        let comments =
            source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        check_words(&source.path(), comments, &mut faults);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn pages_have_the_words_of_the_trade() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("our own pages can be read");
        check_words(&page.display().to_string(), text.lines().enumerate(), &mut faults);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let named = |statement: &str, depth| layers_named(statement, depth).join(" ");
    assert_eq!(named("use crate::broker::Broker;", 2), "broker");
    assert_eq!(named("use crate::{amqp::{Peer, frame}, net};", 2), "amqp net");
    assert_eq!(named("let a: crate::net::Shutdown = crate::store::x();", 2), "net store");
    assert_eq!(named("pub(in crate::amqp) fn send()", 3), "amqp");
    assert_eq!(named("use super::super::net::Shutdown;", 2), "net");
    assert_eq!(named("use super::super::net::Shutdown;", 3), "");
    assert_eq!(named("leveret_crate::net", 2), "");
    let behind = |statement: &str| paths_behind(statement, "super::").join(" ");
    assert_eq!(
        behind("use super::observe::stats::{Samples, count};"),
        "observe/stats/Samples observe/stats/count"
    );
    assert_eq!(
        behind("use super::{Broker, access::{logins::{Logins}, users}};"),
        "Broker access/logins/Logins access/users"
    );
    assert_eq!(behind("use super::super::Broker;"), "super/Broker");
    assert!(has_word("x.unwrap()", ".unwrap()") && !has_word("my_todo!()", "todo!"));
    assert_eq!(without_comment("a(); // crate::net"), "a();");
    assert_eq!(words_of_names("fn work_elsewhere(a: Heeded)").join(" "), "fn work elsewhere a heeded");
    assert_eq!(words_of_names("say(\"elsewhere\")").join(" "), "say");
}

#[test]
fn functions_are_measured() {
    let lines: Vec<&str> = "fn a() {\n}\n    pub(super) async fn b<T>(\n        t: T,\n    ) -> T {\n        t\n    }\nfn c();\nlet fn_d = 1;"
        .lines()
        .collect();
    assert_eq!(functions(&lines), [("a", 1, 2), ("b", 3, 5)]);
}
