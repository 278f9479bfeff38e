//! Watches how much memory the process uses. Above the high watermark the memory alarm is raised, which blocks publishers while
//! consumers go on; it is cleared when enough has been given back. The server looks once before anybody can connect, then
//! [`MemoryWatch::run`] goes on.
//!
//! Above a second mark the alarm has not been enough: then the connection that keeps most in memory is closed, one after the
//! other, each with the reason.

use super::disk::Size;
use crate::broker::Broker;
use crate::broker::alarms::Alarm;
use crate::broker::observe::connections::LiveConnection;
use crate::message::ConnectionId;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The longest time between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The shortest; a look takes a few microseconds.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// No broker is thought to grow faster. A second look is taken before that could have used up what was left below the limit.
const GROWN_BYTES_PER_MS: u64 = (1 << 30) / 1000;

/// The alarm is cleared when the process is below the limit by this part of it, so that it does not come and go.
const MARGIN: u64 = 20;

/// How much of what was kept is taken to be in use again, for each byte that the process grows beyond what it was.
const GROWTH_WEIGHT: u64 = 4;

/// Where the memory that the process takes is read from, in bytes.
pub type MemorySource = Box<dyn FnMut() -> io::Result<u64> + Send>;

/// The watch on the process's memory; see the module. The limit can be changed while it runs.
pub struct MemoryWatch(Mutex<State>);

/// A connection is not closed for keeping less than this part of the limit, nor for less than a mebibyte: it is not what takes
/// the memory.
const HOLDER_PART: u64 = 16;
const HOLDER_BYTES_MIN: u64 = 1 << 20;

/// Looks between the end of a connection that was closed for what it kept and the next one: what it gave back the allocator
/// returns to the system within two seconds.
const LOOKS_AFTER_END: u32 = 150;

/// How far the closing of a connection has come.
#[derive(Debug, Default)]
enum Closing {
    /// None is to be closed.
    #[default]
    None,
    /// All were asked what they keep.
    Asked,
    /// One was asked to close.
    Waiting(ConnectionId),
    /// One has ended; how many looks ago that was.
    Ended(u32),
}

/// The limit of a broker that may take any memory.
const ANY: u64 = u64::MAX;

struct State {
    limit_bytes: u64,
    /// In percent of the limit: above that connections are closed; 0 is never.
    close_percent: u32,
    closing: Closing,
    broker: Arc<Broker>,
    source: MemorySource,
    /// The most that the process has taken, and what of that is in no account.
    peak_bytes: u64,
    rest_bytes: u64,
    is_low: bool,
    is_blind: bool,
}

impl MemoryWatch {
    /// A watch on what `source` says; [`resident_bytes`] is this process. Above `limit_bytes` the alarm goes up; without, never.
    /// Above `close_percent` of it the connection that keeps most is closed; 0 is never.
    pub fn new(
        limit_bytes: Option<u64>,
        close_percent: u32,
        broker: Arc<Broker>,
        source: MemorySource,
    ) -> MemoryWatch {
        MemoryWatch(Mutex::new(State {
            limit_bytes: limit_bytes.unwrap_or(ANY),
            close_percent,
            closing: Closing::None,
            broker,
            source,
            peak_bytes: 0,
            rest_bytes: 0,
            is_low: false,
            is_blind: false,
        }))
    }

    /// What the process may take, in bytes; `None` is any.
    pub fn limit_bytes(&self) -> Option<u64> {
        Some(self.0.lock().limit_bytes).filter(|bytes| *bytes != ANY)
    }

    /// Sets what the process may take, in bytes, and looks at once: when this returns, the alarm is up or not as the new limit
    /// wants it.
    pub fn set_limit(&self, limit_bytes: Option<u64>) {
        let mut state = self.0.lock();
        state.limit_bytes = limit_bytes.unwrap_or(ANY);
        state.look();
    }

    /// Looks now, raises or clears the alarm, and says when to look again.
    pub fn look(&self) -> Duration {
        self.0.lock().look()
    }

    /// Looks again and again, forever.
    pub async fn run(self: Arc<Self>) {
        loop {
            sleep(self.look()).await;
        }
    }
}

