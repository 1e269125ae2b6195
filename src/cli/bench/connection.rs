//! One connection: a request out, an answer in, without ever blocking on either. The bytes go
//! through `channel.rs`, which may encrypt them.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::channel::Channel;
use super::workload::Workload;
use crate::cli::client::target::Endpoint;

/// Longest wait for an answer, and for a service that is away to come back.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for a connection to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// First wait before a request is sent again; doubled with each further time, up to `BACK_OFF_MAX`.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// Bytes taken from a socket at once.
const READ_BYTES: usize = 16 << 10;
/// Largest answer to a publish; a longer one is not from a service like this.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What an answer to a publish says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) received: u64,
    pub(super) unique_processed: u64,
    pub(super) duplicate_dropped: u64,
    retry_after: Option<Duration>,
    closes: bool,
    /// Of a redirect: where to.
    pub(super) location: Option<String>,
    /// For a fault: the start of its body.
    pub(super) body: String,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Idle,
    Sending,
    Receiving,
    Waiting { until: Instant },
}

/// What came of a step.
pub(super) enum Step {
    /// The request is still under way.
    Pending,
    /// The request has its answer.
    Answered(Answer),
    /// It was refused for now, and is sent again later.
    Refused,
    /// The connection broke or could not be made; the request is sent again later, which is safe.
    Broken(io::Error),
}

/// A connection, and the request that it carries.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    stream: Option<Channel>,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    state: State,
    attempts: u32,
    /// From when the latency of the request counts.
    pub(super) due: Instant,
    /// When it was first sent.
    pub(super) begun: Instant,
    /// Events in the request.
    pub(super) events: u32,
}

impl Connection {
    pub(super) fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self {
            endpoint,
            stream: None,
            request: Vec::new(),
            written: 0,
            answer: Vec::new(),
            state: State::Idle,
            attempts: 0,
            due: now,
            begun: now,
            events: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// When a waiting request is to be sent again.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// What to wait for, if it waits for its socket.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let flags = match self.state {
            State::Sending => PollFlags::OUT,
            State::Receiving => PollFlags::IN,
            State::Idle | State::Waiting { .. } => return None,
        };
        Some(self.stream.as_ref()?.poll_fd(flags))
    }

    /// Makes a request of `events` events and sends as much of it as the socket takes.
    pub(super) fn begin(&mut self, workload: &mut Workload, events: u32, due: Instant, now: Instant) -> Step {
        self.request.clear();
        let (host, length) = (&self.endpoint.target.host, workload.body_bytes(events));
        // Writing to a Vec cannot fail.
        let _ = write!(
            self.request,
            "POST /publish HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        if let Some(authorization) = &self.endpoint.target.authorization {
            self.request.extend_from_slice(b"Authorization: ");
            self.request.extend_from_slice(authorization.as_bytes());
            self.request.extend_from_slice(b"\r\n");
        }
        self.request.extend_from_slice(b"\r\n");
        workload.write_body(events, &mut self.request);
        (self.events, self.due, self.begun, self.attempts) = (events, due, now, 0);
        self.send(now)
    }

    /// Sends the request from its start.
    pub(super) fn send(&mut self, now: Instant) -> Step {
        self.written = 0;
        self.answer.clear();
        if self.stream.is_none() {
            match Channel::open(&self.endpoint, CONNECT) {
                Ok(stream) => self.stream = Some(stream),
                Err(fault) => return self.broken(fault, now),
            }
        }
        self.state = State::Sending;
        self.advance(now)
    }

    /// Goes on after its socket became ready.
    pub(super) fn advance(&mut self, now: Instant) -> Step {
        let result = match self.state {
            State::Sending => self.write(),
            State::Receiving => self.read(),
            State::Idle | State::Waiting { .. } => Ok(None),
        };
        match result {
            Ok(None) => Step::Pending,
            Ok(Some(answer)) => {
                if answer.closes {
                    self.stream = None;
                }
                if answer.status == 503 {
                    self.wait(answer.retry_after.unwrap_or_default(), now);
                    return Step::Refused;
                }
                self.state = State::Idle;
                Step::Answered(answer)
            }
            Err(fault) => self.broken(fault, now),
        }
    }

    fn write(&mut self) -> io::Result<Option<Answer>> {
        let Some(stream) = &mut self.stream else { return Err(ErrorKind::NotConnected.into()) };
        while self.written < self.request.len() {
            match stream.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        match stream.flush() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            flushed => flushed?,
        }
        // No attempt to read: the answer takes a while, and `poll` says when it is there.
        self.state = State::Receiving;
        Ok(None)
    }

    fn read(&mut self) -> io::Result<Option<Answer>> {
        let Some(stream) = &mut self.stream else { return Err(ErrorKind::NotConnected.into()) };
        let mut chunk = [0; READ_BYTES];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.answer.extend_from_slice(&chunk[..read]);
                    // What TLS has decrypted, the socket no longer tells of.
                    if let Some(answer) = parse(&self.answer)? {
                        return Ok(Some(answer));
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn broken(&mut self, fault: io::Error, now: Instant) -> Step {
        self.stream = None;
        self.wait(Duration::ZERO, now);
        Step::Broken(fault)
    }

    fn wait(&mut self, at_least: Duration, now: Instant) {
        let back_off = BACK_OFF_MIN.saturating_mul(1 << self.attempts.min(16)).min(BACK_OFF_MAX);
        self.attempts += 1;
        // Whoever asks for more than anybody waits is not waited for.
        self.state = State::Waiting { until: now + back_off.max(at_least.min(PATIENCE)) };
    }
}

/// Reads an answer; `None` while it is not whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let malformed = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > READ_BYTES {
            malformed("the head of the answer is too long")
        } else {
            Ok(None)
        };
    };
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 ") {
        return malformed("the answer is not HTTP/1.1");
    }
    let mut answer =
        Answer { status: u16::try_from(number(&head[9..])).unwrap_or_default(), ..Answer::default() };
    let is_redirect = (300..400).contains(&answer.status);
    answer.location = is_redirect.then(|| "nowhere".to_owned());
    let mut length = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(number(value) as usize);
        } else if name.eq_ignore_ascii_case(b"retry-after") {
            answer.retry_after = Some(Duration::from_secs(number(value)));
        } else if is_redirect && name.eq_ignore_ascii_case(b"location") {
            answer.location = Some(String::from_utf8_lossy(value).into_owned());
        } else if name.eq_ignore_ascii_case(b"connection") {
            answer.closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    let Some(length) = length.filter(|length| *length <= ANSWER_BYTES_MAX) else {
        return malformed("the answer has no Content-Length, or too long a one");
    };
    let Some(body) = rest.get(..length) else { return Ok(None) };
    if answer.status == 200 {
        let counts = |name| member(body, name);
        let (Some(received), Some(unique), Some(dropped), Some(_)) = (
            counts(b"\"received\":"),
            counts(b"\"unique_processed\":"),
            counts(b"\"duplicate_dropped\":"),
            counts(b"\"conflicts\":"),
        ) else {
            return malformed("the answer has no counts: is it sekali?");
        };
        (answer.received, answer.unique_processed, answer.duplicate_dropped) = (received, unique, dropped);
    } else {
        let text = String::from_utf8_lossy(body);
        answer.body = text.chars().filter(|c| !c.is_control()).take(300).collect();
    }
    Ok(Some(answer))
}

