//! How CloudEvents become events.

use serde_json::{Value, json};

use super::service::{Service, cloud_event};

const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json; charset=utf-8");
const BATCH: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

/// Binary mode: the headers of an event with this id, and a content type.
fn binary<'a>(id: &'a str, kind: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut headers =
        vec![("ce-specversion", "1.0"), ("CE-Type", "t"), ("ce-source", "/test"), ("ce-id", id)];
    headers.extend((!kind.is_empty()).then_some(("Content-Type", kind)));
    headers
}

fn payload(service: &mut Service, id: &str) -> Value {
    service.get(&format!("/events/t/{id}")).1["payload"].clone()
}

#[test]
fn attributes_become_the_fields_of_an_event() {
    let mut service = Service::new();
    let event = r#"{"specversion":"1.0","id":"1","source":"/a","type":"x.y","time":"2020-01-02T03:04:05+07:00",
        "subject":"dropped","datacontenttype":"application/json","data":{"b": 1.0, "a":1e400}}"#;
    assert_eq!(service.post("", &[STRUCTURED], event).0, 200);
    let stored = service.text("/events/x.y/1");
    assert!(stored.contains(r#""payload":{"b": 1.0, "a":1e400},"#), "{stored}");
    assert!(stored.contains(r#""timestamp":"2020-01-02T03:04:05+07:00","source":"/a""#), "{stored}");
    assert!(!stored.contains("dropped"));
    let bare = r#"{"specversion":"1.0","id":"2","source":"/a","type":"x.y","time":null}"#;
    assert_eq!(service.post("?topic=mine", &[STRUCTURED], bare).1["results"][0]["topic"], "mine");
    let stored = service.get("/events/mine/2").1;
    assert_eq!(stored["payload"], json!({}), "no data");
    let (sent, arrived) = (stored["timestamp"].as_str().unwrap(), stored["received_at"].as_str().unwrap());
    assert!(sent <= arrived && sent[..4] == arrived[..4], "an event without a time has that of its arrival");
}

#[test]
fn data_that_is_no_json_is_kept_as_a_json_string() {
    let mut service = Service::new();
    let cases: [(&str, &[u8], Value); 12] = [
        ("application/json", b" {\"a\": 1}\n", json!({"a": 1})),
        ("Application/Vnd.x+JSON; v=1", b"[1]", json!([1])),
        ("text/json", b"null", json!(null)),
        ("", b"\"no type is JSON\"", json!("no type is JSON")),
        ("", b"", json!({})),
        ("application/json", b"", json!({})),
        ("text/plain", "a \"b\"\n\u{e9}".as_bytes(), json!("a \"b\"\n\u{e9}")),
        ("text/plain", b"", json!("")),
        ("image/png", b"\x89PNG", json!("iVBORw==")),
        ("application/x-ndjson", b"{}\n", json!("{}\n")),
        ("application/atom+xml; charset=utf-8", b"<a/>", json!("<a/>")),
        ("application/octet-stream", b"text", json!("dGV4dA==")),
    ];
    for (number, (kind, body, expected)) in cases.iter().enumerate() {
        let id = number.to_string();
        let (status, answer) = service.post("", &binary(&id, kind), body);
        assert_eq!(status, 200, "{kind}: {answer}");
        assert_eq!(payload(&mut service, &id), *expected, "{kind}");
    }
    let mut event = cloud_event("8");
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = json!("iVBORw==");
    assert_eq!(service.post("", &[STRUCTURED], event.to_string()).1["results"][0]["status"], "duplicate");
    event["data_base64"] = json!("iVBORg==");
    assert_eq!(service.post("", &[STRUCTURED], event.to_string()).1["results"][0]["status"], "conflict");
}

#[test]
fn the_same_data_in_both_modes_is_one_event() {
    let mut service = Service::new();
    let cases: [(&str, &str, &[u8], &str); 16] = [
        ("1", "application/xml", b"<a b=\"c\">&amp;</a>", r#""data":"<a b=\"c\">&amp;</a>""#),
        // As Go's encoder writes it.
        ("2", "text/xml; charset=utf-8", b"<a/>", r#""data":"\u003ca\/\u003e""#),
        ("3", "image/svg+xml", "<ä/>".as_bytes(), r#""data":"<\u00e4/>""#),
        ("4", "text/plain", b"a\nb", r#""data":"a\nb""#),
        ("5", "application/xml", b"<a/>", r#""data_base64":"PGEvPg==""#),
        ("6", "application/json", b"{\"a\":1}", r#""data_base64":"eyJhIjoxfQ==""#),
        ("7", "application/json", b" [1]", r#""data":[1]"#),
        ("8", "image/png", b"\x89PNG", r#""data_base64":"iVBORw==""#),
        // A byte order mark, as it stands and as it is escaped.
        ("9", "application/xml", b"\xef\xbb\xbf<a/>", "\"data\":\"\u{feff}<a/>\""),
        ("10", "text/plain", b"\xef\xbb\xbfa", r#""data":"\ufeffa""#),
        // No list has all types of text.
        ("11", "application/jwt", b"eyJ.e30.x", r#""data":"eyJ.e30.x""#),
        ("12", "application/vnd.x", b"a: 1\n", r#""data":"a: 1\n""#),
        // Text in another encoding, and what is no text.
        ("13", "text/plain; charset=latin1", b"caf\xe9", r#""data_base64":"Y2Fm6Q==""#),
        ("14", "application/protobuf", b"\x0a\x01a", r#""data_base64":"CgFh""#),
        ("17", "application/vnd.x", b"a\x01b\x7f", "\"data\":\"a\\u0001b\u{7f}\""),
        ("15", "application/octet-stream", b"text", r#""data_base64":"dGV4dA==""#),
    ];
    for (id, kind, bytes, data) in cases {
        let (status, answer) = service.post("", &binary(id, kind), bytes);
        assert_eq!(status, 200, "{kind}: {answer}");
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t","datacontenttype":"{kind}",{data}}}"#
        );
        let (_, answer) = service.post("", &[STRUCTURED], &event);
        assert_eq!(answer["results"][0]["status"], "duplicate", "{kind} {data}: {answer}");
    }
    assert_eq!(payload(&mut service, "9"), "<a/>");
    assert_eq!(payload(&mut service, "11"), "eyJ.e30.x");
    assert_eq!(payload(&mut service, "13"), "Y2Fm6Q==");
    assert_eq!(payload(&mut service, "14"), "CgFh");
    // Without a type it is JSON.
    assert_eq!(service.post("", &binary("16", ""), "{\"a\":1}").0, 200);
    let untyped =
        r#"{"specversion":"1.0","id":"16","source":"/test","type":"t","data_base64":"eyJhIjoxfQ=="}"#;
    assert_eq!(service.post("", &[STRUCTURED], untyped).1["results"][0]["status"], "duplicate");
    // Bytes that are not what they are said to be are kept all the same.
    let odd = r#"{"specversion":"1.0","id":"odd","source":"/test","type":"t","datacontenttype":"text/xml","data_base64":"iVBORw=="}"#;
    assert_eq!(service.post("", &[STRUCTURED], odd).0, 200);
    assert_eq!(payload(&mut service, "odd"), "iVBORw==");
}

#[test]
fn header_values_are_decoded_and_a_format_wins_over_headers() {
    let mut service = Service::new();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-type", "\"Euro \\\"x\\\"\""),
        ("ce-source", "/%E2%82%AC%2525"),
        ("ce-id", "a%20b"),
        ("ce-time", "2020-01-02T03:04:05Z"),
    ];
    let (status, answer) = service.post("", &headers, "{}");
    assert_eq!((status, &answer["results"][0]["topic"]), (200, &json!("Euro \"x\"")));
    let stored = &service.get("/events").1["events"][0];
    assert_eq!((&stored["event_id"], &stored["source"]), (&json!("a b"), &json!("/\u{20ac}%25")));
    assert_eq!(stored["timestamp"], "2020-01-02T03:04:05Z");
    let both = [headers[0], headers[1], headers[2], headers[3], STRUCTURED];
    let (_, answer) = service.post("", &both, cloud_event("in the body").to_string());
    assert_eq!(answer["results"][0]["event_id"], "in the body");
}

#[test]
fn with_dedup_source_the_same_id_of_two_sources_is_two_events() {
    let mut service = Service::new();
    let mut events = Vec::new();
    for source in ["/a", "/b", "/a"] {
        let mut event = cloud_event("1");
        event["source"] = json!(source);
        events.push(event);
    }
    let (status, answer) = service.post("?dedup=source&results=all", &[BATCH], json!(events).to_string());
    assert_eq!((status, &answer["unique_processed"]), (200, &json!(2)), "{answer}");
    assert_eq!(answer["results"][1]["event_id"], "/b 1");
    assert_eq!(service.get("/events/t/%2Fa%201").0, 200);
    let (_, answer) = service.post("", &[BATCH], json!(events).to_string());
    assert_eq!(answer["unique_processed"], 1, "without it the id alone counts");
    assert_eq!(service.post("", &[BATCH], "[]").1["received"], 0);
}

#[test]
fn partial_takes_the_valid_events_of_a_batch() {
    let mut service = Service::new();
    let mut bad = cloud_event("2");
    bad["specversion"] = json!("0.3");
    let batch = json!([cloud_event("1"), bad, cloud_event("3")]).to_string();
    assert_eq!(service.post("", &[BATCH], &batch).0, 422);
    assert_eq!(service.stored(), 0);
    let (status, answer) = service.post("?partial=true", &[BATCH], &batch);
    assert_eq!((status, &answer["results"][1]["index"]), (207, &json!(2)));
    assert_eq!(answer["errors"][0]["loc"], json!(["body", 1, "specversion"]));
    assert_eq!(service.stored(), 2);
}
