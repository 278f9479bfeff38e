//! What the configuration makes of the file descriptors there are.

use crate::config::Config;
use crate::net::descriptors::{Descriptors, Wanted};
use crate::net::{EventLoops, Process};
use crate::store::WalOptions;

/// Shares the file descriptors out, and says how many connections that makes.
pub(super) fn share_out(config: &Config, limit: u64, has_tls: bool) -> Descriptors {
    let limits = &config.limits;
    let http = &config.listeners;
    let plain = [&http.http, &http.prometheus].into_iter();
    let over_tls = [&http.https, &http.prometheus_https].into_iter().filter(|_| has_tls);
    let shares = Descriptors::share_out(
        limit,
        &Wanted {
            open: Process::look().open_files,
            event_loops: EventLoops::count() as u64,
            store: wal_options(config, limit).files_max() as u64,
            connections: limits.connections_max,
            before_login: limits.connections_before_login_max,
            http_connections: limits.http_connections_max,
            http_listeners: plain.chain(over_tls).filter(|listener| !listener.is_off).count() as u64,
        },
    );
    let Descriptors { connections, .. } = shares;
    if connections < limits.connections_max {
        tracing::warn!(
            "{limit} file descriptors (RLIMIT_NOFILE) are enough for {connections} connections, and limits.connections_max asks \
             for {}: raise LimitNOFILE in the unit, or the limit that ulimit -n shows",
            limits.connections_max
        );
    } else {
        tracing::info!("{limit} file descriptors (RLIMIT_NOFILE), up to {connections} connections");
    }
    shares
}

/// How large the log may get, and how many files it may be in.
pub(super) fn wal_options(config: &Config, descriptor_limit: u64) -> WalOptions {
    let bytes_max = config.store.wal_bytes_max as u64;
    let files = (descriptor_limit / WAL_FILES_SHARE).clamp(WAL_FILES_MIN, WAL_FILES_MAX);
    let segments_max = usize::try_from(files).unwrap_or(usize::MAX);
    WalOptions { bytes_max, segments_max, ..WalOptions::default() }
}

/// The log's files take at most about an eighth of the descriptors: twice this share when the database can't keep up.
const WAL_FILES_SHARE: u64 = 16;
const WAL_FILES_MIN: u64 = 4;
const WAL_FILES_MAX: u64 = 1024;
