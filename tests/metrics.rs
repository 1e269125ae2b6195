//! `/metrics`: every figure is documented and moves by what it measures; request ids; what to retry
//! when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::service::{Service, event};
use crate::support::{now, until};
use ureq::http::Response;

impl Service {
    fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Response<ureq::Body> {
        let mut request = ureq::get(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.config().http_status_as_error(false).build().call().unwrap()
    }

    fn text(&self) -> String {
        self.fetch("/metrics", &[]).body_mut().read_to_string().unwrap()
    }

    /// Samples by name and labels.
    fn samples(&self) -> BTreeMap<String, f64> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    fn sample(&self, name: &str) -> f64 {
        self.samples().get(name).copied().unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Waits until a sample is as it should be.
    fn reaches(&self, name: &str, is_reached: impl Fn(f64) -> bool) {
        let reached = until(60, || self.samples().get(name).copied().filter(|value| is_reached(*value)));
        assert!(reached.is_some(), "{name} stays at {:?}", self.samples().get(name));
    }
}

fn name_of(sample: &str) -> &str {
    let name = sample.split('{').next().unwrap();
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn the_page_lists_what_there_is_and_nothing_else() {
    let service = Service::new();
    assert_eq!(service.post(&event("t", "1", 1)), 200);
    service.make_consumer("c");
    let page = include_str!("../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: BTreeMap<&str, &str> = rows
        .filter(|(name, _)| name.starts_with("sekali_") || name.starts_with("process_"))
        // These need TLS, and its own tests look for them.
        .filter(|(name, _)| !name.starts_with("sekali_tls_"))
        // And these a database: `tests/postgres/figures.rs` looks for them.
        .filter(|(name, _)| !name.starts_with("sekali_database_"))
        .filter_map(|(name, rest)| Some((name, rest.split(" | ").next()?)))
        .filter(|(_, kind)| ["counter", "gauge", "histogram"].contains(kind))
        .collect();
    let text = service.text();
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert_eq!(documented, types);
    let helped: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert_eq!(helped, types.keys().copied().collect());
    let sampled: BTreeSet<String> = service.samples().keys().map(|name| name_of(name).to_owned()).collect();
    assert_eq!(sampled, types.keys().map(|name| (*name).to_owned()).collect(), "all have samples");
    for (name, kind, _) in sekali::metrics::FIGURES {
        assert!(page.contains(&format!("| `{name}` | ")), "{name} is not on the page");
        assert!(
            name.starts_with("sekali_tls_") || types.contains_key(name),
            "{name} {kind:?} is nowhere set"
        );
    }
}

#[test]
fn figures_of_requests_and_events_move_by_what_they_measure() {
    let service = Service::new();
    let before = service.samples();
    assert_eq!(service.post(&format!("[{},{}]", event("a", "1", 1), event("b \\\"x\\\\", "1", 1))), 200);
    assert_eq!(service.post(&event("a", "1", 1)), 200);
    assert_eq!(service.post(&event("a", "1", 2)), 200);
    assert_eq!(service.post(&event("", "1", 2)), 422);
    assert_eq!(service.fetch("/nothing", &[]).status(), 404);
    assert_eq!(service.fetch("/events?topic=a", &[]).status(), 200);
    let after = service.samples();
    let grown = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    for (name, by) in [
        ("sekali_http_requests_total{route=\"/publish\",status=\"200\"}", 3.0),
        ("sekali_http_requests_total{route=\"/publish\",status=\"422\"}", 1.0),
        ("sekali_http_requests_total{route=\"none\",status=\"404\"}", 1.0),
        ("sekali_http_requests_total{route=\"/events\",status=\"200\"}", 1.0),
        ("sekali_http_request_duration_seconds_count{route=\"/publish\",status=\"200\"}", 3.0),
        ("sekali_http_request_duration_seconds_count{route=\"/publish\",status=\"422\"}", 1.0),
        ("sekali_events_total{outcome=\"stored\"}", 2.0),
        ("sekali_events_total{outcome=\"duplicate\"}", 1.0),
        ("sekali_events_total{outcome=\"conflict\"}", 1.0),
        ("sekali_events_total{outcome=\"rejected\"}", 1.0),
        ("sekali_topic_events_total{topic=\"a\",outcome=\"stored\"}", 1.0),
        ("sekali_topic_events_total{topic=\"b \\\"x\\\\\",outcome=\"stored\"}", 1.0),
        ("sekali_topics", 2.0),
        ("sekali_stored_events", 2.0),
        ("sekali_commit_events_sum", 2.0),
    ] {
        assert!((grown(name) - by).abs() < 0.5, "{name} grew by {} and not by {by}", grown(name));
    }
    for name in [
        "sekali_http_request_duration_seconds_sum{route=\"/publish\",status=\"200\"}",
        "sekali_commit_duration_seconds_sum",
        "sekali_commit_duration_seconds_count",
        "sekali_commit_bytes_total",
        "sekali_journal_bytes",
        "sekali_uptime_seconds",
    ] {
        assert!(grown(name) > 0.0, "{name} did not grow");
    }
    // Counts of dropped events are on disk within a second.
    service.reaches("sekali_topic_events_total{topic=\"a\",outcome=\"duplicate\"}", |count| count == 1.0);
    service.reaches("sekali_topic_events_total{topic=\"a\",outcome=\"conflict\"}", |count| count == 1.0);
    assert_eq!(service.sample("sekali_ready"), 1.0);
    assert_eq!(
        service.sample(concat!("sekali_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")),
        1.0
    );
    assert!(service.sample("process_resident_memory_bytes") > 1e6);
    assert!(service.sample("process_open_fds") < service.sample("process_max_fds"));
    let free = service.sample("sekali_disk_free_bytes");
    assert!(free > service.sample("sekali_disk_reserve_bytes"), "{free}");
}

#[test]
fn figures_of_what_is_held_rise_and_fall() {
    let service = Service::new();
    // Its own: a client that waited for the service to be ready may still be counted.
    service.reaches("sekali_http_connections", |open| open == 1.0);
    let mut connections: Vec<_> = (0..5).map(|_| TcpStream::connect(service.addr).unwrap()).collect();
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n";
    connections[0].write_all(head.as_bytes()).unwrap();
    // What came counts, not what was declared.
    connections[0].write_all(&[b' '; 3_000]).unwrap();
    service.reaches("sekali_http_connections", |open| open == 6.0);
    service.reaches("sekali_http_body_bytes", |held| held == 3_000.0);
    drop(connections);
    service.reaches("sekali_http_connections", |open| open == 1.0);
    service.reaches("sekali_http_body_bytes", |held| held == 0.0);

    let addr = service.addr;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..16)
        .map(|client| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut http = Client::new(addr);
                for number in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let _ = http.post("/publish", event("t", &format!("{client}-{number}"), 1).as_bytes());
                }
            })
        })
        .collect();
    let deadline = now() + Duration::from_secs(60);
    let mut missing = BTreeSet::from([
        "sekali_queue_requests",
        "sekali_checkpoint_lag_events",
        "sekali_generations{state=\"sealed\"}",
    ]);
    while !missing.is_empty() {
        assert!(now() < deadline, "{missing:?} never rose");
        let samples = service.samples();
        missing
            .retain(|name| !samples.iter().any(|(sample, value)| sample.starts_with(name) && *value > 0.0));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.into_iter().for_each(|client| client.join().unwrap());
    service.reaches("sekali_checkpoint_lag_events", |lag| lag == 0.0);
    service.reaches("sekali_generations{state=\"open\"}", |open| open == 1.0);
}

