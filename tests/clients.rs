//! Real clients, unchanged: each sends everything twice and finds it stored once.
//!
//! They are installed by `make tools` into `target/tools`; what is not there is listed as not run,
//! and with `SEKALI_TEST_ALL` that is a failure.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::client::Client;
use crate::support::door::make_token;
use crate::support::relay::Relay;
use crate::support::service::Service;
use crate::support::tools;

impl Service {
    fn stats(&self) -> (u64, u64) {
        let stats = self.get("/stats");
        (stats["unique_processed"].as_u64().unwrap(), stats["duplicate_dropped"].as_u64().unwrap())
    }

    /// Runs a client, which must succeed.
    fn must_serve(&self, mut client: Command) {
        let output = client.env("SEKALI_URL", self.url()).stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success(),
            "{client:?}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Publishes events of the topic `t`, one after the other, each known by its number.
fn publish_numbers(addr: SocketAddr, numbers: std::ops::Range<usize>) {
    for id in numbers {
        let event = format!(
            r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"test"}}"#
        );
        assert_eq!(Client::new(addr).post("/publish", event.as_bytes()).unwrap().status, 200);
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// The program, if it is there.
fn find(program: &Path, what: &str) -> Option<Command> {
    let is_there =
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{what} is not installed: make tools");
        eprintln!("NOT RUN: {what} is not installed: make tools");
    }
    is_there.then(|| Command::new(program))
}

fn python(name: &str) -> Option<Command> {
    let mut client = find(&tools().join("python/bin/python"), "Python with its clients")?;
    client.arg(script(name));
    Some(client)
}

fn node(name: &str) -> Option<Command> {
    let modules = tools().join("node/node_modules");
    if !modules.exists() {
        return find(&modules, "Node with its clients");
    }
    let mut client = find(Path::new("node"), "Node")?;
    client.env("NODE_PATH", modules).arg(script(name));
    Some(client)
}

#[test]
fn a_script_for_the_original_works_unchanged() {
    let Some(client) = python("original.py") else { return };
    let service = Service::new();
    service.must_serve(client);
    assert_eq!(service.stats(), (12, 21));
}

#[test]
fn the_cloud_events_sdk_for_python_works_unchanged() {
    let Some(client) = python("cloud_events.py") else { return };
    let service = Service::new();
    service.must_serve(client);
    assert_eq!(service.stats(), (5, 5));
}

#[test]
fn the_cloud_events_sdk_for_javascript_works_unchanged() {
    let Some(client) = node("cloud_events.cjs") else { return };
    let service = Service::new();
    service.must_serve(client);
    assert_eq!(service.stats(), (3, 3));
}

#[test]
fn prometheus_own_parsers_take_the_metrics() {
    let Some(client) = python("open_metrics.py") else { return };
    Service::new().must_serve(client);
}

/// Runs schemathesis, which must find nothing.
fn schemathesis(service: &Service, arguments: &[&str], variables: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let mut client = Command::new(tools().join("python/bin/schemathesis"));
    client
        .current_dir(&dir)
        .env("SCHEMATHESIS_HOOKS", script("hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(script("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", service.url()), "--no-color"])
        .args(["--seed", &crate::support::number("SEKALI_SEED", 1).to_string()])
        .args(arguments)
        .envs(variables.iter().copied());
    service.must_serve(client);
}

#[test]
fn schemathesis_finds_nothing() {
    let Some(_) = python("original.py") else { return };
    schemathesis(&Service::new(), &["--max-examples", "60"], &[]);
}

#[test]
fn schemathesis_with_a_token_finds_nothing_and_is_not_let_in_without_it() {
    let Some(_) = python("original.py") else { return };
    let (token, tokens_file) = make_token();
    let service = Service::started(|mut start| {
        let path = start.data_dir.with_file_name("tokens.toml");
        std::fs::write(&path, tokens_file).unwrap();
        start.env.push(("SEKALI_TOKENS_FILE".into(), path.into()));
        start
    });
    let authorization = format!("Bearer {token}");
    // It leaves the token out, and gets 401, but for where the command line puts it in again.
    let header = format!("Authorization: {authorization}");
    let arguments = ["--max-examples", "20", "--exclude-checks", "missing_required_header", "-H", &header];
    schemathesis(&service, &arguments, &[("SEKALI_TOKEN", &token)]);
    let headers = [("Authorization", authorization.as_str())];
    let metrics = Client::new(service.addr).send("GET", "/metrics", &headers, b"").unwrap().body;
    let metrics = String::from_utf8(metrics).unwrap();
    for reason in ["missing", "malformed"] {
        let name = format!("sekali_auth_failures_total{{reason=\"{reason}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        assert!(count.parse::<u32>().unwrap() > 5, "{name}{count}");
    }
}

/// A folder with the service's OpenAPI document.
fn described(service: &Service) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let document = Client::new(service.addr).get("/openapi.json").unwrap().body;
    std::fs::write(dir.path().join("openapi.json"), document).unwrap();
    dir
}

/// Runs a step ahead of a client, in `dir`.
fn make(dir: &Path, program: &Path, arguments: &[&str]) {
    let output =
        Command::new(program).args(arguments).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success(), "{}: {said}", program.display());
    assert!(!said.contains("will not be generated"), "{said}");
}

#[test]
fn a_client_made_by_openapi_python_client_publishes_and_reads() {
    let Some(mut client) = python("generated_client.py") else { return };
    let service = Service::new();
    let dir = described(&service);
    let arguments =
        ["generate", "--path", "openapi.json", "--output-path", "sekali_client", "--meta", "none"];
    make(dir.path(), &tools().join("python/bin/openapi-python-client"), &arguments);
    client.env("PYTHONPATH", dir.path());
    service.must_serve(client);
    assert_eq!(service.stats(), (4, 4));
}

#[test]
fn a_client_made_by_openapi_generator_publishes_and_reads() {
    let Some(mut client) = python("openapi_generator.py") else { return };
    let service = Service::new();
    let dir = described(&service);
    let arguments =
        ["generate", "-i", "openapi.json", "-g", "python", "--package-name", "generated", "-o", "made"];
    make(dir.path(), &tools().join("python/bin/openapi-generator-cli"), &arguments);
    client.env("PYTHONPATH", dir.path().join("made"));
    service.must_serve(client);
    assert_eq!(service.stats(), (3, 3));
}

#[test]
fn a_client_typed_by_openapi_typescript_publishes_and_reads() {
    let Some(mut client) = node("openapi_fetch.ts") else { return };
    let service = Service::new();
    let dir = described(&service);
    let modules = tools().join("node/node_modules");
    std::os::unix::fs::symlink(&modules, dir.path().join("node_modules")).unwrap();
    std::fs::copy(script("openapi_fetch.ts"), dir.path().join("client.ts")).unwrap();
    make(dir.path(), &modules.join(".bin/openapi-typescript"), &["openapi.json", "-o", "api.d.ts"]);
    let arguments = ["--strict", "--target", "es2022", "--module", "commonjs", "client.ts"];
    make(dir.path(), &modules.join(".bin/tsc"), &arguments);
    client = Command::new(client.get_program());
    client.arg(dir.path().join("client.js"));
    service.must_serve(client);
    assert_eq!(service.stats(), (3, 3));
}

#[test]
fn what_pydantic_takes_for_a_time_is_taken_and_comes_back_as_it_came() {
    let Some(mut client) = python("timestamps.py") else { return };
    client.arg(crate::support::number("SEKALI_SEED", 1).to_string());
    Service::new().must_serve(client);
}

#[test]
fn httpx_sse_gives_events_and_nothing_else() {
    const EVENTS: usize = 20;
    let Some(mut client) = python("sse.py") else { return };
    let service = Service::new();
    publish_numbers(service.addr, 0..EVENTS);
    client.arg(EVENTS.to_string());
    service.must_serve(client);
}

#[test]
fn a_polyfill_that_comes_back_by_the_query_sees_nothing_twice() {
    const EVENTS: usize = 60;
    for parameter in ["lastEventId", "Last-Event-ID"] {
        let Some(mut client) = node("polyfill.cjs") else { return };
        let mut service = Service::new();
        let relay = Relay::start(service.addr);
        publish_numbers(service.addr, 0..20);
        client.args([&EVENTS.to_string(), parameter]).env("SEKALI_URL", format!("http://{}", relay.addr));
        let mut child = client.stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = BufReader::new(child.stdout.take().unwrap()).lines();
        for round in 1..=2 {
            // All of it was seen before the connection breaks.
            let reached = (20 * round).to_string();
            assert!(seen.by_ref().any(|line| line.unwrap() == reached));
            service.server.kill();
            service.start_again();
            relay.to(service.addr);
            publish_numbers(service.addr, 20 * round..20 * (round + 1));
        }
        assert!(child.wait().unwrap().success(), "{parameter}");
    }
}

#[test]
fn curl_sends_every_form_and_each_event_is_stored_once() {
    if find(Path::new("curl"), "curl").is_none() {
        return;
    }
    let service = Service::new();
    let event = |id: u32| {
        format!(r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"curl"}}"#)
    };
    let url = format!("{}/publish", service.url());
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        format!("@{}", path.display())
    };
    let lines = format!("{}\n{}\n", event(3), event(4));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, event(5).as_bytes()).unwrap();
    let gzip = file("event.json.gz", &encoder.finish().unwrap());
    // More than 1 MiB, for which curl asks first.
    let large = file(
        "large.json",
        event(6).replace('}', &format!(",\"x\":\"{}\"}}", "y".repeat(2 << 20))).as_bytes(),
    );
    let lines = file("lines.ndjson", lines.as_bytes());
    for round in 0..2 {
        for arguments in [
            &["-H", "content-type: application/json", "-d", &event(1)][..],
            &["-H", "content-type: application/json", "-d", &format!("[{},{}]", event(1), event(2))],
            &["-H", "content-type: application/x-ndjson", "--data-binary", &lines],
            &["-H", "content-type: application/json", "-H", "content-encoding: gzip", "--data-binary", &gzip],
            &["-H", "content-type: application/json", "-H", "expect: 100-continue", "--data-binary", &large],
            &["-H", "content-type: application/json", "--http2-prior-knowledge", "-d", &event(7)],
            &["-H", "content-type: application/json", "--http1.0", "-d", &event(8)],
        ] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail-with-body"]).args(arguments).arg(&url);
            service.must_serve(curl);
        }
        assert_eq!(service.stats().0, 8, "round {round}");
    }
    assert_eq!(service.stats(), (8, 10));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "--compressed", &format!("{}/events", service.url())]);
    service.must_serve(curl);
}

#[test]
fn an_event_source_misses_nothing_and_sees_nothing_twice_over_restarts() {
    const EVENTS: usize = 300;
    let Some(mut client) = node("tail.cjs") else { return };
    let mut service = Service::new();
    let relay = Relay::start(service.addr);
    publish_numbers(service.addr, 0..50);
    client.arg(EVENTS.to_string()).env("SEKALI_URL", format!("http://{}", relay.addr));
    let mut child = client.stdout(Stdio::piped()).spawn().unwrap();
    let seen = BufReader::new(child.stdout.take().unwrap());
    let mut seen = seen.lines().map(|line| line.unwrap().parse::<usize>().unwrap());
    // A part of it is seen before anything happens.
    let mut all: Vec<usize> = seen.by_ref().take(20).collect();
    for round in 0..5 {
        publish_numbers(service.addr, 50 + 50 * round..100 + 50 * round);
        match round {
            1 => assert_eq!(service.server.terminate(), Some(0)),
            3 => service.server.kill(),
            _ => continue,
        }
        service.start_again();
        relay.to(service.addr);
    }
    all.extend(seen);
    assert_eq!(all, (0..EVENTS).collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
}
