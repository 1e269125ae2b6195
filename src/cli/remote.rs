//! A running service as the client commands see it: requests that are tried again while that may help.
//!
//! Every request here may be sent twice: reads change nothing, and publishing is idempotent.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

use super::interrupt::Interrupt;
use super::{Exit, Failure, say};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer, and for a service that is away to come back between tries.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before the second try; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A look is for somebody who waits: only a connection that was closed meanwhile is worth another try.
const RETRIES_OF_A_LOOK: u32 = 1;
/// What may be otherwise a moment later.
const PASSING: [u16; 7] = [408, 429, 500, 502, 503, 504, 507];

/// The base URL of a service: `http://host[:port]`.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As it stands in a `Host` header.
    pub(super) host: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("use http://host:port (TLS is not spoken here)")?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty()
            || host.contains(|c: char| "/?#@".contains(c) || c.is_whitespace() || c.is_control())
        {
            return Err("use http://host:port, without a path".to_owned());
        }
        Ok(Self { host: host.to_owned() })
    }
}

impl Target {
    /// The service that listens on `listen`, seen from the same machine.
    pub(super) fn local(mut listen: SocketAddr) -> Self {
        if listen.ip().is_unspecified() {
            let loopback =
                if listen.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            listen.set_ip(loopback);
        }
        Self { host: listen.to_string() }
    }

    /// Opens a connection to the first address that answers.
    pub(super) fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let has_port = self.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let addresses = match has_port {
            true => self.host.to_socket_addrs()?,
            false => format!("{}:80", self.host).to_socket_addrs()?,
        };
        let mut fault = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    /// Status and body of `GET path`, tried once. `timeout` bounds all of it.
    pub(super) fn get(&self, path: &str, timeout: Duration) -> Result<(u16, String), String> {
        let agent = agent(|config| config.timeout_global(Some(timeout)));
        let mut answer = agent.get(format!("http://{}{path}", self.host)).call().map_err(said)?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(said)?;
        Ok((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A fault, as a person would say it.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn said(fault: ureq::Error) -> String {
    match fault {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        fault => fault.to_string(),
    }
}

/// Statuses are answers here, not faults.
fn agent(set: impl FnOnce(Config) -> Config) -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(CONNECT));
    set(config).user_agent(concat!("sekali/", env!("CARGO_PKG_VERSION"))).build().into()
}

/// Where the service is.
#[derive(clap::Args, Debug)]
pub(super) struct Place {
    /// Base URL of the service
    #[arg(long, env = "SEKALI_URL", default_value = "http://127.0.0.1:8080", hide_env_values = true)]
    url: Target,
}

/// Where the service is, and how long it is tried.
#[derive(clap::Args, Debug)]
pub(super) struct Patience {
    #[command(flatten)]
    place: Place,
    /// How often a request is tried again while the service is away or busy, with longer and longer pauses
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=1_000))]
    retries: u32,
}

/// A service.
#[derive(Debug)]
pub(super) struct Remote {
    agent: Agent,
    /// For streams, which may last.
    patient: Agent,
    target: Target,
    retries: u32,
    /// What ends the trying; without it, Ctrl-C ends the process.
    interrupt: Option<Interrupt>,
    /// Tries that failed, of all requests.
    pub(super) retried: u64,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Pauses between tries, each twice as long as the one before, up to the longest.
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    /// How long the next one is: at least as long as was asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        // Spread, so that many clients of a service that comes back don't come at once.
        let spread = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        asked.map_or(spread, |asked| asked.max(spread))
    }
}

/// An attempt that failed, and may not the next time.
struct Passing {
    why: String,
    /// What the service asked for.
    pause: Option<Duration>,
}

impl From<Place> for Remote {
    fn from(place: Place) -> Self {
        Patience { place, retries: RETRIES_OF_A_LOOK }.into()
    }
}

impl From<Patience> for Remote {
    fn from(patience: Patience) -> Self {
        let timeout = Some(PATIENCE);
        let agent = agent(|config| {
            config.timeout_send_body(timeout).timeout_recv_response(timeout).timeout_recv_body(timeout)
        });
        let patient = self::agent(|config| config.timeout_recv_response(timeout));
        let Patience { place: Place { url: target }, retries } = patience;
        Self { agent, patient, target, retries, interrupt: None, retried: 0 }
    }
}

impl Remote {
    /// One that is not tried again once the interrupt is raised.
    pub(super) fn interruptible(patience: Patience, interrupt: Interrupt) -> Self {
        Self { interrupt: Some(interrupt), ..patience.into() }
    }

    /// Where it is.
    pub(super) fn host(&self) -> &str {
        &self.target.host
    }

