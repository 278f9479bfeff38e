//! `leveret backup` and `leveret restore`: a running broker is asked for its backup, a stopped one's store is opened here.

use super::{StartError, open_journal};
use crate::clock::SystemClock;
use crate::config::{Config, Engine};
use crate::net::control;
use crate::store::backup::{self, BackupError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no backup, or none was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupCommandError {
    /// The engine keeps nothing.
    #[error("store.engine is \"memory\", so nothing is kept that could be backed up or restored")]
    NothingKept,
    /// There is no store.
    #[error("{} holds no store; name the broker's directory with --data-dir, or its configuration with --config", .0.display())]
    NoStore(PathBuf),
    /// The running broker can't be asked.
    #[error("the broker running on {} can't be asked for a backup: {error}", data_dir.display())]
    Control {
        /// Where its data are.
        data_dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The running broker could not do it.
    #[error("{0}")]
    Broker(String),
    /// It could not be done here.
    #[error("{0}")]
    Here(#[from] BackupError),
    /// The store can't be opened here.
    #[error("{0}")]
    Start(#[from] StartError),
    /// A path can't be made absolute.
    #[error("{0}")]
    Path(#[from] io::Error),
}

/// Backs up what the broker of this configuration keeps, whether it runs or not. `heard` gets reports of the progress; what is
/// returned says what was done.
///
/// # Errors
/// When there is no backup; nothing is left of it then.
pub fn back_up(
    config: &Config,
    directory: &Path,
    heard: &mut dyn FnMut(&str),
) -> Result<String, BackupCommandError> {
    let data_dir = data_dir(config)?;
    let directory = std::path::absolute(directory)?;
    let asked = control::ask_for_backup(&data_dir, &directory, heard);
    match asked.map_err(|error| BackupCommandError::Control { data_dir: data_dir.clone(), error })? {
        Some(answer) => answer.map_err(BackupCommandError::Broker),
        None if !data_dir.join("format").is_file() => Err(BackupCommandError::NoStore(data_dir)),
        None => {
            let (journal, _) = open_journal(config, &SystemClock::new(), Arc::default())?;
            let mut told = control::progress(|text| heard(&text));
            let contents = backup::back_up(&journal, &directory, &mut |done, total| {
                told(done, total);
                true
            })?;
            Ok(control::done_text(&directory, &contents))
        }
    }
}

/// Restores a backup into the data directory of this configuration, which has to be empty. `heard` gets reports of the progress and
/// of what the backup has lost; what is returned says what was done.
///
/// # Errors
/// When it can't be; nothing is left of it then.
pub fn restore(
    config: &Config,
    directory: &Path,
    heard: &mut dyn FnMut(&str),
) -> Result<String, BackupCommandError> {
    let data_dir = data_dir(config)?;
    let mut told = control::progress(|text| heard(&text));
    let recovered = backup::restore(directory, &data_dir, &mut told)?;
    drop(told);
    for loss in &recovered.losses {
        heard(&loss.to_string());
    }
    let queues = recovered.queues.iter().filter(|queue| !queue.runs.is_empty()).count();
    let messages = recovered.messages;
    Ok(format!(
        "restored {} into {}: {messages} messages in {queues} queues; start the broker on it",
        directory.display(),
        data_dir.display()
    ))
}

fn data_dir(config: &Config) -> Result<PathBuf, BackupCommandError> {
    match config.store.engine {
        Engine::Memory => Err(BackupCommandError::NothingKept),
        Engine::Sled => Ok(config.data_dir.clone()),
    }
}
