//! The control socket: commands of the operator to the broker that runs on a data directory, over a Unix socket in it that only
//! its owner may open. Both ends are here; `leveret backup` is the only command so far.
//!
//! ```text
//! asked      backup /a/directory
//! answered   progress TEXT, any number of times
//!            done TEXT, or failed TEXT
//! ```
//! A client that hangs up before the answer cancels the backup.

use super::Shutdown;
use crate::store::Journal;
use crate::store::backup::{self, BackupError};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const SOCKET_FILE: &str = "control";

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 16 << 10;

/// How often a long backup reports its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The broker's end of the control socket.
#[derive(Debug)]
pub struct Control {
    socket: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Opens the socket in a data directory that this process holds; one that an earlier process left is replaced.
    ///
    /// # Errors
    /// When the system refuses, for instance since the path is too long for a socket.
    pub fn bind(data_dir: &Path) -> io::Result<Control> {
        let path = data_dir.join(SOCKET_FILE);
        let new = data_dir.join("control.new");
        for stale in [&path, &new] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // It gets its name only once its mode keeps other users out.
        let socket = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, &path)?;
        Ok(Control { socket, path })
    }

    /// Answers until the shutdown begins.
    pub async fn run(self, journal: Arc<Journal>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (journal, shutdown) = (journal.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            if let Err(error) = serve(stream, journal, &shutdown).await {
                                tracing::warn!("a command on the control socket ended early: {error}");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!("the control socket can't accept: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = shutdown.begun() => break,
            }
        }
        // The next start replaces one that stays.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(mut stream: UnixStream, journal: Arc<Journal>, shutdown: &Shutdown) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = tokio::io::BufReader::new(reader).take(COMMAND_BYTES_MAX);
    let mut command = String::new();
    reader.read_line(&mut command).await?;
    let Some(directory) = command.strip_prefix("backup ").and_then(|rest| rest.strip_suffix('\n')) else {
        let answer = "failed this broker does not know that command; use the `leveret` of its own version\n";
        return writer.write_all(answer.as_bytes()).await;
    };
    let (told, mut telling) = unbounded_channel();
    let given_up = Arc::new(AtomicBool::new(false));
    start_backup(journal, PathBuf::from(directory), told, given_up.clone())?;
    let mut rest = [0; 1];
    let mut is_wanted = true;
    loop {
        tokio::select! {
            text = telling.recv() => match text {
                Some(text) if is_wanted => {
                    is_wanted = writer.write_all(format!("{text}\n").as_bytes()).await.is_ok();
                }
                Some(_) => {}
                None => return Ok(()),
            },
            read = reader.read(&mut rest), if is_wanted => is_wanted = read.is_ok_and(|bytes| bytes > 0),
            () = shutdown.begun(), if !given_up.load(Ordering::Relaxed) => given_up.store(true, Ordering::Relaxed),
        }
        if !is_wanted {
            given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// Backs up on a thread of its own, which the broker does not wait for when it ends.
fn start_backup(
    journal: Arc<Journal>,
    directory: PathBuf,
    told: UnboundedSender<String>,
    given_up: Arc<AtomicBool>,
) -> io::Result<()> {
    // When the client is gone the backup is cancelled, and the log still says so.
    let tell = move |text: String| drop(told.send(text));
    std::thread::Builder::new().name("backup".to_owned()).spawn(move || {
        tracing::info!("a backup to {} begins", directory.display());
        let mut tell_progress = progress(|text| tell(format!("progress {text}")));
        let result = backup::back_up(&journal, &directory, &mut |done, total| {
            tell_progress(done, total);
            !given_up.load(Ordering::Relaxed)
        });
        let text = match result {
            Ok(contents) => {
                let text = done_text(&directory, &contents);
                tracing::info!("{text}");
                format!("done {text}")
            }
            Err(error) => {
                tracing::error!("a backup to {} failed: {error}", directory.display());
                format!("failed {error}")
            }
        };
        tell(text);
    })?;
    Ok(())
}

/// What is said about a finished backup.
pub fn done_text(directory: &Path, contents: &crate::store::BackupContents) -> String {
    let damaged = match contents.damaged {
        0 => String::new(),
        damaged => format!("; {damaged} damaged records are not in it, see the broker's log"),
    };
    format!(
        "backed up to {}: {} definitions and {} records of messages, {} MiB with streams{damaged}",
        directory.display(),
        contents.definitions,
        contents.records,
        (contents.bytes + contents.stream_bytes) >> 20
    )
}

/// Says now and then how far something is.
pub fn progress(mut tell: impl FnMut(String)) -> impl FnMut(u64, u64) {
    let mut told = Instant::now();
    move |done, total| {
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            tell(format!("{}% done", 100 * done / total.max(1)));
        }
    }
}

/// The operator's end: has the broker that runs on `data_dir` write a backup, and says how that ended. `None` when no broker
/// listens there. `heard` gets reports of the progress.
///
/// # Errors
/// When the socket can't be used, or the broker ends before it has answered.
pub fn ask_for_backup(
    data_dir: &Path,
    directory: &Path,
    heard: &mut dyn FnMut(&str),
) -> io::Result<Option<Result<String, String>>> {
    let mut stream = match std::os::unix::net::UnixStream::connect(data_dir.join(SOCKET_FILE)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let command = directory.to_str().filter(|text| !text.contains('\n'));
    let command =
        command.ok_or_else(|| io::Error::other("the directory's name has to be a line of UTF-8"))?;
    stream.write_all(format!("backup {command}\n").as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("progress", text)) => heard(text),
            Some(("done", text)) => return Ok(Some(Ok(text.to_owned()))),
            Some(("failed", text)) => return Ok(Some(Err(text.to_owned()))),
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, BackupError::GivenUp))
}