    /// The body of a 200.
    pub(super) fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = Request::get(self.uri(path)).body(Vec::new());
        let answer = self.whole(&request.map_err(unusable)?)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(self.refused(answer.status, &answer.body)) }
    }

    /// Publishes lines. Any status but those that pass is an answer.
    pub(super) fn publish(&mut self, lines: Vec<u8>) -> Result<Answer, Failure> {
        let request = Request::post(self.uri("/publish?partial=true"))
            .header("content-type", "application/x-ndjson")
            .body(lines);
        self.whole(&request.map_err(unusable)?)
    }

    /// Opens a stream of server-sent events behind `last`.
    pub(super) fn tail(&mut self, path: &str, last: &str) -> Result<impl io::Read + use<>, Failure> {
        let request = Request::get(self.uri(path))
            .header("accept", "text/event-stream")
            .header("last-event-id", last)
            .body(Vec::new());
        let request = request.map_err(unusable)?;
        let agent = self.patient.clone();
        let answer = self.tried(|| open(&agent, &request))?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        if status == 200 {
            return Ok(body.into_reader());
        }
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        Err(self.refused(status, &text))
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.target.host)
    }

    fn whole(&mut self, request: &Request<Vec<u8>>) -> Result<Answer, Failure> {
        let agent = self.agent.clone();
        self.tried(|| {
            let mut answer = open(&agent, request)?;
            let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
            let body = body.map_err(|e| Passing { why: said(e), pause: None })?;
            Ok(Answer { status: answer.status().as_u16(), body })
        })
    }

    /// Tries until it succeeds, was tried often enough or is interrupted.
    fn tried<T>(&mut self, mut attempt: impl FnMut() -> Result<T, Passing>) -> Result<T, Failure> {
        let (mut pauses, mut tries_left) = (Pauses::default(), self.retries);
        let mut told = String::new();
        loop {
            let Passing { why, pause } = match attempt() {
                Ok(done) => return Ok(done),
                Err(passing) => passing,
            };
            let host = &self.target.host;
            if tries_left == 0 {
                let sentence = format!("gave up on http://{host}: {why}");
                return Err(Failure::new(Exit::Unreachable, sentence));
            }
            // Each new reason, as the pause may be of another kind; a look goes unsaid, unless it was asked to wait.
            if why != told && (self.retries > RETRIES_OF_A_LOOK || pause.is_some()) {
                match pause {
                    Some(pause) => {
                        say(format_args!("http://{host}: {why}; trying again in {} s", pause.as_secs()));
                    }
                    None => say(format_args!("http://{host}: {why}; trying again")),
                }
                told = why;
            }
            tries_left -= 1;
            self.retried += 1;
            let pause = pauses.next(pause);
            match &self.interrupt {
                Some(interrupt) => interrupt.pause(pause)?,
                None => std::thread::sleep(pause),
            }
        }
    }

    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let sentence = format!("http://{} answers {status}: {}", self.target.host, told(body));
        Failure::new(Exit::Fault, sentence)
    }
}

/// Sends a request once, and takes the head of its answer.
fn open(agent: &Agent, request: &Request<Vec<u8>>) -> Result<Response<ureq::Body>, Passing> {
    let answer = agent.run(request.clone()).map_err(|e| Passing { why: said(e), pause: None })?;
    let status = answer.status().as_u16();
    if !PASSING.contains(&status) {
        return Ok(answer);
    }
    let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = answer.into_body().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
    let why = format!("it answers {status}: {}", told(&body));
    Err(Passing { why, pause: asked.map(|seconds: u64| Duration::from_secs(seconds).min(PATIENCE)) })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(fault: ureq::http::Error) -> Failure {
    Failure::new(Exit::Fault, format!("cannot ask that: {fault}"))
}

/// What a refusal says, fit for a terminal.
pub(super) fn told(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match &value["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(faults) => faults.iter().filter_map(fault).collect::<Vec<_>>().join("; "),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// One fault of FastAPI's shape: where it is, and what.
pub(super) fn fault(fault: &Value) -> Option<String> {
    let message = fault["msg"].as_str()?;
    match fault["loc"].as_array().and_then(|loc| loc.last()) {
        Some(Value::String(field)) if field != "body" => Some(format!("{field}: {message}")),
        _ => Some(message.to_owned()),
    }
}

/// A query value or a path segment, percent-encoded.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        let host = |listen: &str| Target::local(listen.parse().unwrap()).host;
        assert_eq!(host("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(host("[::]:80"), "[::1]:80");
        assert_eq!(host("10.1.2.3:80"), "10.1.2.3:80");
    }

    #[test]
    fn only_a_plain_base_url_is_a_target() {
        for good in ["http://localhost:8080", "http://h/", "http://[::1]:1"] {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in
            ["https://h", "localhost:8080", "http://", "http://h/path", "http://a b", "http://h\r\nX: y"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
