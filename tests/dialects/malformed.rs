//! Bodies that can't be taken: each gets a clear refusal, and nothing of it is stored but what that
//! says.

use serde_json::{Value, json};

use super::service::{GZIP, Headers, LINES, Service, ZSTD, cloud_event, event, gzip, zstd};

const CLOUD_EVENT: (&str, &str) = ("Content-Type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");
const ENVELOPE: [(&str, &str); 3] = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "/test")];

/// Headers, body, status, where the fault is (or a part of the sentence), and how many events are
/// stored of it.
type Case<'a> = (Headers<'a>, Vec<u8>, u16, Value, u64);

fn check(cases: Vec<Case<'_>>) {
    let mut service = Service::new();
    let mut stored = 0;
    for (number, (headers, body, status, says, kept)) in cases.into_iter().enumerate() {
        let (got, answer) = service.post("", headers, body);
        assert_eq!(got, status, "case {number} {headers:?}: {answer}");
        match &says {
            Value::String(part) => {
                assert!(
                    answer["detail"].as_str().unwrap().contains(part),
                    "case {number} {headers:?}: {answer}"
                );
            }
            place => {
                assert_eq!(answer["detail"][0]["loc"], *place, "case {number} {headers:?}: {answer}");
                assert!(answer["detail"][0]["msg"].as_str().unwrap().len() > 10, "case {number}: {answer}");
            }
        }
        if headers.contains(&LINES) {
            assert_eq!(answer["progress"]["unique_processed"], kept, "case {number}: {answer}");
        }
        stored += kept;
        assert_eq!(service.stored(), stored, "case {number} {headers:?}: {answer}");
        assert!(
            !answer.to_string().contains("secret"),
            "case {number}: an answer shows no payload: {answer}"
        );
    }
}

fn cut(mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(body.len() - 5);
    body
}

fn flip(mut body: Vec<u8>) -> Vec<u8> {
    let middle = body.len() / 2;
    body[middle] ^= 0xff;
    body
}

fn noisy(id: &str) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut event = event(id);
    event["payload"] = (0..2_000).map(|_| random.alphanumeric()).collect::<String>().into();
    event.to_string()
}

/// A frame with a window of 128 MiB, and an empty block.
fn long_window() -> Vec<u8> {
    vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0]
}

#[test]
fn damaged_compression_is_refused_whole() {
    let plain = noisy("1");
    let bomb = || vec![b' '; (64 << 20) + 1];
    check(vec![
        (&[GZIP], plain.clone().into(), 400, json!("damaged"), 0),
        (&[GZIP], zstd(&plain), 400, json!("damaged"), 0),
        (&[ZSTD], gzip(&plain), 400, json!("damaged"), 0),
        (&[GZIP], flip(gzip(&plain)), 400, json!("damaged"), 0),
        (&[GZIP], [gzip(&plain), b"more".to_vec()].concat(), 400, json!("bytes follow"), 0),
        (&[GZIP], [gzip(&plain), b"\n".to_vec()].concat(), 400, json!("newline"), 0),
        (&[ZSTD], [zstd(&plain), b"\n".to_vec()].concat(), 400, json!("newline"), 0),
        (&[GZIP], cut(gzip(&plain)), 400, json!("too early"), 0),
        (&[ZSTD], cut(zstd(&plain)), 400, json!("too early"), 0),
        (&[GZIP], Vec::new(), 400, json!("too early"), 0),
        (&[ZSTD], Vec::new(), 400, json!("too early"), 0),
        (&[GZIP], gzip(bomb()), 413, json!("67108864"), 0),
        (&[ZSTD], zstd(bomb()), 413, json!("67108864"), 0),
        (&[GZIP, CLOUD_EVENT], gzip(bomb()), 413, json!("67108864"), 0),
        (&[ZSTD], long_window(), 400, json!("window"), 0),
        (&[GZIP, ZSTD], gzip(&plain), 415, json!("gzip or zstd"), 0),
        (&[("Content-Encoding", "gzip, gzip")], gzip(gzip(&plain)), 415, json!("gzip or zstd"), 0),
        (&[("Content-Encoding", "deflate")], plain.clone().into(), 415, json!("gzip or zstd"), 0),
        (&[GZIP], gzip("{\"topic\":"), 422, json!(["body", 8]), 0),
        (&[ZSTD], zstd(b"{\"secret\":\"\xff\"}"), 422, json!(["body", 11]), 0),
    ]);
}

