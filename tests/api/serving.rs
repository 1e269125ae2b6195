//! What is asked beside publishing and reading, and what is no request at all.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Service, event};
use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::until;

#[test]
fn what_is_no_request_of_this_api_is_refused_with_a_reason() {
    let mut service =
        Service::with(&[("SEKALI_BODY_BYTES_MAX", "1048576"), ("SEKALI_BATCH_EVENTS_MAX", "100")]);
    assert_eq!(service.get("/nothing").0, 404);
    let many: Vec<_> = (0..101).map(|i| event("t", &i.to_string())).collect();
    assert_eq!(service.publish(json!(many).to_string()).0, 413);
    let cases = [
        ("GET /publish HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405", "allow: POST"),
        ("DELETE /events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405", "allow: GET, HEAD"),
        ("GET /stats HTTP/1.1\r\n\r\n".to_owned(), "400", "Host"),
        ("GET /stats HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n".to_owned(), "400", "Host"),
        ("HEAD /stats HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "200", "content-length"),
        (format!("GET /stats HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(100_000)), "431", ""),
        ("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n".to_owned(), "413", "fewer"),
        (
            format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n{}",
                " ".repeat(0x20_0000)
            ),
            "413",
            "fewer",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1\r\n\r\n1"
                .to_owned(),
            "415",
            "application/json",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\n1".to_owned(),
            "415",
            "accept-encoding: gzip, zstd",
        ),
        (
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nAccept: application/problem+json\r\nContent-Length: 2\r\n\r\n{}"
                .to_owned(),
            "422",
            "application/problem+json",
        ),
    ];
    for (request, status, part) in cases {
        let answer = service.raw(request.as_bytes());
        let shown: String = request.chars().take(90).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(answer.contains(part), "{shown}: {answer}");
    }
    assert_eq!(service.counts()[..3], [0, 0, 0]);
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let mut service = Service::new();
    assert_eq!(service.client.post("/publish/", event("t", "1").to_string().as_bytes()).unwrap().status, 200);
    for path in
        ["/events", "/events/t/1", "/stats", "/topics", "/healthz", "/readyz", "/metrics", "/openapi.json"]
    {
        let answers = [path, &format!("{path}/"), &format!("{path}/?x=1")]
            .map(|path| service.client.get(path).unwrap());
        assert_eq!(answers.map(|answer| answer.status), [200; 3], "{path}");
    }
    for path in ["/publish//", "/events//", "/events/t/", "/events/t/1//", "//"] {
        assert_eq!(service.get(path).0, 404, "{path}");
    }
}

#[test]
fn programs_that_look_for_a_service_find_it_at_its_root_and_its_health() {
    let mut service = Service::new();
    assert_eq!(service.get("/health"), service.get("/readyz"));
    let (status, root) = service.get("/");
    assert_eq!((status, &root["service"], &root["status"]), (200, &json!("sekali"), &json!("ready")));
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    for (name, path) in root["links"].as_object().unwrap() {
        let expected = if name == "publish" { 405 } else { 200 };
        // The stream of figures has no end.
        let method = if name == "live" { "HEAD" } else { "GET" };
        let answer = service.client.send(method, path.as_str().unwrap(), &[], b"").unwrap();
        assert_eq!(answer.status, expected, "{name}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Service::new();
    let mut requests = String::new();
    for id in ["1", "2", "1"] {
        let body = event("t", id).to_string();
        requests += &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let answer = service.raw(requests.as_bytes());
    let statuses: Vec<_> =
        answer.match_indices("\"status\":\"").map(|(at, _)| &answer[at + 10..at + 13]).collect();
    assert_eq!(statuses, ["sto", "sto", "dup"]);
}

#[test]
fn health_readiness_and_metrics_tell_how_it_is() {
    let mut service = Service::new();
    service.publish(json!([event("t", "1"), event("t", "1")]).to_string());
    service.publish("{}");
    assert_eq!(service.get("/healthz").0, 200);
    assert_eq!(service.get("/readyz").0, 200);
    let metrics = String::from_utf8(service.client.get("/metrics").unwrap().body).unwrap();
    for line in [
        r#"sekali_events_total{outcome="stored"} 1"#,
        r#"sekali_events_total{outcome="duplicate"} 1"#,
        r#"sekali_events_total{outcome="rejected"} 1"#,
        r#"sekali_http_requests_total{route="/publish",status="422"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn connections_beyond_the_limit_of_open_files_leave_the_store_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    start.under = ["sh", "-c", r#"ulimit -n 200; exec "$@""#, "sh"].map(Into::into).into();
    let (mut server, addr) = start.ready().unwrap();
    let mut client = Client::new(addr);
    assert_eq!(client.get("/readyz").unwrap().status, 200);
    // Those that find no place wait in the kernel's queue, as far as it goes; whoever sends nothing
    // makes room for the others.
    let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(20)).ok();
    let idle: Vec<_> = (0..180).filter_map(connect).collect();
    // Generations begin and are sealed meanwhile, which takes files.
    for batch in 0..20 {
        let events: Vec<_> = (0..100).map(|n| event("t", &format!("{batch}-{n}"))).collect();
        let body = json!(events).to_string();
        let stored = until(60, || {
            let answer = Client::new(addr).post("/publish", body.as_bytes());
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        assert!(stored.is_some(), "{}", server.log());
    }
    drop(idle);
    assert_eq!(Client::new(addr).get("/readyz").unwrap().status, 200);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}
