//! Well-formed requests with wrong contents, each over both protocols: the answers of this
//! service's own contract.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http1::event;
use crate::support::service::Service;

/// Method, path, headers, body, and the statuses that are right.
struct Case {
    name: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    statuses: &'static [u16],
    stores: u64,
}

fn get(name: &'static str, path: impl Into<String>, statuses: &'static [u16]) -> Case {
    let (path, method) = (path.into(), Method::GET);
    Case { name, method, path, headers: Vec::new(), body: Vec::new(), statuses, stores: 0 }
}

fn post(name: &'static str, body: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Case {
    let headers = vec![("content-type", "application/json".to_owned())];
    Case { method: Method::POST, headers, body: body.into(), ..get(name, "/publish", statuses) }
}

impl Case {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }
}

fn cases(protocol: &str) -> Vec<Case> {
    let mut cases = reads();
    cases.extend(methods());
    cases.extend(browsers());
    cases.extend(bodies(protocol));
    cases
}

fn reads() -> Vec<Case> {
    let long = "a".repeat(5_000);
    vec![
        get("limit of 0", "/events?limit=0", &[422]),
        get("a negative limit", "/events?limit=-1", &[422]),
        get("a limit that is no number", "/events?limit=ten", &[422]),
        get("a limit beyond all numbers", "/events?limit=99999999999999999999999", &[422]),
        get("a limit beyond the largest page", "/events?limit=10001", &[422]),
        get("an empty limit", "/events?limit=", &[422]),
        get("a limit with an exponent", "/events?limit=1e3", &[422]),
        get("a cursor that is none", "/events?cursor=nonsense", &[400]),
        get("a cursor of 5,000 bytes", format!("/events?cursor={long}"), &[400]),
        get("a cursor with a NUL", "/events?cursor=%00", &[400]),
        get("an order that is none", "/events?order=sideways", &[422]),
        get("a time that is none", "/events?since=yesterday", &[422]),
        get("a time that never was", "/events?since=2026-02-30T00:00:00Z", &[422]),
        get("a name that is no UTF-8", "/events?topic=%ff", &[422]),
        get("half an escape in a query", "/events?topic=%4", &[200, 422]),
        get("a parameter that nobody knows", "/events?_=1234", &[200]),
        get("a topic of 5,000 bytes", format!("/events?topic={long}"), &[200, 422]),
        get("an id that climbs", "/events/t/..%2f..%2fetc", &[404]),
        get("an id with a NUL", "/events/t/%00", &[404]),
        get("an id that is no UTF-8", "/events/t/%ff%fe", &[404]),
        get("an id of 5,000 bytes", format!("/events/t/{long}"), &[404]),
        get("a path below a path", "/events/t/1/2", &[404]),
        get("topics with a bad limit", "/topics?limit=-1", &[422]),
        get("topics with a bad cursor", "/topics?cursor=%00", &[400, 422]),
        get("nothing there", "/nothing", &[404]),
        get("an expectation that nobody has", "/healthz", &[200, 417]).with("expect", "200-ok"),
        get("a form that is not made", "/events", &[406]).with("accept", "image/png"),
        get("a range is not served in parts", "/events", &[200]).with("range", "bytes=0-1"),
        get("a last event id that is none", "/events", &[400])
            .with("accept", "text/event-stream")
            .with("last-event-id", "nonsense"),
    ]
}

fn methods() -> Vec<Case> {
    let none = &[405][..];
    vec![
        get("GET of what is published to", "/publish", none),
        get("PUT of an event", "/publish", none).by(Method::PUT),
        get("DELETE of an event", "/events/t/1", none).by(Method::DELETE),
        get("POST of a listing", "/events", none).by(Method::POST),
        get("PATCH of totals", "/stats", none).by(Method::PATCH),
        get("POST of health", "/healthz", none).by(Method::POST),
        get("DELETE of figures", "/metrics", none).by(Method::DELETE),
        get("TRACE", "/stats", none).by(Method::TRACE),
    ]
}

/// What a page of another origin may make a browser send.
fn browsers() -> Vec<Case> {
    let evil = |name, case: Case| Case { name, ..case.with("origin", "https://evil.example") };
    vec![
        evil("a publish from another origin", post("", event("browser", 1), &[403])),
        evil(
            "the same without a type",
            Case { headers: Vec::new(), ..post("", event("browser", 2), &[403]) },
        ),
        evil("the same as text", post("", event("browser", 3), &[403]).with("content-type", "text/plain")),
        evil("a listing from another origin", get("", "/events", &[403])),
        evil("totals from another origin", get("", "/stats", &[403])),
        evil("a tail from another origin", get("", "/events", &[403]).with("accept", "text/event-stream")),
        post("an origin that is none", event("browser", 4), &[403]).with("origin", "null"),
        post("loopback, another port", event("browser", 5), &[403]).with("origin", "http://127.0.0.1:1"),
        post("a request that says it is from another site", event("browser", 6), &[403])
            .with("sec-fetch-site", "cross-site"),
        post("a request that says it is from the same site", event("browser", 7), &[403])
            .with("sec-fetch-site", "same-site"),
        get("a preflight", "/publish", &[403, 405])
            .by(Method::OPTIONS)
            .with("origin", "https://evil.example")
            .with("access-control-request-method", "POST"),
    ]
}

