//! `GET /live` as programs see it.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use super::browsing::guarded;
use super::wait_for;
use crate::support::client::Client;
use crate::support::service::{Service, event};

/// The messages of a stream: each kind, and its data.
pub struct Stream(BufReader<Box<dyn Read + Send>>);

impl Stream {
    pub fn open(service: &Service, token: Option<&str>) -> Result<Self, u16> {
        let config = Agent::config_builder()
            .timeout_recv_body(Some(Duration::from_secs(30)))
            .http_status_as_error(false);
        let mut request = ureq::http::Request::get(format!("{}/live", service.url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = Agent::from(config.build()).run(request.body(()).unwrap()).unwrap();
        match answer.status().as_u16() {
            200 => Ok(Self(BufReader::new(Box::new(answer.into_body().into_reader())))),
            status => Err(status),
        }
    }

    /// The next message; `None` at the end.
    pub fn next(&mut self) -> Option<(String, Value)> {
        let mut kind = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                kind = name.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[test]
fn the_stream_begins_with_the_past_and_goes_on_with_each_second() {
    let service = Service::new();
    // Before anybody watches.
    service.publish((0..50).map(|number| event("t", &number.to_string(), number)));
    let mut first = Stream::open(&service, None).unwrap();
    let (kind, window) = first.next().unwrap();
    assert_eq!(
        (kind.as_str(), &window["seconds"]["step_seconds"], &window["tens"]["step_seconds"]),
        ("window", &1.into(), &10.into())
    );
    let (kind, figures) = first.next().unwrap();
    assert_eq!(
        (kind.as_str(), &figures["ready"], &figures["promise"]),
        ("figures", &true.into(), &"disk".into())
    );
    assert_eq!(figures["totals"]["unique_processed"], 50);
    assert!(figures["second"].is_null(), "no second has ended yet");
    // Whoever watches at the same time is told the same.
    let mut second = Stream::open(&service, None).unwrap();
    assert_eq!(second.next().unwrap().0, "window");
    assert_eq!(service.post(&event("t", "0", 0)), 200);
    let same = |figures: &Value| figures["second"]["duplicates"] == 1;
    let told = |stream: &mut Stream| (0..30).find_map(|_| stream.next().filter(|(_, figures)| same(figures)));
    let (kind, figures) = told(&mut first).unwrap();
    assert_eq!((kind, figures.clone()), told(&mut second).unwrap());
    // Each second has a number, by which a reader sees what it has already, and what it missed.
    let number = |figures: &Value| figures["second"]["number"].as_u64().unwrap();
    assert_eq!(number(&first.next().unwrap().1), number(&figures) + 1);
    let mut third = Stream::open(&service, None).unwrap();
    let (_, window) = third.next().unwrap();
    let (last, stored) = (&window["seconds"]["number"], &window["seconds"]["stored"]);
    assert_eq!(last.as_u64().unwrap(), stored.as_array().unwrap().len() as u64);
    assert!(number(&third.next().unwrap().1) <= last.as_u64().unwrap() + 1);
    // A page that is opened now sees what was before.
    wait_for("the past", || {
        let (_, window) = Stream::open(&service, None).unwrap().next().unwrap();
        let stored: u64 =
            window["seconds"]["stored"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
        (stored == 50).then_some(())
    });
}

#[test]
fn only_whoever_may_read_the_metrics_may_watch() {
    let (service, tokens) = guarded([&["admin"], &["metrics"], &["read:*"], &["publish:*"]]);
    assert_eq!(Stream::open(&service, None).err(), Some(401));
    let statuses: Vec<_> = tokens.iter().map(|token| Stream::open(&service, Some(token)).err()).collect();
    assert_eq!(statuses, [None, None, Some(403), Some(403)]);
    let answer = Client::new(service.addr).send(
        "GET",
        "/live",
        &[("authorization", &format!("Bearer {}", tokens[2]))],
        b"",
    );
    assert!(String::from_utf8_lossy(&answer.unwrap().body).contains("the scope metrics"));
}

#[test]
fn a_stop_of_the_service_ends_the_stream() {
    let mut service = Service::new();
    let mut stream = Stream::open(&service, None).unwrap();
    assert!(stream.next().is_some());
    assert_eq!(service.server.terminate(), Some(0));
    while stream.next().is_some() {}
}

#[test]
fn figures_kept_for_operators_are_at_their_address_alone() {
    let service = Service::started(|mut start| {
        start.env.push(("SEKALI_OPS_LISTEN".into(), "127.0.0.1:0".into()));
        start
    });
    assert_eq!(Stream::open(&service, None).err(), Some(404));
    assert_eq!(Client::new(service.addr).get("/sources").unwrap().status, 404);
    let log = service.server.log();
    let (_, rest) = log.split_once("\"ops_addr\":\"").unwrap();
    let operators = Service { addr: rest.split('"').next().unwrap().parse().unwrap(), ..service };
    assert_eq!(Stream::open(&operators, None).unwrap().next().unwrap().0, "window");
    assert_eq!(Client::new(operators.addr).get("/sources").unwrap().status, 200);
}

#[test]
fn a_topic_can_be_asked_for_by_its_name() {
    let service = Service::new();
    service.publish(["a", "a*", "ab", "b"].map(|topic| event(topic, "1", 1)));
    for (query, expected) in [("a", vec!["a"]), ("a*", vec!["a*"]), ("none", vec![]), ("", vec![])] {
        let page = service.get(&format!("/topics?topic={query}"));
        let names: Vec<_> = page["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|topic| topic["topic"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected, "{query:?}");
    }
}

#[test]
fn whoever_asks_is_told_who_sends_events_again() {
    let (service, [admin, reader]) = guarded([&["admin"], &["read:a"]]);
    let mut http = Client::new(service.addr);
    let mut ask = |token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        http.send(
            method,
            path,
            &[("authorization", &bearer), ("content-type", "application/json")],
            body.as_bytes(),
        )
        .unwrap()
    };
    for (topic, id, payload) in [("a", "1", 1), ("a", "1", 1), ("b", "2", 1), ("b", "2", 2), ("b", "3", 1)] {
        assert_eq!(ask(&admin, "POST", "/publish", &event(topic, id, payload)).status, 200);
    }
    let mut told = |token: &str, path: &str| {
        let page: Value = serde_json::from_slice(&ask(token, "GET", path, "").body).unwrap();
        let entries = page["duplicates"].as_array().unwrap().iter();
        entries
            .map(|one| {
                ["topic", "event_id", "source", "status"].map(|name| one[name].as_str().unwrap()).join(" ")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&admin, "/duplicates"), ["b 2 test conflict", "a 1 test duplicate"]);
    assert_eq!(told(&admin, "/duplicates?topic=a"), ["a 1 test duplicate"]);
    assert_eq!(told(&reader, "/duplicates"), ["a 1 test duplicate"]);
    // Many at once are told in part.
    let many: Vec<_> = (0..50).map(|_| event("a", "1", 1)).collect();
    assert_eq!(ask(&admin, "POST", "/publish", &format!("[{}]", many.join(","))).status, 200);
    let page: Value = serde_json::from_slice(&ask(&admin, "GET", "/duplicates", "").body).unwrap();
    assert_eq!(page["count"], 12);
}
