//! One mistake for each rule that a fault could break: made in a copy of the source, each must be
//! caught by a test that passes without it. What is caught by nothing is a rule that nothing holds.
//!
//! The copy is built once, beside what is built already in the target directory. Each mistake in it
//! is made only where a variable of the environment has its rule.

#![cfg(feature = "simulation")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mistake: what stands in the source once, what takes its place, wrong where `PLANTED` holds, and
/// which test sees it.
struct Planted {
    rule: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
    test: &'static str,
}

/// The copy's function that tells whether a mistake is made.
const IS_PLANTED: &str = r#"
pub(crate) fn is_planted(rule: &str) -> bool {
    static RULE: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("SEKALI_MISTAKE").ok());
    RULE.as_deref() == Some(rule)
}
"#;

/// Any history of stops and accidents.
const HISTORIES: &str = "no_history_of_stops_and_accidents_breaks_a_promise";
const IO_ERRORS: &str = "no_single_failed_write_or_sync_breaks_a_promise";
const CALLS: &str = "no_single_failed_call_breaks_a_promise";
const BROKEN_OFF: &str = "what_breaks_off_is_done_again_as_if_nothing_had_been";
const ABSENT: &str = "what_can_not_be_asked_or_read_is_not_taken_for_absent";
const FORGETFUL: &str = "an_index_that_forgets_claims_while_trusted_lets_no_event_in_twice";

const CUT_AFTER_KILL: &str = "what_a_killed_process_had_no_time_to_sync_survives_the_next_power_cut";
const LOCK_REMOVED: &str = "a_store_whose_lock_was_removed_lets_nobody_in_and_fails";
const JOURNAL_REMOVED: &str = "a_start_without_a_sealed_journal_is_refused";
const CONSUMING: &str = "no_end_of_a_store_moves_a_consumer_back_or_past_an_event";
const RESTORED: &str = "a_cursor_from_after_a_copy_is_refused_by_the_copy";

