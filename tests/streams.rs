//! What `GET /events` streams, from outside: exports of a range as lines, and tails that go on as
//! events are stored.

mod reading;
mod tails;

use std::io::{BufRead, Read};

use crate::support::reader::message;
use crate::support::service::event;
use crate::support::until;
use reading::{LINES, TAIL, lines, service};
use serde_json::Value;

#[test]
fn an_export_is_the_listing_line_by_line() {
    let service = service();
    // Several pages of an export, several generations of the store.
    service.publish((0..3_000).map(|n| event(["a", "b", "c"][n % 3], &format!("e{n}"), "{}")));
    for query in ["", "order=desc", "topic=b", "topic=b&order=desc", "source=other", "topic=none"] {
        let expected = service.pages(query);
        assert_eq!(lines(service.open(query, LINES)), expected, "{query}");
        let packed = service.open_with(query, LINES, &[("accept-encoding", "gzip")]);
        let text = flate2::read::GzDecoder::new(packed);
        assert_eq!(lines(std::io::BufReader::new(text)), expected, "{query}, compressed");
    }
    let all = service.pages("");
    assert_eq!(all.len(), 3_000);
    assert_eq!(lines(service.open("limit=1500", LINES)), all[..1_500], "an export has no largest limit");
    let since = all[1_200]["received_at"].as_str().unwrap();
    let until = all[2_700]["received_at"].as_str().unwrap();
    let range = format!("since={since}&until={until}");
    let within = |event: &&Value| (since..until).contains(&event["received_at"].as_str().unwrap());
    let expected: Vec<_> = all.iter().filter(within).cloned().collect();
    assert_eq!(lines(service.open(&range, LINES)), expected);
    let cursor = service.page("limit=1000")["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(lines(service.open(&format!("cursor={cursor}"), LINES)), all[1_000..]);
}

#[test]
fn a_page_of_large_events_is_short_and_the_next_goes_on() {
    let service = service();
    // Packed they are small.
    let filler = format!("\"{}\"", "x".repeat(1 << 19));
    for batch in 0..5 {
        let events = (0..10).map(|n| event(["a", "b"][n % 2], &format!("{batch} {n}"), &filler));
        service.publish(events);
    }
    for query in ["limit=10000", "limit=10000&topic=a", "limit=10000&order=desc"] {
        let page = service.page(query);
        let events = page["events"].as_array().unwrap().len();
        assert!((1..=17).contains(&events), "{query}: {events} of 0.5 MiB");
        assert!(page["next_cursor"].is_string(), "{query}");
        assert_eq!(service.pages(query).len(), if query.contains("topic") { 25 } else { 50 }, "{query}");
    }
}

#[test]
fn an_export_has_what_was_stored_when_it_began() {
    let service = service();
    let filler = format!("\"{}\"", "x".repeat(4_000));
    // More than the sockets between the two hold.
    service.publish((0..6_000).map(|n| event("t", &format!("e{n}"), &filler)));
    for query in ["", "topic=t", "order=desc"] {
        let before = service.stored();
        let mut export = service.open(query, LINES);
        let mut first = String::new();
        export.read_line(&mut first).unwrap();
        service.publish((0..10).map(|n| event("t", &format!("later {query} {n}"), "{}")));
        assert_eq!(1 + lines(export).len() as u64, before, "{query}");
    }
}

#[test]
fn a_payload_on_several_lines_is_one_line() {
    let service = service();
    let payload = "{\"a\":\n\r\n 1,\r\"b\": \"x\\ny\"}";
    service.publish([event("t", "1", payload)]);
    let expected = serde_json::json!({"a": 1, "b": "x\ny"});
    let exported = lines(service.open("", LINES));
    assert_eq!((exported.len(), &exported[0]["payload"]), (1, &expected));
    let (_, tailed) = message(&mut service.open("", TAIL)).unwrap();
    assert_eq!(tailed["payload"], expected);
    service.publish([event("t", "1", payload.replace(['\n', '\r'], " "))]);
    assert_eq!(service.page("")["events"].as_array().unwrap().len(), 1);
}

#[test]
fn the_form_is_chosen_by_accept() {
    let service = service();
    service.publish([event("t", "1", "{}")]);
    for (accept, status, kind) in [
        ("*/*", 200, "application/json"),
        ("application/jsonl", 200, "application/x-ndjson"),
        ("text/event-stream, */*", 200, "text/event-stream"),
        ("application/json, text/plain, */*", 200, "application/json"),
        ("application/json;q=0.5, application/x-ndjson", 200, "application/x-ndjson"),
        ("text/event-stream", 200, "text/event-stream"),
        ("text/csv", 406, "application/json"),
        ("text/csv, application/problem+json;q=0", 406, "application/problem+json"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = service.ask(method, "/events", &[("accept", accept)]);
            assert_eq!(answer.status(), status, "{method} {accept}");
            assert_eq!(answer.headers()["content-type"], kind, "{method} {accept}");
            assert_eq!(answer.headers()["vary"], "accept, accept-encoding", "{method} {accept}");
        }
    }
    let page = service.ask("GET", "/events", &[]);
    let head = service.ask("HEAD", "/events", &[]);
    assert_eq!(head.headers()["content-length"], page.headers()["content-length"]);
    assert_eq!(head.into_body().read_to_vec().unwrap(), b"");
    for (query, field) in
        [("limit=1", "limit"), ("order=asc", "order"), ("until=2030-01-01T00:00:00Z", "until")]
    {
        let mut answer = service.ask("GET", &format!("/events?{query}"), &[("accept", TAIL)]);
        assert_eq!(answer.status(), 422, "{query}");
        let body: Value = answer.body_mut().read_json().unwrap();
        assert_eq!(body["detail"][0]["loc"][1], field);
    }
    for (accept, header) in [(TAIL, "last-event-id"), (LINES, "x")] {
        let mut answer = service.ask("GET", "/events?cursor=nonsense", &[("accept", accept), (header, "")]);
        assert_eq!(answer.status(), 400, "{accept}");
        assert!(answer.body_mut().read_to_string().unwrap().contains("cursor"));
    }
}

#[test]
fn a_reader_without_headers_goes_on_by_the_query() {
    let service = service();
    service.publish((0..3).map(|n| event("t", &format!("{n}"), "{}")));
    let mut tail = service.open("topic=t", TAIL);
    let ids: Vec<_> = (0..3).map(|_| message(&mut tail).unwrap().0).collect();
    let next = |query: &str, headers: &[(&str, &str)]| {
        let event = message(&mut service.open_with(query, TAIL, headers)).unwrap().1;
        event["event_id"].as_str().unwrap().to_owned()
    };
    for name in ["lastEventId", "last-event-id", "Last-Event-ID", "last_event_id"] {
        assert_eq!(next(&format!("topic=t&{name}={}", ids[0]), &[]), "1", "{name}");
    }
    let query = format!("topic=t&cursor={}&lastEventId={}", ids[0], ids[1]);
    assert_eq!(next(&query, &[]), "2", "it is newer than the cursor of the address");
    assert_eq!(
        next(&query, &[("last-event-id", &ids[0])]),
        "1",
        "and what a browser adds itself is newer still"
    );
    assert_eq!(next("topic=t&lastEventId=", &[]), "0");
}

#[test]
fn long_answers_are_compressed_for_those_who_ask() {
    let service = service();
    service.publish((0..100).map(|n| event(&format!("topic-{n}"), "1", "{}")));
    for path in ["/events", "/stats", "/topics", "/metrics"] {
        let mut plain = service.ask("GET", path, &[]);
        assert!(plain.headers().get("content-encoding").is_none());
        let plain = plain.body_mut().read_to_vec().unwrap();
        for (asked, is_gzip) in [("gzip", true), ("br, *;q=0.1", true), ("gzip;q=0", false), ("br", false)] {
            let mut answer = service.ask("GET", path, &[("accept-encoding", asked)]);
            let coding =
                answer.headers().get("content-encoding").map(|coding| coding.to_str().unwrap().to_owned());
            assert_eq!(coding.as_deref(), is_gzip.then_some("gzip"), "{path} {asked}");
            let mut body = answer.body_mut().read_to_vec().unwrap();
            if is_gzip {
                assert!(body.len() < plain.len(), "{path}");
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
                body = text;
            }
            // Times and counts of requests move.
            if path == "/events" || path == "/topics" {
                assert_eq!(body, plain, "{path} {asked}");
            }
        }
    }
    assert!(
        service
            .ask("GET", "/healthz", &[("accept-encoding", "gzip")])
            .headers()
            .get("content-encoding")
            .is_none()
    );
}

#[test]
fn a_slow_reader_is_waited_for_and_nothing_piles_up() {
    let service = service();
    let filler = format!("\"{}\"", "x".repeat(8_000));
    service.publish((0..8_000).map(|n| event("t", &format!("e{n}"), &filler)));
    let before = service.resident_bytes();
    let readers: Vec<_> = (0..10).map(|n| service.open("", if n % 2 == 0 { LINES } else { TAIL })).collect();
    // The sockets are full, and stay so.
    let mut last = 0;
    let settled = until(20, || {
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        let now = service.resident_bytes();
        (std::mem::replace(&mut last, now) == now).then_some(now)
    });
    let grown = settled.unwrap().saturating_sub(before);
    // What reading takes is kept for the next read.
    assert!(grown < 128 << 20, "ten readers of 64 MB each, and the server has grown by {grown} bytes");
    assert_eq!(service.post(&event("u", "1", "{}")), 200, "the others are served");
    for (number, mut reader) in readers.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(lines(reader).len(), 8_000);
        } else {
            assert!((0..8_000).all(|_| message(&mut reader).is_some()));
        }
    }
}

