//! What the pages for users show is so: shell blocks run against a started broker, files are checked and configurations are sound,
//! Python programs run, and the output that stands behind a block is what it prints.
//!
//! | Block | What is done |
//! |---|---|
//! | `sh` | run by `sh -e` in the page's folder, with `leveret` on the path |
//! | `text` right behind it | its output; `...` stands for any text, alone on a line for any lines |
//! | `toml NAME` | written to that file, or to `leveret.toml`, and given to `leveret check` |
//! | `python` | run, where `target/venv` has pika; elsewhere only compiled |
//! | `json NAME` and others with a name | written to that file |
//! | `<!-- start NAME -->` | the broker is replaced by one with that configuration and an empty data directory |
//!
//! Rust is compiled with the library's documentation. Whatever else is only looked at: `console` shows what needs another machine.
//! Addresses with the default ports stand for those of the started broker.

use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One test for each page, so that a failure names it.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(#[test] fn $test() { Page::read($page).run(); })*
    };
}

pages! {
    readme: "README.md",
    documentation: "docs/README.md",
    dead_letters: "docs/dead-letters.md",
    dependencies: "docs/dependencies.md",
    embedding: "docs/embedding.md",
    exchanges: "docs/exchanges.md",
    faq: "docs/faq.md",
    getting_started: "docs/getting-started.md",
    limits: "docs/limits.md",
    management_api: "docs/management-api.md",
    migrating: "docs/migrating.md",
    operating: "docs/operating.md",
    performance: "docs/performance.md",
    queues: "docs/queues.md",
    security: "docs/security.md",
    settings: "docs/settings.md",
    stomp: "docs/stomp.md",
    stream_protocol: "docs/stream-protocol.md",
    streams: "docs/streams.md",
    tuning: "docs/tuning.md",
    websocket: "docs/websocket.md",
}

/// Fenced blocks of a page, in their order.
struct Page {
    name: &'static str,
    blocks: Vec<Block>,
}

#[derive(Debug)]
enum Block {
    /// With its language, the name behind that, and the line of its beginning.
    Fenced { language: String, name: Option<String>, line: usize, text: String },
    /// A broker with that configuration.
    Start(String),
}

impl Page {
    fn read(name: &'static str) -> Page {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let mut blocks = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if let Some(file) = line.strip_prefix("<!-- start ").and_then(|rest| rest.strip_suffix(" -->")) {
                blocks.push(Block::Start(file.to_owned()));
            } else if let Some(information) = line.strip_prefix("```") {
                let (language, name) = information.split_once(' ').unwrap_or((information, ""));
                assert!(!language.is_empty(), "{name}:{}: a block says its language", index + 1);
                let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
                let text = body.map(|line| format!("{line}\n")).collect();
                let name = Some(name.to_owned()).filter(|name| !name.is_empty());
                blocks.push(Block::Fenced { language: language.to_owned(), name, line: index + 1, text });
            }
        }
        Page { name, blocks }
    }

    fn run(self) {
        let mut place = Place::new(self.name);
        let mut output: Option<String> = None;
        for block in &self.blocks {
            let printed = output.take();
            match block {
                Block::Start(file) => place.start(Some(file)),
                Block::Fenced { language, name, line, text } => {
                    let at = format!("{}:{line}", self.name);
                    match (language.as_str(), name) {
                        ("sh", _) => output = Some(place.shell(&at, text)),
                        ("python", name) => output = place.python(&at, name.as_deref(), text),
                        ("toml", name) => place.configuration(&at, name.as_deref(), text),
                        ("text", None) => printed.iter().for_each(|printed| compare(&at, text, printed)),
                        ("rust" | "console", _) | (_, None) => {}
                        (_, Some(name)) => place.write(name, text),
                    }
                }
            }
        }
    }
}