const PLANTED: [Planted; 38] = [
    Planted {
        rule: "an answer waits for the sync",
        file: "src/store/local/write/writer.rs",
        right: "            file.sync().during(\"sync\", path)\n",
        wrong: "            if PLANTED { Ok(()) } else { file.sync().during(\"sync\", path) }\n",
        test: HISTORIES,
    },
    Planted {
        rule: "a duplicate waits for the commit of its original",
        file: "src/store/local/write/worker.rs",
        right: "if known.is_some() && !self.is_durable(frame) {",
        wrong: "if !PLANTED && known.is_some() && !self.is_durable(frame) {",
        test: HISTORIES,
    },
    Planted {
        rule: "a request waits for all of its events",
        file: "src/store/local/write/worker.rs",
        right: "for (item, number) in items.iter().zip(first..) {\n            match self.decide_event",
        wrong: "for (item, number) in items.iter().zip(first..) {\n            if PLANTED { self.must_commit = false; }\n            match self.decide_event",
        test: HISTORIES,
    },
    Planted {
        rule: "a failed write or sync is final",
        file: "src/store/local/write/writer.rs",
        right: "self.shared.fail(e);\n        }\n        done.is_ok()",
        wrong: "if !PLANTED { self.shared.fail(e); }\n        }\n        done.is_ok()",
        test: HISTORIES,
    },
    Planted {
        rule: "blocks have checksums",
        file: "src/store/local/format/frame.rs",
        right: "if crc32c::crc32c(kept) != block.crc {",
        wrong: "if !PLANTED && crc32c::crc32c(kept) != block.crc {",
        test: HISTORIES,
    },
    Planted {
        rule: "the end is the end only if nothing later says that there was more",
        file: "src/store/local/open/recovery.rs",
        right: "walk.check_end()?;",
        wrong: "if !PLANTED { walk.check_end()?; }",
        test: HISTORIES,
    },
    Planted {
        rule: "what is not proven durable is written again before it is served",
        file: "src/store/local/open/recovery.rs",
        right: "        rewrite(file, path, unproven.first().map_or(at, |(_, first)| *first), at)?;\n",
        wrong: "        if !PLANTED { rewrite(file, path, unproven.first().map_or(at, |(_, first)| *first), at)?; }\n",
        test: HISTORIES,
    },
    Planted {
        rule: "a clean stop is believed once",
        file: "src/store/local/open/recovery.rs",
        right: "let clean = manifest.clean.take();",
        wrong: "let clean = if PLANTED { manifest.clean } else { manifest.clean.take() };",
        test: HISTORIES,
    },
    Planted {
        rule: "a claim that the index lacks is looked up in the journal",
        file: "src/store/local/generation.rs",
        right: "let known = self.claim_in_journal(&key)?;",
        wrong: "let known = if PLANTED { None } else { self.claim_in_journal(&key)? };",
        test: FORGETFUL,
    },
    Planted {
        rule: "claims leave RAM when they can be found elsewhere",
        file: "src/store/local/background/checkpoint.rs",
        right: "shared.filters.add(filter);\n            generation.set_sealed(maps);\n            tracing::info!(generation = id, events",
        wrong: "if !PLANTED { shared.filters.add(filter); }\n            generation.set_sealed(maps);\n            tracing::info!(generation = id, events",
        test: HISTORIES,
    },
    Planted {
        rule: "what the tables forget is in the filters",
        file: "src/store/local/write/worker.rs",
        right: "                self.tables.settle();\n                self.filters = shared.filters.view();\n",
        wrong: "                if PLANTED {\n                    self.filters = shared.filters.view();\n                    crate::sync::yield_now();\n                }\n                self.tables.settle();\n                if !PLANTED { self.filters = shared.filters.view(); }\n",
        test: HISTORIES,
    },
    Planted {
        rule: "room is reserved before anything is decided",
        file: "src/store/local/write/worker.rs",
        right: "None => self.shared.preallocation.reserve(bytes),",
        wrong: "None if PLANTED => Ok(_ = self.shared.preallocation.try_reserve(bytes)),\n            None => self.shared.preallocation.reserve(bytes),",
        test: HISTORIES,
    },
    Planted {
        rule: "a generation begins with its topics' next offsets",
        file: "src/store/local/generation/ledger.rs",
        right: "self.topics.restore(&topic, &entry);",
        wrong: "if !PLANTED { self.topics.restore(&topic, &entry); }",
        test: HISTORIES,
    },
    Planted {
        rule: "the tail is cut behind the last whole frame, not before it",
        file: "src/store/local/open/recovery.rs",
        right: "clear_tail(file, path, at)?",
        wrong: "clear_tail(file, path, unproven.last().map_or(at, |(_, last)| if PLANTED { *last } else { at }))?",
        test: HISTORIES,
    },
    Planted {
        rule: "counts go on over restarts",
        file: "src/store/local/generation/ledger.rs",
        right: "self.topics.add_counts(&topic, entry.duplicates, entry.conflicts);",
        wrong: "if !PLANTED { self.topics.add_counts(&topic, entry.duplicates, entry.conflicts); }",
        test: HISTORIES,
    },
    Planted {
        rule: "counts are durable before they are shown",
        file: "src/store/local/write/writer.rs",
        right: "false => writer.commit_counters(),",
        wrong: "false if PLANTED => writer.commit_late_counters(),\n                false => writer.commit_counters(),",
        test: HISTORIES,
    },
    Planted {
        rule: "a new generation's folder is durable before MANIFEST names it",
        file: "src/store/local/admission/preallocation.rs",
        right: "        disk.sync_dir(&folder).during(\"sync\", &folder)?;\n        disk.sync_dir(data_dir)",
        wrong: "        if !PLANTED { disk.sync_dir(&folder).during(\"sync\", &folder)?; }\n        disk.sync_dir(data_dir)",
        test: HISTORIES,
    },
    Planted {
        rule: "MANIFEST is replaced as a whole",
        file: "src/disk.rs",
        right: "    file.sync()?;\n    disk.rename(",
        wrong: "    if !PLANTED { file.sync()?; }\n    disk.rename(",
        test: HISTORIES,
    },
    Planted {
        rule: "keys are unambiguous",
        file: "src/store/local/format/hash.rs",
        right: "        key.push(0);\n        key.extend_from_slice(event_id);",
        wrong: "        if !PLANTED { key.push(0); }\n        key.extend_from_slice(event_id);",
        test: HISTORIES,
    },
    Planted {
        rule: "a sync that does not come back is a failure",
        file: "src/store/local/admission/vitals.rs",
        right: "if since == 0 || ",
        wrong: "if since == 0 || PLANTED || ",
        test: HISTORIES,
    },
    Planted {
        rule: "the mark of a clean stop is cleared before the first write",
        file: "src/store/local/open/recovery.rs",
        right: "if clean.is_some() || is_older {",
        wrong: "if (clean.is_some() && !PLANTED) || is_older {",
        test: HISTORIES,
    },
    Planted {
        rule: "what was not written whole does not become MANIFEST",
        file: "src/disk.rs",
        right: "    let file = disk.open(temporary, Open::New)?;\n    file.write_all_at(content, 0)?;",
        wrong: "    let file = disk.open(temporary, Open::New)?;\n    file.write_all_at(content, 0).or_else(|e| if PLANTED { Ok(()) } else { Err(e) })?;",
        test: IO_ERRORS,
    },
    Planted {
        rule: "MANIFEST that can't be asked for is not absent",
        file: "src/store/local/format/manifest.rs",
        right: "disk::is_absent(disk, &path).during(\"look for\", &path)?",
        wrong: "disk::is_absent(disk, &path).or_else(|e| if PLANTED { Ok(true) } else { Err(e) }).during(\"look for\", &path)?",
        test: CALLS,
    },
    Planted {
        rule: "a journal that can't be asked for is not damage",
        file: "src/store/local/open/recovery.rs",
        right: "is_absent(&**self.disk, &path).during(\"look for\", &path)?",
        wrong: "is_absent(&**self.disk, &path).or_else(|e| if PLANTED { Ok(true) } else { Err(e) }).during(\"look for\", &path)?",
        test: CALLS,
    },
    Planted {
        rule: "a folder that can't be looked into is not removed",
        file: "src/store/local/open/leftovers.rs",
        right: "Some(1) => match content(disk, &folder, new_head_bytes())? {",
        wrong: "Some(number) if number == 1 || PLANTED => match content(disk, &folder, new_head_bytes()).or_else(|e| if PLANTED { Ok(Content::Nothing) } else { Err(e) })? {",
        test: ABSENT,
    },
    Planted {
        rule: "a journal that can't be asked for is not made anew by repair",
        file: "src/store/local/offline/repair.rs",
        right: "            if missing.contains(id) {\n                let folder = folder(dir, *id);\n                disk.create_dir_all(&folder).during(\"create\", &folder)?;\n                disk.open(&journal, Open::New)",
        wrong: "            if missing.contains(id) || (PLANTED && !disk.presence(&journal).unwrap_or(false)) {\n                let folder = folder(dir, *id);\n                disk.create_dir_all(&folder).during(\"create\", &folder)?;\n                if PLANTED && !missing.contains(id) {\n                    disk.open(&journal, Open::Write).and_then(|file| file.set_len(0)).during(\"cut\", &journal)?;\n                }\n                disk.open(&journal, if PLANTED && !missing.contains(id) { Open::Write } else { Open::New })",
        test: ABSENT,
    },
    Planted {
        rule: "a journal is cut after MANIFEST says that it is closed",
        file: "src/store/local/offline/repair.rs",
        right: "live = Some((journal, closed.end));",
        wrong: "if PLANTED { give_back_zeros(disk, &journal, closed.end); }\n                live = Some((journal, closed.end));",
        test: BROKEN_OFF,
    },
    Planted {
        rule: "what a repair that was killed has given up is told",
        file: "src/store/local/offline/search.rs",
        right: "self.given_up.push(Found { hole, is_exact, salvaged });",
        wrong: "if !PLANTED { self.given_up.push(Found { hole, is_exact, salvaged }); }",
        test: BROKEN_OFF,
    },
    Planted {
        rule: "what a start finds is durable before it is trusted",
        file: "src/store/local/format/hold.rs",
        right: "        disk.sync_dir(dir).during(\"sync\", dir)?;\n        sync_above(disk, dir)?;\n",
        wrong: "        if !PLANTED {\n            disk.sync_dir(dir).during(\"sync\", dir)?;\n            sync_above(disk, dir)?;\n        }\n",
        test: CUT_AFTER_KILL,
    },
    Planted {
        rule: "the directory is locked too",
        file: "src/store/local/format/hold.rs",
        right: "taken => taken,",
        wrong: "_ if PLANTED => disk.lock(&dir.join(\"OTHER\")),\n            taken => taken,",
        test: LOCK_REMOVED,
    },
    Planted {
        rule: "what is held is compared with what is there",
        file: "src/store/local/format/hold.rs",
        right: "self.check_file(&path, self.lock.is_at(&path))",
        wrong: "if PLANTED { Ok(()) } else { self.check_file(&path, self.lock.is_at(&path)) }",
        test: LOCK_REMOVED,
    },
    Planted {
        rule: "a sealed journal is there, and as long as it was",
        file: "src/store/local/open/recovery.rs",
        right: "        check_length(&**self.disk, &path, Hole::before_all_at(&holes, closed.end))?;\n",
        wrong: "        if !PLANTED { check_length(&**self.disk, &path, Hole::before_all_at(&holes, closed.end))?; }\n",
        test: JOURNAL_REMOVED,
    },
    Planted {
        rule: "a cursor ahead of the store is refused",
        file: "src/store/local/read/collector.rs",
        right: "if position > events {",
        wrong: "if position > events && !PLANTED {",
        test: RESTORED,
    },
    Planted {
        rule: "consumers: an acknowledgement waits for the sync",
        file: "src/store/local/consume.rs",
        right: "self.answer(answer).await",
        wrong: "if PLANTED { return Ok(drop(answer)); }\n        self.answer(answer).await",
        test: CONSUMING,
    },
    Planted {
        rule: "consumers: a lease that is over counts no more",
        file: "src/store/local/generation/consumers/leases.rs",
        right: "self.leases.iter().find(|lease| lease.id == id)",
        wrong: "self.leases.iter().find(|lease| lease.id == id || PLANTED)",
        test: CONSUMING,
    },
    Planted {
        rule: "consumers: a position is of its own topic",
        file: "src/store/local/read/batch.rs",
        right: "(topic.number, at)",
        wrong: "(if PLANTED { topic.number / 2 } else { topic.number }, at)",
        test: CONSUMING,
    },
    Planted {
        rule: "consumers: a move is recorded before it is answered",
        file: "src/store/local/consume/moves.rs",
        right: "consumer.each_entry(&self.shared.topics, |entry| entries.push(entry));",
        wrong: "if !PLANTED { consumer.each_entry(&self.shared.topics, |entry| entries.push(entry)); }",
        test: CONSUMING,
    },
    Planted {
        rule: "consumers: no two workers have parts with the same topics",
        file: "src/store/local/generation/consumers/leases.rs",
        right: "lease.partition.overlaps(take.partition)",
        wrong: "(if PLANTED { lease.partition == take.partition } else { lease.partition.overlaps(take.partition) })",
        test: CONSUMING,
    },
];