#[test]
fn a_name_in_a_url_that_is_no_utf_8_is_refused_and_no_event_has_it() {
    let mut service = Service::new();
    let (status, answer) = service.post("?topic=%FF", &[CLOUD_EVENT], cloud_event("1").to_string());
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["query"])), "{answer}");
    assert_eq!(service.stored(), 0);
    let (status, _) = service.post("?topic=%EF%BF%BD", &[CLOUD_EVENT], cloud_event("1").to_string());
    assert_eq!(status, 200, "the replacement character is a character");
    assert_eq!(service.get("/events/%FE/1").0, 404);
    assert_eq!(service.get("/events?topic=%FE").0, 422);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let mut service = Service::new();
    let marked = |text: String| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    // Two files behind each other, each with its mark.
    let lines = [marked(format!("{}\n", event("2"))), marked(format!("{}\n", event("3")))].concat();
    let [version, kind, source] = ENVELOPE;
    let binary = |id, media| [version, kind, source, ("ce-id", id), ("Content-Type", media)];
    let (json, text) = (binary("6", "application/json"), binary("7", "text/plain"));
    let bodies: [(Headers<'_>, Vec<u8>); 7] = [
        (&[], marked(event("1").to_string())),
        (&[LINES], lines.clone()),
        (&[LINES, GZIP], gzip(lines)),
        (&[CLOUD_EVENT], marked(cloud_event("4").to_string())),
        (&[BATCH], marked(json!([cloud_event("5")]).to_string())),
        (&json, marked(r#"{"n":1}"#.to_owned())),
        (&text, marked("text".to_owned())),
    ];
    for (headers, body) in bodies {
        let (status, answer) = service.post("", headers, body);
        assert_eq!(status, 200, "{headers:?}: {answer}");
    }
    assert_eq!(service.stored(), 7);
    assert_eq!(service.get("/events/t/6").1["payload"], json!({"n": 1}));
    assert_eq!(service.get("/events/t/7").1["payload"], "text");
}

#[test]
fn half_a_surrogate_pair_in_a_payload_is_kept_as_its_escape() {
    let mut service = Service::new();
    let cut = r#"{"text":"cut \ud83d","\udc00":1}"#;
    let with = |text: String| text.replace(r#"{"n":1}"#, cut);
    let [version, kind, source] = ENVELOPE;
    let binary = [version, kind, source, ("ce-id", "5")];
    let bodies: [(Headers<'_>, String); 5] = [
        (&[], format!("[{},{}]", with(event("1").to_string()), event("2"))),
        (&[LINES], with(event("3").to_string())),
        (&[CLOUD_EVENT], with(cloud_event("4").to_string())),
        (&binary, cut.to_owned()),
        (&[], with(event("1").to_string())),
    ];
    for (headers, body) in bodies {
        let (status, answer) = service.post("", headers, &body);
        assert_eq!((status, &answer["conflicts"]), (200, &json!(0)), "{headers:?}: {answer}");
    }
    assert_eq!(service.stored(), 5);
    for id in ["1", "3", "4", "5"] {
        let stored = service.text(&format!("/events/t/{id}"));
        assert!(stored.contains(cut), "{stored}");
    }
}

#[test]
fn an_empty_content_type_is_none_and_lines_sent_as_json_are_told_of() {
    let mut service = Service::new();
    assert_eq!(service.post("", &[("Content-Type", "")], event("1").to_string()).0, 200);
    let json = [("Content-Type", "application/json")];
    for (body, is_told) in [
        (format!("{}\n{}\n", event("2"), event("3")), true),
        (format!("{}{}", event("2"), event("3")), true),
        (format!("{} x", event("2")), false),
        ("[] {}".to_owned(), false),
    ] {
        let (status, answer) = service.post("", &json, &body);
        assert_eq!((status, &answer["detail"][0]["type"]), (422, &json!("json_invalid")), "{answer}");
        let message = answer["detail"][0]["msg"].as_str().unwrap();
        assert_eq!(message.contains("application/x-ndjson"), is_told, "{message}");
    }
    assert_eq!(service.stored(), 1);
}

#[test]
fn zeros_behind_a_gzip_body_are_padding() {
    let mut service = Service::new();
    let pad = |body: Vec<u8>| [body, vec![0; 20_000]].concat();
    assert_eq!(service.post("", &[GZIP], pad(gzip(event("1").to_string()))).0, 200);
    assert_eq!(service.post("", &[LINES, GZIP], pad(gzip(event("2").to_string()))).0, 200);
    assert_eq!(service.post("", &[GZIP], vec![0; 100]).0, 400, "zeros alone are no gzip");
    assert_eq!(service.stored(), 2);
}

#[test]
fn what_is_no_json_is_refused_with_the_reason_and_the_place() {
    let mut service = Service::new();
    for (body, at, why) in [
        ("{\"topic\": secret}", 10, "expected value"),
        ("[{}", 3, "EOF while parsing a list"),
        ("[] []", 3, "trailing characters"),
    ] {
        let (status, answer) = service.post("", &[], body);
        let fault = &answer["detail"][0];
        assert_eq!((status, &fault["type"]), (422, &json!("json_invalid")), "{answer}");
        assert_eq!(fault["msg"], format!("JSON decode error: {why}"));
        assert!(fault["loc"][1].as_u64().unwrap().abs_diff(at) <= 1, "{body}: {answer}");
    }
}

/// What is refused must not take a multiple of itself first.
#[test]
fn a_body_of_many_tiny_values_is_refused_in_little_memory() {
    let mut service = Service::new();
    let array =
        |value: &str| format!("[{value}{}]", format!(",{value}").repeat((15 << 20) / (value.len() + 1)));
    let object = format!("{{\"topic\":1{}}}", ",\"\":1".repeat((15 << 20) / 5));
    let text = [("Content-Type", "text/plain"), ENVELOPE[0], ENVELOPE[1], ENVELOPE[2], ("ce-id", "1")];
    let cases: [(&str, Headers<'_>, Vec<u8>, u16); 6] = [
        ("", &[], array("{}").into(), 413),
        ("?partial=true", &[], array("{}").into(), 413),
        ("?partial=true", &[], array("1").into(), 413),
        ("", &[], object.into(), 422),
        ("", &[BATCH], array("1").into(), 413),
        ("", &text, vec![1; 15 << 20], 422),
    ];
    for (query, headers, body, status) in cases {
        let (got, answer) = service.post(query, headers, body);
        assert_eq!(got, status, "{query} {headers:?}: {answer}");
    }
    let peak = service.peak_kib();
    assert!(peak < 160 << 10, "{peak} KiB");
    assert_eq!(service.stored(), 0);
}

#[test]
fn a_bad_line_ends_a_stream_and_what_is_before_it_is_stored() {
    let lines = |ids: &[&str], rest: &[u8]| {
        let good: String = ids.iter().map(|id| format!("{}\n", event(id))).collect();
        [good.as_bytes(), rest].concat()
    };
    let long = format!("{{\"secret\":\"{}\"}}", "x".repeat(2 << 20));
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let deep = event("deep").to_string().replace(r#"{"n":1}"#, &deep);
    let whole = event("whole").to_string();
    check(vec![
        (&[LINES], lines(&["1"], b"{\"secret\""), 422, json!(["body", 2, 8]), 1),
        (&[LINES], lines(&["2", "3"], &whole.as_bytes()[..40]), 422, json!(["body", 3, 39]), 2),
        (&[LINES], lines(&["4"], b"{\"secret\":\"\xff\"}\n"), 422, json!(["body", 2, 11]), 1),
        (&[LINES], lines(&["5"], b"[]\n"), 422, json!(["body", 2]), 1),
        (&[LINES], lines(&["6"], b"null\n"), 422, json!(["body", 2]), 1),
        (
            &[LINES],
            lines(&["7"], format!("{whole}{whole}\n").as_bytes()),
            422,
            json!(["body", 2, whole.len()]),
            1,
        ),
        (&[LINES], lines(&["8"], b"\r\n\n \t\n{}\n"), 422, json!(["body", 5, "topic"]), 1),
        (&[LINES], lines(&["9"], deep.as_bytes()), 422, json!(["body", 2, "payload"]), 1),
        (&[LINES], lines(&["10"], format!("{long}\n{whole}\n").as_bytes()), 422, json!(["body", 2]), 1),
        (
            &[LINES],
            lines(&["11"], format!("{{\"events\":[{whole}]}}\n").as_bytes()),
            422,
            json!(["body", 2, "topic"]),
            1,
        ),
        (&[LINES], long.into_bytes(), 422, json!(["body", 1]), 0),
        (&[LINES, GZIP], gzip(lines(&["12"], b"{}")), 422, json!(["body", 2, "topic"]), 1),
        (&[LINES, GZIP], cut(gzip(lines(&["13"], b""))), 400, json!("too early"), 1),
        (&[LINES, ZSTD], lines(&["14"], b""), 400, json!("damaged"), 0),
        (
            &[LINES, GZIP],
            [gzip(lines(&["15"], b"")), b"more".to_vec()].concat(),
            400,
            json!("go on with line 2"),
            1,
        ),
        (&[LINES, GZIP], gzip(lines(&["16"], &vec![b'\n'; 8 << 20])), 413, json!("without an event"), 1),
    ]);
}

#[test]
fn cloud_events_that_are_none_are_refused_with_their_places() {
    let with = |field: &str, value: Value| {
        let mut event = cloud_event("1");
        event[field] = value;
        event.to_string().into_bytes()
    };
    let batch = |event: Value| json!([cloud_event("1"), event]).to_string().into_bytes();
    let place = |field: &str| json!(["body", field]);
    check(vec![
        (&[CLOUD_EVENT], with("specversion", json!("0.3")), 422, place("specversion"), 0),
        (&[CLOUD_EVENT], with("specversion", json!(1.0)), 422, place("specversion"), 0),
        (&[CLOUD_EVENT], with("id", json!(null)), 422, place("id"), 0),
        (&[CLOUD_EVENT], with("id", json!("")), 422, place("id"), 0),
        (&[CLOUD_EVENT], with("id", json!("a\u{1}")), 422, place("id"), 0),
        (&[CLOUD_EVENT], with("source", json!("")), 422, place("source"), 0),
        (&[CLOUD_EVENT], with("source", json!("x".repeat(256))), 422, place("source"), 0),
        (&[CLOUD_EVENT], with("type", json!(7)), 422, place("type"), 0),
        (&[CLOUD_EVENT], with("time", json!("yesterday")), 422, place("time"), 0),
        (&[CLOUD_EVENT], with("data_base64", json!("iVBORw==")), 422, place("data_base64"), 0),
        (&[CLOUD_EVENT], with("data_base64", json!("secret!")), 422, place("data_base64"), 0),
        (&[CLOUD_EVENT], b"[]".to_vec(), 422, json!(["body"]), 0),
        (&[CLOUD_EVENT], b"{\"id\":\"\xff\"}".to_vec(), 422, json!(["body", 7]), 0),
        (&[CLOUD_EVENT], Vec::new(), 422, json!(["body"]), 0),
        (&[CLOUD_EVENT, GZIP], cut(gzip(with("id", json!("1")))), 400, json!("too early"), 0),
        (&[BATCH], with("id", json!("1")), 422, json!(["body"]), 0),
        (&[BATCH], batch(json!({})), 422, json!(["body", 1, "specversion"]), 0),
        (&[BATCH], batch(json!("secret")), 422, json!(["body", 1]), 0),
        (&[BATCH], cut(batch(cloud_event("2"))), 422, json!(["body", 143]), 0),
        (
            &[("Content-Type", "application/cloudevents+avro")],
            Vec::new(),
            415,
            json!("application/cloudevents+json"),
            0,
        ),
        (&[("Content-Type", "application/xml")], Vec::new(), 415, json!("application/x-ndjson"), 0),
    ]);
    let mut service = Service::new();
    for source in ["a b", &"x".repeat(255)] {
        let (status, answer) = service.post("?dedup=source", &[CLOUD_EVENT], with("source", json!(source)));
        assert_eq!(status, 422, "{answer}");
    }
    assert_eq!(service.stored(), 0);
}

#[test]
fn binary_mode_names_the_header_or_the_place_in_the_data() {
    let [version, kind, source] = ENVELOPE;
    let id = ("ce-id", "1");
    let header = |name: &str| json!(["header", name]);
    check(vec![
        (&ENVELOPE, b"{}".to_vec(), 422, header("ce-id"), 0),
        (&[("ce-specversion", "0.3"), kind, source, id], b"{}".to_vec(), 422, header("ce-specversion"), 0),
        (&[version, kind, id], b"{}".to_vec(), 422, header("ce-source"), 0),
        (&[version, source, id], b"{}".to_vec(), 422, header("ce-type"), 0),
        (&[version, kind, source, id, id], b"{}".to_vec(), 422, header("ce-id"), 0),
        (&[version, kind, source, ("ce-id", "%C0%A0")], b"{}".to_vec(), 422, header("ce-id"), 0),
        (&[version, kind, source, ("ce-id", "a%00")], b"{}".to_vec(), 422, header("ce-id"), 0),
        (&[version, kind, source, id, ("ce-time", "now")], b"{}".to_vec(), 422, header("ce-time"), 0),
        (&[version, kind, source, id], b"{\"secret\"".to_vec(), 422, json!(["body", 8]), 0),
        (&[version, kind, source, id, GZIP], b"{}".to_vec(), 400, json!("damaged"), 0),
    ]);
}