fn bodies(protocol: &str) -> Vec<Case> {
    let event = event(protocol, 1);
    let deep = event.replace('}', &format!(r#","payload":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000)));
    let field = |name: &str, value: &str| {
        let (start, rest) = event.split_once(&format!("\"{name}\":\"")).unwrap();
        let rest = rest.split_once('"').unwrap().1;
        format!("{start}\"{name}\":{value}{rest}")
    };
    let long = format!("\"{}\"", "x".repeat(300));
    vec![
        post("no body", "", &[422]),
        post("white space alone", " \r\n\t ", &[422]),
        post("no JSON", "topic=t", &[422]),
        post("a number", "1", &[422]),
        post("null", "null", &[422]),
        post("half an event", &event.as_bytes()[..20], &[422]),
        post("two events without a comma", format!("{event}{event}"), &[422]),
        post("an event with nothing in it", "{}", &[422]),
        post("nested 5,000 deep", deep, &[422]),
        post("brackets without end", "[".repeat(100_000), &[422]),
        post("an object of objects without end", "{\"a\":".repeat(100_000), &[422]),
        post("bytes that are no UTF-8", b"{\"topic\":\"\xff\"}", &[422]),
        post("a topic that is a number", field("topic", "7"), &[422]),
        post("an empty topic", field("topic", "\"\""), &[422]),
        post("a topic with a NUL", field("topic", "\"a\\u0000b\""), &[422]),
        post("a topic with a line end", field("topic", "\"a\\nb\""), &[422]),
        post("a topic of 300 bytes", field("topic", &long), &[422]),
        post("an id of 300 bytes", field("event_id", &long), &[422]),
        post("an id that is null", field("event_id", "null"), &[422]),
        post("half of a surrogate pair in an id", field("event_id", "\"\\ud83d\""), &[422]),
        post("a source of 300 bytes", field("source", &long), &[422]),
        post("a time that is none", field("timestamp", "\"soon\""), &[422]),
        post("a time that is a list", field("timestamp", "[]"), &[422]),
        post("a type that is not taken", event.clone(), &[415]).with("content-type", "application/msgpack"),
        post("a type that is none", event.clone(), &[415]).with("content-type", "nonsense"),
        post("an encoding that is not taken", event.clone(), &[415]).with("content-encoding", "br"),
        post("an encoding that it has not", event.clone(), &[400]).with("content-encoding", "gzip"),
        post("two encodings", event.clone(), &[415]).with("content-encoding", "gzip, zstd"),
        Case { stores: 1, ..post("a good event", event, &[200]) },
    ]
}

const PROTOCOLS: [&str; 2] = ["hostile-api-1", "hostile-api-2"];

pub fn count() -> usize {
    PROTOCOLS.iter().map(|protocol| cases(protocol).len()).sum()
}

pub fn stored() -> u64 {
    PROTOCOLS.iter().flat_map(|protocol| cases(protocol)).map(|case| case.stores).sum()
}

/// Sends each case over each protocol; the number of cases, and what came back otherwise than
/// expected.
pub fn run(service: &Service) -> (usize, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut faults = Vec::new();
    for (is_http2, protocol) in [false, true].into_iter().zip(PROTOCOLS) {
        for case in cases(protocol) {
            let name = format!("{protocol}, {} ({} {:.60})", case.name, case.method, case.path);
            let status = runtime.block_on(ask(service, is_http2, &case));
            if !case.statuses.contains(&status.as_u16()) {
                faults.push(format!("{name}: expected {:?}, got {status}", case.statuses));
            }
        }
    }
    (count(), faults)
}

async fn ask(service: &Service, is_http2: bool, case: &Case) -> StatusCode {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(service.addr).await.unwrap());
    let uri = if is_http2 { format!("{}{}", service.url(), case.path) } else { case.path.clone() };
    let mut request = Request::builder().method(case.method.clone()).uri(uri);
    if !is_http2 {
        request = request.header("host", service.addr.to_string());
    }
    for (name, value) in &case.headers {
        request = request.header(*name, value);
    }
    let body = Full::new(Bytes::from(case.body.clone())).map_err(|never: Infallible| match never {});
    let request = request.body(body).unwrap();
    // The body of the answer is not read: that of a tail has no end.
    if is_http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let status = sender.send_request(request).await.unwrap().status();
        driving.abort();
        status
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let status = sender.send_request(request).await.unwrap().status();
        driving.abort();
        status
    }
}