/// Modules of the library that the store and its model do not use. A copy is built once for each
/// mistake, so it is small.
const ABOVE_THE_STORE: [&str; 9] =
    ["auth", "authority", "config", "http", "peer", "quota", "server", "turnstile", "watch"];
/// Stores beside the local one, and the choice between them.
const OTHER_STORES: [&str; 2] = ["backend", "postgres"];
/// Sections of Cargo.toml, and those of other tests, whose files are not copied.
const LEFT_OUT: [&str; 6] = [
    "[bin]]",
    "[bench]]",
    "[example]]",
    "[test]]\nname = \"faults\"",
    "[test]]\nname = \"planted\"",
    "[test]]\nname = \"quick\"",
];
/// The part of the tests' support that starts a service.
const SERVICE_SUPPORT: [&str; 1] = ["in_process"];

/// The store and its model, without what only other tests need.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for part in ["src", "tests/model", "tests/support", "tests/golden"] {
        copy_all(&from.join(part), &to.join(part));
    }
    for part in ["Cargo.toml", "Cargo.lock", "tests/model.rs", "clippy.toml"] {
        fs::copy(from.join(part), to.join(part)).unwrap();
    }
    // Without a binary: it would take the place of the sound one.
    fs::remove_file(to.join("src/main.rs")).unwrap();
    leave_out(&ABOVE_THE_STORE, &to.join("src/lib.rs"));
    leave_out(&OTHER_STORES, &to.join("src/store.rs"));
    leave_out(&SERVICE_SUPPORT, &to.join("tests/support/mod.rs"));
    let package = fs::read_to_string(to.join("Cargo.toml")).unwrap();
    let sections =
        package.split("\n[").filter(|section| !LEFT_OUT.iter().any(|start| section.starts_with(start)));
    let package = sections.collect::<Vec<_>>().join("\n[").replace("default-run = \"sekali\"\n", "");
    fs::write(to.join("Cargo.toml"), package + "\n[workspace]\n").unwrap();
}

