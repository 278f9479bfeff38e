//! Watches how much room the volume of the data directory has left. Before it is full the disk alarm is raised, which blocks
//! publishers while consumers go on; it is cleared when there is room again. The server looks once before any client can
//! connect, then [`DiskWatch::run`] goes on.

use crate::broker::Broker;
use crate::broker::alarms::Alarm;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const GIB: u64 = 1 << 30;

/// The longest time between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The shortest; a look takes microseconds.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// No disk is thought to fill faster. A second look is taken before that could have used up what was left above the limit.
const FILLED_BYTES_PER_MS: u64 = GIB / 1000;

/// How large a volume is, and what is left of it for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its size, in bytes.
    pub total_bytes: u64,
    /// What is left of it for us.
    pub free_bytes: u64,
}

impl Volume {
    /// The volume that a directory is on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn of(directory: &Path) -> io::Result<Volume> {
        let found = rustix::fs::statvfs(directory)?;
        Ok(Volume {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// What has to stay free when nothing is set: 1 GiB, on a large volume 5% of it, on one below 2 GiB half of it. What is on its
    /// way when the alarm goes up, and what the store writes while consumers empty it, needs that room.
    pub fn default_limit_bytes(self) -> u64 {
        GIB.max(self.total_bytes / 20).min(self.total_bytes / 2)
    }
}

/// What has to stay free on a volume. It may be changed while the broker runs.
#[derive(Debug, Default)]
pub struct DiskLimit(Mutex<Option<u64>>);

impl DiskLimit {
    /// A limit in bytes; `None` lets the volume's size decide.
    pub fn new(bytes: Option<u64>) -> DiskLimit {
        DiskLimit(Mutex::new(bytes))
    }

    /// The bytes that have to stay free on that volume.
    pub fn bytes_on(&self, volume: Volume) -> u64 {
        self.bytes().unwrap_or_else(|| volume.default_limit_bytes())
    }

    /// The bytes, if the volume's size does not decide.
    pub fn bytes(&self) -> Option<u64> {
        *self.0.lock()
    }

    /// Changes it. The alarm follows when the watch looks next, within a second.
    pub fn set(&self, bytes: u64) {
        *self.0.lock() = Some(bytes);
    }
}

/// Raises and clears the disk alarm; see the module.
#[derive(Debug)]
pub struct DiskWatch {
    directory: PathBuf,
    limit: Arc<DiskLimit>,
    broker: Arc<Broker>,
    is_low: bool,
    is_blind: bool,
}

impl DiskWatch {
    /// A watch on the volume of `directory`, of which `limit` has to stay free.
    pub fn new(directory: &Path, limit: Arc<DiskLimit>, broker: Arc<Broker>) -> DiskWatch {
        DiskWatch { directory: directory.to_owned(), limit, broker, is_low: false, is_blind: false }
    }

    /// Looks now, raises or clears the alarm, and says when to look again.
    pub fn look(&mut self) -> Duration {
        match Volume::of(&self.directory) {
            Ok(volume) => {
                self.is_blind = false;
                self.judge(volume)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    let directory = self.directory.display();
                    tracing::warn!(
                        "the free space of {directory} can't be read, and the disk alarm stays as it is: {error}"
                    );
                }
                PAUSE_MAX
            }
        }
    }

    /// Looks again and again, forever.
    pub async fn run(mut self) {
        loop {
            sleep(self.look()).await;
        }
    }

    fn judge(&mut self, volume: Volume) -> Duration {
        let limit_bytes = self.limit.bytes_on(volume);
        let above = volume.free_bytes.checked_sub(limit_bytes);
        if above.is_none() != self.is_low {
            self.is_low = above.is_none();
            if self.is_low { self.raise(volume, limit_bytes) } else { self.clear(volume) }
        }
        let pause = Duration::from_millis(above.unwrap_or(u64::MAX) / FILLED_BYTES_PER_MS);
        pause.clamp(PAUSE_MIN, PAUSE_MAX)
    }

    fn raise(&self, volume: Volume, limit_bytes: u64) {
        self.broker.raise_alarm(Alarm::Disk);
        let Volume { total_bytes, free_bytes } = volume;
        let way_out = if limit_bytes > total_bytes {
            "They stay blocked until the limit is set below the size of the volume"
        } else {
            "They go on when there is more: make room on the volume, let consumers or a purge empty queues, \
             or set the limit lower"
        };
        tracing::error!(
            "low on disk: {} of {} are free on the volume of {}, and limits.disk_free_bytes asks for {}. \
             Publishers are blocked, consumers are not. {way_out}",
            Size(free_bytes),
            Size(total_bytes),
            self.directory.display(),
            Size(limit_bytes)
        );
    }

    fn clear(&self, volume: Volume) {
        self.broker.clear_alarm(Alarm::Disk);
        tracing::info!(
            "no longer low on disk: {} are free on the volume of {}, publishers go on",
            Size(volume.free_bytes),
            self.directory.display()
        );
    }
}

/// Bytes as a person reads them.
pub(super) struct Size(pub(super) u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes < 10 << 20 => write!(f, "{} KiB", bytes >> 10),
            bytes if bytes < 10 << 30 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} GiB", bytes >> 30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerLimits;
    use crate::broker::exchange::ExchangeTypes;
    use crate::store::{Journal, JournalOptions, MemoryStore};

