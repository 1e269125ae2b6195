//! What placeholders stand for in one delivery.

use std::borrow::Cow;
use std::cell::OnceCell;

use ring::digest::{SHA256, digest};

use super::content::Content;
use super::delivery::Delivery;
use super::parts;
use super::template::{Absent, Placeholder, Template};

/// A delivery to a source. Its body is looked at when a template asks for it, and once.
pub(super) struct Look<'a> {
    pub(super) delivery: Delivery<'a>,
    pub(super) source: &'a str,
    /// The URL that the sender calls, without a query.
    pub(super) url: Option<&'a str>,
    /// The header with the signatures, and what separates its parts.
    pub(super) signature: Option<(&'a str, Option<char>)>,
    /// The time of signing, as the sender wrote it.
    pub(super) timestamp: Option<String>,
    content: OnceCell<Content<'a>>,
}

impl<'a> Look<'a> {
    pub(super) fn new(delivery: Delivery<'a>, source: &'a str) -> Self {
        Self { delivery, source, url: None, signature: None, timestamp: None, content: OnceCell::new() }
    }

    pub(super) fn content(&self) -> &Content<'a> {
        self.content.get_or_init(|| Content::of(&self.delivery))
    }

    /// The text that a template makes.
    ///
    /// # Errors
    /// The first placeholder for which there is nothing.
    pub(super) fn text(&self, template: &Template) -> Result<String, Absent> {
        let filled = template.fill(|placeholder| self.value(placeholder))?;
        String::from_utf8(filled).map_err(|_| Absent(template.to_string()))
    }

    /// What a placeholder stands for.
    pub(super) fn value(&self, placeholder: &Placeholder) -> Option<Cow<'a, [u8]>> {
        let body: &'a [u8] = self.delivery.body;
        let text = match placeholder {
            Placeholder::Body => return Some(Cow::Borrowed(body)),
            Placeholder::Form => return self.content().sorted_form().map(Cow::Owned),
            Placeholder::BodyAt(path) => self.content().find(path)?,
            Placeholder::Header(name) => {
                Cow::Borrowed(self.delivery.header(name).filter(|value| !value.is_empty())?)
            }
            Placeholder::Query(name) => {
                Cow::Owned(self.delivery.parameter(name).filter(|value| !value.is_empty())?)
            }
            Placeholder::Source => Cow::Borrowed(self.source),
            Placeholder::BodySha256 => Cow::Owned(hex_sha256(body)),
            Placeholder::Timestamp => Cow::Owned(self.timestamp.clone()?),
            Placeholder::Signature(name) => {
                let (header, separator) = self.signature?;
                Cow::Borrowed(parts::named(header, separator, name)?)
            }
            Placeholder::Url => Cow::Owned(match self.delivery.query {
                "" => self.url?.to_owned(),
                query => format!("{}?{query}", self.url?),
            }),
        };
        Some(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }
}

/// The SHA-256 of bytes in hexadecimal.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
