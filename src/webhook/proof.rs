//! Whether a delivery comes from whom it says, and now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::delivery::Delivery;
use super::key::Key;
use super::look::{Look, hex_sha256};
use super::parts::{self, Encoding};
use super::template::Template;
use crate::clock::Timestamp;

/// Why a delivery is not taken for genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no signature where the sender puts it.
    #[error("there is no signature")]
    Missing,
    /// What stands there is none, or the time of signing is missing.
    #[error("the signature, or the time of signing, is not in the sender's form")]
    Malformed,
    /// No secret makes this signature for this body.
    #[error("the signature is not that of this body by any secret of the source")]
    Wrong,
    /// It is genuine, and was signed too long ago, or in the future.
    #[error("it was signed too long ago, or one of the clocks is wrong")]
    Stale,
}

impl Refused {
    /// The reason as a word for metrics and for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
        }
    }
}

/// What the signatures of a delivery are compared for.
pub(super) struct Prepared {
    /// The header that has them.
    pub(super) header: String,
    pub(super) signed: Vec<u8>,
    pub(super) signed_at: Option<Timestamp>,
}

/// A secret, with the file that it was read from.
pub(super) struct Secret {
    pub(super) key: Key,
    /// What stands before signatures by this key.
    pub(super) prefix: String,
    pub(super) file: PathBuf,
}

/// How a source's deliveries prove where they come from.
pub(super) struct Proof {
    pub(super) signature: Template,
    /// Where another may be, which is as good.
    pub(super) second_signature: Option<Template>,
    pub(super) separator: Option<char>,
    pub(super) encoding: Encoding,
    pub(super) signed: Template,
    pub(super) signed_at: Option<Template>,
    pub(super) tolerance: Option<Duration>,
    pub(super) body_digest: Option<Template>,
    pub(super) url: Option<String>,
    pub(super) secrets: Vec<Secret>,
}

impl Proof {
    /// Whether a header that all signatures need is missing: known before the body is there.
    pub(super) fn lacks_header(&self, has: impl Fn(&str) -> bool) -> bool {
        self.signature.headers().any(|name| !has(name))
    }

    /// Checks a delivery to the source of this name that arrives now.
    pub(super) fn check(&self, delivery: Delivery<'_>, source: &str, now: Timestamp) -> Result<(), Refused> {
        let Prepared { header, signed, signed_at } = self.prepare(delivery, source)?;
        self.find_secret(&header, &signed)?;
        match (self.tolerance, signed_at) {
            (Some(tolerance), Some(at)) if age(at, now) > tolerance => Err(Refused::Stale),
            _ => Ok(()),
        }
    }

    /// Gathers what the signatures are compared for.
    pub(super) fn prepare(&self, delivery: Delivery<'_>, source: &str) -> Result<Prepared, Refused> {
        let text = |template| Look::new(delivery, source).text(template);
        let mut header = text(&self.signature).map_err(|_| Refused::Missing)?;
        if let Some(Ok(second)) = self.second_signature.as_ref().map(text) {
            header.extend(self.separator);
            header.push_str(&second);
        }
        let mut look = Look::new(delivery, source);
        look.url = self.url.as_deref();
        look.signature = Some((&header, self.separator));
        if let Some(template) = &self.signed_at {
            look.timestamp = Some(look.text(template).map_err(|_| Refused::Malformed)?);
        }
        let signed_at = match &look.timestamp {
            None => None,
            Some(text) => Some(Timestamp::parse(text).ok_or(Refused::Malformed)?),
        };
        let signed = self.signed.fill(|place| look.value(place)).map_err(|_| Refused::Malformed)?;
        self.check_digest(&look)?;
        Ok(Prepared { signed, signed_at, header })
    }

    /// The file of the secret that makes a signature of the header for what is signed.
    pub(super) fn find_secret(&self, header: &str, signed: &[u8]) -> Result<&Path, Refused> {
        let mut has_signature = false;
        for Secret { key, prefix, file } in &self.secrets {
            let shown =
                parts::signatures(header, self.separator, prefix, self.encoding).ok_or(Refused::Malformed)?;
            has_signature |= !shown.is_empty();
            if key.fits_one(signed, &shown) {
                return Ok(file);
            }
        }
        Err(if has_signature { Refused::Wrong } else { Refused::Malformed })
    }

    /// The files of all secrets, for a person.
    pub(super) fn files(&self) -> String {
        let mut files: Vec<_> = self.secrets.iter().map(|secret| secret.file.display().to_string()).collect();
        files.dedup();
        files.join(", ")
    }

    /// Where a form is signed, another body is so by its digest. One that is shown counts in any
    /// case: a body that is called a form and has no fields would be signed by nothing.
    fn check_digest(&self, look: &Look<'_>) -> Result<(), Refused> {
        let Some(template) = &self.body_digest else { return Ok(()) };
        match look.text(template) {
            Ok(shown) if shown.eq_ignore_ascii_case(&hex_sha256(look.delivery.body)) => Ok(()),
            Ok(_) => Err(Refused::Wrong),
            Err(_) if look.content().is_form() => Ok(()),
            Err(_) => Err(Refused::Malformed),
        }
    }
}

/// How far apart two times are.
pub(super) fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(now.0.abs_diff(at.0))
}