    fn watch(limit_bytes: Option<u64>) -> DiskWatch {
        let store = Box::new(MemoryStore::default());
        let (journal, recovered) = Journal::open(store, JournalOptions::default(), |_| ()).unwrap();
        let (types, limits) = (ExchangeTypes::standard(), BrokerLimits::default());
        let broker = Broker::open(Arc::new(journal), recovered, types, limits, 0).unwrap();
        DiskWatch::new(Path::new("data"), Arc::new(DiskLimit::new(limit_bytes)), Arc::new(broker))
    }

    fn volume(total_bytes: u64, free_bytes: u64) -> Volume {
        Volume { total_bytes, free_bytes }
    }

    #[test]
    fn without_a_limit_the_size_of_the_volume_decides() {
        for (total, limit) in
            [(100 * GIB, 5 * GIB), (20 * GIB, GIB), (6 * GIB, GIB), (GIB, GIB / 2), (64 << 20, 32 << 20)]
        {
            assert_eq!(volume(total, 0).default_limit_bytes(), limit, "on {total} bytes");
        }
    }

    #[test]
    fn the_alarm_goes_up_below_the_limit_and_is_cleared_at_it() {
        let mut watch = watch(Some(1000));
        let reason = |watch: &DiskWatch| watch.broker.alarms().reason();
        for (free, expected) in
            [(1000, None), (999, Some("low on disk")), (0, Some("low on disk")), (1000, None), (5000, None)]
        {
            watch.judge(volume(GIB, free));
            assert_eq!(reason(&watch), expected, "with {free} bytes free");
        }
    }

    #[test]
    fn the_limit_may_change() {
        let mut watch = watch(None);
        watch.judge(volume(GIB, GIB - 1));
        assert_eq!(watch.broker.alarms().reason(), None);
        watch.limit.set(GIB);
        watch.judge(volume(GIB, GIB - 1));
        assert_eq!(watch.broker.alarms().reason(), Some("low on disk"));
    }

    #[test]
    fn it_looks_more_often_when_little_is_left() {
        let mut watch = watch(Some(GIB));
        assert_eq!(watch.judge(volume(100 * GIB, 50 * GIB)), PAUSE_MAX);
        assert_eq!(watch.judge(volume(100 * GIB, GIB + GIB / 10)).as_millis(), 100);
        assert_eq!(watch.judge(volume(100 * GIB, GIB + 1)), PAUSE_MIN);
        assert_eq!(watch.judge(volume(100 * GIB, GIB - 1)), PAUSE_MAX);
    }

    #[test]
    fn a_real_volume_has_a_size() {
        let found = Volume::of(&std::env::temp_dir()).unwrap();
        assert!(found.total_bytes >= found.free_bytes && found.total_bytes > 0, "{found:?}");
        assert!(Volume::of(Path::new("/nowhere/at/all")).is_err());
    }
}
