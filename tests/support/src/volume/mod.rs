//! Small filesystems of a test's own: an ext4 in a file, and a tmpfs. Both need root, and a kernel that lets them be mounted;
//! a test that can't have one says so loudly and passes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted filesystem. Dropping it takes it down and removes it.
pub struct Volume {
    folder: PathBuf,
    is_mounted: bool,
}

/// Says on the terminal itself that a test was skipped: the test harness hides what a passing test prints.
pub fn skipped(test: &str, reason: &str) {
    let text = format!("\n!!! SKIPPED: {test}: {reason}\n");
    // Nothing is lost if the terminal is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Runs a command; the error is what it says.
pub fn run(command: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(command).args(arguments).output().map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command} {}: {}", arguments.join(" "), said.trim()))
}

impl Volume {
    /// An ext4 of that many MiB in a file in `folder`, which is removed at the end.
    pub fn ext4(folder: PathBuf, mebibytes: u64) -> Result<Volume, String> {
        let mut volume = Volume::prepare(folder)?;
        let image = File::create(volume.image()).and_then(|image| image.set_len(mebibytes << 20));
        image.map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", &text(&volume.image())])?;
        volume.mount()?;
        Ok(volume)
    }

    /// A tmpfs of that many MiB.
    pub fn tmpfs(folder: PathBuf, mebibytes: u64) -> Result<Volume, String> {
        let mut volume = Volume::prepare(folder)?;
        let size = format!("size={mebibytes}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "leveret-test", &text(&volume.mount_point())])?;
        volume.is_mounted = true;
        Ok(volume)
    }

    fn prepare(folder: PathBuf) -> Result<Volume, String> {
        let volume = Volume { folder, is_mounted: false };
        fs::create_dir_all(volume.mount_point()).map_err(|error| error.to_string())?;
        Ok(volume)
    }

    fn image(&self) -> PathBuf {
        self.folder.join("image")
    }

    /// The filesystem's root.
    pub fn mount_point(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    /// Mounts an ext4, again after [`Volume::unmount`].
    pub fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", &text(&self.image()), &text(&self.mount_point())])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Makes a tmpfs larger or smaller.
    pub fn resize(&self, mebibytes: u64) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,size={mebibytes}m"), &text(&self.mount_point())])
    }

    pub fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[&text(&self.mount_point())])?;
        self.is_mounted = false;
        Ok(())
    }

    /// Loses power: what is not on the device by now never gets there.
    pub fn cut_power(&self) -> Result<(), String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("shutdown_filesystem.py");
        run("python3", &[&text(&script), &text(&self.mount_point())])
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = self.unmount()
        {
            eprintln!("{error}");
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
