//! The built `leveret` as a process of its own, on a free port, for tests that drive it from outside.
//!
//! `LEVERET_TEST_URL` names a broker that already runs; then nothing is started.

#![allow(dead_code)] // Each test program uses a part of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(15);

/// A running broker. Dropping it sends SIGTERM and asserts exit status 0, or kills it when the test has failed.
pub(crate) struct BrokerProcess {
    /// Where it listens, with user, password and vhost.
    pub(crate) url: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// The lines of its standard output; disconnected when the process has ended.
    lines: Receiver<String>,
    directory: PathBuf,
    asked_to_stop: bool,
}

impl BrokerProcess {
    /// Starts a broker whose data live in a directory named after `test`.
    pub(crate) fn start(test: &str) -> Self {
        if let Ok(url) = std::env::var("LEVERET_TEST_URL") {
            return Self { url, process: None };
        }
        Self::start_with(test, &[], None)
    }

    /// As [`BrokerProcess::start`], but always a broker of its own, with these variables. It may have at most
    /// `file_descriptors` open.
    pub(crate) fn start_with(test: &str, variables: &[(&str, &str)], file_descriptors: Option<u32>) -> Self {
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("the test's directory can be made");
        let log = File::create(directory.join("stderr.log")).expect("the log can be made");
        let limit = file_descriptors.map(|count| format!("ulimit -n {count}; ")).unwrap_or_default();
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_leveret")])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .current_dir(&directory)
            .env("LEVERET__LISTENERS__AMQP__BIND", "127.0.0.1:0")
            .env("LEVERET__LISTENERS__HTTP__BIND", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the built broker can be run");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = mpsc::channel();
        // Reading to the end keeps the broker from ever waiting for room in the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut process = Process { child, lines, directory, asked_to_stop: false };
        match process.port() {
            Some(port) => {
                Self { url: format!("amqp://guest:guest@127.0.0.1:{port}/%2F"), process: Some(process) }
            }
            None => panic!("the broker did not say where it listens; {}", process.kill()),
        }
    }
}

#[allow(dead_code)] // Only some tests look so closely.
impl BrokerProcess {
    /// Its process id; its own, not a shell's.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("this test started it").child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        let host = self.url.split_once('@').expect("the URL names a user").1;
        host.split('/').next().unwrap_or_default().to_owned()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        let process = self.process.as_ref().expect("this test started it");
        fs::read_to_string(process.directory.join("stderr.log")).unwrap_or_default()
    }

    /// Asks it to stop, and does not wait until it has.
    pub(crate) fn ask_to_stop(&mut self) {
        self.process.as_mut().expect("this test started it").ask_to_stop();
    }
}

impl Process {
    /// The port of the line that says where it listens.
    fn port(&self) -> Option<u16> {
        let deadline = Instant::now() + START;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            let rest = line.split_once("listening on amqp://127.0.0.1:").map(|(_, rest)| rest);
            if let Some(rest) = rest {
                return rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
            }
        }
    }

    /// Asks it to stop, once: it would take a second time for more than that.
    fn ask_to_stop(&mut self) {
        if !std::mem::replace(&mut self.asked_to_stop, true) {
            // std has no SIGTERM, and every shell has kill.
            let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
            self.asked_to_stop = asked.is_ok_and(|status| status.success());
        }
    }

    /// Asks it to stop and waits until it has; false when it takes too long.
    fn terminate(&mut self) -> bool {
        self.ask_to_stop();
        let deadline = Instant::now() + STOP;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.asked_to_stop,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Ends it at once; says where its log is, and how that ends.
    fn kill(&mut self) -> String {
        // It may have ended by itself; then there is nothing left to kill.
        let _ = self.child.kill();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = self.directory.join("stderr.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(20).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("it ended with {status}; the end of {}:\n{tail}", log.display())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), process.kill().as_bytes());
            return;
        }
        if !process.terminate() {
            panic!("the broker did not stop within {STOP:?} of SIGTERM; {}", process.kill());
        }
        let status = process.child.wait().expect("our own child can be waited for");
        assert!(status.success(), "{}", process.kill());
        let _ = fs::remove_dir_all(&process.directory);
    }
}
