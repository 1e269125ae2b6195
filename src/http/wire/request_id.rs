//! The id of a request, and the trace that it is part of (W3C Trace Context).

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderValue};

use crate::http::wire::headers::{Headers, REQUEST_ID, TRACEPARENT};

/// Longest id that a client may give.
const ID_BYTES_MAX: usize = 128;

/// Makes ids: a number that begins anywhere, so that two processes hardly ever make the same.
#[derive(Debug)]
pub(crate) struct RequestIds(AtomicU64);

impl Default for RequestIds {
    fn default() -> Self {
        let mut start = [0; 8];
        // Without randomness ids begin at 0, which is no fault of a request.
        let _ = getrandom::fill(&mut start);
        Self(AtomicU64::new(u64::from_le_bytes(start)))
    }
}

impl RequestIds {
    /// The id and trace that a request came with, or an id made for it.
    pub(crate) fn identify(&self, headers: &Headers<'_>) -> RequestId {
        let given = headers.request_id.first.filter(|id| is_id(id.as_bytes()));
        let trace = headers.traceparent.first.filter(|trace| is_traceparent(trace.as_bytes())).cloned();
        RequestId { id: given.cloned().unwrap_or_else(|| self.next()), trace }
    }

    fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let digits: [u8; 16] = std::array::from_fn(|at| DIGITS[(number >> (60 - 4 * at)) as usize & 15]);
        // Hexadecimal digits are always a header's value.
        HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// Visible ASCII: fit for a log line and for a header.
fn is_id(text: &[u8]) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// `version-trace_id-parent_id-flags` in lower-case hexadecimal; a later version may go on after
/// that.
fn is_traceparent(text: &[u8]) -> bool {
    let is_hex = |from: usize, to: usize| {
        text.get(from..to)
            .is_some_and(|part| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    let is_zero = |from: usize, to: usize| text[from..to].iter().all(|byte| *byte == b'0');
    let is_dash = |at: usize| text.get(at) == Some(&b'-');
    let fields = is_hex(0, 2) && is_hex(3, 35) && is_hex(36, 52) && is_hex(53, 55);
    fields
        && is_dash(2)
        && is_dash(35)
        && is_dash(52)
        && !is_zero(3, 35)
        && !is_zero(36, 52)
        && &text[..2] != b"ff"
        && (text.len() == 55 || (!is_zero(0, 2) && is_dash(55)))
}

/// A request's id and trace.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    id: HeaderValue,
    trace: Option<HeaderValue>,
}

impl RequestId {
    /// Gives an answer the id and trace of its request.
    pub(crate) fn name(self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.id);
        if let Some(trace) = self.trace {
            headers.insert(TRACEPARENT, trace);
        }
    }

    /// The id, as text.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("-")
    }

    /// The id of the trace, for a log line.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.trace.as_ref().and_then(|trace| trace.to_str().ok()?.get(3..35))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_to_log_is_taken_for_an_id() {
        assert!(is_id(b"a") && is_id(b"0af7651916cd43dd:8448/eb~") && is_id(&[b'x'; 128]));
        assert!(
            !is_id(b"")
                && !is_id(b"a b")
                && !is_id(b"a\tb")
                && !is_id("\u{e4}".as_bytes())
                && !is_id(&[b'x'; 129])
        );
        let ids = RequestIds::default();
        let made: std::collections::HashSet<_> = (0..1_000).map(|_| ids.next()).collect();
        assert!(made.len() == 1_000 && made.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn a_traceparent_is_what_the_standard_says() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(valid.as_bytes()));
        assert!(is_traceparent(format!("cc{}-what-the-future-will-be-like", &valid[2..]).as_bytes()));
        for bad in [
            String::new(),
            valid.to_uppercase(),
            valid[..54].to_owned(),
            format!("{valid}-01"),
            format!("{valid}."),
            format!("cc{}.what", &valid[2..]),
            valid.replace("00-0a", "ff-0a"),
            valid.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            valid.replace("b7ad6b7169203331", &"0".repeat(16)),
            valid.replace('-', "_"),
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}
