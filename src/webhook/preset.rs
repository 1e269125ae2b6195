//! What is known of senders: a table of data. A new sender is a new row.
//!
//! Each row is what its sender documents. Where a sender names no tolerance, there is none: a
//! delivery that is sent again is a duplicate, and what is refused is lost once its sender gives
//! up.

use super::key::Algorithm;
use super::parts::Encoding;

/// A way to sign. A sender may have several; the form of the key decides between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// What proves it.
    pub algorithm: Algorithm,
    /// What stands before each signature.
    pub prefix: &'static str,
    /// What stands before a key of this scheme, and is no part of it.
    pub key_prefix: &'static str,
    /// The secret is written in base64.
    pub is_key_base64: bool,
}

/// An answer that a sender expects to its first delivery: what the first template gives must be the
/// text, and then the answer is what the other template gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What is looked at.
    pub at: &'static str,
    /// What must stand there.
    pub is: &'static str,
    /// What is answered.
    pub answer: &'static str,
}

/// What deliveries get that have nothing for the sender's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Their topic.
    pub topic: &'static str,
    /// Their id.
    pub event_id: &'static str,
}

/// What a sender expects as the answer to a delivery that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedAnswer {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: &'static str,
}

/// A sender. The fields with braces are templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The word for it in a configuration.
    pub name: &'static str,
    /// The ways in which it signs.
    pub schemes: &'static [Scheme],
    /// Where the signatures are.
    pub signature: &'static str,
    /// Where another signature may be, of the same by another key.
    pub second_signature: Option<&'static str>,
    /// What stands between the parts of a signature's header.
    pub separator: Option<char>,
    /// How a signature is written.
    pub encoding: Encoding,
    /// What is signed.
    pub signed: &'static str,
    /// When it was signed.
    pub signed_at: Option<&'static str>,
    /// How far that may be from now.
    pub tolerance_seconds: Option<u64>,
    /// The SHA-256 of a body that is no form, in hexadecimal, where only forms are signed.
    pub body_digest: Option<&'static str>,
    /// The topic, unless the source names another.
    pub topic: Option<&'static str>,
    /// The id, unless the source names another.
    pub event_id: Option<&'static str>,
    /// Topic and id of deliveries of another kind, unless the source names a topic.
    pub other: Option<Other>,
    /// The time, unless the source names another.
    pub timestamp: Option<&'static str>,
    /// The body is a list of events.
    pub is_list: bool,
    /// What a delivery may be instead of an event.
    pub challenge: Option<Challenge>,
    /// What is answered, where that can't be the JSON of a publish.
    pub answer: Option<FixedAnswer>,
    /// The sender asks first, by GET with `hub.challenge`.
    pub is_hub: bool,
}

const HMAC_SHA256: Scheme =
    Scheme { algorithm: Algorithm::HmacSha256, prefix: "", key_prefix: "", is_key_base64: false };
const TOKEN: Scheme = Scheme { algorithm: Algorithm::Token, ..HMAC_SHA256 };

/// What most senders do: HMAC with SHA-256 over the body.
const PLAIN: Preset = Preset {
    name: "",
    schemes: &[HMAC_SHA256],
    signature: "",
    second_signature: None,
    separator: None,
    encoding: Encoding::Hex,
    signed: "{body}",
    signed_at: None,
    tolerance_seconds: None,
    body_digest: None,
    topic: Some("{source}.{body.type}"),
    event_id: Some("{body.id}"),
    other: None,
    timestamp: None,
    is_list: false,
    challenge: None,
    answer: None,
    is_hub: false,
};

/// Standard Webhooks 1.0: a symmetric signature (v1) or one by Ed25519 (v1a).
const STANDARD: Preset = Preset {
    name: "standard-webhooks",
    schemes: &[
        Scheme { prefix: "v1,", key_prefix: "whsec_", is_key_base64: true, ..HMAC_SHA256 },
        Scheme { algorithm: Algorithm::Ed25519, prefix: "v1a,", key_prefix: "whpk_", is_key_base64: true },
    ],
    signature: "{header.webhook-signature}",
    separator: Some(' '),
    encoding: Encoding::Base64,
    signed: "{header.webhook-id}.{timestamp}.{body}",
    signed_at: Some("{header.webhook-timestamp}"),
    tolerance_seconds: Some(300),
    event_id: Some("{header.webhook-id}"),
    timestamp: Some("{body.timestamp}"),
    ..PLAIN
};

