//! What senders sign is stored once, from every sender.

use std::collections::BTreeSet;

use sekali::webhook::PRESETS;

use super::signer::{Signed, verify};
use super::{SECRET, SOURCES, Signer, Webhooks, body};

#[test]
fn every_preset_is_tried() {
    let tried: BTreeSet<_> = SOURCES.iter().map(|(_, sender, _)| *sender).collect();
    assert!(PRESETS.iter().all(|preset| tried.contains(preset.name)));
}

#[test]
fn senders_that_only_verify_find_genuine_what_is_signed_here() {
    let Some(mut signer) = Signer::start() else { return };
    let signed: Vec<_> = ["github", "linear", "shopify"]
        .into_iter()
        .flat_map(|sender| {
            let genuine = signer.sign(sender, SECRET, "id-1", &body(sender, "id-1"));
            let mut changed = genuine.clone();
            changed.body.push(b' ');
            [(sender, genuine), (sender, changed)]
        })
        .collect();
    let deliveries: Vec<_> = signed.iter().map(|(sender, signed)| (*sender, signed)).collect();
    let Some(found) = verify(&deliveries) else { return };
    assert_eq!(found, [true, false].repeat(3));
}

#[test]
fn a_genuine_delivery_of_every_sender_is_stored_once_and_its_repeat_is_a_duplicate() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    for (name, sender, _) in SOURCES {
        let signed = signer.sign(sender, SECRET, "id-1", &body(sender, "id-1"));
        let answered = |expected: &str| {
            // What Twilio is answered says nothing of the event.
            (200, if name == "twilio" { String::new() } else { expected.to_owned() })
        };
        assert_eq!(
            webhooks.outcome(name, &signed),
            answered("stored"),
            "{name}: {}",
            webhooks.service.server.log()
        );
        assert_eq!(webhooks.outcome(name, &signed), answered("duplicate"), "{name}");
        // The sender signs again what it sends again, and an id of its own may stand in the body.
        let again = signer.sign_at(sender, SECRET, "id-1", &body(sender, "id-1"), super::unix_now() - 2);
        let expected = if ["mailgun", "linear"].contains(&name) { "conflict" } else { "duplicate" };
        assert_eq!(webhooks.outcome(name, &again), answered(expected), "{name}");
        assert_eq!(webhooks.counted(name, "stored"), 1, "{name}");
        assert_eq!(webhooks.counted(name, "duplicate") + webhooks.counted(name, "conflict"), 2, "{name}");
    }
    assert_eq!(webhooks.service.stored(), SOURCES.len() as u64);
}

#[test]
fn events_have_the_topics_ids_and_times_of_their_senders() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    for (name, sender, _) in SOURCES {
        let signed = signer.sign(sender, SECRET, "id-1", &body(sender, "id-1"));
        assert_eq!(webhooks.send(name, &signed).status, 200, "{name}");
    }
    let unix = "2026-11-22T10:00:00.000000Z";
    for (name, topic, id, time) in [
        ("standard", "standard.paid", "id-1", Some("2026-11-22T10:00:00Z")),
        ("asymmetric", "asymmetric.paid", "id-1", Some("2026-11-22T10:00:00Z")),
        ("svix", "svix.paid", "id-1", Some("2026-11-22T10:00:00Z")),
        ("stripe", "stripe.invoice.paid", "id-1", Some(unix)),
        ("github", "github.push", "id-1", None),
        ("gitlab", "gitlab.push", "id-1", None),
        ("shopify", "shopify.orders/create", "id-1", Some("2026-11-22T10:00:00.123456789Z")),
        ("slack", "slack.app_mention", "id-1", Some(unix)),
        ("paddle", "paddle.transaction.completed", "id-1", Some("2026-11-22T10:00:00.123456Z")),
        ("sendgrid", "sendgrid.delivered", "id-1", Some(unix)),
        ("twilio", "twilio", "id-1", None),
        ("mailgun", "mailgun.opened", "id-1", Some("2026-11-22T10:00:00.937000Z")),
        ("linear", "linear.Issue", "id-1", Some("2026-11-22T10:00:00.000Z")),
        ("meta", "meta.page", "id-1-1795341600", None),
        ("bearer", "bearer", "id-1", None),
        ("basic", "basic", "id-1", None),
        ("generic", "generic.paid", "id-1", Some(unix)),
    ] {
        let event = webhooks.event(topic);
        assert_eq!((&event["event_id"], &event["source"]), (&id.into(), &name.into()), "{name}");
        match time {
            Some(time) => assert_eq!(event["timestamp"], time, "{name}"),
            None => assert!(event["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{name}"),
        }
    }
}

