//! Files and folders that other users may not read: what a broker keeps includes messages and password hashes. They
//! are made for their owner alone whatever the process's mask says, and are not opened through a link that another user has
//! put in their place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The owner reads and writes.
const FILE_MODE: u32 = 0o600;
/// The owner lists and enters.
const FOLDER_MODE: u32 = 0o700;
/// Anybody may read or list.
const OTHERS_READ: u32 = 0o004;
/// Anybody may go through to what is below.
const OTHERS_ENTER: u32 = 0o001;

/// How a file of the broker's is opened: one that is made is its owner's alone, and a link is none.
pub fn options() -> OpenOptions {
    let mut options = File::options();
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.mode(FILE_MODE).custom_flags(flags);
    options
}

/// Has all that this process makes from now on be its owner's alone, also what libraries make, which say nothing of modes.
pub fn keep_all_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Makes a folder, and those above it, for its owner alone. One that is there stays as it is.
///
/// # Errors
/// When the system refuses.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Writes a file that an operator has named, in place of what is there. A link is followed only into `/dev`, where the process's
/// own output is to be found.
///
/// # Errors
/// When the system refuses.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = if path.starts_with("/dev") { File::options() } else { options() };
    options.create(true).truncate(true).write(true).open(path)?.write_all(content)
}

/// The first of a path and what is below it that every user of the machine may read. What can't be looked at counts as hidden.
pub fn readable_by_others(path: &Path) -> Option<PathBuf> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_dir() {
        return (metadata.is_file() && metadata.mode() & OTHERS_READ != 0).then(|| path.to_owned());
    }
    // Users who can't enter a folder read nothing below, whatever its own mode says.
    if metadata.mode() & OTHERS_ENTER == 0 {
        return None;
    }
    fs::read_dir(path).ok()?.flatten().find_map(|entry| readable_by_others(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b");
        make_folder(&folder).unwrap();
        make_folder(&folder).unwrap();
        write(&folder.join("f"), b"content").unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("f"))), (0o700, 0o600));
        assert_eq!(mode(&top.path().join("a")), 0o700);
    }

    #[test]
    fn links_are_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let (kept, link) = (top.path().join("kept"), top.path().join("link"));
        fs::write(&kept, "before").unwrap();
        symlink(&kept, &link).unwrap();
        assert!(write(&link, b"after").is_err());
        assert!(options().read(true).open(&link).is_err());
        assert_eq!(fs::read_to_string(kept).unwrap(), "before");
        write(Path::new("/dev/null"), b"gone").unwrap();
    }

    #[test]
    fn what_others_can_read_is_found_where_they_can_get_to() {
        let top = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let file = top.path().join("folder/file");
        make_folder(file.parent().unwrap()).unwrap();
        write(&file, b"").unwrap();
        set(&file, 0o644);
        set(top.path(), 0o755);
        assert_eq!(readable_by_others(top.path()), None);
        set(file.parent().unwrap(), 0o711);
        assert_eq!(readable_by_others(top.path()), Some(file.clone()));
        set(&file, 0o640);
        assert_eq!(readable_by_others(top.path()), None);
    }
}
