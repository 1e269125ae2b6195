//! `sekali consume` and `sekali consumers`.

use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn sekali(service: &Service, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    command.args(arguments).env("SEKALI_URL", service.url()).stdin(Stdio::null());
    command
}

fn said(service: &Service, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = sekali(service, arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn a_command_gets_each_event_until_it_ends_well() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    let (log, failed) = (service.path("log"), service.path("failed"));
    // It fails once at the second event.
    let script = format!(
        "read event; echo \"$event\" >> {log}; case $event in *e-1*) [ -e {failed} ] || {{ touch {failed}; exit 1; }};; esac",
        log = log.display(),
        failed = failed.display()
    );
    said(&service, &["consume", "c", "--topic", "t", "--limit", "3", "--exec", &script]);
    let log = std::fs::read_to_string(log).unwrap();
    let offsets: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [0, 1, 1, 2]);
    assert_eq!(service.get("/consumers/c")["lag"], 0);
}

#[test]
fn what_is_printed_is_acknowledged() {
    let service = Service::new();
    publish(&service, "t", 0, 5);
    put(&service, "c", &["t"], "start");
    let lines = said(&service, &["consume", "c", "--ndjson", "--batch", "2", "--limit", "4"]);
    assert_eq!(lines.lines().count(), 4);
    assert_eq!(service.get("/consumers/c")["lag"], 1);
}

#[test]
fn a_wish_to_end_lets_the_command_under_way_end_first() {
    let service = Service::new();
    publish(&service, "t", 0, 2);
    let (begun, go_on) = (service.path("begun"), service.path("go-on"));
    let script =
        format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done", begun.display(), go_on.display());
    let mut child = sekali(&service, &["consume", "c", "--topic", "t", "--exec", &script]).spawn().unwrap();
    assert!(crate::support::until(30, || begun.exists().then_some(())).is_some());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(service.get("/consumers/c")["lag"], 1);
    let free = || service.get("/consumers/c")["leases"].as_array().unwrap().is_empty().then_some(());
    assert!(crate::support::until(10, free).is_some(), "nobody waits for a lease of a worker that has ended");
}

#[test]
fn a_command_that_takes_three_leases_keeps_its_own_and_acknowledges() {
    let service = Service::new();
    publish(&service, "t", 0, 1);
    let (begun, go_on) = (service.path("begun"), service.path("go-on"));
    let script =
        format!("echo >> {}; while [ ! -e {} ]; do sleep 0.05; done", begun.display(), go_on.display());
    let arguments = ["consume", "c", "--topic", "t", "--limit", "1", "--lease", "4", "--exec", &script];
    let mut child = sekali(&service, &arguments).spawn().unwrap();
    assert!(crate::support::until(30, || begun.exists().then_some(())).is_some());
    let until = |lease: &Value| {
        sekali::clock::Timestamp::parse(lease["until"].as_str().unwrap()).unwrap().0 / 1_000_000
    };
    let refused = || {
        let (status, answer) = ask(&service, "GET", "/consumers/c/events", &Value::Null);
        assert_eq!(status, 409, "another has the events while the command works on them: {answer}");
        until(&answer["lease"])
    };
    let first = refused();
    assert!(
        crate::support::until(60, || (refused() >= first + 12).then_some(())).is_some(),
        "the lease stays"
    );
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&begun).unwrap(), "\n", "it ran once");
    let consumer = service.get("/consumers/c");
    assert_eq!((&consumer["lag"], &consumer["last_error"]), (&json!(0), &Value::Null));
}

