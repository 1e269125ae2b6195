//! What `POST /publish` understands, from outside: every dialect and encoding, every option, and
//! what is wrong with a body.
//!
//! Each malformed body stands in a table with what it must be answered and how many events may be
//! stored of it.

mod cloud_events;
mod lines;
mod malformed;
mod property;
mod service;
mod slow;

use std::io::{Read, Write};

use serde_json::{Value, json};
use service::{LINES, Service, event, receive};

fn other_payload(id: &str) -> Value {
    let mut event = event(id);
    event["payload"] = json!({"n": 2});
    event
}

#[test]
fn partial_stores_what_is_valid_of_a_list_and_names_the_rest() {
    let mut service = Service::new();
    let list = json!([event("1"), {"topic": "t"}, event("2"), 7, event("1")]);
    for body in [list.clone(), json!({"events": list})] {
        let before = service.stored();
        let (status, answer) = service.post("?partial=true", &[], body.to_string());
        assert_eq!(status, 207);
        let indexes = |list: &Value| -> Vec<u64> {
            list.as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()).collect()
        };
        assert_eq!(indexes(&answer["results"]), [0, 2, 4]);
        assert_eq!(indexes(&answer["errors"]), [1, 1, 1, 3]);
        assert_eq!(answer["errors"][3]["type"], "model_attributes_type");
        assert_eq!((&answer["received"], &answer["rejected"]), (&json!(3), &json!(2)));
        assert_eq!(answer["unique_processed"], 2 - before);
        assert_eq!(service.stored(), 2);
    }
    assert_eq!(service.get("/stats").1["rejected"], 4);
    let (status, answer) = service.post("?partial=true", &[], json!([event("3")]).to_string());
    assert_eq!(
        (status, answer.get("errors"), answer.get("results")),
        (200, None, None),
        "nothing was invalid"
    );
    let (status, answer) = service.post("?partial=true", &[], json!([{}]).to_string());
    assert_eq!((status, &answer["received"], &answer["results"]), (207, &json!(0), &json!([])));
    assert_eq!(service.post("?partial=true", &[], "{}").0, 422, "a single event has no part that is valid");
    assert_eq!(service.post("?partial=true", &[], "[{}").0, 422, "what is no JSON has no events");
    assert_eq!(service.post("?partial=false", &[], json!([event("4"), {}]).to_string()).0, 422);
    assert_eq!(service.stored(), 3);
}

#[test]
fn a_rejected_conflict_is_an_error_and_the_others_are_stored() {
    let mut service = Service::new();
    service.post("", &[], event("1").to_string());
    let (status, answer) = service.post("?on_conflict=reject", &[], other_payload("1").to_string());
    assert_eq!((status, &answer["detail"][0]["type"]), (409, &json!("conflict")));
    assert_eq!(
        (&answer["results"][0]["status"], &answer["results"][0]["offset"]),
        (&json!("conflict"), &json!(0))
    );
    let (status, _) = service.post("?on_conflict=reject", &[], event("1").to_string());
    assert_eq!(status, 200, "a duplicate is no conflict");
    let list = json!([event("2"), other_payload("1"), event("3")]).to_string();
    let (status, answer) = service.post("?on_conflict=reject", &[], list);
    assert_eq!((status, &answer["conflicts"], &answer["unique_processed"]), (207, &json!(1), &json!(2)));
    assert_eq!((&answer["errors"][0]["index"], answer["errors"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(answer["results"][2]["status"], "stored");
    let both = json!([{}, other_payload("1"), event("4"), 7]).to_string();
    let (status, answer) = service.post("?on_conflict=reject&partial=true", &[], both);
    assert_eq!((status, &answer["rejected"], &answer["conflicts"]), (207, &json!(2), &json!(1)));
    let kinds: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|e| e["index"].as_u64().unwrap()).collect();
    assert_eq!(kinds, [0, 0, 0, 0, 1, 3], "errors stand in the order of the list");
    let lines = format!("{}\n{}\n{}\n", event("5"), other_payload("5"), event("6"));
    let (status, answer) = service.post("?on_conflict=reject", &[LINES], lines);
    assert_eq!(
        (status, &answer["unique_processed"], &answer["errors"][0]["line"]),
        (207, &json!(2), &json!(2))
    );
    assert_eq!(service.get("/events/t/1").1["payload"], json!({"n": 1}), "the first write stays");
}

#[test]
fn an_option_that_is_not_understood_stores_nothing() {
    let mut service = Service::new();
    let line = format!("{}\n", event("1"));
    let cloud = [("Content-Type", "application/cloudevents+json")];
    for (query, headers, place) in [
        ("?results=some", &[][..], "results"),
        ("?results=", &[], "results"),
        ("?partial=maybe", &[], "partial"),
        ("?on_conflict=keep", &[], "on_conflict"),
        ("?dedup=id", &[], "dedup"),
        ("?dedup=source", &[], "dedup"),
        ("?topic=u", &[], "topic"),
        ("?topic=u", &[LINES], "topic"),
        ("?results=all", &[LINES], "results"),
        ("?topic=", &cloud, "topic"),
        ("?topic=a%00b", &cloud, "topic"),
        ("?partial=true&partial=maybe", &cloud, "partial"),
    ] {
        let (status, answer) = service.post(query, headers, &line);
        assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["query", place])), "{query}");
        assert!(answer["detail"][0]["msg"].as_str().is_some_and(|msg| msg.len() > 10), "{answer}");
    }
    assert_eq!(service.stored(), 0);
    assert_eq!(service.post("?unknown=1", &[], &line).0, 200, "what is no option is ignored");
}

#[test]
fn an_empty_content_encoding_is_none() {
    let mut service = Service::new();
    for encoding in ["", " ", "identity"] {
        let body = event(&format!("1{encoding}")).to_string();
        assert_eq!(service.post("", &[("Content-Encoding", encoding)], body).0, 200, "{encoding:?}");
    }
}

#[test]
fn a_sender_that_waits_for_100_continue_gets_it_or_a_refusal() {
    let service = Service::new();
    let body = event("1").to_string();
    let head = |more: &str| {
        format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n{more}\r\n",
            body.len()
        )
    };
    let mut stream = service.connect();
    stream.write_all(head("").as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(receive(&mut stream).0, 200);
    let mut stream = service.connect();
    stream.write_all(head("Content-Encoding: br\r\n").as_bytes()).unwrap();
    assert_eq!(receive(&mut stream).0, 415, "no body is asked for that will not be taken");
}