impl State {
    fn look(&mut self) -> Duration {
        match (self.source)() {
            Ok(resident_bytes) => {
                self.is_blind = false;
                let used_bytes = self.in_use(resident_bytes);
                let pause = self.judge(used_bytes);
                self.close_largest_holder(used_bytes);
                pause
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    tracing::warn!(
                        "the memory that this process takes can't be read, and the memory alarm stays as it is: {error}"
                    );
                }
                PAUSE_MAX
            }
        }
    }

    /// What is in use of what the process takes. What messages give back the allocator may keep for the next ones, and to the
    /// system the process is as large as before: publishers would wait for what never comes. When the process was largest,
    /// next to nothing of it was kept so, unless messages had gone just before: then it grows a little, although much is kept,
    /// since what is kept does not fit every need. Only as it goes on growing is it taken to be in use.
    fn in_use(&mut self, resident_bytes: u64) -> u64 {
        let counted_bytes = self.broker.memory().total_bytes();
        if resident_bytes > self.peak_bytes {
            let grown_bytes = resident_bytes - self.peak_bytes;
            self.peak_bytes = resident_bytes;
            let likely_bytes = self.rest_bytes.saturating_add(grown_bytes.saturating_mul(GROWTH_WEIGHT));
            self.rest_bytes = resident_bytes.saturating_sub(counted_bytes).min(likely_bytes);
        }
        resident_bytes.min(self.rest_bytes.saturating_add(counted_bytes))
    }

    /// Closes the connection that keeps most, if the process takes more than the second mark.
    fn close_largest_holder(&mut self, used_bytes: u64) {
        let close_bytes = match self.close_percent {
            0 => return,
            percent => (self.limit_bytes / 100).saturating_mul(percent.into()),
        };
        if let Closing::Ended(looks) = self.closing {
            self.closing = if looks < LOOKS_AFTER_END { Closing::Ended(looks + 1) } else { Closing::None };
            return;
        }
        let connections = self.broker.connections();
        if let Closing::Waiting(id) = self.closing {
            if connections.find(id).is_none() {
                self.closing = Closing::Ended(0);
            }
            return;
        }
        if used_bytes <= close_bytes {
            self.closing = Closing::None;
        } else if let Closing::Asked = self.closing {
            self.closing = self.close_largest_of(&connections.list(), used_bytes);
        } else {
            connections.list().iter().for_each(|connection| connection.ask_for_holdings());
            self.closing = Closing::Asked;
        }
    }

    fn close_largest_of(&self, connections: &[Arc<LiveConnection>], used_bytes: u64) -> Closing {
        let answered = connections.iter().filter_map(|connection| Some((connection, connection.holdings()?)));
        let Some((connection, holdings)) = answered.max_by_key(|(_, holdings)| holdings.total_bytes()) else {
            return Closing::None;
        };
        if holdings.total_bytes() < (self.limit_bytes / HOLDER_PART).max(HOLDER_BYTES_MIN) {
            return Closing::None;
        }
        let (user, name) = (&connection.facts().user, &connection.facts().name);
        let size = Size(holdings.total_bytes());
        tracing::error!(
            "low on memory: the broker takes {}, {}% of limits.memory_high_watermark allow {}, and connection {name} of user \
             '{user}' keeps most of it, {size}: {} for {} deliveries that it has not acknowledged, {} of transactions, {} that \
             it does not read, {} of messages that are not whole. It is closed",
            Size(used_bytes),
            self.close_percent,
            Size(self.limit_bytes / 100 * u64::from(self.close_percent)),
            Size(holdings.unacked_bytes),
            holdings.unacked_messages,
            Size(holdings.transaction_bytes),
            Size(holdings.outbox_bytes),
            Size(holdings.arriving_bytes),
        );
        connection.ask_to_close(&format!(
            "the broker is low on memory and this connection kept most of it, {size} ({} unacknowledged deliveries, {} of \
             transactions): acknowledge sooner, set a prefetch count, commit less at a time",
            holdings.unacked_messages,
            Size(holdings.transaction_bytes)
        ));
        Closing::Waiting(connection.facts().id)
    }

    fn judge(&mut self, used_bytes: u64) -> Duration {
        let limit_bytes = self.limit_bytes;
        let cleared_below = limit_bytes - limit_bytes / MARGIN;
        if !self.is_low && used_bytes > limit_bytes {
            self.is_low = true;
            self.broker.raise_alarm(Alarm::Memory);
            tracing::error!(
                "low on memory: the broker takes {}, and limits.memory_high_watermark allows {}. Publishers are blocked, \
                 consumers are not. They go on when it takes less than {}: let consumers or a purge empty queues, set \
                 store.memory_budget_bytes lower, or the limit higher",
                Size(used_bytes),
                Size(limit_bytes),
                Size(cleared_below)
            );
        } else if self.is_low && used_bytes < cleared_below {
            self.is_low = false;
            self.broker.clear_alarm(Alarm::Memory);
            tracing::info!(
                "no longer low on memory: the broker takes {}, publishers go on",
                Size(used_bytes)
            );
        }
        let left = limit_bytes.saturating_sub(used_bytes);
        Duration::from_millis(left / GROWN_BYTES_PER_MS).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

impl std::fmt::Debug for MemoryWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryWatch").field("limit_bytes", &self.limit_bytes()).finish_non_exhaustive()
    }
}

/// What this process takes of the machine's memory.
///
/// # Errors
/// When the system does not say. It does also when no descriptor is left, once it has been asked before.
pub fn resident_bytes() -> io::Result<u64> {
    kib_of(&super::process::status()?, "VmRSS:")
}

/// What this process may take: the machine's memory, or the limit of its control group where that is less.
///
/// # Errors
/// When the system does not say how much memory there is.
pub fn total_bytes() -> io::Result<u64> {
    let machine = kib_of(&fs::read_to_string("/proc/meminfo")?, "MemTotal:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        // "max" is no limit, and a file that is not there is none either.
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    Ok(limits.fold(machine, u64::min))
}

/// The files that may limit the memory of a process with these control groups: of its group, and of all groups around it.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{group}/{file}"));
            let Some((around, _)) = group.rsplit_once('/') else { break };
            group = around;
        }
    }
    files
}

fn kib_of(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other(format!("there is no {name} in what the system says")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_some_of_the_memory_there_is() {
        let (used, total) = (resident_bytes().unwrap(), total_bytes().unwrap());
        assert!(used > 1 << 20 && used < total, "{used} of {total}");
    }

    #[test]
    fn the_limits_of_all_groups_around_count() {
        let files = limit_files("0::/system.slice/leveret.service\n");
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        let files = limit_files("9:cpu,cpuacct:/a\n5:memory:/docker/x\n1:name=systemd:/\n");
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(kib_of("VmPeak:\t 9 kB\nVmRSS:\t   12 kB\n", "VmRSS:").unwrap(), 12 << 10);
        assert!(kib_of("VmRSS:\t 12\n", "VmRSS:").is_err());
        assert!(kib_of("", "VmRSS:").is_err());
    }
}
