//! What is not genuine is refused: nothing of it is stored, told or logged.

use super::{SECRET, SOURCES, Signer, Webhooks, body, signer::Signed, unix_now};
use crate::support::client::Client;
use crate::support::door;

/// Senders whose bodies are not signed: the first three send the secret itself, and Mailgun signs a
/// token alone.
const BODY_UNSIGNED: [&str; 4] = ["gitlab", "bearer", "basic", "mailgun"];
/// Sources whose senders say when they sign, and how old that may be.
const TIMED: [&str; 9] =
    ["standard", "asymmetric", "svix", "stripe", "slack", "paddle", "mailgun", "linear", "generic"];

/// The header with the signature or the secret.
fn signature(signed: &mut Signed) -> Option<&mut String> {
    let is_signature = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["signature", "hmac", "token", "authorization"].iter().any(|part| name.contains(part))
            && !name.contains("idempotency")
            && !name.ends_with("timestamp")
    };
    signed.headers.iter_mut().find(|(name, _)| is_signature(name)).map(|(_, value)| value)
}

#[test]
fn one_byte_changed_is_refused() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let mut refused = 0;
    for (name, sender, _) in SOURCES {
        let signed = signer.sign(sender, SECRET, "id-1", &body(sender, "id-1"));
        if !BODY_UNSIGNED.contains(&sender) {
            let mut changed = signed.clone();
            let at = changed.body.len() / 2;
            changed.body[at] ^= 1;
            let answer = webhooks.send(name, &changed);
            assert_eq!(answer.status, 401, "{name}: body");
            assert!(!String::from_utf8_lossy(&answer.body).contains("id-1"), "{name}: nothing is echoed");
            refused += 1;
        }
        let mut changed = signed.clone();
        if let Some(value) = signature(&mut changed) {
            let at = value.trim_end_matches('=').len() - 3;
            let other = if value.as_bytes()[at] == b'a' { "b" } else { "a" };
            value.replace_range(at..=at, other);
            assert_eq!(webhooks.send(name, &changed).status, 401, "{name}: signature");
            refused += 1;
        }
        assert!(webhooks.counted(name, "wrong") >= u64::from(sender != "mailgun"), "{name}");
    }
    assert!(refused > 25, "{refused}");
    assert_eq!(webhooks.service.stored(), 0);
}

#[test]
fn an_old_or_future_delivery_is_refused() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    for (name, sender, _) in SOURCES.into_iter().filter(|(name, ..)| TIMED.contains(name)) {
        for off in [-100_000, 100_000] {
            let signed = signer.sign_at(sender, SECRET, "id-1", &body(sender, "id-1"), unix_now() + off);
            assert_eq!(webhooks.send(name, &signed).status, 401, "{name} {off}");
        }
        assert_eq!(webhooks.counted(name, "stale"), 2, "{name}");
    }
    assert_eq!(webhooks.service.stored(), 0);
}

#[test]
fn a_delivery_without_its_signature_is_refused_before_its_body_is_read() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    for (name, sender, _) in SOURCES.into_iter().filter(|(_, sender, _)| *sender != "mailgun") {
        let mut signed = signer.sign(sender, SECRET, "id-1", &body(sender, "id-1"));
        signature(&mut signed).unwrap().clear();
        assert_eq!(webhooks.send(name, &signed).status, 401, "{name}: empty");
        signed.headers.retain(|(header, _)| header == "Content-Type");
        assert_eq!(webhooks.send(name, &signed).status, 401, "{name}: none");
        assert_eq!(webhooks.counted(name, "missing") + webhooks.counted(name, "malformed"), 2, "{name}");
    }
    assert_eq!(webhooks.service.stored(), 0);
}

#[test]
fn a_source_that_there_is_not_is_404_whatever_comes() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    for name in ["nobody", "STRIPE", "stripe%00", "", "%FF", "stripe/more"] {
        let answer = webhooks.send(name, &signed);
        assert_eq!(answer.status, 404, "{name}");
    }
    assert_eq!(webhooks.counted("", "unknown"), 4, "those that are a path of a source");
    assert_eq!(webhooks.service.stored(), 0);
}

#[test]
fn another_sources_signature_is_of_no_use() {
    let Some(mut signer) = Signer::start() else { return };
    let config = "[sources.one]\npreset = 'stripe'\nsecret_files = ['DIR/1']\n\
                  [sources.two]\npreset = 'stripe'\nsecret_files = ['DIR/2']";
    let webhooks = Webhooks::new(config, &[("1", SECRET), ("2", "another-secret-of-the-test")]);
    let signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    assert_eq!(webhooks.send("two", &signed).status, 401);
    assert_eq!(webhooks.send("one", &signed).status, 200);
}

#[test]
fn a_header_that_is_there_twice_is_no_signature() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let mut signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    let value = signed.header("Stripe-Signature").clone();
    signed.headers.push(("Stripe-Signature".to_owned(), value));
    assert_eq!(webhooks.send("stripe", &signed).status, 401);
}