#[test]
fn topics_beyond_the_first_share_a_label() {
    let service = Service::new();
    for numbers in [0..100, 100..130] {
        let events: Vec<_> = numbers.map(|n| event(&format!("topic {n}"), "1", 1)).collect();
        assert_eq!(service.post(&format!("[{}]", events.join(","))), 200);
    }
    assert_eq!(service.post(&event("topic 129", "1", 1)), 200);
    service.reaches("sekali_topic_events_total{topic=\"\",outcome=\"duplicate\"}", |count| count == 1.0);
    let samples = service.samples();
    let stored: Vec<_> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("sekali_topic_events_total") && name.contains("\"stored\""))
        .collect();
    assert_eq!((stored.len(), stored.iter().map(|(_, count)| **count).sum::<f64>()), (101, 130.0));
    assert_eq!(samples["sekali_topic_events_total{topic=\"\",outcome=\"stored\"}"], 30.0);
}

#[test]
fn an_index_that_is_made_anew_is_counted_and_one_that_cannot_be_is_told() {
    let mut service = Service::new();
    // More generations than files are kept open.
    for batch in 0.. {
        if service.samples()["sekali_generations{state=\"sealed\"}"] > 60.0 {
            break;
        }
        let events: Vec<_> = (0..200).map(|n| event("t", &format!("{batch}-{n}"), 1)).collect();
        // On a busy machine it is told to come back, as generations that small end all the time.
        let body = format!("[{}]", events.join(","));
        let taken = until(60, || Some(service.post(&body)).filter(|status| *status != 503));
        assert_eq!(taken, Some(200));
    }
    assert_eq!(service.server.terminate(), Some(0));
    let data_dir = service.start.data_dir.clone();
    let folders = || {
        let mut folders: Vec<_> =
            std::fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        folders
    };
    // The live index, which is trusted after a clean stop.
    let index = folders().into_iter().map(|folder| folder.join("index")).find(|index| index.exists());
    std::fs::remove_dir_all(index.unwrap()).unwrap();
    service.start_again();
    service.reaches("sekali_index_rebuilds_total", |rebuilds| rebuilds == 1.0);
    service.reaches("sekali_index_rebuilding", |rebuilding| rebuilding == 0.0);
    assert_eq!(service.post(&event("t", "0-0", 1)), 200);

    // A sealed one without the journal that it could be made from.
    let oldest = folders().into_iter().next().unwrap();
    service.server.kill();
    service.start_again();
    for file in ["claims", "journal"] {
        std::fs::remove_file(oldest.join(file)).unwrap();
    }
    assert_eq!(service.post(&event("t", "0-0", 1)), 503);
    service.reaches("sekali_index_rebuilding", |rebuilding| rebuilding == 1.0);
    service.reaches("sekali_ready", |ready| ready == 0.0);
    let mut answer = service.fetch("/readyz", &[]);
    assert_eq!(answer.status(), 503);
    assert!(answer.body_mut().read_to_string().unwrap().contains("can't be rebuilt"));
    assert_eq!(service.post(&event("u", "1", 1)), 200, "what does not need it goes on");
}

