//! What a user meets who tries the commands for the first time.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{event, text};
use crate::support::service::Service;

/// The program with only these of all variables that would configure it.
fn sekali(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEKALI_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

fn ids(output: &Output) -> Vec<String> {
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"].as_str().unwrap().to_owned())
        .collect()
}

/// A port where nobody listens.
fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn client_commands_go_where_the_service_listens_by_the_same_environment() {
    let service = Service::new();
    let port = service.addr.port().to_string();
    let (address, all) = (service.addr.to_string(), format!("0.0.0.0:{port}"));
    let file = service.file("sekali.toml", format!("listen = {port}"));
    for variables in [
        [("SEKALI_LISTEN", address.as_str())],
        [("SEKALI_LISTEN", &all)],
        [("SEKALI_LISTEN", &port)],
        [("SEKALI_CONFIG", &file)],
        [("SEKALI_URL", &address)],
        [("SEKALI_URL", &port)],
    ] {
        for command in ["stats", "topics", "events", "health"] {
            let output = sekali(&[command], &variables);
            assert_eq!(output.status.code(), Some(0), "{command} {variables:?}: {}", text(&output.stderr));
        }
    }
    for url in
        [address.clone(), format!("localhost:{port}"), format!(":{port}"), port.clone(), service.url() + "/"]
    {
        // An address that is named wins, and an empty variable is none.
        for variables in [[("SEKALI_URL", "nowhere.invalid:1")], [("SEKALI_URL", "")]] {
            let output = sekali(&["stats", "--url", &url], &variables);
            assert_eq!(output.status.code(), Some(0), "{url}: {}", text(&output.stderr));
        }
    }
    for (variables, told) in [
        (
            [("SEKALI_URL", "ftp://h:1")],
            "SEKALI_URL is \"ftp://h:1\": use http://host:port, https://host:port",
        ),
        ([("SEKALI_LISTEN", "127.0.0.1:0")], "name it with --url or SEKALI_URL"),
    ] {
        let output = sekali(&["stats"], &variables);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.contains(told)), (Some(3), true), "{said}");
    }
    assert_eq!(sekali(&["stats", "--url", "localhost"], &[]).status.code(), Some(2));
    // What may be a token is not shown.
    let secret = "http://me:s3cret@127.0.0.1:1";
    for (output, code) in
        [(sekali(&["stats", "--url", secret], &[]), 2), (sekali(&["stats"], &[("SEKALI_URL", secret)]), 3)]
    {
        let said = text(&output.stderr);
        let is_told = said.contains("--token-file") && !said.contains("s3cret");
        assert!(output.status.code() == Some(code) && is_told, "{said}");
    }
}

#[test]
fn where_nobody_listens_every_command_says_what_to_do() {
    let url = dead();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events");
    std::fs::write(&file, event("t", "1")).unwrap();
    let publish = ["publish", "--retries", "0", file.to_str().unwrap()];
    for arguments in [
        &["stats"][..],
        &["topics"],
        &["events"],
        &["events", "--follow"],
        &["get", "t", "1"],
        &["bench"],
        &publish,
    ] {
        let output = sekali(arguments, &[("SEKALI_URL", &url)]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(9), "{arguments:?}: {said}");
        assert!(said.contains("is it running? --url or SEKALI_URL"), "{arguments:?}: {said}");
        assert!(said.contains(&url), "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    let said = text(&sekali(&["health"], &[("SEKALI_URL", &url)]).stderr);
    assert!(said.contains("is it running? --url or SEKALI_URL"), "{said}");
    // Whoever waits longer says how long.
    let said =
        text(&sekali(&["publish", "--retries", "2", file.to_str().unwrap()], &[("SEKALI_URL", &url)]).stderr);
    assert!(said.contains("up to 2 more tries in about 1 s; trying again"), "{said}");
}

#[test]
fn an_event_is_got_by_its_topic_and_id_whatever_these_are() {
    let service = Service::new();
    for (topic, id) in [("t", "1"), ("a/b c", "ü?#%"), (".", ".."), ("..", "x/../y"), ("-t", "--id")] {
        service.pipe(&["publish", "-"], event(topic, id));
        let output = service.run(&["get", "--", topic, id]);
        assert_eq!(output.status.code(), Some(0), "{topic} {id}: {}", text(&output.stderr));
        let got: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&got["topic"], &got["event_id"], &got["offset"]), (&json!(topic), &json!(id), &json!(0)));
        assert_eq!(text(&output.stdout).lines().count(), 1);
    }
    let output = service.run(&["get", "t", "2"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(10), ""),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stderr).contains("no event \"2\" is stored in topic \"t\""));
}

