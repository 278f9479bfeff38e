//! What the broker keeps is its owner's alone to read, whatever the mask of the process: data, backups, exports. What others can
//! read from before is told.

use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command with the mask that most systems have.
fn open_to_all(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 022; exec \"$0\" \"$@\"", program]);
    command
}

fn start(folder: &Path) -> BrokerProcess {
    let mut command = open_to_all(env!("CARGO_BIN_EXE_leveret"));
    // Segments are ended and databases written anew soon.
    command.env("LEVERET__STORE__WAL_BYTES_MAX", "1048576");
    BrokerProcess::start_command(command, &folder.join("data"), &folder.join("log"))
}

fn leveret(arguments: &[&str], url: &str) -> Output {
    let output = open_to_all(env!("CARGO_BIN_EXE_leveret")).args(arguments).env("LEVERET_URL", url).output();
    output.unwrap()
}

/// Everything at a path and below it, with what its mode says to others than the owner.
fn open_ones(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.mode() & 0o077 != 0 {
        found.push((path.to_owned(), metadata.mode() & 0o777));
    }
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_ones(&entry.unwrap().path(), found));
    }
}

#[test]
fn data_backups_and_exports_are_the_owners_alone() {
    let folder = folder_of("private-files");
    let at = |name: &str| folder.join(name);
    let said = |name: &str| at(name).to_str().unwrap().to_owned();
    {
        let broker = start(&folder);
        let url = format!("http://{}", broker.management());
        let backup = leveret(&["backup", &said("backup"), "--data-dir", &said("data")], &url);
        assert!(backup.status.success(), "{backup:?}");
        for command in [&["definitions", "export"][..], &["rabbitmqctl", "export_definitions"]] {
            let file = said(&format!("{}.json", command[0]));
            let exported = leveret(&[command, &[&file]].concat(), &url);
            assert!(exported.status.success(), "{exported:?}");
            // A link that lies there is not written through.
            symlink(&file, at("link")).unwrap();
            assert!(!leveret(&[command, &[&said("link")]].concat(), &url).status.success());
            fs::remove_file(at("link")).unwrap();
        }
        let mut found = Vec::new();
        for name in ["data", "backup", "definitions.json", "rabbitmqctl.json"] {
            open_ones(&at(name), &mut found);
        }
        assert!(found.is_empty(), "{found:?}");
        assert!(!broker.log().contains("can be read by every user"), "{}", broker.log());

        fs::set_permissions(at("definitions.json"), fs::Permissions::from_mode(0o644)).unwrap();
        let again = leveret(&["definitions", "export", &said("definitions.json")], &url);
        let told = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success() && told.contains("can be read by every user"), "{again:?}");
    }
    let restored = leveret(&["restore", &said("backup"), "--data-dir", &said("restored")], "");
    assert!(restored.status.success(), "{restored:?}");
    let mut found = Vec::new();
    open_ones(&at("restored"), &mut found);
    assert!(found.is_empty(), "{found:?}");

    // As an earlier version left it.
    for (path, mode) in [("data", 0o755), ("data/last", 0o644)] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let broker = start(&folder);
    let warned = format!("{} can be read by every user", at("data/last").display());
    broker.wait_for_log(&warned);
    drop(broker);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_kept_is_not_opened_through_a_link() {
    let folder = folder_of("private-links");
    let elsewhere = folder.join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::create_dir(folder.join("data")).unwrap();
    symlink(&elsewhere, folder.join("data/last")).unwrap();
    let output = leveret(&["--data-dir", folder.join("data").to_str().unwrap()], "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("\"last\" can't be opened"), "{told}");
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "mine");
    fs::remove_dir_all(folder).unwrap();
}
