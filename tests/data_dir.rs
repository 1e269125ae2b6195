//! The data directory of a real process: which others may use it, and what happens when it is taken
//! away while the service runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::checker::{check, expect_clean};
use crate::support::client::Client;
use crate::support::load::Workload;
use crate::support::process::{Server, Start};
use crate::support::reader::HttpReader;
use crate::support::seed;

/// Seconds in which a service must have ended that can't go on: it looks each second, and has half
/// a second for its last answers.
const END_SECONDS: u64 = 60;
/// How a service ends whose store failed.
const STORE_FAILED: i32 = 8;
/// How a process ends that can't use its data directory, and one that finds another process in it.
const UNUSABLE: i32 = 5;
const LOCKED: i32 = 4;
/// How a start ends that finds damage.
const DAMAGED: i32 = 7;

/// A folder for a store, and for what else a test needs.
struct StoreFolder {
    folder: tempfile::TempDir,
    start: Start,
}

impl StoreFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Start::tiny_generations(&folder.path().join("data"));
        Self { folder, start }
    }

    fn data(&self) -> &Path {
        &self.start.data_dir
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A store with events in several generations, which was stopped; how many.
    fn with_events(&self) -> u64 {
        let (mut server, addr) = self.start.ready().unwrap();
        let mut client = Client::new(addr);
        let mut events = 0;
        let sealed = crate::support::until(END_SECONDS, || {
            assert_eq!(client.post("/publish", &batch(events, 100)).unwrap().status, 200);
            events += 100;
            fs::exists(self.data().join("gen-000003/filter")).unwrap().then_some(())
        });
        assert_eq!(server.terminate(), Some(0), "{}", server.log());
        sealed.unwrap_or_else(|| panic!("no generation is sealed: {}", server.log()));
        events
    }
}

/// Events with ids from `first` on.
fn batch(first: u64, events: u64) -> Vec<u8> {
    let event = |id| {
        format!(
            r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"s","payload":{{}}}}"#
        )
    };
    let events: Vec<_> = (first..first + events).map(event).collect();
    format!("[{}]", events.join(",")).into_bytes()
}

/// How a process ended, within the time it has.
fn ended(server: &mut Server) -> Option<i32> {
    let status = crate::support::until(END_SECONDS, || server.exited().then_some(()));
    assert!(status.is_some(), "the service goes on; its log:\n{}", server.log());
    server.wait().and_then(|status| status.code())
}

/// The log, once this is in it: the last lines may come after the end.
fn log_with(server: &Server, part: &str) -> String {
    let said = crate::support::until(END_SECONDS, || Some(server.log()).filter(|log| log.contains(part)));
    said.unwrap_or_else(|| panic!("it does not say {part:?}:\n{}", server.log()))
}

/// Has something taken away under a service that is being used; whatever was answered is in `rest`
/// afterwards.
fn takes_away(take: impl FnOnce(&StoreFolder), rest: impl FnOnce(&mut StoreFolder) -> bool) {
    let (seed, mut folder) = (seed(), StoreFolder::new());
    let mut workload = Workload::new(seed);
    let (mut server, addr) = folder.start.ready().unwrap();
    let run = workload.start(addr, 4);
    assert!(run.acknowledged(100), "{}", server.log());
    take(&folder);
    assert_eq!(ended(&mut server), Some(STORE_FAILED), "{}", server.log());
    run.stop();
    if rest(&mut folder) {
        let (server, addr) = folder.start.ready().unwrap();
        let violations = workload.history(|history| check(history, &mut HttpReader::new(addr), seed));
        expect_clean(&violations, seed, "after it was put back", &server.log());
    }
}

#[test]
fn a_data_directory_that_is_renamed_ends_the_service_and_loses_nothing() {
    takes_away(
        |folder| fs::rename(folder.data(), folder.beside("moved")).unwrap(),
        |folder| {
            folder.start.data_dir = folder.beside("moved");
            true
        },
    );
}

#[test]
fn a_folder_above_that_is_renamed_ends_the_service_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (above, moved) = (folder.path().join("above"), folder.path().join("moved"));
    takes_away_in(&above, |_| fs::rename(&above, &moved).unwrap());
    assert!(fs::exists(moved.join("data/MANIFEST")).unwrap());
}

/// The same of a store in a folder of its own.
fn takes_away_in(above: &Path, take: impl FnOnce(&Path)) {
    let start = Start::tiny_generations(&above.join("data"));
    let (mut server, addr) = start.ready().unwrap();
    assert_eq!(Client::new(addr).post("/publish", &batch(0, 10)).unwrap().status, 200);
    take(&start.data_dir);
    assert_eq!(ended(&mut server), Some(STORE_FAILED), "{}", server.log());
}

#[test]
fn a_data_directory_that_is_replaced_ends_the_service() {
    takes_away(
        |folder| {
            fs::rename(folder.data(), folder.beside("moved")).unwrap();
            fs::create_dir(folder.data()).unwrap();
        },
        |folder| {
            folder.start.data_dir = folder.beside("moved");
            true
        },
    );
}

