//! What README.md and ARCHITECTURE.md say of the repository is so: the first program is the file's, and the files they name exist.

use std::path::Path;

const README: &str = include_str!("../README.md");
const ARCHITECTURE: &str = include_str!("../ARCHITECTURE.md");
const FIRST: &str = include_str!("../examples/first.py");

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
fn files_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (document, text) in [("README.md", README), ("ARCHITECTURE.md", ARCHITECTURE)] {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let paths = text.split('`').skip(1).step_by(2).filter(|code| is_path(code));
        for path in links.chain(paths).filter(|path| !path.contains("://")) {
            assert!(root.join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}

/// Whether what stands in backticks is a path in the repository.
fn is_path(code: &str) -> bool {
    ["src/", "tests/", "benches/", "examples/", "conformance/", ".ci/"]
        .iter()
        .any(|folder| code.starts_with(folder))
        && !code.contains([' ', '*', '<', '{'])
}
