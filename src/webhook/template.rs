//! Templates: text with placeholders such as `{body.id}`.
//!
//! | placeholder | stands for |
//! |---|---|
//! | `{body.a.0.b}` | a string, number or boolean of a JSON body, or a field of a form |
//! | `{body/a.b/c}` | the same as a JSON Pointer, for names with dots |
//! | `{header.NAME}`, `{query.NAME}` | a header, a query parameter; there once |
//! | `{source}` | the name of the source |
//! | `{body_sha256}` | the body's SHA-256 in hexadecimal |
//!
//! What is signed may hold these too:
//!
//! | placeholder | stands for |
//! |---|---|
//! | `{body}` | the body, byte for byte |
//! | `{timestamp}` | the time of signing, as the sender wrote it |
//! | `{signature.NAME}` | a part `NAME=…` beside the signature in its header |
//! | `{url}` | the URL that the sender calls, with the query of the delivery |
//! | `{form}` | names and values of a form, sorted, without anything between them |

use std::fmt::Write;

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    BodyAt(Vec<String>),
    Header(String),
    Query(String),
    Source,
    BodySha256,
    Body,
    Timestamp,
    Signature(String),
    Url,
    Form,
}

/// Where a template stands, which says what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It makes a field of an event.
    Event,
    /// It makes what is signed, or finds a part of that.
    Signed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A placeholder, and how it was written.
    Placeholder(Placeholder, String),
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

/// The placeholder, as it was written, for which a delivery has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Absent(pub(super) String);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn parse(text: &str, used: Use) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let inner = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = inner.filter(|(name, _)| !name.contains('{')) else {
                return Err(format!("{text:?} has a brace without its partner"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Placeholder(placeholder(name, used)?, name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err("a template must not be empty".to_owned());
        }
        Ok(Self(pieces))
    }

    /// Whether it has a placeholder of this kind.
    pub(super) fn has(&self, wanted: &Placeholder) -> bool {
        self.0
            .iter()
            .any(|piece| matches!(piece, Piece::Placeholder(placeholder, _) if placeholder == wanted))
    }

    /// Whether what it makes differs from delivery to delivery.
    pub(super) fn varies(&self) -> bool {
        self.0
            .iter()
            .any(|piece| matches!(piece, Piece::Placeholder(place, _) if *place != Placeholder::Source))
    }

    /// Headers that it is made from.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder(Placeholder::Header(name), _) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Fills in what `value` gives for each placeholder.
    ///
    /// # Errors
    /// The first placeholder for which there is nothing.
    pub(super) fn fill<'a>(
        &self,
        mut value: impl FnMut(&Placeholder) -> Option<std::borrow::Cow<'a, [u8]>>,
    ) -> Result<Vec<u8>, Absent> {
        let mut filled = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.extend_from_slice(text.as_bytes()),
                Piece::Placeholder(placeholder, name) => {
                    let value = value(placeholder).ok_or_else(|| Absent(format!("{{{name}}}")))?;
                    filled.extend_from_slice(&value);
                }
            }
        }
        Ok(filled)
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Placeholder(_, name) => write!(f, "{{{name}}}"),
        })
    }
}

fn placeholder(name: &str, used: Use) -> Result<Placeholder, String> {
    let named = |rest: &str| match rest {
        "" => Err(format!("{{{name}}} names nothing: write what after the dot")),
        _ => Ok(rest.to_ascii_lowercase()),
    };
    let placeholder = match name {
        "source" => Placeholder::Source,
        "body_sha256" => Placeholder::BodySha256,
        "body" => Placeholder::Body,
        "timestamp" => Placeholder::Timestamp,
        "url" => Placeholder::Url,
        "form" => Placeholder::Form,
        _ => match name.find(['.', '/']).map(|at| (&name[..at], &name[at..at + 1], &name[at + 1..])) {
            Some(("body", ".", path)) => Placeholder::BodyAt(path.split('.').map(str::to_owned).collect()),
            Some(("body", _, path)) => Placeholder::BodyAt(path.split('/').map(pointed).collect()),
            Some(("header", ".", rest)) => Placeholder::Header(named(rest)?),
            Some(("query", ".", rest)) => named(rest).map(|_| Placeholder::Query(rest.to_owned()))?,
            Some(("signature", ".", rest)) => named(rest).map(|_| Placeholder::Signature(rest.to_owned()))?,
            _ => return Err(unknown(name, used)),
        },
    };
    let is_of_event = matches!(
        placeholder,
        Placeholder::BodyAt(_)
            | Placeholder::Header(_)
            | Placeholder::Query(_)
            | Placeholder::Source
            | Placeholder::BodySha256
    );
    if is_of_event || used == Use::Signed { Ok(placeholder) } else { Err(unknown(name, used)) }
}

/// A token of a JSON Pointer (RFC 6901).
fn pointed(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn unknown(name: &str, used: Use) -> String {
    let mut sentence = format!("{{{name}}} stands for nothing here: use {{body.PATH}}, {{header.NAME}}, ");
    let more = match used {
        Use::Event => "{query.NAME}, {source} or {body_sha256}",
        Use::Signed => "{query.NAME}, {body}, {timestamp}, {signature.NAME}, {url} or {form}",
    };
    // A String takes all that is written.
    let _ = sentence.write_str(more);
    sentence
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    fn event(text: &str) -> Result<Template, String> {
        Template::parse(text, Use::Event)
    }

    #[test]
    fn placeholders_are_filled_in_and_the_rest_stays() {
        let template = event("a.{body.b.0}-{header.X-Id}{query.Q}/{source}").unwrap();
        let filled = template.fill(|placeholder| {
            let text = match placeholder {
                Placeholder::BodyAt(path) => path.join("+"),
                Placeholder::Header(name) | Placeholder::Query(name) => name.clone(),
                _ => "s".to_owned(),
            };
            Some(Cow::Owned(text.into_bytes()))
        });
        assert_eq!(filled.unwrap(), b"a.b+0-x-idQ/s");
        assert_eq!(template.to_string(), "a.{body.b.0}-{header.X-Id}{query.Q}/{source}");
        assert_eq!(template.headers().collect::<Vec<_>>(), ["x-id"]);
        assert_eq!(template.fill(|_| None), Err(Absent("{body.b.0}".to_owned())));
    }

    #[test]
    fn a_pointer_names_members_with_dots_and_slashes() {
        let path = ["a.b", "c/d", "~"].map(str::to_owned).to_vec();
        assert!(event("{body/a.b/c~1d/~0}").unwrap().has(&Placeholder::BodyAt(path)));
    }

    #[test]
    fn what_is_no_template_is_refused_with_what_to_write() {
        for (text, said) in [
            ("", "must not be empty"),
            ("{body.id", "brace"),
            ("body.id}", "brace"),
            ("{{body.id}}", "brace"),
            ("{bodi.id}", "use {body.PATH}"),
            ("{header.}", "names nothing"),
            ("{body}", "{body} stands for nothing here"),
            ("{timestamp}.x", "{body_sha256}"),
        ] {
            let fault = event(text).unwrap_err();
            assert!(fault.contains(said), "{text}: {fault}");
        }
        assert!(Template::parse("{timestamp}.{body}{url}{form}{signature.t}", Use::Signed).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_that_shows_as_it_was_written_or_none(text in "[{}a-z./~_]{0,24}|\\PC{0,24}") {
            for used in [Use::Event, Use::Signed] {
                if let Ok(template) = Template::parse(&text, used) {
                    prop_assert_eq!(template.to_string(), text.clone());
                }
            }
        }
    }
}
