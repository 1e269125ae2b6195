//! What would happen to a delivery, step by step, for its operator.

use super::delivery::{Delivery, is_packed};
use super::proof::{Prepared, Refused, age};
use super::source::{Source, Taken};
use crate::clock::Timestamp;

/// One step of the way of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is looked at.
    pub name: &'static str,
    /// Whether the delivery goes on.
    pub is_good: bool,
    /// What was found; it holds no secret.
    pub found: String,
}

/// The steps of a delivery, up to the one that ends it, and what it becomes.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// The status of its answer.
    pub status: u16,
    /// What is taken of it.
    pub taken: Option<Taken>,
}

impl Source {
    /// Goes the way of a delivery that arrives now, and stores nothing.
    pub fn explain(&self, delivery: Delivery<'_>, now: Timestamp) -> Explanation {
        let mut steps = Vec::new();
        let has = |name: &str| delivery.headers.iter().any(|(known, _)| *known == name);
        let encodings = delivery.headers.iter().filter(|(name, _)| *name == "content-encoding");
        if !self.lacks_header(has) && is_packed(encodings.map(|(_, value)| *value)) {
            let found =
                "there is a Content-Encoding, and a webhook is signed as it is sent: send it uncompressed";
            steps.push(bad("body", found.to_owned()));
            return Explanation { steps, status: 415, taken: None };
        }
        if let Err(step) = self.explain_proof(delivery, now, &mut steps) {
            steps.push(step);
            return Explanation { steps, status: 401, taken: None };
        }
        match self.take(delivery, now) {
            Err(why) => {
                steps.push(bad(why.field().name(), why.to_string()));
                Explanation { steps, status: if why.is_size() { 413 } else { 422 }, taken: None }
            }
            Ok(taken) => {
                explain_taken(&taken, &mut steps);
                Explanation { steps, status: 200, taken: Some(taken) }
            }
        }
    }

    /// Adds the steps that are good.
    ///
    /// # Errors
    /// The step that is not.
    fn explain_proof(
        &self,
        delivery: Delivery<'_>,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Result<(), Step> {
        let proof = &self.proof;
        let Prepared { header, signed, signed_at } =
            proof.prepare(delivery, &self.name).map_err(|why| match why {
                Refused::Missing => {
                    bad("signature", format!("there is no {}, or it is there twice", proof.signature))
                }
                Refused::Wrong => bad("body", "the query's digest is not that of the body".to_owned()),
                _ => bad("signature", self.malformed()),
            })?;
        steps.push(good("signature", format!("{} is there", proof.signature)));
        steps.push(good("signed", format!("{} makes {} bytes", proof.signed, signed.len())));
        let file = proof.find_secret(&header, &signed).map_err(|why| match why {
            Refused::Malformed => bad("signature", self.malformed()),
            _ => bad("secret", self.wrong()),
        })?;
        steps.push(good("secret", format!("{} fits", file.display())));
        let Some(at) = signed_at else { return Ok(()) };
        let seconds = age(at, now).as_secs();
        let side = if at > now { "in the future" } else { "ago" };
        let Some(tolerance) = proof.tolerance else {
            steps.push(good("signed at", format!("{at}, {seconds} s {side}; any time is taken")));
            return Ok(());
        };
        let found = format!("{at}, {seconds} s {side}; the tolerance is {} s", tolerance.as_secs());
        match age(at, now) > tolerance {
            true => Err(bad(
                "signed at",
                found + ": sign it again, or look at both clocks; --at has it arrive at another time",
            )),
            false => {
                steps.push(good("signed at", found));
                Ok(())
            }
        }
    }

    fn malformed(&self) -> String {
        let mut prefixes: Vec<_> =
            self.proof.secrets.iter().map(|secret| format!("{:?}", secret.prefix)).collect();
        prefixes.dedup();
        let mut sentence = format!(
            "{} has no signature in {} after {}",
            self.proof.signature,
            self.proof.encoding.name(),
            prefixes.join(" or ")
        );
        if let Some(signed_at) = &self.proof.signed_at {
            sentence.push_str(&format!(
                ", or {signed_at} is no time, or a part of {} is missing",
                self.proof.signed
            ));
        }
        sentence
    }

    fn wrong(&self) -> String {
        format!(
            "no secret of {} makes this signature: compare the secret with the sender's, and the body byte for byte (an editor \
             may have added a line's end; a proxy may have changed it)",
            self.proof.files()
        )
    }
}

fn explain_taken(taken: &Taken, steps: &mut Vec<Step>) {
    let batch = match taken {
        Taken::Challenge(_) => {
            return steps.push(good(
                "challenge",
                "the sender asks whether somebody is there, and is answered".to_owned(),
            ));
        }
        Taken::Quarantined(batch, why) => {
            steps.push(good("quarantine", why.to_string()));
            batch
        }
        Taken::Events(batch) => batch,
    };
    for event in batch.iter() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        steps.push(good("topic", text(event.topic)));
        steps.push(good("event_id", text(event.event_id)));
        steps.push(good("timestamp", text(event.timestamp)));
        steps.push(good("payload", format!("{} bytes", event.payload.len())));
    }
}

fn good(name: &'static str, found: String) -> Step {
    Step { name, is_good: true, found }
}

fn bad(name: &'static str, found: String) -> Step {
    Step { name, is_good: false, found }
}