#[test]
fn a_data_directory_that_is_removed_ends_the_service() {
    // While it is written to, something may be made in it again.
    let remove = |folder: &StoreFolder| while fs::remove_dir_all(folder.data()).is_err() {};
    takes_away(remove, |_| false);
}

#[test]
fn a_live_journal_that_is_removed_ends_the_service() {
    let remove = |dir: &Path| fs::remove_dir_all(dir.join("gen-000001")).unwrap();
    takes_away_in(tempfile::tempdir().unwrap().path(), remove);
}

#[test]
fn no_second_process_takes_the_directory_after_the_lock_file_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    takes_away_in(dir.path(), |data| {
        fs::remove_file(data.join("LOCK")).unwrap();
        let mut second = Start::tiny_generations(data).spawn();
        // The first has a second until it sees that its own is gone, and is in the way until then.
        let code = ended(&mut second);
        assert_eq!(code, Some(LOCKED), "{}", second.log());
    });
}

#[test]
fn a_link_to_the_place_to_which_a_store_was_moved_is_no_removal() {
    let folder = StoreFolder::new();
    let (mut server, addr) = folder.start.ready().unwrap();
    // In between there is nothing, for less time than anybody looks: a rename of the link puts it
    // there at once.
    symlink(folder.beside("moved"), folder.beside("link")).unwrap();
    let stopped = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    fs::rename(folder.data(), folder.beside("moved")).unwrap();
    fs::rename(folder.beside("link"), folder.data()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    let mut client = Client::new(addr);
    let begin = crate::support::now();
    for id in 0.. {
        assert_eq!(client.post("/publish", &batch(id, 1)).unwrap().status, 200, "{}", server.log());
        if begin.elapsed() > Duration::from_secs(3) {
            break;
        }
        sekali::sync::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn what_a_store_makes_is_its_users_alone() {
    let folder = StoreFolder::new();
    folder.with_events();
    let mut left = vec![folder.data().to_owned()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o077, 0, "{} has mode {:o}", path.display(), found.mode());
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen} files");
}

#[test]
fn a_directory_that_anyone_may_write_to_is_refused_with_what_to_do() {
    let folder = StoreFolder::new();
    fs::create_dir(folder.data()).unwrap();
    let allow = |mode| fs::set_permissions(folder.data(), fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o777, 0o2777] {
        allow(mode);
        let mut server = folder.start.spawn();
        assert_eq!(ended(&mut server), Some(UNUSABLE), "{}", server.log());
        log_with(&server, &format!("chmod o-w {}", folder.data().display()));
        assert_eq!(fs::read_dir(folder.data()).unwrap().count(), 0, "nothing is made there");
    }
    for mode in [0o2775, 0o1777, 0o755] {
        allow(mode);
        let (mut server, _) = folder.start.ready().unwrap();
        assert_eq!(server.terminate(), Some(0), "mode {mode:o}: {}", server.log());
    }
}

#[test]
fn a_directory_of_another_user_is_refused_with_what_to_do() {
    let folder = StoreFolder::new();
    fs::create_dir(folder.data()).unwrap();
    if std::os::unix::fs::chown(folder.data(), Some(12_345), Some(12_345)).is_err() {
        eprintln!("NOT RUN: only root can give a directory away");
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none_or(|all| all != "1"), "all tests are to run");
        return;
    }
    let mut server = folder.start.spawn();
    assert_eq!(ended(&mut server), Some(UNUSABLE), "{}", server.log());
    assert!(log_with(&server, "belongs to user 12345").contains("chown -R"));
}

#[test]
fn links_in_the_place_of_a_stores_files_lead_to_nothing_being_read_or_written() {
    let precious = "precious\n".repeat(3);
    for name in ["LOCK", "MANIFEST", "MANIFEST.tmp", "gen-000001/journal", "gen-000001"] {
        let folder = StoreFolder::new();
        let (victim, elsewhere) = (folder.beside("victim"), folder.beside("elsewhere"));
        fs::write(&victim, &precious).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(folder.data()).unwrap();
        if name.contains('/') {
            fs::create_dir(folder.data().join("gen-000001")).unwrap();
        }
        let target = if name == "gen-000001" { &elsewhere } else { &victim };
        symlink(target, folder.data().join(name)).unwrap();
        // It may serve or refuse.
        let ended = match folder.start.ready() {
            Ok((mut server, addr)) => {
                assert_eq!(Client::new(addr).post("/publish", &batch(0, 10)).unwrap().status, 200, "{name}");
                server.terminate()
            }
            Err(_) => {
                let mut again = folder.start.spawn();
                let code = ended(&mut again);
                log_with(&again, "it is a symbolic link");
                code
            }
        };
        assert_eq!(fs::read_to_string(&victim).unwrap(), precious, "{name}, {ended:?}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "{name}, {ended:?}");
    }
}

#[test]
fn a_generation_that_a_link_leads_to_is_refused_and_left_alone() {
    let folder = StoreFolder::new();
    folder.with_events();
    let (generation, elsewhere) = (folder.data().join("gen-000001"), folder.beside("elsewhere"));
    fs::rename(&generation, &elsewhere).unwrap();
    symlink(&elsewhere, &generation).unwrap();
    let mut server = folder.start.spawn();
    assert_eq!(ended(&mut server), Some(STORE_FAILED), "{}", server.log());
    assert!(log_with(&server, "it is a symbolic link").contains("gen-000001"));
    fs::remove_file(&generation).unwrap();
    fs::rename(&elsewhere, &generation).unwrap();
    let (mut server, _) = folder.start.ready().unwrap();
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn pipes_in_the_place_of_a_stores_files_stop_the_start_and_are_named() {
    for name in ["LOCK", "MANIFEST", "gen-000001/journal", "gen-000002/journal", "tokens.toml"] {
        let folder = StoreFolder::new();
        folder.with_events();
        let path = folder.data().join(name);
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut server = folder.start.spawn();
        assert!(ended(&mut server).is_some_and(|code| code != 0), "{name}: {}", server.log());
        let log = log_with(&server, "it is no regular file");
        assert!(log.contains(name), "{name}: {log}");
    }
}

#[test]
fn a_sealed_journal_that_is_gone_or_short_stops_the_start_and_is_named() {
    let folder = StoreFolder::new();
    let events = folder.with_events();
    let journal = folder.data().join("gen-000002/journal");
    let sound = fs::read(&journal).unwrap();
    let refused = |code: i32, why: &str| {
        let mut server = folder.start.spawn();
        assert_eq!(ended(&mut server), Some(code), "{}", server.log());
        let log = log_with(&server, why);
        assert!(log.contains("gen-000002/journal"), "{log}");
        log
    };
    fs::remove_file(&journal).unwrap();
    assert!(refused(DAMAGED, "it is missing").contains("sekali repair"));
    fs::write(&journal, &sound[..sound.len() - 1]).unwrap();
    assert!(refused(DAMAGED, "it ends here").contains("sekali repair"));
    // What can't be looked at is not said to be gone.
    fs::remove_file(&journal).unwrap();
    symlink(&journal, &journal).unwrap();
    let said = refused(STORE_FAILED, "cannot tell whether all is there");
    assert!(!said.contains("missing") && !said.contains("sekali repair"), "{said}");
    fs::remove_file(&journal).unwrap();
    fs::write(&journal, &sound).unwrap();
    let (_server, addr) = folder.start.ready().unwrap();
    let stats = Client::new(addr).get("/stats").unwrap();
    assert!(String::from_utf8_lossy(&stats.body).contains(&format!("\"unique_processed\":{events},")));
}

#[test]
fn a_sealed_journal_that_goes_or_is_cut_under_the_service_ends_it() {
    let cut = |journal: &Path| {
        let file = fs::OpenOptions::new().write(true).open(journal).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    for take in [&(|journal: &Path| fs::remove_file(journal).unwrap()) as &dyn Fn(&Path), &cut] {
        let folder = StoreFolder::new();
        folder.with_events();
        let (mut server, _) = folder.start.ready().unwrap();
        take(&folder.data().join("gen-000002/journal"));
        assert_eq!(ended(&mut server), Some(STORE_FAILED), "{}", server.log());
        let log = log_with(&server, "gen-000002/journal was removed, renamed, replaced or cut");
        assert!(log.contains("put back what was there"), "{log}");
    }
}

#[test]
fn a_manifest_that_did_not_get_into_its_place_is_named_and_can_be_put_there() {
    let folder = StoreFolder::new();
    folder.with_events();
    let leftover = folder.data().join("MANIFEST.0123456789abcdef.tmp");
    fs::rename(folder.data().join("MANIFEST"), &leftover).unwrap();
    // Written in part, and of no use.
    fs::write(folder.data().join("MANIFEST.tmp"), "{\"format\":").unwrap();
    let mut server = folder.start.spawn();
    assert_eq!(ended(&mut server), Some(DAMAGED), "{}", server.log());
    assert!(log_with(&server, "MANIFEST is missing").contains("MANIFEST.0123456789abcdef.tmp"));

    let repair = |more: &[&str]| {
        let dir = folder.data().to_str().unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sekali"))
            .args(["repair", "--data-dir", dir])
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("MANIFEST.0123456789abcdef.tmp"), "{said} {output:?}");
        output.status.code()
    };
    assert_eq!(repair(&[]), Some(1));
    assert!(fs::exists(&leftover).unwrap(), "without leave nothing is changed");
    assert_eq!(repair(&["--accept-loss"]), Some(0));
    let (_server, addr) = folder.start.ready().unwrap();
    let answer = Client::new(addr).post("/publish", &batch(0, 900)).unwrap();
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 200 && said.contains("\"duplicate_dropped\":900"), "{said}");
    let left = fs::read_dir(folder.data()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().ends_with(".tmp")).count(), 0);
}
