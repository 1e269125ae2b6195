//! Vectors that senders publish, and any bytes that somebody sends.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

/// A source with one secret.
fn source(lines: &str, secret: &str) -> Source {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    load(lines, &file).unwrap()
}

fn load(lines: &str, file: &Path) -> Result<Source, SettingsError> {
    let text = format!("[s]\nsecret_files = [{:?}]\n{lines}", file.display().to_string());
    let settings: BTreeMap<String, Settings> = toml::from_str(&text).unwrap();
    Sources::check(&settings)?;
    Ok(Sources::load(&settings)?.remove(0))
}

/// What a delivery that arrives then is taken for.
fn checked(
    source: &Source,
    headers: &[(&str, &str)],
    query: &str,
    body: &str,
    at: i64,
) -> Result<(), Refused> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    source.check(Delivery { headers: &headers, query, body: &body }, Timestamp(at * 1_000_000))
}

#[test]
fn githubs_documented_sample_is_genuine() {
    let source = source("preset = 'github'", "It's a Secret to Everybody");
    let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let check = |value: &str, body: &str| checked(&source, &[("x-hub-signature-256", value)], "", body, 0);
    assert_eq!(check(good, "Hello, World!"), Ok(()));
    assert_eq!(check(good, "Hello, World?"), Err(Refused::Wrong));
    assert_eq!(check(&good.replace("sha256", "sha1"), "Hello, World!"), Err(Refused::Malformed));
    assert_eq!(check("", "Hello, World!"), Err(Refused::Missing));
}

