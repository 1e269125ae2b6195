//! Refusals, in FastAPI's shape, or in that of RFC 9457 for clients that accept
//! `application/problem+json`. They never echo what was sent.

use hyper::header::{ACCEPT, ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::headers::header;
use super::json::push_string;
use crate::error::{Error, ErrorKind};
use crate::http::wire::answer::{Answer, with_type};
use crate::limits::FAULTS_LISTED_MAX;

/// One part of the path to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loc {
    Name(&'static str),
    Index(usize),
}

/// Something wrong in a request, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) loc: Vec<Loc>,
    pub(crate) msg: String,
    pub(crate) kind: &'static str,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: Box<str>,
    faults: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// One more member of the body: its name, and its value in JSON.
    member: Option<(&'static str, Box<[u8]>)>,
    /// What is for the operator only.
    cause: Option<Box<str>>,
}

impl Problem {
    /// A refusal that says `message`: what is wrong and what to do.
    pub(crate) fn new(status: StatusCode, message: impl Into<Box<str>>) -> Self {
        Self {
            status,
            message: message.into(),
            faults: Vec::new(),
            headers: Vec::new(),
            member: None,
            cause: None,
        }
    }

    /// A 422 that lists faults; more than can be listed are cut.
    pub(crate) fn invalid(mut faults: Vec<Fault>) -> Self {
        faults.truncate(FAULTS_LISTED_MAX);
        let message = "the request holds something invalid; nothing of it was stored";
        Self { faults, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message) }
    }

    /// The same faults and headers under another status and sentence.
    pub(crate) fn saying(self, status: StatusCode, message: impl Into<Box<str>>) -> Self {
        Self { status, message: message.into(), ..self }
    }

    /// Adds a member to the body; `value` is JSON.
    pub(crate) fn with_member(self, name: &'static str, value: Vec<u8>) -> Self {
        Self { member: Some((name, value.into())), ..self }
    }

    /// What the operator should know beyond what the sender is told.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says that the same request may succeed a second later.
    pub(crate) fn retry_later(self) -> Self {
        self.with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Says that the same request may succeed once the operator has freed space.
    fn retry_much_later(self) -> Self {
        self.with(RETRY_AFTER, HeaderValue::from_static("30"))
    }

    /// Ends the connection: what follows on it can't be told apart from the rest of this request.
    pub(crate) fn close(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// `request_id` names the request, for clients that read no headers.
    pub(crate) fn into_answer(self, as_problem: bool, request_id: &str) -> Answer {
        let mut body = Vec::new();
        if as_problem {
            body.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
            push_string(&mut body, self.status.canonical_reason().unwrap_or("Error"));
            body.extend_from_slice(format!(",\"status\":{},\"detail\":", self.status.as_u16()).as_bytes());
            push_string(&mut body, &self.message);
            if !self.faults.is_empty() {
                body.extend_from_slice(b",\"errors\":");
                push_faults(&mut body, &self.faults);
            }
            body.extend_from_slice(b",\"request_id\":");
            push_string(&mut body, request_id);
        } else {
            body.extend_from_slice(b"{\"detail\":");
            if self.faults.is_empty() {
                push_string(&mut body, &self.message);
            } else {
                push_faults(&mut body, &self.faults);
            }
        }
        if let Some((name, value)) = &self.member {
            body.push(b',');
            push_string(&mut body, name);
            body.push(b':');
            body.extend_from_slice(value);
        }
        body.push(b'}');
        let kind = if as_problem { "application/problem+json" } else { "application/json" };
        let mut answer: Response<_> = with_type(self.status, HeaderValue::from_static(kind), body);
        for (name, value) in self.headers {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

fn push_faults(body: &mut Vec<u8>, faults: &[Fault]) {
    body.push(b'[');
    for (number, fault) in faults.iter().enumerate() {
        body.extend_from_slice(if number == 0 { b"{" } else { b",{" });
        push_fault(body, fault);
    }
    body.push(b']');
}

/// Appends the members of a fault, and the end of its object.
pub(crate) fn push_fault(body: &mut Vec<u8>, fault: &Fault) {
    body.extend_from_slice(b"\"loc\":[");
    for (number, loc) in fault.loc.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        match loc {
            Loc::Name(name) => push_string(body, name),
            Loc::Index(index) => body.extend_from_slice(index.to_string().as_bytes()),
        }
    }
    body.extend_from_slice(b"],\"msg\":");
    push_string(body, &fault.msg);
    body.extend_from_slice(b",\"type\":");
    push_string(body, fault.kind);
    body.push(b'}');
}

/// Whether the client asks for RFC 9457.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    header(headers, &ACCEPT).is_some_and(|accept| accept.contains("application/problem+json"))
}

/// The path answers other methods.
pub(crate) fn not_allowed(allow: &str) -> Problem {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path answers {allow} only"));
    match HeaderValue::from_str(allow) {
        Ok(allow) => problem.with(ALLOW, allow),
        Err(_) => problem,
    }
}

/// The body can't be read to its end.
pub(crate) fn broken_body() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body broke off or is malformed; send it again").close()
}

/// The body as it was sent is too large.
pub(crate) fn body_too_large(max: usize) -> Problem {
    let message = format!("the body has more than {max} bytes: send fewer events at once");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::BadCursor => StatusCode::BAD_REQUEST,
            ErrorKind::ExpiredCursor => StatusCode::GONE,
            ErrorKind::NoConsumer => StatusCode::NOT_FOUND,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Overloaded | ErrorKind::Rebuilding | ErrorKind::Unsure | ErrorKind::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Locked | ErrorKind::Unusable => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            // The sentence names files of this machine: it is for the operator.
            let problem = Self::new(status, "the store could not answer; its log says why");
            return Self { cause: Some(error.to_string().into()), ..problem };
        }
        let problem = Self::new(status, error.to_string());
        match status {
            StatusCode::SERVICE_UNAVAILABLE => problem.retry_later(),
            StatusCode::INSUFFICIENT_STORAGE => problem.retry_much_later(),
            _ => problem,
        }
    }
}