/// What was there for a large request goes back to the system, though nobody sends anything more.
#[test]
fn memory_that_is_free_is_given_back() {
    let service = service();
    let filler = format!("\"{}\"", "x".repeat(8_000));
    let events: Vec<_> = (0..900).map(|n| event("t", &format!("e{n}"), &filler)).collect();
    let (before, body) = (service.resident_bytes(), format!("[{}]", events.join(",")));
    assert_eq!(service.post(&body), 200);
    let grown = service.peak_bytes().saturating_sub(before);
    let given_back = until(20, || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        let left = service.resident_bytes().saturating_sub(before);
        (left + body.len() as u64 / 2 <= grown).then_some(())
    });
    let left = service.resident_bytes().saturating_sub(before);
    assert!(given_back.is_some(), "{grown} bytes more for a request of {}, and {left} are left", body.len());
}

#[test]
fn an_export_that_breaks_is_seen_to_be_broken() {
    let mut service = service();
    let filler = format!("\"{}\"", "x".repeat(8_000));
    service.publish((0..8_000).map(|n| event("t", &format!("e{n}"), &filler)));
    let mut export = service.open("", LINES);
    let mut first = String::new();
    export.read_line(&mut first).unwrap();
    service.server.kill();
    assert!(export.read_to_end(&mut Vec::new()).is_err(), "half an export looks whole");
}
