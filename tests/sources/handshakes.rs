//! What senders ask before their first delivery.

use super::{SECRET, Signer, Webhooks};
use crate::support::client::Client;

#[test]
fn slack_is_answered_its_challenge_if_it_signs_it() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let asked = r#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let signed = signer.sign("slack", SECRET, "", asked);
    let answer = webhooks.send("slack", &signed);
    assert_eq!(
        (answer.status, answer.body),
        (200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P".to_vec())
    );
    let mut changed = signed;
    changed.body[12] ^= 1;
    let answer = webhooks.send("slack", &changed);
    assert_eq!(answer.status, 401);
    assert!(!String::from_utf8_lossy(&answer.body).contains("3eZbrw"));
    assert_eq!((webhooks.counted("slack", "challenge"), webhooks.service.stored()), (1, 0));
}

#[test]
fn meta_is_answered_its_challenge_if_it_knows_the_token() {
    let config = "[sources.meta]\npreset = 'meta'\nevent_id = '{body.entry.0.id}'\nsecret_files = ['DIR/key']\n\
                  verify_token_file = 'DIR/verify'\n[sources.other]\npreset = 'stripe'\nsecret_files = ['DIR/key']";
    let webhooks = Webhooks::new(config, &[("key", SECRET), ("verify", "a-token-of-the-operator\n")]);
    let ask = |path: &str| {
        let answer = Client::new(webhooks.service.addr).get(path).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let good =
        "/in/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=a-token-of-the-operator";
    assert_eq!(ask(good), (200, "1158201444".to_owned()));
    for wrong in [
        good.replace("operator", "operatoR"),
        good.replace("subscribe", "unsubscribe"),
        good.replace("hub.verify_token", "verify_token"),
        "/in/meta".to_owned(),
    ] {
        let (status, said) = ask(&wrong);
        assert_eq!(status, 401, "{wrong}");
        assert!(!said.contains("1158201444"), "{said}");
    }
    assert_eq!(ask(&good.replace("meta", "other")).0, 405);
    assert_eq!(ask(&good.replace("meta", "nobody")).0, 404);
    assert_eq!((webhooks.counted("meta", "challenge"), webhooks.counted("meta", "wrong")), (1, 4));
}

#[test]
fn a_sender_of_cloud_events_is_told_that_it_may_send() {
    let config = "[sources.events]\npreset = 'bearer'\nsecret_files = ['DIR/key']\ntopic = '{header.ce-type}'\nevent_id = '{header.ce-id}'";
    let webhooks = Webhooks::new(config, &[("key", SECRET)]);
    let ask = |name: &str| {
        let request = ureq::http::Request::builder()
            .method("OPTIONS")
            .uri(format!("{}/in/{name}", webhooks.service.url()))
            .header("WebHook-Request-Origin", "eventemitter.example.com")
            .header("WebHook-Request-Rate", "120")
            .body(())
            .unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.run(request).unwrap()
    };
    let answer = ask("events");
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(header("webhook-allowed-origin"), "eventemitter.example.com");
    assert_eq!((header("webhook-allowed-rate"), header("allow")), ("*", "POST, OPTIONS"));
    assert_eq!(ask("nobody").status(), 404);
    let token = format!("Bearer {SECRET}");
    let headers = [
        ("ce-type", "order.paid"),
        ("ce-id", "1"),
        ("Content-Type", "application/json"),
        ("Authorization", token.as_str()),
    ];
    assert_eq!(
        Client::new(webhooks.service.addr).post_with("/in/events", &headers, b"{}").unwrap().status,
        200
    );
    assert_eq!(webhooks.event("order.paid")["event_id"], "1");
}
