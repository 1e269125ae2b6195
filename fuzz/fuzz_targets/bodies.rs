//! Any body in each dialect: an answer that is not the service's fault, and counts that add up.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use sekali::event::{Batch, check_event_id, check_topic};
use sekali::http::Service;
use sekali_fuzz::{Sink, ask, service, wait};

/// What a store is given is valid.
fn check(batch: &Batch) {
    for event in batch.iter() {
        let text = |bytes| std::str::from_utf8(bytes).expect("a field is not UTF-8");
        assert!(check_topic(text(event.topic)).is_ok() && check_event_id(text(event.event_id)).is_ok());
        serde_json::from_slice::<&serde_json::value::RawValue>(event.payload).expect("a payload is not JSON");
    }
}

const TYPES: [&str; 6] = [
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "text/plain",
    "",
];
const ENCODINGS: [&str; 3] = ["", "gzip", "zstd"];
const OPTIONS: [&str; 5] = ["", "?partial=true", "?results=all", "?on_conflict=reject", "?dedup=source"];

static SERVICE: LazyLock<Arc<Service<Sink>>> = LazyLock::new(|| service(Sink(check)));

/// Plays one input.
pub(crate) fn play(data: &[u8]) {
    let [choice, body @ ..] = data else { return };
    let choice = usize::from(*choice);
    let (kind, choice) = (TYPES[choice % TYPES.len()], choice / TYPES.len());
    let (encoding, choice) = (ENCODINGS[choice % ENCODINGS.len()], choice / ENCODINGS.len());
    let mut request =
        Request::post(format!("/publish{}", OPTIONS[choice % OPTIONS.len()])).header("host", "localhost");
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    if kind == "text/plain" {
        // A binary CloudEvent.
        request = request
            .header("ce-specversion", "1.0")
            .header("ce-type", "t")
            .header("ce-source", "s")
            .header("ce-id", "i");
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
    let (status, answer) = wait(ask(&SERVICE, request));
    assert!(!status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&answer));
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer is not JSON");
    if status == 200 {
        assert_eq!(answer["received"], answer["unique_processed"], "{answer}");
    }
}
