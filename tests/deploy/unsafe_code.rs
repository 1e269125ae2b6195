//! The page about `unsafe` names every crate of the program that has some, and no other.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{json, root, succeed};

/// Whether a line of Rust begins something unsafe.
fn is_unsafe(line: &str) -> bool {
    let code = line.trim_start();
    let starts = ["unsafe {", "unsafe fn ", "unsafe impl", "unsafe extern ", "unsafe trait "];
    !code.starts_with("//") && starts.iter().any(|start| code.contains(start))
}

fn has_unsafe(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return has_unsafe(&path);
        }
        path.extension().is_some_and(|extension| extension == "rs")
            && String::from_utf8_lossy(&std::fs::read(&path).unwrap()).lines().any(is_unsafe)
    })
}

/// The crates that the program is linked with on this machine, but for itself: name and version.
fn linked() -> BTreeSet<(String, String)> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    let said = succeed(tree.current_dir(root()));
    let name_and_version = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    said.lines().filter_map(name_and_version).filter(|(name, _)| name != env!("CARGO_PKG_NAME")).collect()
}

#[test]
fn every_crate_with_unsafe_code_is_on_the_page_with_a_reason() {
    let linked = linked();
    let metadata = json(
        Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--format-version", "1"])
            .current_dir(root()),
    );
    let mut found = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let text = |key: &str| package[key].as_str().unwrap();
        if linked.contains(&(text("name").to_owned(), text("version").to_owned())) {
            let targets = package["targets"].as_array().unwrap();
            let is_library = |kind: &serde_json::Value| kind.as_str().unwrap().ends_with("lib");
            let library =
                targets.iter().find(|target| target["kind"].as_array().unwrap().iter().any(is_library));
            let sources = Path::new(library.unwrap()["src_path"].as_str().unwrap()).parent().unwrap();
            if has_unsafe(sources) {
                found.insert(text("name").to_owned());
            }
        }
    }
    assert!(found.len() > 30, "{found:?}");
    let page = include_str!("../../docs/reference/unsafe-code.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let named: BTreeSet<_> =
        rows.flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`').to_owned())).collect();
    let missing: Vec<_> = found.difference(&named).collect();
    let surplus: Vec<_> = named.difference(&found).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not on the page: {missing:?}; without unsafe code: {surplus:?}"
    );
}
