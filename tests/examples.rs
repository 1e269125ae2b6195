//! The examples run as they are: each program against a real server, the files for Prometheus and
//! Grafana against `promtool` and the metrics of a running server.
//!
//! What is missing on this machine is listed as not run, and with `SEKALI_TEST_ALL` that is a
//! failure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::service::Service;
use crate::support::{promtool, until};
use serde_json::Value;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// What is for Prometheus and Grafana.
fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(monitoring(name)).unwrap()
}

/// The program, if it is there.
fn find(program: &Path) -> Option<Command> {
    let is_there =
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{} is not installed", program.display());
        eprintln!("NOT RUN: {} is not installed", program.display());
    }
    is_there.then(|| Command::new(program))
}

/// Runs a command, which must succeed; what it prints.
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}\n{said}\n{failed}");
    said.into_owned()
}

/// Runs a publisher twice: all of its events are stored, and then all of them are dropped.
fn publishes_twice(program: &str, name: &str, events: u64) {
    let Some(mut command) = find(Path::new(program)) else { return };
    let service = Service::new();
    command.arg(example(name)).env("SEKALI_URL", service.url());
    said(&mut command);
    assert_eq!(service.stored(), events);
    said(&mut command);
    let stats = service.get("/stats");
    assert_eq!((&stats["unique_processed"], &stats["duplicate_dropped"]), (&events.into(), &events.into()));
    assert_eq!(stats["conflicts"], 0);
}

#[test]
fn curl_publishes_each_event_once() {
    if find(Path::new("curl")).is_some() {
        publishes_twice("bash", "publish/publish.sh", 3);
    }
}

#[test]
fn python_publishes_each_event_once() {
    publishes_twice("python3", "publish/publish.py", 250);
}

#[test]
fn javascript_publishes_each_event_once() {
    publishes_twice("node", "publish/publish.mjs", 250);
}

/// A follower of a topic that is killed when it goes out of scope.
struct Follower(Child);

impl Follower {
    fn start(url: &str, database: &Path) -> Self {
        let mut command = Command::new("python3");
        command.arg(example("follow/follow.py")).arg(database).env("SEKALI_URL", url);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

/// Publishes events, of which each has its number as its id and as its amount.
fn publish_amounts(service: &Service, numbers: std::ops::Range<i64>) {
    let event = |number: i64| {
        let source = number % 3;
        format!(
            r#"{{"topic":"orders.paid","event_id":"{number}","timestamp":0,"source":"shop-{source}","payload":{{"amount":{number}}}}}"#
        )
    };
    let events: Vec<String> = numbers.map(event).collect();
    assert_eq!(service.post(&format!("[{}]", events.join(","))), 200);
}

/// Waits until the follower has applied this number of events.
fn applies(database: &Path, events: i64) {
    let reached = until(60, || totals(database).filter(|(applied, _)| *applied >= events));
    assert!(reached.is_some(), "the follower stays at {:?}", totals(database));
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

/// What the follower has added up: events and amounts.
fn totals(database: &Path) -> Option<(i64, i64)> {
    let database = rusqlite::Connection::open(database).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    let sums = "SELECT coalesce(sum(events), 0), coalesce(sum(amount), 0) FROM totals";
    database.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?))).ok()
}

#[test]
fn a_follower_that_is_killed_again_and_again_applies_each_event_once() {
    const EVENTS: i64 = 600;
    const KILLS: i64 = 6;
    if find(Path::new("python3")).is_none() {
        return;
    }
    let service = Service::new();
    let database = service.path("totals.db");
    for kill in 1..=KILLS {
        let (first, next) = (EVENTS * (kill - 1) / KILLS, EVENTS * kill / KILLS);
        publish_amounts(&service, first..next);
        let _killed_in_the_middle = Follower::start(&service.url(), &database);
        applies(&database, if kill == KILLS { EVENTS } else { (first + next) / 2 });
    }
    assert_eq!(totals(&database), Some((EVENTS, EVENTS * (EVENTS - 1) / 2)));
}

#[test]
fn a_follower_goes_on_when_the_service_was_killed_and_started_again() {
    if find(Path::new("python3")).is_none() {
        return;
    }
    let mut service = Service::new();
    let relay = Relay::start(service.addr);
    let database = service.path("totals.db");
    let _follower = Follower::start(&format!("http://{}", relay.addr), &database);
    publish_amounts(&service, 0..100);
    applies(&database, 100);
    service.server.kill();
    service.start_again();
    relay.to(service.addr);
    publish_amounts(&service, 100..200);
    applies(&database, 200);
    assert_eq!(totals(&database), Some((200, 200 * 199 / 2)));
}

#[test]
fn prometheus_takes_its_configuration_and_the_alerts() {
    let Some(mut command) = find(&promtool()) else { return };
    let checked = said(command.args(["check", "config"]).arg(monitoring("prometheus.yml")));
    assert!(checked.contains("SUCCESS: 14 rules found"), "{checked}");
}

#[test]
fn the_alerts_are_those_of_the_page() {
    let page = include_str!("../docs/how-to/monitor.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<&str> = rows.map(|(expression, _)| expression).collect();
    let alerts = read("alerts.yml");
    let alerts: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(documented.len(), 13);
    assert!(documented.is_subset(&alerts), "{documented:?}\n{alerts:?}");
}

/// Every query of the dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The metrics of this project that a text names.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sekali_") || word.starts_with("process_")).collect()
}

#[test]
fn every_query_names_metrics_that_the_server_has() {
    // With a consumer and a source, as their figures are theirs.
    let dir = tempfile::tempdir().unwrap();
    let (config, secret) = (dir.path().join("sekali.toml"), dir.path().join("secret"));
    std::fs::write(&secret, "secret").unwrap();
    let source = format!("[sources.shop]\npreset = \"github\"\nsecret_files = [{secret:?}]\n");
    std::fs::write(&config, source).unwrap();
    let service = Service::started(|mut start| {
        start.env.push(("SEKALI_CONFIG".into(), config.into()));
        start
    });
    assert_eq!(service.post(r#"{"topic":"t","event_id":"1","timestamp":0,"source":"test"}"#), 200);
    service.make_consumer("c");
    let mut client = Client::new(service.addr);
    assert_eq!(client.post("/in/shop", b"{}").unwrap().status, 401);
    let answer = client.get("/metrics").unwrap().body;
    let text = String::from_utf8(answer).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let texts = [queries().join("\n"), read("alerts.yml")];
    // Figures of TLS need TLS, and its own tests look for them.
    let plain = |named: &&str| !named.starts_with("sekali_tls_");
    for named in texts.iter().flat_map(|text| metrics(text)).filter(plain) {
        assert!(there.contains(named), "there is no {named}");
    }
    assert!(queries().len() > 20);
}

#[test]
fn every_query_is_one_that_prometheus_can_read() {
    let Some(mut command) = find(&promtool()) else { return };
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, query) in queries().iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
        rules += &format!("      - record: query_{number}\n        expr: '{query}'\n");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, rules).unwrap();
    said(command.args(["check", "rules"]).arg(file));
}

#[test]
fn the_workflow_runs_what_a_change_must_pass() {
    let workflow = include_str!("../.github/workflows/ci.yml");
    assert!(workflow.lines().any(|line| line.trim().ends_with(".ci/run")), "{workflow}");
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(workflow.contains(&format!("rustup default {rust}")), "the workflow must build with Rust {rust}");
}