#[test]
fn promtool_finds_nothing_and_open_metrics_ends_as_it_must() {
    let service = Service::new();
    assert_eq!(service.post(&event("t", "1", 1)), 200);
    let mut answer =
        service.fetch("/metrics", &[("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")]);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.body_mut().read_to_string().unwrap();
    assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"));
    assert!(text.contains("# TYPE sekali_commit_bytes counter\nsekali_commit_bytes_total "));
    assert!(
        service.fetch("/metrics", &[]).headers()["content-type"].to_str().unwrap().starts_with("text/plain")
    );

    let started = Command::new(crate::support::promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "promtool is not installed: make tools");
        eprintln!("NOT RUN: promtool is not installed (make tools)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(service.text().as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn every_answer_has_the_id_of_its_request_and_so_has_its_log_line() {
    let mut service = Service::new();
    service.server.kill();
    service.start.env.push(("SEKALI_LOG".into(), "debug".into()));
    service.start_again();
    let id = |answer: &Response<ureq::Body>| answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let given = "checkout/4711:a~b";
    for path in ["/stats", "/nothing", "/events?cursor=bad", "/events?limit=x"] {
        assert_eq!(id(&service.fetch(path, &[("x-request-id", given)])), given, "{path}");
    }
    let long = "x".repeat(129);
    let made: BTreeSet<_> =
        ["", "a b", &long].map(|bad| id(&service.fetch("/healthz", &[("x-request-id", bad)]))).into();
    assert!(made.len() == 3 && made.iter().all(|id| id.len() == 16), "{made:?}");
    let problem = service
        .fetch("/nothing", &[("accept", "application/problem+json"), ("x-request-id", given)])
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(problem.contains(&format!("\"request_id\":\"{given}\"")), "{problem}");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = service.fetch("/stats", &[("traceparent", trace), ("x-request-id", "traced")]);
    assert_eq!(answer.headers()["traceparent"], trace);
    assert!(service.fetch("/stats", &[("traceparent", "00-bad")]).headers().get("traceparent").is_none());
    let logged = until(10, || service.server.log().contains("\"request_id\":\"traced\"").then_some(()));
    let log = service.server.log();
    assert!(logged.is_some(), "{log}");
    assert!(log.contains(&format!("\"request_id\":\"{given}\"")), "{log}");
    assert!(log.contains("\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\""), "{log}");
}

#[test]
fn what_may_succeed_later_says_when() {
    let service =
        Service::started(|start| Start { env: vec![("SEKALI_TOPICS_MAX".into(), "1".into())], ..start });
    let addr = service.addr;
    let publish = |topic: &str| {
        let request =
            ureq::post(format!("http://{addr}/publish")).config().http_status_as_error(false).build();
        request.header("content-type", "application/json").send(event(topic, "1", 1)).unwrap()
    };
    assert_eq!(publish("a").status(), 200);
    let answer = publish("b");
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (507, &"30".parse().unwrap()));
    let answer = ureq::get(format!("http://{addr}/publish")).config().http_status_as_error(false).build();
    let answer = answer.call().unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
}