#[test]
fn consumers_are_listed_and_moved() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "end");
    let listed: Value = serde_json::from_str(&said(&service, &["consumers"])).unwrap();
    assert_eq!((&listed["name"], &listed["lag"]), (&json!("c"), &json!(0)));
    let refused = sekali(&service, &["consumers", "seek", "c", "start"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    assert_eq!(service.get("/consumers/c")["lag"], 0);
    assert!(said(&service, &["consumers", "seek", "c", "start", "--yes"]).contains("3 events"));
    assert_eq!(service.get("/consumers/c")["lag"], 3);
}

/// What becomes of a move that somebody at a terminal is asked about: the exit code, and what is shown.
fn asked(service: &Service, answer: &str) -> Option<(Option<i32>, String)> {
    let Ok(found) = Command::new("script").arg("--version").output() else {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "script(1) is not installed");
        return None;
    };
    assert!(found.status.success());
    let command = format!("{} consumers seek c start", env!("CARGO_BIN_EXE_sekali"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("SEKALI_URL", service.url()).stdin(Stdio::piped());
    let mut child = script.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_move_is_asked_about_and_not_made_without_a_yes() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    put(&service, "c", &["t"], "end");
    for answer in ["n\n", "\n", "yes please\n", "Ja\n"] {
        let Some((code, shown)) = asked(&service, answer) else { return };
        assert_eq!((code, shown.contains("[y/N]")), (Some(1), true), "{answer:?}: {shown}");
        assert!(shown.contains("not moved"), "{answer:?}: {shown}");
        assert_eq!(service.get("/consumers/c")["lag"], 0, "{answer:?}");
    }
    for answer in ["y\n", "Y\n", "yes\n"] {
        let (status, _) = ask(&service, "POST", "/consumers/c/seek", &json!({"to": "end"}));
        assert_eq!(status, 200);
        let Some((code, shown)) = asked(&service, answer) else { return };
        assert_eq!(code, Some(0), "{answer:?}: {shown}");
        assert_eq!(service.get("/consumers/c")["lag"], 3, "{answer:?}");
    }
}

#[test]
fn a_command_that_fails_is_run_again_after_longer_and_longer_pauses() {
    let service = Service::new();
    publish(&service, "t", 0, 1);
    let log = service.path("log");
    let script =
        format!("cat > /dev/null; date +%s%N >> {log}; [ $(wc -l < {log}) -gt 5 ]", log = log.display());
    said(&service, &["consume", "c", "--topic", "t", "--limit", "1", "--exec", &script]);
    let log = std::fs::read_to_string(log).unwrap();
    let times: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 6);
    // Each pause is half of what it may be at least.
    for (number, pair) in times.windows(2).enumerate() {
        let millis = (pair[1] - pair[0]) / 1_000_000;
        assert!(millis >= 50 << number, "pause {number} has {millis} ms");
    }
    assert_eq!(service.get("/consumers/c")["lag"], 0);
}

#[test]
fn events_are_one_a_line_whatever_their_payloads_are_laid_out_like() {
    let service = Service::new();
    let payload = "{\n  \"a\": [\r\n1],\n\"b\": \"x\\ny\"}";
    service.publish((0..3).map(|number| event("t", &format!("e-{number}"), payload)));
    put(&service, "c", &["t"], "start");
    let log = service.path("log");
    let script = format!("while read -r event; do printf '%s\\n' \"$event\" >> {}; done", log.display());
    said(&service, &["consume", "c", "--limit", "2", "--batch", "2", "--exec", &script]);
    let printed = said(&service, &["consume", "c", "--limit", "1", "--ndjson"]);
    let lines = std::fs::read_to_string(log).unwrap() + &printed;
    let expected: Value = serde_json::from_str(payload).unwrap();
    let payloads: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"].clone()).collect();
    assert_eq!(payloads, [expected.clone(), expected.clone(), expected]);
}

#[test]
fn a_worker_without_a_lease_leaves_no_error_behind() {
    let service = Service::new();
    publish(&service, "t", 0, 2);
    put(&service, "c", &["t"], "start");
    take(&service, "c", "holder=other&lease=2s&limit=1");
    let mut child = sekali(&service, &["consume", "c", "--ndjson"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = [0; 1];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut told).unwrap();
    // It waits for another's lease, and is ended.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let leases = service.get("/consumers/c")["leases"].clone();
    let is_ours = |lease: &Value| lease["holder"].as_str().unwrap().starts_with("sekali-consume");
    assert!(!leases.as_array().unwrap().iter().any(is_ours), "{leases}");
}

#[test]
fn a_batch_whose_acknowledgement_is_refused_does_not_count() {
    let service = Service::new();
    publish(&service, "t", 0, 1);
    put(&service, "c", &["t"], "start");
    let runs = service.path("runs");
    // The first time, the consumer is moved while the command runs.
    let script = format!(
        "cat > /dev/null; echo >> {runs}; [ $(wc -l < {runs}) -gt 1 ] || {sekali} consumers seek c start --yes",
        runs = runs.display(),
        sekali = env!("CARGO_BIN_EXE_sekali")
    );
    said(&service, &["consume", "c", "--limit", "1", "--exec", &script]);
    assert_eq!(std::fs::read_to_string(&runs).unwrap().lines().count(), 2);
    assert_eq!(service.get("/consumers/c")["lag"], 0);
}

/// A worker that waits for an event.
fn idle(service: &Service, lease: &str) -> std::process::Child {
    let arguments = ["consume", "c", "--topic", "*", "--lease", lease, "--ndjson"];
    let child = sekali(service, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let leases = || {
        let (status, answer) = ask(service, "GET", "/consumers/c", &Value::Null);
        (status == 200 && answer["leases"].as_array().unwrap().len() == 1).then_some(())
    };
    assert!(crate::support::until(30, leases).is_some(), "it waits");
    child
}

#[test]
fn an_idle_worker_ends_at_once_and_gives_its_lease_back() {
    for signal in [Signal::TERM, Signal::INT] {
        let service = Service::new();
        let mut child = idle(&service, "60");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = crate::support::until(10, || child.try_wait().unwrap());
        assert_eq!(ended.and_then(|status| status.code()), Some(130), "before the wait is over");
        let free = || (service.get("/consumers/c")["leases"] == json!([])).then_some(());
        assert!(crate::support::until(10, free).is_some(), "its lease would last for a minute");
        assert_eq!(service.get("/consumers/c")["last_error"], Value::Null);
    }
}

#[test]
fn the_lease_of_an_idle_worker_that_is_killed_ends_in_its_own_time() {
    let service = Service::new();
    let mut child = idle(&service, "3");
    child.kill().unwrap();
    child.wait().unwrap();
    let free = || (service.get("/consumers/c")["leases"] == json!([])).then_some(());
    assert!(crate::support::until(12, free).is_some(), "its wait would renew it for twenty seconds");
}

#[test]
fn a_worker_without_a_stdout_acknowledges_nothing() {
    let service = Service::new();
    publish(&service, "t", 0, 2);
    put(&service, "c", &["t"], "start");
    let run = |to: &str| {
        let command = format!("exec \"$0\" consume c --ndjson --limit 1 {to}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).arg(env!("CARGO_BIN_EXE_sekali")).env("SEKALI_URL", service.url());
        let output = shell.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(">&-");
    assert_eq!((code, said.contains("stdout is closed")), (Some(1), true), "{said}");
    assert_eq!(service.get("/consumers/c")["lag"], 2);
    assert_eq!(run("> /dev/null").0, Some(0));
    assert_eq!(service.get("/consumers/c")["lag"], 1);
}
