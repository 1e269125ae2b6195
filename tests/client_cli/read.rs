//! `sekali events`, `stats`, `topics`, `completions`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{event, text};
use crate::support::service::Service;

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn filled() -> Service {
    let service = Service::new();
    let input: String = (0..2_500).map(|id| event(["a b", "c"][id % 2], &id.to_string()) + "\n").collect();
    assert_eq!(service.pipe(&["publish", "-"], input).status.code(), Some(0));
    service
}

#[test]
fn events_are_the_listing_in_lines() {
    let service = filled();
    let output = service.run(&["events"]);
    assert_eq!(output.status.code(), Some(0));
    let all = lines(&output.stdout);
    assert_eq!(all.len(), 2_500);
    assert_eq!(all[..100], service.get("/events").as_object().unwrap()["events"].as_array().unwrap()[..]);
    let backwards: Vec<_> = all.iter().rev().take(1_200).cloned().collect();
    assert_eq!(lines(&service.run(&["events", "--order", "desc", "--limit", "1200"]).stdout), backwards);
    let of_topic: Vec<_> = all.iter().filter(|event| event["topic"] == "a b").cloned().collect();
    assert_eq!(lines(&service.run(&["events", "--topic", "a b", "--json"]).stdout), of_topic);
    assert_eq!(lines(&service.run(&["events", "--source", "nobody"]).stdout), Vec::<Value>::new());
    let since = all[1_500]["received_at"].as_str().unwrap();
    let later: Vec<_> =
        all.iter().filter(|event| event["received_at"].as_str().unwrap() >= since).cloned().collect();
    assert_eq!(lines(&service.run(&["events", "--since", since]).stdout), later);
    let output = service.run(&["events", "--since", "yesterday"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--since <TIME>"), "{}", text(&output.stderr));
    for time in ["2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00"] {
        assert_eq!(lines(&service.run(&["events", "--since", time]).stdout).len(), 2_500, "{time}");
    }
}

#[test]
fn a_file_is_there_only_once_it_is_complete_and_can_be_published_again() {
    let mut service = filled();
    let path = service.path("out.ndjson");
    let name = path.display().to_string();
    assert_eq!(service.run(&["events", "--output", &name]).status.code(), Some(0));
    assert_eq!(lines(&std::fs::read(&path).unwrap()).len(), 2_500);
    let output = service.run(&["publish", &name, "--json"]);
    assert_eq!(super::totals(&output)["duplicate_dropped"], 2_500);
    assert_eq!(super::totals(&output)["conflicts"], 0);
    std::fs::remove_file(&path).unwrap();
    service.server.kill();
    let files = || std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    let before = files();
    let output = service.run(&["events", "--output", &name, "--retries", "0"]);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!((path.exists(), files()), (false, before), "nothing is left of it");
    assert_eq!(service.run(&["events", "--output", "/nowhere/at/all"]).status.code(), Some(1));
}

#[test]
fn timestamps_that_are_numbers_are_read_and_move_on_as_they_are() {
    let service = Service::new();
    let timestamps = ["1763805600", "1763805600.5", "1763805600123", "\"1763805600\"", "\"2025-11-22\""];
    let input: String = timestamps
        .iter()
        .enumerate()
        .map(|(id, timestamp)| {
            format!(
                r#"{{"topic":"t","event_id":"{id}","timestamp":{timestamp},"source":"s","payload":{{}}}}"#
            ) + "\n"
        })
        .collect();
    assert_eq!(service.pipe(&["publish", "-"], &input).status.code(), Some(0));
    let stored = |service: &Service| -> Vec<Value> {
        let events = lines(&service.run(&["events"]).stdout);
        let without_arrival = |mut event: Value| {
            event.as_object_mut().unwrap().remove("received_at");
            event
        };
        events.into_iter().map(without_arrival).collect()
    };
    let all = stored(&service);
    for (id, timestamp) in timestamps.iter().enumerate() {
        assert_eq!(all[id]["timestamp"].to_string(), **timestamp);
        let got = service.run(&["get", "t", &id.to_string()]);
        assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
        assert!(text(&got.stdout).contains(&format!("\"timestamp\":{timestamp},")), "{}", text(&got.stdout));
    }
    for arguments in [
        &["events", "--follow", "--limit", "5"][..],
        &["consume", "c", "--topic", "t", "--ndjson", "--limit", "5"],
    ] {
        let output = service.run(arguments);
        assert_eq!(lines(&output.stdout).len(), 5, "{arguments:?}: {}", text(&output.stderr));
    }
    let file = service.path("all.ndjson").display().to_string();
    assert_eq!(service.run(&["events", "--output", &file]).status.code(), Some(0));
    let other = Service::new();
    for (new, old) in [(5, 0), (0, 5)] {
        let totals = super::totals(&other.run(&["publish", &file, "--json"]));
        let counted = ["unique_processed", "duplicate_dropped", "conflicts"].map(|name| totals[name].clone());
        assert_eq!(counted, [json!(new), json!(old), json!(0)]);
    }
    assert_eq!(stored(&other), all);
}

#[test]
fn an_output_that_is_no_file_is_written_through_and_one_that_is_keeps_its_mode_and_its_links() {
    let service = Service::new();
    service.pipe(&["publish", "-"], event("t", "1"));
    let all = service.run(&["events"]).stdout;
    assert_eq!(lines(&all).len(), 1);
    let output = |name: &str| {
        let output = service.run(&["events", "--output", service.path(name).to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        assert_eq!(output.stdout, b"", "{name}");
    };
    let fifo = service.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    // It can be opened without waiting for somebody who writes to it.
    let reader = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    output("fifo");
    assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "it is replaced");
    let mut read = vec![0; all.len()];
    (&reader).read_exact(&mut read).unwrap();
    assert_eq!(read, all);
    let (private, link, early) = (service.path("private"), service.path("link"), service.path("early"));
    std::fs::write(&private, "old").unwrap();
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).unwrap();
    symlink("private", &link).unwrap();
    symlink("later", &early).unwrap();
    for name in ["link", "early"] {
        output(name);
        assert!(service.path(name).is_symlink(), "{name} is replaced");
    }
    assert_eq!(std::fs::read(&private).unwrap(), all);
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read(service.path("later")).unwrap(), all);
    let mut command = service.command(&["events", "--output", "-"]);
    assert_eq!(command.current_dir(service.dir.path()).output().unwrap().stdout, all);
    assert!(!service.path("-").exists());
}

#[test]
fn following_goes_on_as_events_arrive() {
    let service = Service::new();
    service.pipe(&["publish", "-"], event("t", "0"));
    let mut command = service.command(&["events", "--follow", "--topic", "t", "--limit", "5"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = BufReader::new(child.stdout.take().unwrap());
    for id in 0..5 {
        let mut line = String::new();
        seen.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["event_id"], id.to_string());
        service.pipe(&["publish", "-"], event("t", &(id + 1).to_string()));
        service.pipe(&["publish", "-"], event("other", &id.to_string()));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let service = filled();
    for arguments in [&["events"][..], &["events", "--follow"]] {
        let mut command = service.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn totals_and_topics_are_those_of_the_service() {
    let service = filled();
    let shown = text(&service.run(&["stats"]).stdout);
    assert_eq!(shown.lines().next().unwrap().trim(), "2500 events stored");
    let stats = lines(&service.run(&["stats", "--json"]).stdout);
    assert_eq!((stats.len(), &stats[0]["unique_processed"]), (1, &json!(2_500)));
    let topics = lines(&service.run(&["topics"]).stdout);
    let names: Vec<_> = topics.iter().map(|topic| topic["topic"].as_str().unwrap()).collect();
    assert_eq!((names, &topics[0]["unique_processed"]), (vec!["a b", "c"], &json!(1_250)));
    let mut command = service.command(&["stats", "--watch=1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let rows: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(rows[0].contains("stored/s") && rows[2].trim_start().starts_with("2500"), "{rows:?}");
}

#[test]
fn people_get_tables_that_nothing_in_an_event_can_spoil() {
    let Ok(found) = std::process::Command::new("script").arg("--version").output() else {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "script(1) is not installed");
        eprintln!("NOT RUN: script(1) is not installed");
        return;
    };
    assert!(found.status.success());
    let service = Service::new();
    let payload = format!("\"{}\\u001b[2J\u{9b}31m\"", "x".repeat(80));
    service.pipe(&["publish", "-"], event("t", "1").replace("{\"n\":1}", &payload));
    let shown = |arguments: &str| {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_sekali"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("SEKALI_URL", format!("http://{}", service.addr));
        text(&script.stdin(Stdio::null()).output().unwrap().stdout)
    };
    let events = shown("events");
    let rows: Vec<&str> = events.lines().collect();
    assert!(rows[0].starts_with("received_at") && rows[0].ends_with("payload"), "{events}");
    assert!(rows[1].ends_with('…') && !rows[1].chars().any(char::is_control), "{events}");
    service.pipe(&["publish", "-"], event("t", "2"));
    let followed = shown("events --follow --limit 2");
    let headings = followed.lines().filter(|line| line.starts_with("received_at")).count();
    assert_eq!((headings, followed.lines().count()), (1, 3), "{followed}");
    assert!(shown("topics").starts_with("topic  stored"), "{}", shown("topics"));
    assert!(shown("events --json").starts_with('{'));
}

#[test]
fn there_are_completions_for_the_usual_shells() {
    let service = Service::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = service.run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("publish"), "{shell}");
    }
}