#[test]
fn a_time_may_be_a_span_before_now() {
    let service = Service::new();
    service.pipe(&["publish", "-"], event("t", "1"));
    for span in ["10m", "2h", "3d", "90s", "1h 30m", "1week"] {
        assert_eq!(ids(&service.run(&["events", "--since", span])), ["1"], "{span}");
        assert_eq!(ids(&service.run(&["events", "--until", span])), Vec::<String>::new(), "{span}");
    }
    assert_eq!(ids(&service.run(&["events", "--until", "0s"])), ["1"]);
    for span in ["m", "10x", "-10m", "10000000y", "yesterday"] {
        let output = service.run(&["events", "--since", span]);
        assert_eq!(output.status.code(), Some(2), "{span}");
    }
    let said = text(&service.run(&["events", "--since", "10x"]).stderr);
    assert!(said.contains("10m, 2h, 3d"), "{said}");
    // In other programs a capital M is a minute.
    for arguments in [
        &["events", "--since", "10M"][..],
        &["events", "--until", "1h 10M"],
        &["consume", "c", "--topic", "t", "--from", "10M", "--ndjson"],
        &["consumers", "seek", "c", "10M", "--yes"],
    ] {
        let output = service.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(
            (output.status.code(), said.contains("10months")),
            (Some(2), true),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_consumer_begins_and_is_moved_to_a_span_before_now() {
    let service = Service::new();
    service.pipe(&["publish", "-"], event("t", "1"));
    let read = |consumer: &str, from: &str| {
        service.run(&["consume", consumer, "--topic", "t", "--from", from, "--ndjson", "--limit", "1"])
    };
    assert_eq!(ids(&read("a", "10m")), ["1"]);
    let moved = service.run(&["consumers", "seek", "a", "2h", "--yes"]);
    let said = text(&moved.stdout);
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
    assert!(said.starts_with("a goes on at 20") && said.contains("1 events before the end"), "{said}");
    assert_eq!(ids(&read("a", "10m")), ["1"], "it is given again");
}

#[test]
fn following_from_now_leaves_out_what_was_stored_before() {
    for before in [0, 1, 3] {
        for arguments in [&[][..], &["--topic", "t"], &["--source", "test"]] {
            let service = Service::new();
            let input: String = (0..before).map(|id| event("t", &format!("old-{id}")) + "\n").collect();
            service.pipe(&["publish", "-"], input);
            let follow = ["events", "--follow", "--from", "now", "--limit", "2"];
            let mut command = service.command(&[&follow[..], arguments].concat());
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut seen = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            // When it has begun, it shows what is stored then: so more is stored until it shows
            // something.
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let (url, first) = (
                service.url(),
                std::thread::spawn(move || {
                    let shown: Vec<Value> =
                        seen.by_ref().map(|line| serde_json::from_str(&line).unwrap()).collect();
                    drop(done);
                    shown
                }),
            );
            let mut id = 0;
            while wait
                .recv_timeout(std::time::Duration::from_millis(20))
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let file = service.file("new", event("t", &format!("new-{id}")));
                assert!(sekali(&["publish", "--url", &url, &file], &[]).status.success());
                id += 1;
                assert!(id < 1_000, "it shows nothing");
            }
            let shown = first.join().unwrap();
            assert_eq!((child.wait().unwrap().code(), shown.len()), (Some(0), 2), "{arguments:?}");
            let numbers: Vec<u64> = shown
                .iter()
                .map(|event| {
                    event["event_id"].as_str().unwrap().strip_prefix("new-").unwrap().parse().unwrap()
                })
                .collect();
            assert_eq!(numbers[0] + 1, numbers[1], "nothing is left out: {numbers:?}");
        }
    }
    let output = Service::new().run(&["events", "--from", "now"]);
    assert_eq!(output.status.code(), Some(2), "without --follow there is nothing to come");
}

#[test]
fn a_load_keeps_off_a_store_of_others_and_may_have_one_of_its_own() {
    let service = Service::new();
    let bench = ["bench", "--events", "1000", "--connections", "2", "--json"];
    let run = |more: &[&str]| service.run(&[&bench[..], more].concat());
    assert_eq!(run(&[]).status.code(), Some(0), "an empty store");
    assert_eq!(run(&[]).status.code(), Some(0), "a store of its own events: {}", text(&run(&[]).stderr));
    service.pipe(&["publish", "-"], event("orders", "1"));
    let before = service.stored();
    let refused = run(&[]);
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), service.stored()), (Some(1), before), "{said}");
    assert!(said.contains("\"orders\"") && said.contains("--scratch") && said.contains("--force"), "{said}");
    assert_eq!(run(&["--force"]).status.code(), Some(0));
    assert!(service.stored() > before);
    let before = service.stored();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = service.command(&[&bench[..], &["--scratch"]].concat());
    // Whatever the environment and the configuration say is for a store that is to be kept.
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    let file = service.file("sekali.toml", format!("store = \"{nowhere}\""));
    command.env("SEKALI_STORE", nowhere).env("SEKALI_CONFIG", &file).env("SEKALI_MUST_EXIST", "true");
    command.env("SEKALI_OPS_LISTEN", service.addr.to_string()).env("SEKALI_TOKENS_FILE", "/nowhere/tokens");
    command.env("SEKALI_PEER_REQUESTS_PER_SECOND", "1");
    let output = command.env("TMPDIR", scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["verified"], &report["events"]), (&json!(true), &json!(1_000)));
    assert_ne!(report["url"], service.url());
    assert_eq!((service.stored(), std::fs::read_dir(scratch.path()).unwrap().count()), (before, 0));
    let url = report["url"].as_str().unwrap();
    assert_eq!(service.run(&["health", "--url", url]).status.code(), Some(1), "its service is gone");
}

#[test]
fn a_topic_that_is_called_as_those_of_a_load_may_be_of_others() {
    let service = Service::new();
    service.pipe(&["publish", "-"], event("bench.00000", "1"));
    let refused = service.run(&["bench", "--events", "100", "--connections", "1"]);
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), service.stored()), (Some(1), 1), "{said}");
    assert!(said.contains("\"bench.00000\"") && said.contains("--force"), "{said}");
}

#[test]
fn an_interrupted_load_leaves_nothing_of_its_scratch_store() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.args(["bench", "--scratch", "--events", "100000000"]).env("TMPDIR", scratch.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let is_begun = crate::support::until(30, || {
            let folder = std::fs::read_dir(scratch.path()).unwrap().next()?.unwrap().path();
            folder.join("data/MANIFEST").exists().then_some(())
        });
        assert!(is_begun.is_some(), "{:?}", child.try_wait());
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
