//! What the system says of this process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// See the module; 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// How many threads it has.
    pub threads: u64,
    /// How many threads there may be.
    pub threads_max: u64,
    /// How many file descriptors are open.
    pub open_files: u64,
    /// How many there may be.
    pub open_files_max: u64,
    /// The machine's memory, in bytes.
    pub machine_bytes: u64,
}

impl Process {
    /// Reads the figures from `/proc` now.
    pub fn look() -> Process {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (status, limits) = (status().unwrap_or_default(), read("/proc/self/limits"));
        let threads_max = match number_after(&limits, "Max processes") {
            0 => read("/proc/sys/kernel/threads-max").trim().parse().unwrap_or(0),
            max => max,
        };
        Process {
            resident_bytes: number_after(&status, "VmRSS:") * 1024,
            threads: number_after(&status, "Threads:"),
            threads_max,
            // The directory that is read is one of them, and closed afterwards.
            open_files: fs::read_dir("/proc/self/fd")
                .map_or(0, |files| files.count().saturating_sub(1) as u64),
            open_files_max: number_after(&limits, "Max open files"),
            machine_bytes: number_after(&read("/proc/meminfo"), "MemTotal:") * 1024,
        }
    }
}

/// What the system says of this process now. The file is opened once, by the first call, so that this works on when no
/// descriptor is left.
///
/// # Errors
/// When the system does not say.
pub(super) fn status() -> io::Result<String> {
    static STATUS: OnceLock<File> = OnceLock::new();
    let file = match STATUS.get() {
        Some(file) => file,
        None => {
            let opened = File::open("/proc/self/status")?;
            STATUS.get_or_init(|| opened)
        }
    };
    let mut text = vec![0; STATUS_BYTES_MAX];
    let bytes = file.read_at(&mut text, 0)?;
    text.truncate(bytes);
    String::from_utf8(text).map_err(io::Error::other)
}

/// More than the system ever says there.
const STATUS_BYTES_MAX: usize = 16 << 10;

/// The first number behind a word that begins a line; 0 where there is no such line, or something else behind the word.
fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(word));
    rest.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_threads_and_open_files() {
        let process = Process::look();
        assert!(process.resident_bytes > 1 << 20 && process.resident_bytes < process.machine_bytes);
        assert!(process.threads >= 1 && process.threads <= process.threads_max);
        assert!(process.open_files >= 3 && process.open_files <= process.open_files_max);
    }

    #[test]
    fn numbers_are_found_in_what_the_system_says() {
        let status = "Name:\tleveret\nVmRSS:\t   10240 kB\nThreads:\t7\n";
        assert_eq!(number_after(status, "VmRSS:"), 10240);
        assert_eq!(
            number_after("Max open files            1024                 4096", "Max open files"),
            1024
        );
        assert_eq!(number_after(status, "None:"), 0);
    }
}
