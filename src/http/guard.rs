//! Which requests are let in: none from the pages of other origins that somebody's browser shows,
//! and none under a foreign name.
//!
//! A browser sends what any page tells it to, to this machine too. It says from which page
//! (`Origin`, `Sec-Fetch-Site`), and to which name (`Host`, `:authority`): a name that its owner
//! let lead here, after the page was loaded from elsewhere, makes that page one of this origin
//! ("DNS rebinding"). Programs send none of the former and a name that they were given.
//!
//! | request | answer |
//! |---|---|
//! | no path, no host, several hosts, one that is none, or `:authority` and `Host` that differ | 400 |
//! | a host that is not loopback, the address of the connection or allowed | 421 |
//! | from a page of another origin that is not allowed | 403 |

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderMap, HeaderName, HeaderValue, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use crate::authority::{AllowedHost, AllowedOrigin, Authority, Host, split_origin};
use crate::http::wire::answer::{Answer, empty};
use crate::http::wire::connection::Connection;
use crate::http::wire::headers::Headers;
use crate::http::wire::problem::Problem;
use crate::limits::PREFLIGHT_SECONDS;

/// How the request came to be, and what for: browsers say it, and no page can.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// CloudEvents' handshake: the sender's name, and deliveries a minute.
const WEBHOOK_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const WEBHOOK_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
/// Headers of answers that a page may read beside those that it always may.
const EXPOSED: &str = "x-request-id, traceparent, retry-after, allow, accept-encoding";

/// What is allowed beside loopback, the service's own address and its own pages.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Hosts under which the service may be asked.
    pub hosts: Vec<AllowedHost>,
    /// Origins whose pages may ask.
    pub origins: Vec<AllowedOrigin>,
    /// The service listens at all addresses, so that any may be its own: also one that leads here
    /// by a router.
    pub is_any_address: bool,
}

impl Access {
    /// Whether the request may be looked at; the foreign origin that it comes from, if that is
    /// allowed. `is_read` says that it changes nothing.
    ///
    /// # Errors
    /// 400, 421 or 403, as the table above says.
    pub(super) fn check<'a>(
        &self,
        head: &Parts,
        headers: &Headers<'a>,
        connection: &Connection,
        is_read: bool,
    ) -> Result<Option<&'a HeaderValue>, Problem> {
        let scheme = connection.scheme();
        let authority = authority(head, headers, scheme)?;
        if let Some(Authority { host, .. }) = &authority
            && !self.is_ours(host, connection)
        {
            let message = "this service is not known by the host that was asked for: use its address or localhost, or \
                           start it with --allowed-host and this name";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, message));
        }
        self.check_page(head, headers, authority, scheme, is_read)
    }

    fn is_ours(&self, host: &Host<'_>, connection: &Connection) -> bool {
        let is_own = match host {
            Host::Address(address) => self.is_any_address || Some(*address) == connection.local(),
            Host::Name(_) => false,
        };
        host.is_loopback() || is_own || self.hosts.iter().any(|allowed| allowed.allows(host))
    }

    /// The rule for pages. What they only lead to is shown to the user, and nothing of it to them.
    fn check_page<'a>(
        &self,
        head: &Parts,
        headers: &Headers<'a>,
        authority: Option<Authority<'_>>,
        own_scheme: &str,
        is_read: bool,
    ) -> Result<Option<&'a HeaderValue>, Problem> {
        let (origin, site) = (headers.origin, headers.fetch_site);
        if origin.count == 0 && site.count == 0 {
            return Ok(None);
        }
        let site = site.first.filter(|_| site.count == 1).map_or("", |site| site.to_str().unwrap_or("?"));
        if let Some(value) = origin.first {
            let text = value.to_str().ok().filter(|_| origin.count == 1);
            if text.is_some_and(|text| self.origins.iter().any(|allowed| allowed.allows(text))) {
                return Ok(Some(value));
            }
            if !text.is_some_and(|text| is_own(text, site, authority, own_scheme)) {
                return Err(foreign());
            }
        }
        let is_near = match headers.fetch_site.count {
            0 => true,
            _ => matches!(site, "same-origin" | "none"),
        };
        if is_near || (is_read && is_navigation(head)) { Ok(None) } else { Err(foreign()) }
    }

    /// Lets the page at `origin` read the answer.
    pub(super) fn share(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

fn foreign() -> Problem {
    let message = "a browser sent this for a page of another origin, which is not allowed to ask here: start the service \
                   with --cors-origin and that origin to allow it";
    Problem::new(StatusCode::FORBIDDEN, message)
}

/// For whom the request is; `None` if it does not say so, which before HTTP/1.1 it need not.
fn authority<'a>(
    head: &'a Parts,
    headers: &Headers<'a>,
    scheme: &str,
) -> Result<Option<Authority<'a>>, Problem> {
    let refuse = |message: &str| Err(Problem::new(StatusCode::BAD_REQUEST, message).close());
    let target = head.uri.authority().map(|authority| Authority::parse(authority.as_str()));
    let is_http2 = head.version == Version::HTTP_2;
    if head.uri.path().is_empty() {
        return refuse("a request must have a path");
    }
    if headers.host.count > 1 || (headers.host.count == 0 && head.version == Version::HTTP_11) {
        return refuse("a request must have exactly one Host header");
    }
    let host = headers.host.first.map(|host| host.to_str().ok().and_then(Authority::parse));
    let authority = match (target, host) {
        (Some(None), _) | (_, Some(None)) => {
            return refuse("the host must be a name or an address, with a port or without, and nothing else");
        }
        (Some(Some(target)), Some(Some(host)))
            if is_http2 && target.of_scheme(scheme) != host.of_scheme(scheme) =>
        {
            return refuse("the Host header and :authority must be the same");
        }
        // RFC 9112, section 3.2.2: the Host header does not count beside a whole URI.
        (Some(target), _) => target,
        (None, Some(host)) => host,
        (None, None) if is_http2 => return refuse("a request must have an :authority"),
        (None, None) => None,
    };
    Ok(authority)
}

