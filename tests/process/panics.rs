//! A panic is one line of the log, and none where it is taken for an error. The hook and the log are the whole process's, so
//! the test runs in a second process.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Set in the second process.
const ALONE: &str = "LEVERET_TEST_ALONE";

#[test]
fn a_panic_is_told_once_in_the_log() {
    if std::env::var_os(ALONE).is_none() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "panics::a_panic_is_told_once_in_the_log", "--nocapture"]).env(ALONE, "1");
        assert!(command.status().unwrap().success(), "failed by itself, see above");
        return;
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(log).unwrap();
    leveret::log::report_panics(|| std::thread::current().name() == Some("guarded"));
    for name in ["guarded", "plain"] {
        let thread = std::thread::Builder::new().name(name.to_owned());
        assert!(thread.spawn(|| panic!("the number is {}, sadly", 5)).unwrap().join().is_err());
    }
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let first = said.lines().next().unwrap();
    assert!(
        first.contains("ERROR") && first.contains("thread plain panicked: the number is 5, sadly"),
        "{said}"
    );
    assert!(first.contains("panics.rs:") && first.contains("please report it"), "{said}");
    assert!(!said.contains("guarded"), "{said}");
}
