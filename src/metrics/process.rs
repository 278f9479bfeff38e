//! What the system says of this process. A figure that it does not give is left out.

use std::fs;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Memory in use.
    pub(super) resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub(super) open_fds: Option<u64>,
    /// How many there may be; `None` is no limit as well.
    pub(super) fds_max: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Process {
        Process {
            resident_bytes: resident_bytes(),
            // The directory that is read is one of them, and gone afterwards.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            fds_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_open_files() {
        let process = Process::look();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.open_fds.unwrap() >= 3);
    }
}
