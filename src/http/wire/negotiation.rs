//! What the client accepts: the form of a listing, and codings (RFC 9110, section 12.5).

use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};

/// In what form events are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One page, as a JSON object.
    Page,
    /// An event a line: the whole range.
    Lines,
    /// Server-sent events: the range, and then what is stored from now on.
    Tail,
}

/// Forms, the one preferred among equals first, with the media types that ask for them.
const FORMS: [(Form, &[&str]); 3] = [
    // Who asks for problems says nothing about pages.
    (Form::Page, &["application/json", "application/problem+json"]),
    (Form::Lines, &["application/x-ndjson", "application/ndjson", "application/jsonl"]),
    (Form::Tail, &["text/event-stream"]),
];

/// The form that the client likes most; of those that it likes as much, the one that it names more
/// closely. `None` if it likes none of them.
pub(crate) fn form(headers: &HeaderMap) -> Option<Form> {
    // One without a value says as little as none.
    if headers.get_all(ACCEPT).iter().all(HeaderValue::is_empty) {
        return Some(Form::Page);
    }
    let liked = FORMS.map(|(form, kinds)| (form, liking(headers, kinds)));
    let most = liked.iter().map(|(_, liking)| *liking).max().unwrap_or_default();
    liked.iter().find(|(_, liking)| *liking == most && most.quality > 0).map(|(form, _)| *form)
}

/// How much a client likes a form; the greater is liked more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    /// In thousandths.
    quality: u16,
    /// How closely it was named: by its kind 2, by its type 1, as any other 0.
    closeness: u8,
}

/// How much a client likes any of `kinds`, of one type: what is said of the kind counts more than
/// of its type, and that more than of all.
fn liking(headers: &HeaderMap, kinds: &[&str]) -> Liking {
    let kind_of = |range: &str| kinds.iter().any(|kind| range.eq_ignore_ascii_case(kind));
    let type_of = |range: &str| {
        let kind = range.strip_suffix("/*").unwrap_or("*");
        kinds.iter().any(|known| known.split('/').next().is_some_and(|it| it.eq_ignore_ascii_case(kind)))
    };
    let closely = |closeness| move |quality| Liking { quality, closeness };
    let by_kind = quality(headers, &ACCEPT, kind_of).map(closely(2));
    let by_type = || quality(headers, &ACCEPT, type_of).map(closely(1));
    let by_any = || quality(headers, &ACCEPT, |range| range == "*/*").map(closely(0));
    by_kind.or_else(by_type).or_else(by_any).unwrap_or_default()
}

/// The quality, in thousandths, of the best of a header's entries that is `wanted`.
pub(crate) fn quality(headers: &HeaderMap, name: &HeaderName, wanted: impl Fn(&str) -> bool) -> Option<u16> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let entries = values.flat_map(|value| value.split(','));
    let qualities = entries.filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_wanted = parts.next().is_some_and(&wanted);
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // What can't be read is taken for a wish.
        let quality = quality.and_then(|q| q.trim().parse::<f64>().ok()).unwrap_or(1.0);
        is_wanted.then_some((quality.clamp(0.0, 1.0) * 1_000.0) as u16)
    });
    qualities.max()
}

/// Whether the client reads gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let (gzip, any, identity) = (
        quality(headers, &ACCEPT_ENCODING, |coding| matches!(coding, "gzip" | "x-gzip")),
        quality(headers, &ACCEPT_ENCODING, |coding| coding == "*"),
        quality(headers, &ACCEPT_ENCODING, |coding| coding == "identity"),
    );
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && identity.is_none_or(|identity| gzip >= identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&'static str]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        form(&headers)
    }

    #[test]
    fn the_form_liked_most_is_given_and_a_page_among_equals() {
        for (accept, expected) in [
            (&[][..], Some(Form::Page)),
            (&["*/*"], Some(Form::Page)),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Some(Form::Page)),
            (&["text/event-stream"], Some(Form::Tail)),
            (&["text/event-stream, */*;q=0.5"], Some(Form::Tail)),
            (&["text/event-stream, */*"], Some(Form::Tail)),
            (&["*/*", "text/event-stream"], Some(Form::Tail)),
            (&["text/event-stream;q=0.5, */*;q=0.6"], Some(Form::Page)),
            (&["application/json, text/plain, */*"], Some(Form::Page)),
            (&["application/x-ndjson, */*"], Some(Form::Lines)),
            (&["*/*, text/*"], Some(Form::Tail)),
            (&["text/*"], Some(Form::Tail)),
            (&["Application/X-NDJSON"], Some(Form::Lines)),
            (&["application/jsonl; q=0.9", "application/json;q=0.8"], Some(Form::Lines)),
            (&["application/x-ndjson, application/json"], Some(Form::Page)),
            (&["application/problem+json"], Some(Form::Page)),
            (&["application/json;q=0, */*;q=0.1"], Some(Form::Lines)),
            (&["text/csv"], None),
            (&["application/json;q=0"], None),
            (&["", ""], Some(Form::Page)),
            (&["", "text/csv"], None),
        ] {
            assert_eq!(asked(accept), expected, "{accept:?}");
        }
    }
}
