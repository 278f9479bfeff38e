//! The built `leveret` as a process of its own, on a free port, for tests that drive it from outside.
//!
//! `LEVERET_TEST_URL` names a broker that already runs; then nothing is started.

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
}

impl BrokerProcess {
    /// Starts a broker whose data live in a directory named after `test`.
    pub(crate) fn start(test: &str) -> Self {
        if let Ok(url) = std::env::var("LEVERET_TEST_URL") {
            return Self { url, process: None };
        }
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("the test's directory can be made");
        let log = File::create(directory.join("stderr.log")).expect("the log can be made");
        let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .arg("--data-dir")
            .arg(directory.join("data"))
            .current_dir(&directory)
            .env("LEVERET__LISTENERS__AMQP__BIND", "127.0.0.1:0")
            .env("LEVERET__LISTENERS__HTTP__BIND", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the built broker can be run");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = mpsc::channel();
        // Reading to the end keeps the broker from ever waiting for room in the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut process = Process { child, lines, directory };
        match process.port() {
            Some(port) => {
                Self { url: format!("amqp://guest:guest@127.0.0.1:{port}/%2F"), process: Some(process) }
            }
            None => panic!("the broker did not say where it listens; {}", process.kill()),
        }
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

    /// Asks it to stop and waits until it has; false when it takes too long.
    fn terminate(&self) -> bool {
        // std has no SIGTERM, and every shell has kill.
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let deadline = Instant::now() + STOP;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return asked.is_ok_and(|status| status.success()),
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