#[test]
fn twilio_is_answered_in_xml_and_others_in_json() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let ask = |name: &str, signed: &Signed| {
        let mut request = ureq::http::Request::post(format!("{}/in/{name}", webhooks.service.url()));
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let answer = ureq::Agent::from(config).run(request.body(&signed.body[..]).unwrap());
        let mut answer = answer.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), kind, answer.body_mut().read_to_string().unwrap())
    };
    let empty = r#"<?xml version="1.0" encoding="UTF-8"?><Response/>"#;
    let signed = signer.sign("twilio", SECRET, "id-1", &body("twilio", "id-1"));
    // A message that comes again is answered in the same way.
    for _ in 0..2 {
        assert_eq!(ask("twilio", &signed), (200, "text/xml".to_owned(), empty.to_owned()));
    }
    let signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    let (status, kind, told) = ask("stripe", &signed);
    assert_eq!((status, kind.as_str(), told.contains("\"stored\"")), (200, "application/json", true));
}

#[test]
fn a_json_body_is_the_payload_byte_for_byte() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let text =
        "{ \"id\":\"1\",\t\"type\":\"x\", \"n\":12345678901234567890.50, \"e\":1E2, \"u\":\"\\u00e9\" }";
    assert_eq!(webhooks.send("stripe", &signer.sign("stripe", SECRET, "1", text)).status, 200);
    let raw = super::Client::new(webhooks.service.addr).get("/events?topic=stripe.x").unwrap().body;
    assert!(String::from_utf8(raw).unwrap().contains(text));
}

#[test]
fn while_secrets_rotate_both_are_good() {
    let Some(mut signer) = Signer::start() else { return };
    let (mut config, mut secrets) = (String::new(), Vec::new());
    for (name, sender, lines) in SOURCES {
        config += &format!("[sources.{name}]\n{lines}\nsecret_files = ['DIR/{name}.1', 'DIR/{name}.2']\n");
        for (number, secret) in [("1", SECRET), ("2", "another-secret-of-the-test")] {
            secrets.push((format!("{name}.{number}"), signer.key(sender, secret)));
        }
    }
    let secrets: Vec<_> = secrets.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let webhooks = Webhooks::new(&config, &secrets);
    for (name, sender, _) in SOURCES {
        for (id, secret) in [("1", SECRET), ("2", "another-secret-of-the-test")] {
            let signed = signer.sign(sender, secret, id, &body(sender, id));
            assert_eq!(webhooks.send(name, &signed).status, 200, "{name} {id}");
        }
        assert_eq!(webhooks.counted(name, "stored"), 2, "{name}");
        let signed: Signed = signer.sign(sender, "a-secret-that-is-not-configured", "3", &body(sender, "3"));
        assert_eq!(webhooks.send(name, &signed).status, 401, "{name}");
    }
}

#[test]
fn both_kinds_of_signatures_of_standard_webhooks_are_good_for_one_source() {
    let Some(mut signer) = Signer::start() else { return };
    let (symmetric, public) = (
        signer.key("standard-webhooks", SECRET),
        signer.key("standard-webhooks-v1a", "another-secret-of-the-test"),
    );
    let config = "[sources.both]\npreset = 'standard-webhooks'\nsecret_files = ['DIR/a', 'DIR/b']";
    let webhooks = Webhooks::new(config, &[("a", &symmetric), ("b", &public)]);
    for (id, sender, secret) in
        [("1", "standard-webhooks", SECRET), ("2", "standard-webhooks-v1a", "another-secret-of-the-test")]
    {
        let signed = signer.sign(sender, secret, id, &body(sender, id));
        assert_eq!(webhooks.outcome("both", &signed), (200, "stored".to_owned()), "{sender}");
    }
}
