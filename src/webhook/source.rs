//! One sender: how its deliveries prove genuine, and what they become.

use super::delivery::Delivery;
use super::key::Key;
use super::look::Look;
use super::mapping::{Mapping, Unmapped};
use super::preset::FixedAnswer;
use super::proof::{Proof, Refused};
use super::template::Template;
use crate::clock::Timestamp;
use crate::event::Batch;
use crate::limits::CHALLENGE_BYTES_MAX;

/// What a genuine delivery becomes.
#[derive(Clone, Debug)]
pub enum Taken {
    /// Events to store.
    Events(Batch),
    /// An event of the quarantine, and why it is there.
    Quarantined(Batch, Unmapped),
    /// The sender asks whether somebody is there; this is the answer that it waits for.
    Challenge(String),
}

/// An answer that the sender expects where something stands.
pub(super) struct Reply {
    pub(super) at: Template,
    pub(super) is: &'static str,
    pub(super) answer: Template,
}

/// A source, ready for use. It has secrets, so it can't be printed.
pub struct Source {
    pub(super) name: String,
    pub(super) preset: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) proof: Proof,
    pub(super) mapping: Mapping,
    pub(super) quarantine: Option<String>,
    pub(super) reply: Option<Reply>,
    pub(super) answer: Option<FixedAnswer>,
    /// What the sender shows that asks first by GET.
    pub(super) verify_token: Option<Key>,
    /// What its owner should know, a sentence each.
    pub(super) warnings: Vec<String>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Source {
    /// Its name, which its path ends with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The preset that it is configured with, if it is with one.
    pub fn preset(&self) -> Option<&str> {
        self.preset.as_deref()
    }

    /// The scheme that it is configured with instead.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// What topics are made of, a template.
    pub fn topic(&self) -> String {
        self.mapping.topic.to_string()
    }

    /// The topic for what is genuine and no event.
    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// What the sender expects as the answer to a delivery that is taken; `None` if it takes any.
    pub fn answer(&self) -> Option<FixedAnswer> {
        self.answer
    }

    /// What its owner should know, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a header that the proof needs is missing, which is known before the body is there.
    pub fn lacks_header(&self, has: impl Fn(&str) -> bool) -> bool {
        self.proof.lacks_header(has)
    }

    /// Whether a delivery that arrives now is genuine.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, delivery: Delivery<'_>, now: Timestamp) -> Result<(), Refused> {
        self.proof.check(delivery, &self.name, now)
    }

    /// What a genuine delivery becomes.
    ///
    /// # Errors
    /// Why it is no event, where the source has no quarantine; the body may also be too large for
    /// that.
    pub fn take(&self, delivery: Delivery<'_>, arrival: Timestamp) -> Result<Taken, Unmapped> {
        if let Some(answer) = self.reply.as_ref().and_then(|reply| reply.answer(delivery, &self.name)) {
            return Ok(Taken::Challenge(answer));
        }
        let why = match self.mapping.events(delivery, &self.name, arrival) {
            Ok(events) => return Ok(Taken::Events(events)),
            Err(why) => why,
        };
        match &self.quarantine {
            None => Err(why),
            Some(topic) => {
                let kept = self.mapping.quarantined(delivery, &self.name, topic, &why, arrival)?;
                Ok(Taken::Quarantined(kept, why))
            }
        }
    }

    /// Whether its sender asks by GET.
    pub fn has_hub(&self) -> bool {
        self.verify_token.is_some()
    }

    /// The answer to a sender that asks by GET whether somebody is there who knows what was agreed
    /// on; `None` if it does not know that itself.
    pub fn answer_hub(&self, delivery: Delivery<'_>) -> Option<String> {
        let token = self.verify_token.as_ref()?;
        let shown = delivery.parameter("hub.verify_token")?.into_bytes();
        let is_asked = delivery.parameter("hub.mode").is_some_and(|mode| mode == "subscribe");
        let answer =
            delivery.parameter("hub.challenge").filter(|answer| answer.len() <= CHALLENGE_BYTES_MAX)?;
        (is_asked && token.fits_one(&[], &[shown])).then_some(answer)
    }
}

impl Reply {
    fn answer(&self, delivery: Delivery<'_>, source: &str) -> Option<String> {
        let look = Look::new(delivery, source);
        let is_asked = look.text(&self.at).is_ok_and(|found| found == self.is);
        let answer = look.text(&self.answer).ok().filter(|_| is_asked)?;
        Some(answer).filter(|answer| answer.len() <= CHALLENGE_BYTES_MAX)
    }
}
