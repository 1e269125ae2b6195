//! What genuine deliveries become.

use serde_json::json;

use super::{SECRET, Signer, Webhooks, body};
use crate::support::client::Client;

/// A source that takes any body with a token, and keeps it.
const OPEN: &str = "preset = 'bearer'\nsecret_files = ['DIR/key']\n";

fn open(lines: &str) -> Webhooks {
    Webhooks::new(&format!("[sources.open]\n{OPEN}{lines}"), &[("key", SECRET)])
}

/// Sends a body with the token; the status and the answer.
fn send(webhooks: &Webhooks, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, serde_json::Value) {
    let token = format!("Bearer {SECRET}");
    let headers = [headers, &[("Authorization", &token)]].concat();
    let answer =
        Client::new(webhooks.service.addr).post_with(&format!("/in/open{path}"), &headers, body).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn a_delivery_without_an_id_or_a_topic_is_422_and_not_stored() {
    let webhooks = open("topic = 't.{body.type}'\nevent_id = '{body.id}'");
    let json = [("Content-Type", "application/json")];
    for (body, field, said) in [
        (r#"{"id":"1"}"#, "topic", "{body.type}"),
        (r#"{"type":"x"}"#, "event_id", "{body.id}"),
        (r#"{"type":"x","id":null}"#, "event_id", "{body.id}"),
        (r#"{"type":"x","id":""}"#, "event_id", "{body.id}"),
        (r#"{"type":"x","id":{"a":1}}"#, "event_id", "{body.id}"),
        (r#"{"type":"x","id":"1","id":"2"}"#, "event_id", "{body.id}"),
        ("{\"type\":\"x\\u0000\",\"id\":\"1\"}", "topic", "control characters"),
        ("no JSON", "topic", "{body.type}"),
    ] {
        let (status, answer) = send(&webhooks, "", &json, body.as_bytes());
        assert_eq!(status, 422, "{body}");
        let fault = &answer["detail"][0];
        assert_eq!(fault["loc"], json!(["body", field]), "{body}");
        assert!(fault["msg"].as_str().unwrap().contains(said), "{body}: {fault}");
    }
    assert_eq!(webhooks.counted("open", "unmapped"), 8);
    assert_eq!(webhooks.service.stored(), 0);
    assert_eq!(webhooks.service.get("/stats")["rejected"], 8);
}

#[test]
fn a_quarantine_keeps_what_is_no_event_exactly_and_once() {
    let webhooks = open("topic = 't.{body.type}'\nevent_id = '{body.id}'\nquarantine = 'apart'");
    let json = [("Content-Type", "application/json")];
    let body = "{ \"type\":\"x\" }";
    for status in ["stored", "duplicate"] {
        let (code, answer) = send(&webhooks, "", &json, body.as_bytes());
        assert_eq!((code, &answer["results"][0]["status"]), (200, &json!(status)));
    }
    let event = webhooks.event("apart");
    let payload = json!({
        "content_type": "application/json",
        "reason": "there is no {body.id}, of which the event_id is made",
        "body": body,
    });
    assert_eq!((&event["payload"], &event["source"]), (&payload, &json!("open")));
    assert_eq!(event["event_id"].as_str().unwrap().len(), 64);
    assert_eq!(webhooks.counted("open", "quarantined"), 2);
    // What is nested deeper than an event may be is kept as well.
    let deep = format!("{{\"type\":\"x\",\"id\":\"1\",\"a\":{}{}}}", "[".repeat(80), "]".repeat(80));
    assert_eq!(send(&webhooks, "", &json, deep.as_bytes()).0, 200);
    assert_eq!(send(&webhooks, "", &json, br#"{"type":"x","id":"1"}"#).0, 200);
    assert_eq!(webhooks.event("t.x")["event_id"], "1");
}

#[test]
fn a_body_that_is_no_json_is_kept_exactly_in_an_envelope() {
    let webhooks = open("topic = '{source}.{query.kind}'\nevent_id = '{header.X-Id}'");
    for (kind, content_type, body, expected) in [
        (
            "form",
            "application/x-www-form-urlencoded",
            &b"a=1&b=%C3%A9+x"[..],
            json!({"body": "a=1&b=%C3%A9+x"}),
        ),
        ("xml", "text/xml; charset=utf-8", "<a>é</a>\r\n".as_bytes(), json!({"body": "<a>é</a>\r\n"})),
        ("bytes", "application/octet-stream", b"\xff\x00\x01", json!({"body_base64": "/wAB"})),
        ("text", "text/plain", b"12", json!({"body": "12"})),
        ("empty", "application/json", b"", json!({"body": ""})),
        ("broken", "application/json", b"{\"a\":", json!({"body": "{\"a\":"})),
    ] {
        let headers = [("Content-Type", content_type), ("X-Id", "1")];
        let (status, answer) = send(&webhooks, &format!("?kind={kind}"), &headers, body);
        assert_eq!(status, 200, "{answer}");
        let mut payload = expected;
        payload["content_type"] = content_type.into();
        assert_eq!(webhooks.event(&format!("open.{kind}"))["payload"], payload);
    }
}

#[test]
fn fields_of_a_form_make_topics_and_ids() {
    let webhooks =
        open("topic = 'sms.{body.MessageStatus}'\nevent_id = '{body.MessageSid}/{body.MessageStatus}'");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(send(&webhooks, "", &headers, b"MessageSid=SM1&MessageStatus=not+sent").0, 200);
    assert_eq!(webhooks.event("sms.not%20sent")["event_id"], "SM1/not sent");
}

#[test]
fn headers_are_kept_where_the_source_names_them_and_no_others() {
    let webhooks = open("topic = 't'\nevent_id = '{body.id}'\nheaders = ['X-Kind', 'X-Absent']");
    let headers = [("Content-Type", "application/json"), ("X-Kind", "a \"b\""), ("X-Other", "secret")];
    assert_eq!(send(&webhooks, "", &headers, br#"{"id":"1","n":1.0}"#).0, 200);
    let raw = Client::new(webhooks.service.addr).get("/events?topic=t").unwrap().body;
    let raw = String::from_utf8(raw).unwrap();
    let kept = r#""payload":{"content_type":"application/json","headers":{"x-kind":"a \"b\""},"body":{"id":"1","n":1.0}}"#;
    assert!(raw.contains(kept), "{raw}");
}

#[test]
fn the_bodys_digest_is_an_id_only_where_that_is_asked_for_and_its_owner_is_told() {
    let webhooks = open("topic = 't'\nevent_id = '{body_sha256}'");
    let headers = [("Content-Type", "text/plain")];
    for expected in ["stored", "duplicate"] {
        assert_eq!(send(&webhooks, "", &headers, b"ping").1["results"][0]["status"], expected);
    }
    let digest = "758fa7e5b29b8cdc4fc2a8ef2fc4bec7a3a10a1ba5d2b1b4d3c4c2a6b6e0a2a1".len();
    assert_eq!(webhooks.event("t")["event_id"].as_str().unwrap().len(), digest);
    let log = webhooks.service.server.log();
    assert!(log.contains("two true events with the same body are stored as one"), "{log}");
}

#[test]
fn a_list_is_an_event_for_each_of_its_elements() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let event = |id: &str| body("sendgrid", id).trim_matches(['[', ']']).to_owned();
    let first = signer.sign("sendgrid", SECRET, "", &format!("[{},{}]", event("1"), event("2")));
    let answer: serde_json::Value = serde_json::from_slice(&webhooks.send("sendgrid", &first).body).unwrap();
    assert_eq!((&answer["received"], &answer["unique_processed"]), (&json!(2), &json!(2)));
    // The sender gathers what it repeats into other lists.
    let second = signer.sign("sendgrid", SECRET, "", &format!("[ {} ,{}]", event("2"), event("3")));
    let answer: serde_json::Value = serde_json::from_slice(&webhooks.send("sendgrid", &second).body).unwrap();
    assert_eq!(
        (&answer["unique_processed"], &answer["duplicate_dropped"], &answer["conflicts"]),
        (&json!(1), &json!(1), &json!(0))
    );
    for wrong in ["{}", "[]", "[1", r#"[{"event":"open"}]"#] {
        assert_eq!(
            webhooks.send("sendgrid", &signer.sign("sendgrid", SECRET, "", wrong)).status,
            422,
            "{wrong}"
        );
    }
}

#[test]
fn twilio_signs_json_by_its_digest_in_the_query() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let signed = signer.sign("twilio", SECRET, "1", r#"{"id":"1"}"#);
    assert!(signed.query.starts_with("bodySHA256="));
    assert_eq!(webhooks.send("twilio", &signed).status, 200);
    let mut changed = signed.clone();
    changed.body[7] = b'2';
    assert_eq!(webhooks.send("twilio", &changed).status, 401);
    // What is called a form is compared as well: without fields, nothing of it would be signed.
    let mut emptied = signed;
    emptied.body.clear();
    *emptied.header("Content-Type") = "application/x-www-form-urlencoded".to_owned();
    assert_eq!(webhooks.send("twilio", &emptied).status, 401);
    // Without the digest nothing would bind the body.
    let mut stripped = signer.sign("twilio", SECRET, "1", "");
    stripped.body = b"{\"id\":\"2\"}".to_vec();
    *stripped.header("Content-Type") = "application/json".to_owned();
    assert_eq!(webhooks.send("twilio", &stripped).status, 401);
}

#[test]
fn a_form_of_twilio_is_not_made_longer_by_what_its_signature_leaves_out() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let signed = signer.sign("twilio", SECRET, "1", &body("twilio", "1"));
    assert_eq!(webhooks.send("twilio", &signed).status, 200);
    for more in ["&From=evil%FF", "&MessageSid%FF=2", "&%80", "&Body=%C3%28"] {
        let mut longer = signed.clone();
        longer.body.extend_from_slice(more.as_bytes());
        assert_eq!(webhooks.send("twilio", &longer).status, 401, "{more}");
    }
    assert_eq!((webhooks.counted("twilio", "malformed"), webhooks.service.stored()), (4, 1));
}

#[test]
fn a_conflict_is_answered_200_and_the_first_body_stays() {
    let webhooks = open("topic = 't'\nevent_id = '{body.id}'");
    let headers = [("Content-Type", "application/json")];
    assert_eq!(send(&webhooks, "", &headers, br#"{"id":"1","n":1}"#).0, 200);
    let (status, answer) = send(&webhooks, "", &headers, br#"{"id":"1","n":2}"#);
    assert_eq!((status, &answer["results"][0]["status"]), (200, &json!("conflict")));
    assert_eq!(webhooks.event("t")["payload"]["n"], 1);
    assert_eq!(webhooks.counted("open", "conflict"), 1);
}

#[test]
fn gitlabs_events_of_members_and_groups_have_topics_too() {
    let config = "[sources.gitlab]\npreset = 'gitlab'\nsecret_files = ['DIR/key']\n\
                  [sources.own]\npreset = 'gitlab'\nsecret_files = ['DIR/key']\ntopic = 'own.{body.object_kind}'";
    let webhooks = Webhooks::new(config, &[("key", SECRET)]);
    let sent = |name: &str, id: &str, body: &str| {
        let headers = [("X-Gitlab-Token", SECRET), ("Idempotency-Key", id)];
        let mut client = Client::new(webhooks.service.addr);
        client.post_with(&format!("/in/{name}"), &headers, body.as_bytes()).unwrap().status
    };
    let member = r#"{"event_name":"user_add_to_group","group_id":100,"user_id":64}"#;
    assert_eq!(sent("gitlab", "1", member), 200);
    assert_eq!(webhooks.event("gitlab.user_add_to_group")["event_id"], "1");
    // Where both are there, the topic is what it was.
    assert_eq!(sent("gitlab", "2", r#"{"object_kind":"tag_push","event_name":"push"}"#), 200);
    assert_eq!(webhooks.event("gitlab.tag_push")["event_id"], "2");
    assert_eq!(sent("own", "3", member), 422, "a topic of one's own is the only one");
    assert_eq!(sent("gitlab", "4", "{}"), 422);
}

#[test]
fn slacks_notice_of_a_limit_is_an_event() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let notice = |team: &str| {
        format!(
            r#"{{"token":"t","type":"app_rate_limited","team_id":"{team}","minute_rate_limited":1518467820,"api_app_id":"A1"}}"#
        )
    };
    for (team, expected) in [("T1", "stored"), ("T2", "stored"), ("T1", "duplicate")] {
        let signed = signer.sign("slack", SECRET, "", &notice(team));
        assert_eq!(webhooks.outcome("slack", &signed), (200, expected.to_owned()), "{team}");
    }
    let page = webhooks.service.get("/events?topic=slack.app_rate_limited");
    assert_eq!(page["events"][0]["event_id"], "T1-1518467820");
    let signed = signer.sign("slack", SECRET, "", r#"{"type":"event_callback","event_id":"1"}"#);
    assert_eq!(webhooks.send("slack", &signed).status, 422);
}

#[test]
fn a_mailgun_subaccounts_delivery_is_genuine_by_the_key_of_the_account_above() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let mut signed = signer.sign("mailgun", SECRET, "1", &body("mailgun", "1"));
    let mut json: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
    let own = json["signature"]["signature"].take();
    json["signature"]["signature"] = "0".repeat(64).into();
    signed.body = json.to_string().into_bytes();
    assert_eq!(webhooks.send("mailgun", &signed).status, 401);
    json["signature"]["parent-signature"] = own;
    signed.body = json.to_string().into_bytes();
    assert_eq!(webhooks.outcome("mailgun", &signed), (200, "stored".to_owned()));
    json["signature"]["token"] = "another".into();
    signed.body = json.to_string().into_bytes();
    assert_eq!(webhooks.send("mailgun", &signed).status, 401);
}

#[test]
fn a_secrets_file_may_begin_with_a_byte_order_mark() {
    let config =
        "[sources.open]\npreset = 'bearer'\nsecret_files = ['DIR/key']\ntopic = 't'\nevent_id = '{body.id}'";
    let webhooks = Webhooks::new(config, &[("key", &format!("\u{feff}{SECRET}\r\n"))]);
    assert_eq!(send(&webhooks, "", &[], br#"{"id":"1"}"#).0, 200);
}

#[test]
fn a_body_after_a_byte_order_mark_is_json_and_one_that_is_none_is_told() {
    let webhooks = open("topic = 't'\nevent_id = '{body.id}'\n");
    let (status, _) = send(&webhooks, "", &[], "\u{feff}{\"id\":\"1\"}".as_bytes());
    assert_eq!(status, 200);
    assert_eq!(webhooks.service.get("/events/t/1")["payload"]["id"], "1");
    let (status, answer) = send(&webhooks, "", &[], b"{\"id\":\"2\"");
    assert_eq!(status, 422);
    let why = answer.to_string();
    assert!(why.contains("neither JSON nor a form") && why.contains("{body.id}"), "{why}");
}