/// The whole number after the first `name` in the text of a JSON object, if there is one.
fn member(json: &[u8], name: &[u8]) -> Option<u64> {
    let behind = json[memchr::memmem::find(json, name)? + name.len()..].trim_ascii_start();
    let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = behind[digits..].trim_ascii_start().first().is_some_and(|byte| matches!(byte, b',' | b'}'));
    (json.starts_with(b"{") && digits > 0 && ends).then(|| number(behind))
}

/// The decimal number at the start of `text`; 0 if there is none.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |value: u64, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use sekali::clock::{Clock, SystemClock};

    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 72\r\n\r\n{\"received\":3,\"unique_processed\": 2,\"duplicate_dropped\":1,\"conflicts\":0}";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.received), (200, 3));
        assert_eq!((answer.unique_processed, answer.duplicate_dropped), (2, 1));
    }

    #[test]
    fn an_answer_without_its_counts_is_a_fault() {
        let whole = r#"{"received":3,"unique_processed":2,"duplicate_dropped":1,"conflicts":0}"#;
        for body in [
            String::new(),
            "{}".to_owned(),
            "<html>".to_owned(),
            whole.replace(",\"conflicts\":0", ""),
            whole.replace(":3", ":-3"),
            whole.replace(":3", ":3.0"),
            whole.replace(":3", ":null"),
            format!("[{whole}]"),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert!(parse(text.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_refusal_says_how_long_to_wait_and_whether_the_connection_ends() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy";
        let answer = parse(text).unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.retry_after, answer.closes),
            (503, Some(Duration::from_secs(2)), true)
        );
        assert_eq!(answer.body, "busy");
    }

    #[test]
    fn no_answer_makes_a_request_wait_for_longer_than_anybody_waits() {
        let text = b"HTTP/1.1 503 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n";
        let asked = parse(text).unwrap().unwrap().retry_after.unwrap();
        let now = SystemClock.monotonic();
        let endpoint = Endpoint { target: "http://h".parse().unwrap(), trust: None };
        let mut connection = Connection::new(endpoint, now);
        connection.wait(asked, now);
        assert_eq!(connection.waits_until(), Some(now + PATIENCE));
    }

    #[test]
    fn what_is_not_an_answer_with_a_length_is_a_fault() {
        for text in ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