/// Where a page's blocks run: a folder, and a broker whose data are in it as if it had been started there.
struct Place {
    folder: PathBuf,
    programs: PathBuf,
    broker: Option<BrokerProcess>,
    /// What the page says, and where that is.
    addresses: Vec<(&'static str, String)>,
    started: u32,
}

impl Place {
    fn new(page: &str) -> Place {
        let root = folder_of(&page.replace(['/', '.'], "-"));
        let (folder, programs) = (root.join("work"), root.join("programs"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&programs).unwrap();
        for name in ["leveret", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-plugins", "rabbitmq-streams"]
        {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_leveret"), programs.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"),
            folder.join("examples"),
        )
        .unwrap();
        Place { folder, programs, broker: None, addresses: Vec::new(), started: 0 }
    }

    /// Ends the broker that runs, if one does, and starts one.
    fn start(&mut self, configuration: Option<&str>) {
        self.broker = None;
        self.started += 1;
        let data = self.folder.join("leveret-data");
        let _ = fs::remove_dir_all(&data);
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.current_dir(&self.folder);
        if let Some(file) = configuration {
            command.args(["--config", file]);
        }
        let log = self.folder.with_file_name(format!("stderr-{}.log", self.started));
        let broker = BrokerProcess::start_command(command, &data, &log);
        self.addresses = vec![
            ("127.0.0.1:5672", broker.address()),
            ("127.0.0.1:15672", broker.address_of_http()),
            ("127.0.0.1:15692", broker.address_of_metrics()),
        ];
        let text = configuration.map(|file| fs::read_to_string(self.folder.join(file)).unwrap());
        if text.is_some_and(|text| text.lines().any(|line| line.starts_with("certificate ="))) {
            self.addresses.push(("127.0.0.1:5671", broker.address_of("amqps")));
            self.addresses.push(("127.0.0.1:15671", broker.address_of_https()));
        }
        self.broker = Some(broker);
    }

    fn with_addresses(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// A command that finds the broker as a reader's would.
    fn command(&mut self, program: &Path) -> Command {
        if self.broker.is_none() {
            self.start(None);
        }
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap_or_default());
        let address = |shown: &str| self.with_addresses(shown);
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("HOME", &self.folder)
            .env("LEVERET_URL", address("http://127.0.0.1:15672"))
            .env("AMQP_URL", address("amqp://guest:guest@127.0.0.1:5672/%2F"))
            .env_remove("LEVERET_USER")
            .env_remove("LEVERET_PASSWORD");
        command
    }

    /// What the command prints, with the addresses that the page has.
    fn output(&self, at: &str, mut command: Command) -> String {
        let output = command.output().unwrap();
        let (printed, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{at}: ended with {}\n{printed}{errors}", output.status);
        self.addresses.iter().fold(printed.into_owned(), |text, (shown, real)| text.replace(real, shown))
    }

    fn shell(&mut self, at: &str, text: &str) -> String {
        let mut command = self.command(Path::new("sh"));
        command.args(["-ec", &self.with_addresses(text)]);
        self.output(at, command)
    }

    fn configuration(&self, at: &str, name: Option<&str>, text: &str) {
        let name = name.unwrap_or("leveret.toml");
        self.write(name, text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.current_dir(&self.folder).args(["check", name]);
        self.output(at, command);
    }

    fn python(&mut self, at: &str, name: Option<&str>, text: &str) -> Option<String> {
        let name = name.unwrap_or("program.py");
        self.start_unless_running();
        self.write(name, &self.with_addresses(text));
        let with_pika = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
        let has_pika = Command::new(&with_pika).args(["-c", "import pika"]).output();
        if has_pika.is_ok_and(|output| output.status.success()) {
            let mut command = self.command(&with_pika);
            command.arg(name);
            return Some(self.output(at, command));
        }
        let mut command = self.command(Path::new("python3"));
        command.args(["-m", "py_compile", name]);
        self.output(at, command);
        None
    }

    fn start_unless_running(&mut self) {
        if self.broker.is_none() {
            self.start(None);
        }
    }
}

/// Asks that a page shows what was printed.
fn compare(at: &str, shown: &str, printed: &str) {
    let (shown_words, printed_words) = (words(shown), words(printed));
    assert!(
        lines_fit(&borrowed(&shown_words), &borrowed(&printed_words)),
        "{at}: shows\n{shown}\nbut this is printed:\n{printed}"
    );
}

/// The lines of a text without what only aligns them.
fn words(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn borrowed(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

/// Whether lines fit those of a page, in which `...` alone stands for any lines.
fn lines_fit(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=printed.len()).any(|skipped| lines_fit(rest, &printed[skipped..])),
        (Some((shown, shown_rest)), Some((printed, printed_rest))) => {
            line_fits(shown, printed) && lines_fit(shown_rest, printed_rest)
        }
        _ => false,
    }
}

/// Whether a line fits one of a page, in which `...` stands for any text.
fn line_fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = parts.next().and_then(|start| printed.strip_prefix(start)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn all_pages_are_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: BTreeSet<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    let run: BTreeSet<String> =
        PAGES.iter().filter(|page| page.starts_with("docs/")).map(|page| (*page).to_owned()).collect();
    assert_eq!(pages, run, "pages! lists the pages of docs/");
}

#[test]
fn a_page_may_leave_out_what_differs() {
    assert!(line_fits("took ... ms", "took 15 ms") && !line_fits("took ... ms", "took 15 s"));
    assert!(line_fits("a ... b ... c", "a 1 b 2 c") && !line_fits("a", "a b") && line_fits("a...", "a b"));
    assert!(lines_fit(&["a", "...", "d"], &["a", "b", "c", "d"]) && !lines_fit(&["a", "..."], &["b"]));
}
