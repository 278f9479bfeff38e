//! The broker's process: started, watched through /proc, ended.

use super::Result;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How a broker is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Terminated,
    Killed,
}

/// A running broker.
pub(crate) struct BrokerProcess {
    pub(crate) address: SocketAddr,
    child: Child,
    data: PathBuf,
}

impl BrokerProcess {
    /// Starts the binary with these variables and waits until it says where it listens.
    pub(crate) fn start(binary: &str, data: &Path, variables: &[(&str, &str)]) -> Result<BrokerProcess> {
        let mut child = Command::new(binary)
            .arg("--data-dir")
            .arg(data)
            .env("LEVERET__LISTENERS__AMQP__BIND", "127.0.0.1:0")
            .env("LEVERET__LISTENERS__HTTP__BIND", "127.0.0.1:0")
            .env("LEVERET__LISTENERS__PROMETHEUS__BIND", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("its output is piped")?).lines();
        let address = loop {
            let line = lines.next().ok_or("the broker ended before it listened")??;
            if let Some((_, address)) = line.split_once("listening on amqp://") {
                break address.trim().parse()?;
            }
        };
        // Read on, so that it never waits for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(BrokerProcess { address, child, data: data.to_owned() })
    }

    pub(crate) fn end(&mut self, how: Ended) -> Result<()> {
        match how {
            Ended::Killed => self.child.kill()?,
            Ended::Terminated => {
                let pid = self.child.id().to_string();
                Command::new("kill").args(["-TERM", &pid]).status()?;
            }
        }
        let status = self.child.wait()?;
        match how {
            Ended::Terminated if !status.success() => Err(format!("the broker ended with {status}").into()),
            _ => Ok(()),
        }
    }

    /// Memory and disk in words.
    pub(crate) fn state(&self) -> String {
        let disk = disk_bytes(&self.data) >> 20;
        format!(
            "{} MiB resident (at most {}), {disk} MiB on disk",
            self.resident_mib(),
            self.status_mib("VmHWM:")
        )
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        self.status_mib("VmRSS:")
    }

    #[allow(dead_code, reason = "the example scale divides by many things")]
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") << 10
    }

    fn status_mib(&self, key: &str) -> u64 {
        self.status_kib(key) >> 10
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib =
            status.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or(0u64)
    }

    /// User and system time, in the kernel's ticks of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes on disk below a directory.
fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
