//! `GET /sources`: what is configured, and what became of the deliveries.

use serde_json::{Value, json};

use super::{SECRET, Webhooks};
use crate::support::client::Client;

const CONFIG: &str = "[sources.kept]\npreset = 'bearer'\ntopic = 'kept.{body.kind}'\nevent_id = '{body.id}'\n\
                      quarantine = 'kept.strange'\nsecret_files = ['DIR/key']\n\
                      [sources.plain]\nscheme = 'token'\nheader = 'X-Token'\ntopic = 'plain'\n\
                      event_id = '{body.id}'\nsecret_files = ['DIR/key']";

/// Sends to a source; the status.
fn send(webhooks: &Webhooks, name: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let path = format!("/in/{name}");
    Client::new(webhooks.service.addr).post_with(&path, headers, body).unwrap().status
}

/// The counts of a list that are not zero.
fn counted(list: &Value) -> Value {
    let counts = list.as_object().unwrap().iter().filter(|(_, count)| **count != 0);
    counts.map(|(outcome, count)| (outcome.clone(), count.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn each_source_is_told_with_what_became_of_its_deliveries() {
    let webhooks = Webhooks::new(CONFIG, &[("key", SECRET)]);
    let before = webhooks.service.get("/sources");
    assert_eq!(before["sources"].as_array().unwrap().len(), 2);
    let [kept, plain] = [&before["sources"][0], &before["sources"][1]];
    assert_eq!(
        [&kept["name"], &kept["path"], &kept["preset"], &kept["scheme"], &kept["topic"], &kept["quarantine"]],
        [
            &json!("kept"),
            &json!("/in/kept"),
            &json!("bearer"),
            &json!(null),
            &json!("kept.{body.kind}"),
            &json!("kept.strange")
        ],
    );
    assert_eq!(
        [&plain["preset"], &plain["scheme"], &plain["quarantine"]],
        [&json!(null), &json!("token"), &json!(null)]
    );
    for source in [kept, plain] {
        assert_eq!([counted(&source["taken"]), counted(&source["refused"])], [json!({}), json!({})]);
        assert!(source["last_refused"].is_null());
    }

    let bearer = format!("Bearer {SECRET}");
    let good = [("Authorization", bearer.as_str())];
    for (body, status) in [
        (r#"{"id":"1","kind":"a"}"#, 200),
        (r#"{"id":"2","kind":"a"}"#, 200),
        (r#"{"id":"1","kind":"a"}"#, 200),
        (r#"{"id":"1","kind":"a","n":1}"#, 200),
        (r#"{"kind":"a"}"#, 200),
    ] {
        assert_eq!(send(&webhooks, "kept", &good, body.as_bytes()), status, "{body}");
    }
    let token = [("X-Token", SECRET)];
    for (headers, body, status) in [
        (&[][..], "{}", 401),
        (&[("X-Token", "planted-4711")], "{}", 401),
        (&[("X-Token", "planted-4711")], "{}", 401),
        (&token, &format!("\"{}\"", "x".repeat(1 << 20)), 413),
        (&[("X-Token", SECRET), ("Content-Encoding", "gzip")], "{}", 415),
        (&token, r#"{"planted-4711":1}"#, 422),
    ] {
        assert_eq!(send(&webhooks, "plain", headers, body.as_bytes()), status, "{body:.40}");
    }
    assert_eq!(send(&webhooks, "nobody", &token, b"{}"), 404);

    let after = webhooks.service.get("/sources");
    let [kept, plain] = [&after["sources"][0], &after["sources"][1]];
    assert_eq!(
        counted(&kept["taken"]),
        json!({"stored": 2, "duplicate": 1, "conflict": 1, "quarantined": 1})
    );
    assert_eq!((counted(&kept["refused"]), &kept["last_refused"]), (json!({}), &json!(null)));
    assert_eq!(counted(&plain["taken"]), json!({}));
    assert_eq!(
        counted(&plain["refused"]),
        json!({"missing": 1, "wrong": 2, "large": 1, "compressed": 1, "unmapped": 1})
    );
    assert_eq!(plain["last_refused"]["reason"], "unmapped");
    assert!(plain["last_refused"]["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(after["unknown"], 1);
    let text = after.to_string();
    assert!(!text.contains(SECRET) && !text.contains("planted-4711") && !text.contains("key"), "{text}");
    // The figures say the same.
    assert_eq!([webhooks.counted("plain", "wrong"), webhooks.counted("", "unknown")], [2, 1]);
}

#[test]
fn what_the_store_can_not_take_is_told_as_not_stored() {
    let config = format!("topics_max = 1\n{CONFIG}");
    let webhooks = Webhooks::new(&config, &[("key", SECRET)]);
    let bearer = format!("Bearer {SECRET}");
    let good = [("Authorization", bearer.as_str())];
    let statuses: Vec<_> = (0..3)
        .map(|kind| send(&webhooks, "kept", &good, format!(r#"{{"id":"1","kind":"{kind}"}}"#).as_bytes()))
        .collect();
    assert!(statuses[2] == 507 || statuses[2] == 429, "{statuses:?}");
    let kept = webhooks.service.get("/sources")["sources"][0].clone();
    let refused = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(counted(&kept["refused"]), json!({"unstored": refused}));
}
