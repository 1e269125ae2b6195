//! Webhooks from outside: deliveries that each sender's own library has signed go through the
//! service as they come from the sender, and as nobody must send them.
//!
//! The libraries are installed by `make tools` into `target/tools`; without them those tests are
//! listed as not run, and with `SEKALI_TEST_ALL` that is a failure.

mod command;
mod genuine;
mod handshakes;
mod listing;
mod mapping;
mod page;
mod quarantine;
mod refused;
mod reload;
mod signer;

use std::fmt::Write;

use crate::support::client::{Client, Response};
use crate::support::service::Service;
use sekali::clock::{Clock, SystemClock};
use serde_json::Value;
use signer::{Signed, Signer};

/// Where senders that sign the URL call the service.
const URL: &str = "https://hooks.example.org/in/twilio";
/// A secret that nobody guesses.
const SECRET: &str = "a-secret-of-the-test-0123456789";

/// The sources of most tests: a name, a sender of `sign.py`, and lines of its table.
const SOURCES: [(&str, &str, &str); 17] = [
    ("standard", "standard-webhooks", "preset = 'standard-webhooks'"),
    ("asymmetric", "standard-webhooks-v1a", "preset = 'standard-webhooks'"),
    ("svix", "svix", "preset = 'svix'"),
    ("stripe", "stripe", "preset = 'stripe'"),
    ("github", "github", "preset = 'github'"),
    ("gitlab", "gitlab", "preset = 'gitlab'"),
    ("shopify", "shopify", "preset = 'shopify'"),
    ("slack", "slack", "preset = 'slack'"),
    ("paddle", "paddle", "preset = 'paddle'\ntolerance = '5m'"),
    ("sendgrid", "sendgrid", "preset = 'sendgrid'"),
    ("twilio", "twilio", "preset = 'twilio'\nurl = 'https://hooks.example.org/in/twilio'"),
    ("mailgun", "mailgun", "preset = 'mailgun'"),
    ("linear", "linear", "preset = 'linear'\ntolerance = '5m'"),
    ("meta", "meta", "preset = 'meta'\nevent_id = '{body.entry.0.id}-{body.entry.0.time}'"),
    ("bearer", "bearer", "preset = 'bearer'\ntopic = 'bearer'\nevent_id = '{body.id}'"),
    ("basic", "basic", "preset = 'basic'\ntopic = 'basic'\nevent_id = '{body.id}'"),
    (
        "generic",
        "generic",
        "scheme = 'hmac-sha1'\nheader = 'X-Signature'\nprefix = 'd='\nseparator = ';'\n\
         signed_at = '{header.X-Time}'\nsigned = '{timestamp}/{body}'\ntolerance = '1m'\n\
         topic = 'generic.{body.type}'\nevent_id = '{body.id}'\ntimestamp = '{body.at}'",
    ),
];

/// A body as the sender sends it, with an id of its own.
fn body(sender: &str, id: &str) -> String {
    match sender {
        "stripe" => format!(
            r#"{{"id":"{id}","object":"event","api_version":"2026-10-28","created":1795341600,"type":"invoice.paid","data":{{"object":{{"amount_paid":12345678901234567890}}}}}}"#
        ),
        "github" => format!(r#"{{"ref":"refs/heads/main","before":"0","after":"{id}","commits":[]}}"#),
        "gitlab" => format!(r#"{{"object_kind":"push","checkout_sha":"{id}","project_id":15}}"#),
        "shopify" => format!(r#"{{"id":820982911946154508,"name":"{id}","total_price":"10.00"}}"#),
        "slack" => format!(
            r#"{{"type":"event_callback","event_id":"{id}","event_time":1795341600,"event":{{"type":"app_mention","text":"hi"}}}}"#
        ),
        "paddle" => format!(
            r#"{{"event_id":"{id}","event_type":"transaction.completed","occurred_at":"2026-11-22T10:00:00.123456Z","data":{{}}}}"#
        ),
        "sendgrid" => format!(
            r#"[{{"email":"a@example.org","timestamp":1795341600,"event":"delivered","sg_event_id":"{id}"}}]"#
        ),
        "twilio" => {
            format!("MessageSid=SM{id}&MessageStatus=delivered&To=%2B15005550006&Body=caf%C3%A9+%26+more")
        }
        "mailgun" => {
            format!(
                r#"{{"event-data":{{"id":"{id}","event":"opened","timestamp":1795341600.937,"recipient":"a@example.org"}}}}"#
            )
        }
        "linear" => format!(
            r#"{{"action":"create","type":"Issue","createdAt":"2026-11-22T10:00:00.000Z","data":{{"id":"{id}"}}}}"#
        ),
        "meta" => format!(r#"{{"object":"page","entry":[{{"id":"{id}","time":1795341600,"changes":[]}}]}}"#),
        _ => format!(
            r#"{{"id":"{id}","type":"paid","timestamp":"2026-11-22T10:00:00Z","at":1795341600,"n":1.0}}"#
        ),
    }
}

/// A service with sources.
struct Webhooks {
    service: Service,
}

impl Webhooks {
    /// One whose configuration file has this text, where `DIR` is the folder of the secrets, in which
    /// there are these files.
    fn new(config: &str, secrets: &[(&str, &str)]) -> Self {
        let service = Service::started(|mut start| {
            let dir = start.data_dir.parent().unwrap().to_owned();
            for (name, text) in secrets {
                std::fs::write(dir.join(name), text).unwrap();
            }
            std::fs::write(dir.join("sekali.toml"), config.replace("DIR", &dir.display().to_string()))
                .unwrap();
            start.env.push(("SEKALI_CONFIG".into(), dir.join("sekali.toml").into()));
            start
        });
        Self { service }
    }

    /// One with all of [`SOURCES`], each with one secret.
    fn all(signer: &mut Signer) -> Self {
        let (mut config, mut secrets) = (String::new(), Vec::new());
        for (name, sender, lines) in SOURCES {
            writeln!(config, "[sources.{name}]\n{lines}\nsecret_files = ['DIR/{name}.key']").unwrap();
            secrets.push((format!("{name}.key"), signer.key(sender, SECRET)));
        }
        let secrets: Vec<_> = secrets.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::new(&config, &secrets)
    }

    /// Sends a delivery to a source.
    fn send(&self, name: &str, signed: &Signed) -> Response {
        let path = match signed.query.as_str() {
            "" => format!("/in/{name}"),
            query => format!("/in/{name}?{query}"),
        };
        let headers: Vec<_> =
            signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Client::new(self.service.addr).send("POST", &path, &headers, &signed.body).unwrap()
    }

    /// Sends a delivery; the status, and what became of its event.
    fn outcome(&self, name: &str, signed: &Signed) -> (u16, String) {
        let answer = self.send(name, signed);
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status, json["results"][0]["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The value of the figure of a source's requests.
    fn counted(&self, source: &str, outcome: &str) -> u64 {
        let wanted = [format!("source=\"{source}\""), format!("outcome=\"{outcome}\"")];
        let text = Client::new(self.service.addr).get("/metrics").unwrap().body;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|line| {
            line.starts_with("sekali_source_requests_total{")
                && wanted.iter().all(|label| line.contains(label))
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The only event of a topic.
    fn event(&self, topic: &str) -> Value {
        let page = self.service.get(&format!("/events?topic={topic}"));
        assert_eq!(page["count"], 1, "{topic}: {page}");
        page["events"][0].clone()
    }
}

/// The time now, in seconds since 1970.
fn unix_now() -> i64 {
    SystemClock.now().0 / 1_000_000
}