#[test]
fn the_vector_of_standard_webhooks_libraries_is_genuine_for_five_minutes() {
    let source = source("preset = 'standard-webhooks'", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let check = |at| checked(&source, &headers, "", r#"{"test": 2432232314}"#, at);
    assert_eq!([check(1_614_265_030), check(1_614_265_330), check(1_614_265_630)], [Ok(()); 3]);
    assert_eq!([check(1_614_265_029), check(1_614_265_631)], [Err(Refused::Stale); 2]);
    for missing in 0..3 {
        let mut headers = headers.to_vec();
        headers.remove(missing);
        assert!(checked(&source, &headers, "", r#"{"test": 2432232314}"#, 1_614_265_330).is_err());
    }
}

#[test]
fn slacks_documented_sample_is_genuine() {
    let source =
        source("preset = 'slack'\nevent_id = '{body.trigger_id}'", "8f742231b10e8888abcd99yyyzzz85a5");
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ];
    assert_eq!(checked(&source, &headers, "", body, 1_531_420_618), Ok(()));
    assert_eq!(checked(&source, &headers, "", &body.replace('6', "7"), 1_531_420_618), Err(Refused::Wrong));
}

#[test]
fn sendgrids_sample_is_genuine() {
    let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    let body = "[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n";
    let headers = [
        (
            "x-twilio-email-event-webhook-signature",
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
        ),
        ("x-twilio-email-event-webhook-timestamp", "1600112502"),
    ];
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &key[..64], &key[64..]);
    for key in [key, &pem] {
        let source = source("preset = 'sendgrid'", key);
        assert_eq!(checked(&source, &headers, "", body, 0), Ok(()));
        assert_eq!(checked(&source, &headers, "", &body.replace("world", "w0rld"), 0), Err(Refused::Wrong));
    }
}

#[test]
fn a_form_that_is_signed_by_its_pairs_has_none_that_is_no_text() {
    let headers = [
        ("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body =
        "To=%2B18005551212&From=%2B14158675309&Digits=1234&CallSid=CA1234567890ABCDE&Caller=%2B14158675309";
    let source = source("preset = 'twilio'\nurl = 'https://mycompany.com/myapp.php'", "12345");
    let check = |more: &str| checked(&source, &headers, "foo=1&bar=2", &format!("{body}{more}"), 0);
    assert_eq!(check(""), Ok(()));
    for more in ["&From=evil%FF", "&%FF=1", "&%FF", "&a=%C3%28", "&From=%ED%A0%80", "&=%80"] {
        assert_eq!(check(more), Err(Refused::Malformed), "{more}");
    }
    assert_eq!(check("&From=evil"), Err(Refused::Wrong));
}

#[test]
fn a_secret_that_everybody_may_read_is_warned_of_and_a_public_key_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (secret, public) = (dir.path().join("secret"), dir.path().join("public"));
    std::fs::write(&secret, "a-secret-of-the-test-0123456789").unwrap();
    let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    std::fs::write(&public, key).unwrap();
    for (lines, file, mode, warned) in [
        ("preset = 'github'", &secret, 0o644, true),
        ("preset = 'github'", &secret, 0o640, false),
        ("preset = 'sendgrid'", &public, 0o644, false),
    ] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        let source = load(lines, file).unwrap();
        let warnings = source.warnings().iter().filter(|warning| warning.contains("may read the secret"));
        assert_eq!(warnings.count() > 0, warned, "{lines} {mode:o}");
    }
}

#[test]
fn twilios_documented_sample_is_genuine_at_its_url_alone() {
    let headers = [
        ("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body =
        "To=%2B18005551212&From=%2B14158675309&Digits=1234&CallSid=CA1234567890ABCDE&Caller=%2B14158675309";
    for (url, expected) in [
        ("https://mycompany.com/myapp.php", Ok(())),
        ("https://mycompany.com/other.php", Err(Refused::Wrong)),
    ] {
        let source = source(&format!("preset = 'twilio'\nurl = '{url}'"), "12345");
        assert_eq!(checked(&source, &headers, "foo=1&bar=2", body, 0), expected, "{url}");
        assert!(checked(&source, &headers, "foo=1&bar=3", body, 0).is_err());
    }
}

#[test]
fn stripes_scheme_takes_any_of_several_signatures_and_one_time() {
    let source = source("preset = 'stripe'", "whsec_test_secret_0123456789");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"whsec_test_secret_0123456789");
    let tag = ring::hmac::sign(&key, b"1700000000.{}");
    let good: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let check = |header: &str| checked(&source, &[("stripe-signature", header)], "", "{}", 1_700_000_000);
    for header in [
        format!("t=1700000000,v1={good}"),
        format!("t=1700000000,v1={},v1={good},v0=00", "0".repeat(64)),
        format!("v1={good}, t=1700000000"),
    ] {
        assert_eq!(check(&header), Ok(()), "{header}");
    }
    for (header, expected) in [
        (format!("t=1700000001,v1={good}"), Refused::Wrong),
        (format!("t=1700000000,v1={}", &good[2..]), Refused::Wrong),
        (format!("t=1700000000,v0={good}"), Refused::Malformed),
        (format!("v1={good}"), Refused::Malformed),
        (format!("t=1700000000,t=1700000000,v1={good}"), Refused::Malformed),
        (format!("t=now,v1={good}"), Refused::Malformed),
        (format!("t=1700000000{}", ",v1=00".repeat(50)), Refused::Malformed),
        (String::new(), Refused::Missing),
    ] {
        assert_eq!(check(&header), Err(expected), "{header}");
    }
}

#[test]
fn public_keys_are_taken_in_every_form_and_no_other_text_is() {
    let hex = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let lines =
        "scheme = 'ed25519'\nheader = 'x-signature'\nencoding = 'hex'\ntopic = 't'\nevent_id = '{body.id}'";
    // RFC 8032, section 7.1, test 1: the empty message.
    let good = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    for key in [
        hex,
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----",
    ] {
        let source = source(lines, key);
        assert_eq!(checked(&source, &[("x-signature", good)], "", "", 0), Ok(()), "{key}");
        assert_eq!(checked(&source, &[("x-signature", good)], "", "x", 0), Err(Refused::Wrong));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    for (key, said) in [(&hex[2..], "Ed25519"), ("", "is empty"), ("no key", "Ed25519")] {
        std::fs::write(&file, key).unwrap();
        let fault = load(lines, &file).unwrap_err().to_string();
        assert!(fault.starts_with("[sources.s]: ") && fault.contains(said), "{fault}");
        assert!(key.is_empty() || !fault.contains(key), "nothing of a secret is told");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_without_the_secret_is_genuine_or_panics(
        row in 0..PRESETS.len(),
        values in prop::collection::vec("\\PC{0,40}|t=[0-9]{1,12},v1=[0-9a-f]{0,64}|v1,[A-Za-z0-9+/]{43}=", 4),
        query in "\\PC{0,20}|hub.challenge=1&hub.mode=subscribe",
        body: Vec<u8>,
    ) {
        let preset = &PRESETS[row];
        let mut lines = format!("preset = '{}'\ntopic = 't'\nevent_id = '{{body.id}}'\n", preset.name);
        if preset.signed.contains("{url}") {
            lines += "url = 'https://a.example'\n";
        }
        let secret = match preset.name {
            "sendgrid" => "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
            _ => "c2VjcmV0LW9mLXRoZS10ZXN0",
        };
        let source = source(&lines, secret);
        let names: Vec<String> = [Some(preset.signature), preset.signed_at, preset.event_id, Some("{header.content-type}")]
            .into_iter()
            .flatten()
            .filter_map(|template| Some(template.strip_prefix("{header.")?.trim_end_matches('}').to_lowercase()))
            .collect();
        let headers: Vec<_> = names.iter().map(String::as_str).zip(values.iter().map(String::as_bytes)).collect();
        let body = Bytes::from(body);
        let delivery = Delivery { headers: &headers, query: &query, body: &body };
        prop_assert!(source.check(delivery, Timestamp(0)).is_err());
        let _ = source.take(delivery, Timestamp(0));
        let _ = source.explain(delivery, Timestamp(0));
        prop_assert_eq!(source.answer_hub(delivery), None);
    }
}
