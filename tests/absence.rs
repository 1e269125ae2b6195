//! What can't be asked for is not absent, seen from outside: names that lead in a circle, and links
//! to where nothing is, have the system refuse what it is asked, as a failing disk or missing
//! permission would. No start and no command takes that for an empty directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::golden::{self, EVENTS, copy, directories, files};
use sekali::store::local::Local;

/// A sound store, stopped.
struct Store {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        copy(directories().last().unwrap(), &path);
        Self { _dir: dir, path }
    }

    /// Runs a command on it; its exit code, and what it says.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        let output = command.args(arguments).arg("--data-dir").arg(&self.path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// All that is in its files, and where.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = Vec::new();
        files(&self.path, &mut all);
        all.retain(|path| path.is_file() && !path.ends_with("LOCK"));
        all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn is_sound(&self) {
        let (code, said) = self.run(&["verify", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("\"events\":{EVENTS},")), "{said}");
    }
}

/// Puts something that can't be asked for in the place of a file, does something, and puts the file
/// back.
fn without(path: &Path, link: &Path, act: impl FnOnce()) {
    let hidden = path.with_added_extension("hidden");
    fs::rename(path, &hidden).unwrap();
    symlink(link, path).unwrap();
    act();
    assert!(fs::symlink_metadata(path).unwrap().is_symlink(), "it was replaced");
    fs::remove_file(path).unwrap();
    fs::rename(hidden, path).unwrap();
}

/// Each way to start or mend a store.
const COMMANDS: [&[&str]; 5] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["serve", "--listen", "127.0.0.1:0", "--must-exist"],
    &["rebuild"],
    &["repair"],
    &["repair", "--accept-loss"],
];

#[test]
fn a_manifest_that_can_not_be_asked_for_is_not_missing() {
    let store = Store::new();
    let (manifest, before) = (store.path.join("MANIFEST"), store.content());
    for link in ["MANIFEST", "nowhere"] {
        for command in COMMANDS {
            without(&manifest, Path::new(link), || {
                let (code, said) = store.run(command);
                assert_eq!(code, Some(8), "{command:?}: {said}");
                assert!(said.contains("data/MANIFEST: ") && said.contains("cure the disk"), "{said}");
                assert!(!said.contains("sekali repair"), "{said}");
            });
            assert_eq!(store.content(), before, "{command:?} has changed something");
        }
    }
    store.is_sound();
}

#[test]
fn a_journal_that_can_not_be_opened_is_not_missing() {
    let store = Store::new();
    let before = store.content();
    let live = before.keys().rfind(|path| path.ends_with("journal")).unwrap().clone();
    for link in ["journal", "nowhere"] {
        for command in COMMANDS {
            without(&live, Path::new(link), || {
                let (code, said) = store.run(command);
                // A rebuild needs no journal but those of sealed generations.
                if command != ["rebuild"] {
                    assert_eq!(code, Some(8), "{command:?}: {said}");
                    assert!(said.contains("/journal: ") && said.contains("cure the disk"), "{said}");
                    assert!(!said.contains("missing") && !said.contains("sekali repair"), "{said}");
                }
            });
            let journals = |content: BTreeMap<PathBuf, Vec<u8>>| -> Vec<_> {
                content.into_iter().filter(|(path, _)| path.ends_with("journal")).collect()
            };
            assert_eq!(journals(store.content()), journals(before.clone()), "{command:?}");
        }
    }
    store.is_sound();
}

/// The attack that two failing questions are: neither MANIFEST nor the journal can be asked for.
#[test]
fn a_store_is_not_made_over_one_that_can_not_be_asked_for() {
    let store = Store::new();
    let before = store.content();
    let journals: Vec<_> = before.keys().filter(|path| path.ends_with("journal")).collect();
    for journal in journals {
        without(journal, Path::new("journal"), || {
            without(&store.path.join("MANIFEST"), Path::new("MANIFEST"), || {
                let (code, said) = store.run(&["serve", "--listen", "127.0.0.1:0"]);
                assert_eq!(code, Some(8), "{said}");
            });
            // Nor beside what is left of one.
            fs::rename(store.path.join("MANIFEST"), store.path.join("hidden")).unwrap();
            let (code, said) = store.run(&["serve", "--listen", "127.0.0.1:0"]);
            assert!(matches!(code, Some(7 | 8)), "{said}");
            fs::rename(store.path.join("hidden"), store.path.join("MANIFEST")).unwrap();
        });
        assert_eq!(store.content(), before);
    }
    store.is_sound();
}

/// What MANIFEST does not name and no journal explains is kept, under a name that no generation
/// has.
#[test]
fn a_folder_that_is_not_understood_is_set_aside() {
    let store = Store::new();
    let folder = store.path.join("gen-000042");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("journal"), b"perhaps an event").unwrap();
    let options = golden::options(&store.path, &mut fastrand::Rng::with_seed(1));
    Local::open(&options, golden::seams()).unwrap().close().unwrap();
    assert!(!folder.exists());
    assert_eq!(fs::read(store.path.join("gen-000042.aside-1/journal")).unwrap(), b"perhaps an event");
    store.is_sound();
}
