//! The built `leveret` as a process of its own, on a free port, for tests that drive it from outside.
//!
//! `LEVERET_TEST_URL` names a broker that already runs; then [`BrokerProcess::start`] starts nothing.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(15);

/// The setting for how much of the disk has to stay free.
const DISK_FREE: &str = "LEVERET__LIMITS__DISK_FREE_BYTES";

/// All of them get ports of the system's choice.
const LISTENERS: [&str; 6] = ["AMQP", "AMQPS", "HTTP", "HTTPS", "PROMETHEUS", "PROMETHEUS_HTTPS"];

/// A running broker. Dropping it sends SIGTERM and asserts exit status 0, or kills it when the test has failed.
pub struct BrokerProcess {
    /// Where it listens, with user, password and vhost.
    pub url: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// The lines of its standard output; disconnected when the process has ended.
    lines: Receiver<String>,
    /// Those that were read while one was looked for.
    seen: RefCell<Vec<String>>,
    log: PathBuf,
    /// What goes when the broker does.
    directory: Option<PathBuf>,
    asked_to_stop: bool,
}

/// The built `leveret`. The test programs are beside it, in `deps`.
pub fn program() -> PathBuf {
    built().join("leveret")
}

/// The directory of what was built with the running test program.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the test program has a path");
    test.ancestors().nth(2).expect("it is in deps, in the directory of its profile").to_owned()
}

/// A folder that is named after `test` and belongs to this run alone.
pub fn folder_of(test: &str) -> PathBuf {
    let folder = built().with_file_name("tmp").join(format!("{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the test's directory can be made");
    folder
}

impl BrokerProcess {
    /// Starts a broker whose data live in a directory named after `test`.
    pub fn start(test: &str) -> Self {
        if let Ok(url) = std::env::var("LEVERET_TEST_URL") {
            return Self { url, process: None };
        }
        Self::start_with(test, &[], None)
    }

    /// As [`BrokerProcess::start`], but always a broker of its own, with these variables. It may have at most
    /// `file_descriptors` open.
    pub fn start_with(test: &str, variables: &[(&str, &str)], file_descriptors: Option<u32>) -> Self {
        let directory = folder_of(test);
        let limit = file_descriptors.map(|count| format!("ulimit -n {count}; ")).unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
            .arg(program())
            .current_dir(&directory)
            .envs(variables.iter().copied());
        let mut broker = Self::start_command(command, &directory.join("data"), &directory.join("stderr.log"));
        broker.process.as_mut().expect("it was just started").directory = Some(directory);
        broker
    }

    /// Starts a broker on a data directory that outlives it, with these variables. What it says is added to `log`.
    pub fn start_on(data: &Path, log: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.envs(variables.iter().copied());
        Self::start_command(command, data, log)
    }

    /// Starts what `command` runs: a broker, or something around one.
    pub fn start_command(mut command: Command, data: &Path, log: &Path) -> Self {
        // A disk that is nearly full is no matter to most tests.
        if command.get_envs().all(|(name, _)| name != DISK_FREE) {
            command.env(DISK_FREE, "1000000");
        }
        let errors = File::options().create(true).append(true).open(log).expect("the log can be made");
        let mut child = command
            .arg("--data-dir")
            .arg(data)
            .envs(LISTENERS.map(|name| (format!("LEVERET__LISTENERS__{name}__BIND"), "127.0.0.1:0")))
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the built broker can be run");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = mpsc::channel();
        // Reading to the end keeps the broker from ever waiting for room in the pipe.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut process = Process {
            child,
            lines,
            seen: RefCell::default(),
            log: log.to_owned(),
            directory: None,
            asked_to_stop: false,
        };
        match process.port() {
            Some(port) => {
                Self { url: format!("amqp://guest:guest@127.0.0.1:{port}/%2F"), process: Some(process) }
            }
            None => panic!("the broker did not say where it listens; {}", process.kill()),
        }
    }
}

impl BrokerProcess {
    /// Its process id; its own, not a shell's.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("this test started it").child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        let host = self.url.split_once('@').expect("the URL names a user").1;
        host.split('/').next().unwrap_or_default().to_owned()
    }

    /// Where it speaks that variant of AMQP, of those that it prints behind the plain one.
    pub fn address_of(&self, scheme: &str) -> String {
        self.printed(&format!("listening on {scheme}://"))
    }

    /// Where it listens for another protocol, of those that it prints by their names.
    pub fn address_of_protocol(&self, name: &str) -> String {
        self.printed(&format!("listening for {name} on "))
    }

    /// Where its metrics are.
    pub fn address_of_metrics(&self) -> String {
        self.printed("metrics are at http://").trim_end_matches("/metrics").to_owned()
    }

    /// Where its management API is.
    pub fn address_of_http(&self) -> String {
        self.printed("the management API is at http://").trim_end_matches("/api").to_owned()
    }

    /// Where its management API is over TLS.
    pub fn address_of_https(&self) -> String {
        self.printed("the management API is at https://").trim_end_matches("/api").to_owned()
    }

    /// What stands behind a text in a line that it prints when it starts.
    fn printed(&self, text: &str) -> String {
        let process = self.process.as_ref().expect("this test started it");
        let deadline = Instant::now() + START;
        let mut seen = process.seen.borrow_mut();
        loop {
            if let Some((_, rest)) = seen.iter().find_map(|line| line.split_once(text)) {
                return rest.trim().to_owned();
            }
            let patience = deadline.saturating_duration_since(Instant::now());
            match process.lines.recv_timeout(patience) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text} in {seen:?}: {error}"),
            }
        }
    }

    /// Waits until it has logged a line with that text.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + START;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "never logged: {text}\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(status.expect("sh can be run").success(), "the signal {name} could not be sent");
    }

    /// Where its management API listens. To be asked once, as it says so once.
    pub fn management(&self) -> String {
        let process = self.process.as_ref().expect("this test started it");
        let port = process.port_after("http://").expect("the broker says where its management API is");
        format!("127.0.0.1:{port}")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let process = self.process.as_ref().expect("this test started it");
        fs::read_to_string(&process.log).unwrap_or_default()
    }

    /// Ends it at once, as the system would: SIGKILL.
    pub fn kill(mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().expect("our own child can be killed");
            process.child.wait().expect("our own child can be waited for");
        }
    }

    /// Waits until it ends by itself, and says with which status; `None` when it does not within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        if !process.is_over_within(patience) {
            return None;
        }
        let status = process.child.wait().expect("our own child can be waited for");
        self.process = None;
        Some(status)
    }

    /// Asks it to stop, and does not wait until it has.
    pub fn ask_to_stop(&mut self) {
        self.process.as_mut().expect("this test started it").ask_to_stop();
    }
}

impl Process {
    /// The port of the line that says where it listens.
    fn port(&self) -> Option<u16> {
        self.port_after("listening on amqp://")
    }

    /// The port of the address that the next line with this text has behind it.
    fn port_after(&self, text: &str) -> Option<u16> {
        let deadline = Instant::now() + START;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            if let Some((_, rest)) = line.split_once(text) {
                let address = rest.trim().split('/').next()?;
                return address.rsplit(':').next()?.parse().ok();
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
        self.is_over_within(STOP) && self.asked_to_stop
    }

    fn is_over_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Ends it at once; says where its log is, and how that ends.
    fn kill(&mut self) -> String {
        // It may have ended by itself; then there is nothing left to kill.
        let _ = self.child.kill();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(20).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("it ended with {status}; the end of {}:\n{tail}", self.log.display())
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
        if let Some(directory) = &process.directory {
            let _ = fs::remove_dir_all(directory);
        }
    }
}
