//! What each scope allows on each route.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Guarded, Response};
use crate::support::service::event;

const LINES: &str = "application/x-ndjson";

/// Scopes that a token may have.
const SCOPES: [&str; 7] =
    ["publish:a.*", "publish:*", "read:a.*", "consume:a.*", "consume:*", "metrics", "admin"];

/// A request that needs a permission.
struct Row {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    /// The status if it is allowed.
    allowed: u16,
    /// What a token of each of the scopes above gets: `+` that status, `-` 403, `0` 404, as if what
    /// is asked for were absent.
    answers: &'static str,
}

const fn row(
    method: &'static str,
    path: &'static str,
    body: &'static str,
    allowed: u16,
    answers: &'static str,
) -> Row {
    Row { method, path, body, allowed, answers }
}

const EVENT: &str =
    r#"{"topic":"a.1","event_id":"1","timestamp":"2026-11-22T10:00:00Z","source":"test","payload":1}"#;
const MOVE: &str = r#"{"to":"end"}"#;
const RECEIPT: &str = r#"{"receipt":"x"}"#;

/// At least one for each route that needs a permission. The consumer `own` reads a.2 and `other`
/// b; `gone` reads a.2 and is made again before each request.
const ROWS: [Row; 28] = [
    row("POST", "/publish", EVENT, 200, "++----+"),
    row("GET", "/events", "", 200, "--+---+"),
    row("GET", "/events?topic=a.1", "", 200, "--+---+"),
    row("GET", "/events?topic=b", "", 200, "------+"),
    row("GET", "/events/a.1/1", "", 200, "--+---+"),
    row("GET", "/events/b/1", "", 200, "------+"),
    row("GET", "/stats", "", 200, "--+---+"),
    row("GET", "/topics", "", 200, "--+---+"),
    row("GET", "/duplicates", "", 200, "--+---+"),
    row("GET", "/duplicates?topic=b", "", 200, "------+"),
    row("POST", "/tickets", "", 200, "--+---+"),
    row("GET", "/consumers", "", 200, "---++-+"),
    row("GET", "/consumers/own", "", 200, "---++-+"),
    row("GET", "/consumers/other", "", 200, "---0+-+"),
    row("PUT", "/consumers/own", r#"{"topics":["a.2"]}"#, 200, "---++-+"),
    row("PUT", "/consumers/other", r#"{"topics":["b"]}"#, 200, "----+-+"),
    row("PUT", "/consumers/other", r#"{"topics":["a.2"]}"#, 409, "----+-+"),
    row("DELETE", "/consumers/gone", "", 204, "---++-+"),
    row("DELETE", "/consumers/absent", "", 404, "---++-+"),
    row("GET", "/consumers/own/events", "", 200, "---++-+"),
    row("GET", "/consumers/other/events", "", 200, "---0+-+"),
    row("POST", "/consumers/own/ack", RECEIPT, 400, "---++-+"),
    row("POST", "/consumers/other/ack", RECEIPT, 400, "---0+-+"),
    row("POST", "/consumers/own/seek", MOVE, 200, "---++-+"),
    row("POST", "/consumers/other/seek", MOVE, 200, "---0+-+"),
    row("GET", "/sources", "", 200, "-----++"),
    row("GET", "/metrics", "", 200, "-----++"),
    row("GET", "/live", "", 200, "-----++"),
];

/// Routes that anybody may ask for. A delivery of a webhook is signed.
const OPEN: [&str; 7] =
    ["/", "/healthz", "/readyz", "/health", "/openapi.json", "/page/{file}", "/in/{source}"];

impl Guarded {
    /// The status of an answer, which may have no end.
    fn status(&self, token: &str, method: &str, path: &str, body: &str) -> u16 {
        let (addr, length) = (self.addr(), body.len());
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let fields = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n{fields}Content-Length: {length}\r\n\r\n");
        std::io::Write::write_all(&mut stream, (head + body).as_bytes()).unwrap();
        let mut start = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut start).unwrap();
        std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
    }

    fn put_consumer(&self, admin: &str, name: &str, topic: &str) {
        let plan = format!(r#"{{"topics":["{topic}"]}}"#);
        let status = self.status(admin, "PUT", &format!("/consumers/{name}"), &plan);
        assert!(matches!(status, 200 | 201), "{status}");
    }
}

#[test]
fn each_route_that_is_not_open_has_a_row_in_the_table_of_scopes() {
    let (guarded, _) = Guarded::new();
    let document = super::json(&guarded.ask(None, "GET", "/openapi.json")).1;
    let fits = |template: &str, path: &str| {
        let path = path.split('?').next().unwrap();
        let (segments, own): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        segments.len() == own.len()
            && segments.iter().zip(own).all(|(segment, own)| segment.starts_with('{') || *segment == own)
    };
    for (template, methods) in document["paths"].as_object().unwrap() {
        if OPEN.contains(&template.as_str()) {
            continue;
        }
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let has_row = |row: &Row| row.method.eq_ignore_ascii_case(method) && fits(template, row.path);
            assert!(ROWS.iter().any(has_row), "{method} {template} has no row in ROWS");
        }
    }
}

#[test]
fn each_scope_allows_its_routes_and_no_other() {
    let (guarded, admin) = Guarded::new();
    let both = format!("[{},{}]", event("a.1", "1", 1), event("b", "1", 1));
    assert_eq!(guarded.publish(&admin, "/publish", &both).0, 200);
    guarded.put_consumer(&admin, "own", "a.2");
    guarded.put_consumer(&admin, "other", "b");
    for (at, scope) in SCOPES.into_iter().enumerate() {
        let token = guarded.token(&[scope]);
        for Row { method, path, body, allowed, answers } in &ROWS {
            let expected = match answers.as_bytes()[at] {
                b'+' => *allowed,
                b'0' => 404,
                _ => 403,
            };
            // HEAD is answered wherever GET is.
            let methods = if *method == "GET" { &["GET", "HEAD"][..] } else { &[*method] };
            for method in methods {
                guarded.put_consumer(&admin, "gone", "a.2");
                let status = guarded.status(&token, method, path, body);
                assert_eq!(status, expected, "{scope}: {method} {path} {body}");
            }
        }
    }
}

#[test]
fn without_a_token_only_what_tells_how_the_service_is_is_answered() {
    let (guarded, _) = Guarded::new();
    for path in ["/", "/healthz", "/readyz", "/health", "/page/app.js", "/openapi.json"] {
        assert_eq!(guarded.ask(None, "GET", path).status, 200, "{path}");
    }
    for Row { method, path, .. } in &ROWS {
        let answer = guarded.ask(None, method, path);
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(text(&answer).contains("Authorization: Bearer"), "{}", text(&answer));
    }
    let slip = "sekali_8hQ2mVx0Lr_0000000000000000000000000000000000000000000000000";
    assert!(text(&guarded.ask(Some(slip), "GET", "/stats")).contains("checksum"));
    let unknown = sekali::auth::token::Token::generate().unwrap();
    let told = text(&guarded.ask(Some(unknown.reveal()), "GET", "/stats"));
    assert!(told.contains("not valid") && !told.contains("unknown"), "{told}");
}

#[test]
fn a_batch_with_a_forbidden_topic_is_refused_whole_or_in_part() {
    let (guarded, admin) = Guarded::new();
    let token = guarded.token(&["publish:a.*"]);
    let mixed = format!("[{},{},{}]", event("a.1", "1", 1), event("b", "1", 1), event("a.2", "1", 1));
    let (status, told) = guarded.publish(&token, "/publish", &mixed);
    assert_eq!((status, &told["detail"][0]["loc"]), (403, &json!(["body", 1, "topic"])), "{told}");
    assert_eq!(guarded.get(&admin, "/stats").1["unique_processed"], 0);

    let (status, told) = guarded.publish(&token, "/publish?partial=true&results=all", &mixed);
    assert_eq!((status, &told["unique_processed"], &told["rejected"]), (207, &json!(2), &json!(1)), "{told}");
    assert_eq!((&told["errors"][0]["index"], &told["errors"][0]["type"]), (&json!(1), &json!("forbidden")));
    assert_eq!((&told["results"][1]["index"], &told["results"][1]["topic"]), (&json!(2), &json!("a.2")));
    let (status, told) = guarded.publish(&token, "/publish?partial=true", &event("b", "1", 1));
    assert_eq!(status, 403, "{told}");
    let stats = guarded.get(&admin, "/stats").1;
    assert_eq!((&stats["unique_processed"], &stats["rejected"]), (&json!(2), &json!(0)));
}

#[test]
fn lines_are_looked_at_one_by_one() {
    let (guarded, admin) = Guarded::new();
    let token = guarded.token(&["publish:a.*"]);
    let lines = [event("a.1", "1", 1), event("b", "1", 1), "{}".to_owned(), event("a.1", "2", 1)].join("\n");
    let answer = guarded.send(Some(&token), "POST", "/publish", LINES, lines.as_bytes());
    let (status, told) = super::json(&answer);
    assert_eq!((status, &told["progress"]["lines"]), (403, &json!(1)), "{told}");
    assert!(told["detail"][0]["msg"].as_str().unwrap().starts_with("line 2:"), "{told}");

    let answer = guarded.send(Some(&token), "POST", "/publish?partial=true", LINES, lines.as_bytes());
    let (status, told) = super::json(&answer);
    assert_eq!((status, &told["received"], &told["rejected"]), (207, &json!(2), &json!(2)), "{told}");
    let kinds: Vec<_> = told["errors"].as_array().unwrap().iter().map(|error| &error["line"]).collect();
    assert_eq!(kinds[0], &json!(2), "{told}");
    assert_eq!(guarded.get(&admin, "/stats").1["unique_processed"], 2);
}

#[test]
fn a_token_with_a_source_names_no_other() {
    let (guarded, _) = Guarded::new();
    let token = guarded.token_as(&["--allow", "publish:*", "--source", "checkout"]);
    let of =
        |source: &str| event("a", "1", 1).replace("\"source\":\"test\"", &format!("\"source\":\"{source}\""));
    let (status, told) = guarded.publish(&token, "/publish", &of("billing"));
    assert_eq!((status, &told["detail"][0]["loc"]), (403, &json!(["body", "source"])), "{told}");
    assert_eq!(guarded.publish(&token, "/publish", &of("checkout")).0, 200);
}

#[test]
fn lists_totals_and_figures_have_only_what_may_be_read() {
    let (guarded, admin) = Guarded::new();
    let topics = ["a.1", "a.2", "b", "c.\\\"quoted\\\"", "d"];
    for topic in topics {
        let twice = format!("[{},{}]", event(topic, "1", 1), event(topic, "1", 1));
        assert_eq!(guarded.publish(&admin, "/publish", &twice).0, 200);
    }
    let token = guarded.token(&["read:a.*", "read:d", "metrics"]);

    let names = |told: &serde_json::Value, list: &str| -> Vec<String> {
        let name = |entry: &serde_json::Value| entry["topic"].as_str().unwrap().to_owned();
        told[list].as_array().unwrap().iter().map(name).collect()
    };
    let own = ["a.1", "a.2", "d"].map(str::to_owned);
    assert_eq!(names(&guarded.get(&token, "/events").1, "events"), own);
    let newest = guarded.get(&token, "/events?order=desc&limit=2").1;
    assert_eq!(names(&newest, "events"), ["d", "a.2"]);
    assert_eq!(names(&guarded.get(&token, "/topics").1, "topics"), own);
    let first = guarded.get(&token, "/topics?limit=2").1;
    assert_eq!(names(&first, "topics"), own[..2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = guarded.get(&token, &format!("/topics?cursor={cursor}")).1;
    assert_eq!((names(&rest, "topics"), &rest["next_cursor"]), (own[2..].to_vec(), &json!(null)));

    let stats = guarded.get(&token, "/stats").1;
    assert_eq!(stats["topics"], json!(own));
    let totals =
        [&stats["received"], &stats["unique_processed"], &stats["duplicate_dropped"], &stats["rejected"]];
    assert_eq!(totals, [&json!(6), &json!(3), &json!(3), &json!(null)], "{stats}");

    let figures = text(&guarded.ask(Some(&token), "GET", "/metrics"));
    for (topic, is_shown) in [("a.1", true), ("b", false), ("c.", false), ("d", true)] {
        assert_eq!(figures.contains(&format!("topic=\"{topic}")), is_shown, "{topic}");
    }
    for (name, plan) in [("seen", r#"{"topics":["a.1","d"]}"#), ("hidden", r#"{"topics":["a.1","b"]}"#)] {
        let path = format!("/consumers/{name}");
        let made = guarded.send(Some(&admin), "PUT", &path, "application/json", plan.as_bytes());
        assert_eq!(made.status, 201);
    }
    let consuming = guarded.token(&["consume:*", "metrics"]);
    for (token, seen, hidden) in [
        (&token, true, false),
        (&consuming, true, true),
        (&guarded.token(&["metrics"]), false, false),
        (&admin, true, true),
    ] {
        let figures = || text(&guarded.ask(Some(token), "GET", "/metrics"));
        let shown = |name: &str| figures().contains(&format!("consumer=\"{name}\""));
        let is_as_it_should = || (shown("seen") == seen && shown("hidden") == hidden).then_some(());
        assert!(crate::support::until(20, is_as_it_should).is_some(), "{}", figures());
    }
    let lines = text(&guarded.send(Some(&token), "GET", "/events", LINES, b""));
    assert!(!lines.contains("\"b\""), "{lines}");
}

#[test]
fn a_ticket_is_good_once_in_the_place_of_a_token() {
    let (guarded, admin) = Guarded::new();
    assert_eq!(guarded.publish(&admin, "/publish", &event("a", "1", 1)).0, 200);
    let token = guarded.token(&["read:a"]);
    let (status, told) = guarded.publish(&token, "/tickets", "");
    assert_eq!(status, 200, "{told}");
    let ticket = told["ticket"].as_str().unwrap();
    let path = format!("/events?topic=a&ticket={ticket}");
    assert_eq!(guarded.ask(None, "GET", "/events?topic=a&ticket=none").status, 401);
    assert_eq!(guarded.ask(None, "GET", &path).status, 200);
    assert_eq!(guarded.ask(None, "GET", &path).status, 401);
    let ticket = guarded.publish(&token, "/tickets", "").1["ticket"].as_str().unwrap().to_owned();
    assert_eq!(guarded.ask(None, "GET", &format!("/events?topic=b&ticket={ticket}")).status, 403);
    let ticket = guarded.publish(&admin, "/tickets", "").1["ticket"].as_str().unwrap().to_owned();
    for path in ["/tickets", "/publish"] {
        assert_eq!(guarded.ask(None, "POST", &format!("{path}?ticket={ticket}")).status, 401, "{path}");
    }
    assert_eq!(guarded.ask(None, "GET", &format!("/events?ticket={ticket}")).status, 200, "it was not used");
}

#[test]
fn a_ticket_is_refused_where_events_are_taken_for_a_consumer() {
    let (guarded, admin) = Guarded::new();
    let plan = br#"{"topics":["a"]}"#;
    assert_eq!(guarded.send(Some(&admin), "PUT", "/consumers/c", "application/json", plan).status, 201);
    let ticket = guarded.publish(&admin, "/tickets", "").1["ticket"].as_str().unwrap().to_owned();
    for (method, path) in [
        ("GET", "/consumers"),
        ("GET", "/consumers/c"),
        ("GET", "/consumers/c/events"),
        ("POST", "/consumers/c/ack"),
        ("POST", "/consumers/c/seek"),
        ("DELETE", "/consumers/c"),
    ] {
        let answer = guarded.ask(None, method, &format!("{path}?ticket={ticket}"));
        assert_eq!(answer.status, 401, "{method} {path}: {}", text(&answer));
    }
    let consumer = guarded.get(&admin, "/consumers/c").1;
    assert_eq!(consumer["leases"], json!([]), "{consumer}");
    assert_eq!(guarded.ask(None, "GET", &format!("/events?ticket={ticket}")).status, 200, "it was not used");
}

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[test]
fn a_consumer_is_for_those_who_may_consume_all_of_its_topics() {
    let (guarded, admin) = Guarded::new();
    let token = guarded.token(&["consume:a.*"]);
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        guarded.send(Some(token), method, path, "application/json", body.as_bytes())
    };
    for (topics, expected) in
        [(r#"["a.*"]"#, 201), (r#"["a.1","a.b.*"]"#, 201), (r#"["a*"]"#, 403), (r#"["a.1","b"]"#, 403)]
    {
        let name = format!("/consumers/c-{}", topics.len());
        let answer = ask(&token, "PUT", &name, &format!(r#"{{"topics":{topics}}}"#));
        assert_eq!(answer.status, expected, "{topics}: {}", text(&answer));
    }
    assert_eq!(ask(&admin, "PUT", "/consumers/all", r#"{"topics":["*"]}"#).status, 201);
    for (method, path, body) in [
        ("GET", "/consumers/all", ""),
        ("GET", "/consumers/all/events", ""),
        ("POST", "/consumers/all/ack", r#"{"receipt":"x"}"#),
        ("POST", "/consumers/all/seek", r#"{"to":"end"}"#),
        ("DELETE", "/consumers/all", ""),
    ] {
        // As if it were not there.
        let absent = path.replace("/all", "/none");
        let (hidden, absent) = (ask(&token, method, path, body), ask(&token, method, &absent, body));
        let told = text(&hidden).replace("all", "none");
        assert_eq!((hidden.status, told), (404, text(&absent)), "{method} {path}");
        assert_eq!(absent.status, 404, "{method} {path}");
    }
    assert_eq!(ask(&token, "PUT", "/consumers/all", r#"{"topics":["a.1"]}"#).status, 403);
    assert_eq!(ask(&admin, "GET", "/consumers/all", "").status, 200, "nothing was changed");
    let listed = text(&ask(&token, "GET", "/consumers", ""));
    assert!(listed.contains("c-7") && !listed.contains("\"all\""), "{listed}");
}

#[test]
fn the_stream_of_figures_names_a_consumer_to_those_alone_who_may_know_of_it() {
    let (guarded, admin) = Guarded::new();
    assert_eq!(guarded.publish(&admin, "/publish", &event("a", "1", 1)).0, 200);
    let plan = br#"{"topics":["a"]}"#;
    assert_eq!(guarded.send(Some(&admin), "PUT", "/consumers/hidden", "application/json", plan).status, 201);
    let watch = |token: &str| {
        let mut stream = TcpStream::connect(guarded.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            .unwrap();
        BufReader::new(stream).lines().map(Result::unwrap).filter(|line| line.starts_with("data: {\"at\""))
    };
    // Both watch the same seconds.
    let (mut all, part) = (watch(&admin), watch(&guarded.token(&["metrics"])));
    let named = all.by_ref().take(20).position(|figures| figures.contains("\"consumer\":\"hidden\""));
    for figures in part.take(named.expect("it is measured") + 2) {
        assert!(!figures.contains("hidden"), "{figures}");
    }
}