/// Whether a page at `origin` is one of the service's own, over a connection of `own_scheme`.
/// Another scheme is another origin; but a proxy in front may speak TLS, and then the browser has
/// to say that both are the same.
fn is_own(origin: &str, site: &str, authority: Option<Authority<'_>>, own_scheme: &str) -> bool {
    let Some((scheme, origin)) = split_origin(origin) else { return false };
    let is_same = authority.is_some_and(|own| own.of_scheme(scheme) == origin.of_scheme(scheme));
    is_same && (scheme.eq_ignore_ascii_case(own_scheme) || site == "same-origin")
}

/// Whether the user is being led here, as by a link: the whole window changes, and the page that
/// led sees nothing of it.
fn is_navigation(head: &Parts) -> bool {
    let is = |name: &HeaderName, value: &str| head.headers.get(name).is_some_and(|found| found == value);
    let is_get = head.method == Method::GET || head.method == Method::HEAD;
    is_get && is(&FETCH_MODE, "navigate") && is(&FETCH_DEST, "document")
}

/// The answer to `OPTIONS`, if it is a question that is understood. A browser asks ahead of what a
/// page of an allowed origin wants to send; a sender of CloudEvents asks whether it may send.
/// `allow` are the path's methods.
pub(super) fn options(head: &Parts, is_shared: bool, takes_events: bool, allow: &str) -> Option<Answer> {
    let allow = HeaderValue::from_str(allow).ok()?;
    let asked = &head.headers;
    if is_shared && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let mut answer = empty(StatusCode::NO_CONTENT);
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            // The origin is trusted, and what a header means is said elsewhere.
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_SECONDS));
        return Some(answer);
    }
    let sender = asked.get(WEBHOOK_ORIGIN).filter(|_| takes_events)?;
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(ALLOW, allow);
    headers.insert(HeaderName::from_static("webhook-allowed-origin"), sender.clone());
    if asked.contains_key(WEBHOOK_RATE) {
        headers.insert(HeaderName::from_static("webhook-allowed-rate"), HeaderValue::from_static("*"));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// The status for `GET /` by HTTP/1.1 with these headers.
    fn asked(access: &Access, headers: &[(&'static str, &str)]) -> u16 {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let checked = access.check(&head, &Headers::of(&head.headers), &Connection::within_process(), true);
        checked.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_page_is_foreign_unless_its_origin_is_the_host_that_it_asks() {
        let access = Access::default();
        for (host, origin, site, expected) in [
            ("localhost:8080", "http://localhost:8080", "", 200),
            ("LOCALHOST:8080", "http://localhost:8080", "", 200),
            ("localhost", "http://localhost", "", 200),
            ("localhost:80", "http://localhost", "", 200),
            ("localhost:8080", "http://localhost:8081", "", 403),
            ("localhost:8080", "http://127.0.0.1:8080", "", 403),
            ("localhost:8080", "https://localhost:8080", "", 403),
            ("localhost:8080", "https://localhost:8080", "same-origin", 200),
            ("localhost", "https://localhost", "same-origin", 200),
            ("localhost:8080", "http://localhost:8080", "cross-site", 403),
            ("localhost:8080", "http://localhost:8080", "same-origin", 200),
            ("localhost:8080", "null", "", 403),
            ("localhost:8080", "", "", 200),
            ("localhost:8080", "http://localhost:8080/", "", 403),
            ("localhost:8080", "", "cross-site", 403),
            ("localhost:8080", "", "same-site", 403),
            ("localhost:8080", "", "none", 200),
            ("localhost:8080", "", "new-word", 403),
        ] {
            let mut headers = vec![("host", host)];
            headers.extend(
                [("origin", origin), ("sec-fetch-site", site)].into_iter().filter(|(_, v)| !v.is_empty()),
            );
            assert_eq!(asked(&access, &headers), expected, "{headers:?}");
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
        assert_eq!(asked(&access, &twice), 403);
    }

    #[test]
    fn any_address_is_the_services_own_where_it_listens_at_all() {
        let all = Access { is_any_address: true, ..Access::default() };
        for (host, here, everywhere) in [
            ("127.0.0.1:1", 200, 200),
            ("192.0.2.1", 421, 200),
            ("[2001:db8::1]:8080", 421, 200),
            ("evil.example", 421, 421),
            ("127.0.0.1@evil.example", 400, 400),
            ("", 400, 400),
        ] {
            assert_eq!(asked(&Access::default(), &[("host", host)]), here, "{host}");
            assert_eq!(asked(&all, &[("host", host)]), everywhere, "{host}");
        }
    }
}
