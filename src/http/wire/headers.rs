//! The headers that are looked for in every request, found in one pass: each look-up in the map
//! would hash a name.

use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};

/// The header of a request's id, in requests and in answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The trace that a request is part of (W3C Trace Context).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Present in CloudEvents' binary mode.
const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// How near the page is for which a browser sends (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A header's first value, and how many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header<'a> {
    pub(crate) first: Option<&'a HeaderValue>,
    pub(crate) count: usize,
}

/// The headers of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) host: Header<'a>,
    pub(crate) content_type: Header<'a>,
    pub(crate) content_encoding: Header<'a>,
    pub(crate) specversion: Header<'a>,
    pub(crate) expect: Header<'a>,
    pub(crate) request_id: Header<'a>,
    pub(crate) traceparent: Header<'a>,
    pub(crate) origin: Header<'a>,
    pub(crate) fetch_site: Header<'a>,
    pub(crate) authorization: Header<'a>,
}

impl<'a> Headers<'a> {
    pub(crate) fn of(map: &'a HeaderMap) -> Self {
        let mut headers = Self::default();
        let Self {
            host,
            content_type,
            content_encoding,
            specversion,
            expect,
            request_id,
            traceparent,
            origin,
            fetch_site,
            authorization,
        } = &mut headers;
        let mut known = [
            (HOST, host),
            (CONTENT_TYPE, content_type),
            (CONTENT_ENCODING, content_encoding),
            (EXPECT, expect),
            (SPECVERSION, specversion),
            (REQUEST_ID, request_id),
            (TRACEPARENT, traceparent),
            (ORIGIN, origin),
            (FETCH_SITE, fetch_site),
            (AUTHORIZATION, authorization),
        ];
        for (name, value) in map {
            if let Some((_, header)) = known.iter_mut().find(|(known, _)| known == name) {
                header.first.get_or_insert(value);
                header.count += 1;
            }
        }
        headers
    }
}

/// The value of a header that may stand once, if it is ASCII.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