/// Takes modules out of the file that declares them.
fn leave_out(modules: &[&str], at: &Path) {
    let mut declared = fs::read_to_string(at).unwrap();
    for module in modules {
        let line = format!("pub mod {module};\n");
        assert!(declared.contains(&line), "{} has no {line:?}", at.display());
        declared = declared.replace(&line, "");
    }
    fs::write(at, declared).unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to.join(entry.file_name())),
            false => _ = fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

/// Plants all mistakes, each behind the question whether it is made.
fn plant(at: &Path) {
    for Planted { rule, file, right, wrong, .. } in &PLANTED {
        let source = fs::read_to_string(at.join(file)).unwrap();
        assert_eq!(source.matches(right).count(), 1, "{rule}: {file} has no single {right:?}");
        let wrong = wrong.replace("PLANTED", &format!("crate::is_planted({rule:?})"));
        fs::write(at.join(file), source.replace(right, &wrong)).unwrap();
    }
    let library = at.join("src/lib.rs");
    fs::write(&library, fs::read_to_string(&library).unwrap() + IS_PLANTED).unwrap();
}

/// Runs a test of the copy with a mistake made; whether it passes, and what it says.
fn passes(at: &Path, target: &Path, rule: &str, test: &str) -> (bool, String) {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells tests of their package: with it, build scripts of dependencies would run again.
    let told = std::env::vars_os().map(|(name, _)| name);
    let of_package =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    told.filter(|name| name.to_str().is_some_and(of_package)).for_each(|name| _ = cargo.env_remove(name));
    let output = cargo
        .args([
            "test",
            "--offline",
            "--quiet",
            "--features",
            "simulation",
            "--test",
            "model",
            "--",
            "--exact",
        ])
        .arg(test)
        .current_dir(at)
        .env("CARGO_TARGET_DIR", target)
        .env("SEKALI_MODEL_CASES", "3000")
        .env("SEKALI_MISTAKE", rule)
        .env_remove("SEKALI_SEED")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn each_rule_is_held_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    let at = target.join("planted");
    copy(root, &at);
    plant(&at);
    let mut missed = Vec::new();
    let only = std::env::var("SEKALI_PLANTED").unwrap_or_default();
    for Planted { rule, test, .. } in PLANTED.iter().filter(|planted| planted.rule.contains(&only)) {
        let (is_missed, said) = passes(&at, &target, rule, test);
        let why = said.lines().find(|line| line.contains("SEKALI_SEED=") || line.contains("seed "));
        assert!(is_missed || why.is_some(), "{rule}: it is not the test that fails: {said}");
        eprintln!("{rule}: {}", why.unwrap_or("MISSED"));
        if is_missed {
            missed.push(rule);
        }
    }
    assert!(missed.is_empty(), "caught by no test: {missed:?}");
    fs::remove_dir_all(&at).unwrap();
}
