//! The source held against its own map: a file imports from its own layer and lower ones only, and one file names sled.

#![allow(clippy::unwrap_used, reason = "a surprise ends the test")]

use std::path::{Path, PathBuf};

/// The layer of a file of `src`, or of a module named in `crate::…`.
fn layer(module: &str) -> u32 {
    match module {
        "limits" | "error" | "sync" => 0,
        "auth" | "authority" | "event" | "codec" | "config" | "clock" | "disk" | "metrics" | "turnstile" => 1,
        "store/local" => 3,
        "store" => 4,
        "http" => 5,
        "server" => 6,
        "cli" | "main" | "lib" => 7,
        other => unreachable!("{other} has no layer: give it one here and in the crate's documentation"),
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Code lines, without comments.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned()).collect()
}

#[test]
fn files_import_from_their_own_layer_and_lower_ones_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30);
    let mut imports = 0;
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let first = relative.split(['/', '.']).next().unwrap();
        let own = if relative.starts_with("store/local") { "store/local" } else { first };
        for line in code(&file) {
            for target in line
                .split("crate::")
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            {
                // A backend speaks in the terms of the seam that it implements.
                let is_seam = own == "store/local" && target == "store";
                assert!(is_seam || layer(target) <= layer(own), "{relative} imports {target}: {line}");
                imports += 1;
            }
            assert!(
                own != "http" || !line.contains("store::local"),
                "{relative} knows how events are kept: {line}"
            );
        }
    }
    assert!(imports > 100, "the imports were read");
}

#[test]
fn only_the_index_names_sled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let naming: Vec<_> = files
        .iter()
        .filter(|file| code(file).iter().any(|line| line.contains("sled::")))
        .map(|file| file.strip_prefix(&root).unwrap().to_owned())
        .collect();
    assert_eq!(naming, [PathBuf::from("store/local/index.rs")]);
}