#[test]
fn a_body_that_is_too_large_or_compressed_is_refused() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let large = format!(r#"{{"id":"1","type":"x","more":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(webhooks.send("stripe", &signer.sign("stripe", SECRET, "1", &large)).status, 413);
    let fits = format!(r#"{{"id":"1","type":"x","more":"{}"}}"#, "x".repeat((1 << 20) - 100));
    assert_eq!(webhooks.send("stripe", &signer.sign("stripe", SECRET, "1", &fits)).status, 200);
    let mut packed = signer.sign("stripe", SECRET, "2", &body("stripe", "2"));
    packed.headers.push(("Content-Encoding".to_owned(), "gzip".to_owned()));
    assert_eq!(webhooks.send("stripe", &packed).status, 415);
}

#[test]
fn a_delivery_by_a_foreign_host_or_page_is_refused_as_everywhere() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::new(
        "allowed_host = ['hooks.example.org']\n[sources.stripe]\npreset = 'stripe'\nsecret_files = ['DIR/key']",
        &[("key", SECRET)],
    );
    let signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    let signature = &signed.clone().header("Stripe-Signature").clone();
    let length = signed.body.len();
    let asked = |host: &str, more: &str| {
        let head = format!(
            "POST /in/stripe HTTP/1.1\r\nHost: {host}\r\nStripe-Signature: {signature}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
        );
        raw(webhooks.service.addr, &[head.as_bytes(), &signed.body].concat())
    };
    assert!(asked("elsewhere.example.org", "").starts_with("HTTP/1.1 421"));
    assert!(asked("hooks.example.org", "Origin: https://page.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(asked("hooks.example.org", "").starts_with("HTTP/1.1 200"));
}

fn raw(addr: std::net::SocketAddr, request: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_a_client_may_take_is_bounded_for_senders_too() {
    let Some(mut signer) = Signer::start() else { return };
    let stripe = "[sources.stripe]\npreset = 'stripe'\nsecret_files = ['DIR/key']";
    let webhooks = Webhooks::new(&format!("peer_requests_per_second = 1\n{stripe}"), &[("key", SECRET)]);
    let signed = signer.sign("stripe", SECRET, "1", &body("stripe", "1"));
    let refused =
        crate::support::until(30, || (webhooks.send("stripe", &signed).status == 429).then_some(()));
    assert!(refused.is_some(), "requests a second");
    let webhooks = Webhooks::new(&format!("topics_max = 20\n{stripe}"), &[("key", SECRET)]);
    let statuses = (0..21).map(|number| {
        let text = format!(r#"{{"id":"1","type":"{number}"}}"#);
        webhooks.send("stripe", &signer.sign("stripe", SECRET, "1", &text)).status
    });
    let statuses: Vec<_> = statuses.collect();
    assert!(statuses[..18].iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(statuses[20], 429, "new topics an hour: {statuses:?}");
}

#[test]
fn no_secret_signature_or_body_is_in_the_log_the_figures_or_the_list() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::all(&mut signer);
    let planted = "planted-4711";
    for (name, sender, _) in SOURCES {
        let mut signed = signer.sign(sender, SECRET, planted, &body(sender, planted));
        assert_eq!(webhooks.send(name, &signed).status, 200, "{name}");
        if let Some(value) = signature(&mut signed) {
            value.push_str(planted);
            let answer = webhooks.send(name, &signed);
            assert_eq!(answer.status, 401, "{name}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(planted), "{name}");
        }
    }
    let told = |path: &str| {
        let body = Client::new(webhooks.service.addr).get(path).unwrap().body;
        String::from_utf8_lossy(&body).into_owned()
    };
    for (place, text) in [
        ("the log", webhooks.service.server.log()),
        ("the figures", told("/metrics")),
        ("the list", told("/sources")),
    ] {
        assert!(!text.contains(planted) && !text.contains(SECRET), "{place}: {text}");
    }
}

#[test]
fn the_same_is_true_where_tokens_are_asked_for() {
    let Some(mut signer) = Signer::start() else { return };
    let config =
        "tokens_file = 'DIR/tokens.toml'\n[sources.stripe]\npreset = 'stripe'\nsecret_files = ['DIR/key']";
    let webhooks = Webhooks::new(config, &[("key", SECRET), ("tokens.toml", "")]);
    let signed = signer.sign("stripe", SECRET, "id-1", &body("stripe", "id-1"));
    assert_eq!(webhooks.outcome("stripe", &signed), (200, "stored".to_owned()));
    let mut changed = signed;
    changed.body[9] ^= 1;
    assert_eq!(webhooks.send("stripe", &changed).status, 401);
    // Behind a locked door, the client shows one.
    if door::token().is_none() {
        assert_eq!(
            Client::new(webhooks.service.addr).get("/stats").unwrap().status,
            401,
            "others need a token"
        );
    }
}
