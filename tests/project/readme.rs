//! What README.md, ARCHITECTURE.md and the other pages say of the repository is so: the first program is the file's, and the files
//! they name exist.

use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../../README.md");
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");
const FIRST: &str = include_str!("../../examples/first.py");

/// The fenced block of that language; there has to be one.
fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).expect("the README has such a block");
    rest.split_once("```").expect("the block ends").0
}

#[test]
fn the_first_program_is_the_file_and_short() {
    assert_eq!(block("python"), FIRST);
    assert!(FIRST.lines().count() <= 15);
}

#[test]
fn the_configuration_is_sound() {
    let no_variables: [(&str, &str); 0] = [];
    let config = leveret::config::Config::load_from(block("toml"), "README.md", no_variables).unwrap();
    let types = leveret::broker::exchange::ExchangeTypes::standard();
    assert!(leveret::server::check(&config, &types).is_empty());
}

#[test]
fn the_version_is_this_one() {
    assert!(README.contains(&format!("leveret {} is listening on ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_map_stays_a_map() {
    let bytes = ARCHITECTURE.len();
    assert!(
        bytes <= 16 * 1024,
        "ARCHITECTURE.md has {bytes} bytes, where a map has 16 KiB: reasons belong to docs/decisions, figures to docs/measurements"
    );
}

/// The pages of the repository, each by its path.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    let mut folders = vec![root.to_owned(), root.join("conformance"), root.join("fuzz"), root.join("tests")];
    folders.push(root.join("conformance/clients"));
    folders.extend(["", "decisions", "measurements"].map(|folder| root.join("docs").join(folder)));
    for folder in folders {
        let entries = fs::read_dir(&folder).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("the folder can be read").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(pages.len() > 10, "the pages were not found where they should be");
    pages
}

#[test]
fn files_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page can be read");
        let folder = page.parent().expect("a file is in a folder");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let links = links.map(|link| folder.join(link.split('#').next().unwrap_or(link)));
        let paths =
            text.split('`').skip(1).step_by(2).filter(|code| is_path(code)).map(|path| root.join(path));
        missing.extend(
            links
                .chain(paths)
                .filter(|path| !path.exists())
                .map(|path| format!("{} names {}, which is not there", page.display(), path.display())),
        );
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Whether what stands in backticks is a path in the repository.
fn is_path(code: &str) -> bool {
    ["src/", "tests/", "benches/", "examples/", "conformance/", "docs/", "docker/", "systemd/", ".ci/"]
        .iter()
        .any(|folder| code.starts_with(folder))
        && !code.contains([' ', '*', '<', '{'])
}
