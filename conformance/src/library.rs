//! Finds the cases: every `SECTION/NAME.case` below a folder. Called by the binary and by a broker's own tests.

use crate::case::Case;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the cases in this repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// All cases below `folder` whose `section/name` contains `pattern` (`*` for any characters), sorted by name. The error
/// names the file or line that cannot be read.
pub fn load(folder: &Path, pattern: &str) -> Result<Vec<Case>, String> {
    let mut files = Vec::new();
    for section in entries(folder)? {
        if section.is_dir() {
            files.extend(
                entries(&section)?
                    .into_iter()
                    .filter(|file| file.extension().is_some_and(|end| end == "case")),
            );
        }
    }
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let name = file.strip_prefix(folder).unwrap_or(&file).with_extension("").display().to_string();
        if !crate::names::fits(format!("*{pattern}*").as_bytes(), name.as_bytes()) {
            continue;
        }
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        cases.push(Case::parse(&name, &text)?);
    }
    Ok(cases)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(read.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases are played at once, in one vhost unless they make their own. amq.fanout brings every case the messages of all
    /// others, so that what comes through it, or comes back because nobody is bound, is known in an own vhost only.
    #[test]
    fn no_case_expects_what_others_change() {
        for case in load(&folder(), "").unwrap() {
            let own = case.lines.iter().any(|line| line.contains("vhost=$v"));
            for line in case.lines.iter().filter(|line| !own && line.contains("exchange=amq.fanout")) {
                let expected = ["< get-ok", "< deliver", "< return"].iter().any(|what| line.contains(what));
                assert!(!expected, "{}: {line}: needs an exchange or a vhost of its own", case.name);
            }
        }
    }
}