/// All senders that are known.
pub const PRESETS: &[Preset] = &[
    STANDARD,
    Preset {
        name: "svix",
        signature: "{header.svix-signature}",
        signed: "{header.svix-id}.{timestamp}.{body}",
        signed_at: Some("{header.svix-timestamp}"),
        event_id: Some("{header.svix-id}"),
        ..STANDARD
    },
    Preset {
        name: "stripe",
        schemes: &[Scheme { prefix: "v1=", ..HMAC_SHA256 }],
        signature: "{header.Stripe-Signature}",
        separator: Some(','),
        signed: "{timestamp}.{body}",
        signed_at: Some("{signature.t}"),
        tolerance_seconds: Some(300),
        timestamp: Some("{body.created}"),
        ..PLAIN
    },
    Preset {
        name: "github",
        schemes: &[Scheme { prefix: "sha256=", ..HMAC_SHA256 }],
        signature: "{header.X-Hub-Signature-256}",
        topic: Some("{source}.{header.X-GitHub-Event}"),
        event_id: Some("{header.X-GitHub-Delivery}"),
        ..PLAIN
    },
    Preset {
        name: "gitlab",
        schemes: &[TOKEN],
        signature: "{header.X-Gitlab-Token}",
        encoding: Encoding::Text,
        topic: Some("{source}.{body.object_kind}"),
        event_id: Some("{header.Idempotency-Key}"),
        // Of members, groups and projects.
        other: Some(Other { topic: "{source}.{body.event_name}", event_id: "{header.Idempotency-Key}" }),
        ..PLAIN
    },
    Preset {
        name: "shopify",
        signature: "{header.X-Shopify-Hmac-Sha256}",
        encoding: Encoding::Base64,
        topic: Some("{source}.{header.X-Shopify-Topic}"),
        event_id: Some("{header.X-Shopify-Event-Id}"),
        timestamp: Some("{header.X-Shopify-Triggered-At}"),
        ..PLAIN
    },
    Preset {
        name: "slack",
        schemes: &[Scheme { prefix: "v0=", ..HMAC_SHA256 }],
        signature: "{header.X-Slack-Signature}",
        signed: "v0:{timestamp}:{body}",
        signed_at: Some("{header.X-Slack-Request-Timestamp}"),
        tolerance_seconds: Some(300),
        topic: Some("{source}.{body.event.type}"),
        event_id: Some("{body.event_id}"),
        // Deliveries of app_rate_limited have no event in them.
        other: Some(Other {
            topic: "{source}.{body.type}",
            event_id: "{body.team_id}-{body.minute_rate_limited}",
        }),
        timestamp: Some("{body.event_time}"),
        challenge: Some(Challenge { at: "{body.type}", is: "url_verification", answer: "{body.challenge}" }),
        ..PLAIN
    },
    Preset {
        name: "paddle",
        schemes: &[Scheme { prefix: "h1=", ..HMAC_SHA256 }],
        signature: "{header.Paddle-Signature}",
        separator: Some(';'),
        signed: "{timestamp}:{body}",
        signed_at: Some("{signature.ts}"),
        tolerance_seconds: Some(5),
        topic: Some("{source}.{body.event_type}"),
        event_id: Some("{body.event_id}"),
        timestamp: Some("{body.occurred_at}"),
        ..PLAIN
    },
    Preset {
        name: "sendgrid",
        schemes: &[Scheme { algorithm: Algorithm::EcdsaP256, ..HMAC_SHA256 }],
        signature: "{header.X-Twilio-Email-Event-Webhook-Signature}",
        encoding: Encoding::Base64,
        signed: "{timestamp}{body}",
        signed_at: Some("{header.X-Twilio-Email-Event-Webhook-Timestamp}"),
        topic: Some("{source}.{body.event}"),
        event_id: Some("{body.sg_event_id}"),
        timestamp: Some("{body.timestamp}"),
        is_list: true,
        ..PLAIN
    },
    Preset {
        name: "twilio",
        // By SHA-1 with an account's token, by SHA-256 with a key that is shared for this.
        schemes: &[Scheme { algorithm: Algorithm::HmacSha1, ..HMAC_SHA256 }, HMAC_SHA256],
        signature: "{header.X-Twilio-Signature}",
        encoding: Encoding::Base64,
        signed: "{url}{form}",
        body_digest: Some("{query.bodySHA256}"),
        topic: Some("{source}"),
        event_id: Some("{header.I-Twilio-Idempotency-Token}"),
        // Anything but XML is an error to it (12300). These are no instructions.
        answer: Some(FixedAnswer {
            content_type: "text/xml",
            body: r#"<?xml version="1.0" encoding="UTF-8"?><Response/>"#,
        }),
        ..PLAIN
    },
    Preset {
        name: "mailgun",
        signature: "{body.signature.signature}",
        // Of a subaccount's delivery, by the key of the account above it.
        second_signature: Some("{body.signature.parent-signature}"),
        separator: Some(','),
        signed: "{timestamp}{body.signature.token}",
        signed_at: Some("{body.signature.timestamp}"),
        // Mailgun repeats for eight hours, and does not say whether it signs each time.
        tolerance_seconds: Some(12 * 3_600),
        topic: Some("{source}.{body.event-data.event}"),
        event_id: Some("{body.event-data.id}"),
        timestamp: Some("{body.event-data.timestamp}"),
        ..PLAIN
    },
    Preset {
        name: "linear",
        signature: "{header.Linear-Signature}",
        signed_at: Some("{body.webhookTimestamp}"),
        tolerance_seconds: Some(60),
        event_id: Some("{header.Linear-Delivery}"),
        timestamp: Some("{body.createdAt}"),
        ..PLAIN
    },
    Preset {
        name: "meta",
        schemes: &[Scheme { prefix: "sha256=", ..HMAC_SHA256 }],
        signature: "{header.X-Hub-Signature-256}",
        topic: Some("{source}.{body.object}"),
        // There is none that all of its products have.
        event_id: None,
        is_hub: true,
        ..PLAIN
    },
    Preset {
        name: "bearer",
        schemes: &[Scheme { prefix: "Bearer ", ..TOKEN }],
        signature: "{header.Authorization}",
        encoding: Encoding::Text,
        topic: None,
        event_id: None,
        ..PLAIN
    },
    Preset {
        name: "basic",
        schemes: &[Scheme { prefix: "Basic ", ..TOKEN }],
        signature: "{header.Authorization}",
        encoding: Encoding::Base64,
        topic: None,
        event_id: None,
        ..PLAIN
    },
];

impl Preset {
    /// The row of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// A sender that is described in a configuration, of which nothing is known.
    pub(super) const fn unknown() -> Self {
        Self { schemes: &[], topic: None, event_id: None, ..PLAIN }
    }
}
