//! What is genuine and no event is kept apart, whole, and no two deliveries as one that differ.

use serde_json::json;

use super::{SECRET, Signer, Webhooks, body};
use crate::support::client::Client;

const GITHUB: &str = "[sources.hub]\npreset = 'github'\nsecret_files = ['DIR/key']\nquarantine = 'apart'\n";

#[test]
fn deliveries_that_differ_in_a_header_are_both_kept_with_the_headers_that_are_named() {
    let Some(mut signer) = Signer::start() else { return };
    for (lines, kept) in
        [("", json!(null)), ("headers = ['X-GitHub-Event']", json!({"x-github-event": "issues"}))]
    {
        let webhooks = Webhooks::new(&format!("{GITHUB}{lines}"), &[("key", SECRET)]);
        let signed = signer.sign("github", SECRET, "1", &body("github", "1"));
        let sent = |kind: &str| {
            let mut signed = signed.clone();
            signed.headers.retain(|(name, _)| name != "X-GitHub-Delivery");
            *signed.header("X-GitHub-Event") = kind.to_owned();
            webhooks.outcome("hub", &signed).1
        };
        assert_eq!(["push", "issues", "push"].map(sent), ["stored", "stored", "duplicate"]);
        let page = webhooks.service.get("/events?topic=apart");
        let event = &page["events"].as_array().unwrap()[1];
        assert_eq!(event["payload"]["headers"], kept, "{event}");
        assert_eq!(event["payload"]["body"].as_str().unwrap(), body("github", "1"));
    }
}

#[test]
fn deliveries_that_differ_in_the_query_are_both_kept() {
    let config = "[sources.open]\npreset = 'bearer'\nsecret_files = ['DIR/key']\ntopic = 't'\n\
                  event_id = '{query.id}'\nquarantine = 'apart'";
    let webhooks = Webhooks::new(config, &[("key", SECRET)]);
    let token = format!("Bearer {SECRET}");
    let sent = |query: &str| {
        let headers = [("Authorization", token.as_str())];
        let mut client = Client::new(webhooks.service.addr);
        let answer = client.post_with(&format!("/in/open?{query}"), &headers, b"{}").unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["results"][0]["status"].clone()
    };
    assert_eq!(["a=1", "a=2", "a=1"].map(sent), ["stored", "stored", "duplicate"]);
}

#[test]
fn what_is_too_large_for_its_envelope_is_refused_as_large() {
    let config = "[sources.open]\npreset = 'bearer'\nsecret_files = ['DIR/key']\ntopic = 't'\n\
                  event_id = '{body.id}'\nheaders = ['X-Kind']\nquarantine = 'apart'";
    let webhooks = Webhooks::new(config, &[("key", SECRET)]);
    let text = format!(r#"{{"id":"1","more":"{}"}}"#, "x".repeat((1 << 20) - 30));
    let token = format!("Bearer {SECRET}");
    let mut client = Client::new(webhooks.service.addr);
    let answer = client.post_with("/in/open", &[("Authorization", &token)], text.as_bytes()).unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!((webhooks.counted("open", "large"), webhooks.counted("open", "unmapped")), (1, 0));
}

#[test]
fn a_header_that_is_there_twice_or_no_text_is_kept_and_tells_deliveries_apart() {
    let config = "[sources.open]\npreset = 'bearer'\nsecret_files = ['DIR/key']\ntopic = 't'\n\
                  event_id = '{body.id}'\nheaders = ['X-Kept']\nquarantine = 'apart'";
    let webhooks = Webhooks::new(config, &[("key", SECRET)]);
    let token = format!("Bearer {SECRET}");
    let sent = |values: [&str; 2]| {
        let [first, second] = values.map(|value| ("X-Kept", value));
        let headers = [("Authorization", token.as_str()), first, second];
        let mut client = Client::new(webhooks.service.addr);
        let answer = client.post_with("/in/open", &headers, b"{}").unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["results"][0]["status"].clone()
    };
    assert_eq!([["a", "b"], ["a", "c"], ["a", "b"]].map(sent), ["stored", "stored", "duplicate"]);
    let page = webhooks.service.get("/events?topic=apart");
    assert_eq!(page["events"][0]["payload"]["headers"], json!({"x-kept": "a, b"}), "{page}");
}
