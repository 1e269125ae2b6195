//! The headers that every request is looked at for, found in one pass: each look-up in the map would hash a name.

use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};

/// The header of a request's id, in requests and in answers.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The trace that a request is part of (W3C Trace Context).
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Present in CloudEvents' binary mode.
const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// How near the page is for which a browser sends (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A header's first value, and how many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header<'a> {
    pub(super) first: Option<&'a HeaderValue>,
    pub(super) count: usize,
}

/// The headers of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headers<'a> {
    pub(super) host: Header<'a>,
    pub(super) content_type: Header<'a>,
    pub(super) content_encoding: Header<'a>,
    pub(super) specversion: Header<'a>,
    pub(super) expect: Header<'a>,
    pub(super) request_id: Header<'a>,
    pub(super) traceparent: Header<'a>,
    pub(super) origin: Header<'a>,
    pub(super) fetch_site: Header<'a>,
}

impl<'a> Headers<'a> {
    pub(super) fn of(map: &'a HeaderMap) -> Self {
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
