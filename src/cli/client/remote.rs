//! A running service as the client commands see it: requests that are tried again while that may
//! help.
//!
//! Every request here may be sent twice: reads change nothing, and publishing, acknowledging and
//! moving a consumer are idempotent.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use sekali::limits::{CLIENT_RECEIPT_BYTES_MAX, CLIENT_REFUSAL_BYTES_MAX};
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{Method, Request};

use super::exchange::{Answer, Miss, Route};
use super::refusal;
use super::target::ServiceUrl;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::interrupt::Interrupt;
use crate::cli::terminal::output::say;

/// All characters but those that RFC 3986 leaves unreserved.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest wait for an answer, and between two signs of life of a tail.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before the second try; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Retries of a command whose user waits for one answer: only a connection that was closed
/// meanwhile is worth another try.
const RETRIES_OF_A_LOOK: u32 = 1;
/// Retries of what takes longer, and may outlast a restart of the service.
const RETRIES: u32 = 10;

/// Where the service is, and how long it is tried.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Patience {
    #[command(flatten)]
    service: ServiceUrl,
    /// How often a request is tried again while the service is away or busy, with longer and longer
    /// pauses [default: 10; of a command that reads, 1 until the service has answered once]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000))]
    retries: Option<u32>,
}

/// A service, and how patiently it is asked.
#[derive(Debug)]
pub(crate) struct Remote {
    route: Route,
    agent: Agent,
    /// The agent for streams, which may last.
    patient: Agent,
    /// How often it is tried again once it has answered.
    retries: u32,
    /// How often before that: a service that never was there is no restart to wait for.
    retries_at_first: u32,
    /// Whether it has answered, in whatever way.
    is_met: bool,
    /// What ends the trying; without it, Ctrl-C ends the process.
    interrupt: Option<Interrupt>,
    /// Tries that failed, of all requests.
    pub(crate) retried: u64,
}

/// Pauses between tries, each twice as long as the one before, up to the longest.
pub(crate) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    /// How long the next one is: at least as long as was asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        // Spread, so that many clients of a service that comes back don't come at once.
        let spread = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        asked.map_or(spread, |asked| asked.max(spread))
    }

    /// How long the first `count` are, all together and more or less.
    fn expected(count: u32) -> Duration {
        let lengths = (0..count).map(|turn| FIRST_PAUSE.saturating_mul(1 << turn.min(16)).min(LONGEST_PAUSE));
        lengths.fold(Duration::ZERO, Duration::saturating_add)
    }
}

impl Remote {
    /// A service of which one answer is wanted.
    pub(crate) fn look(service: ServiceUrl) -> Result<Self, Failure> {
        Self::new(Patience { service, retries: Some(RETRIES_OF_A_LOOK) }, RETRIES_OF_A_LOOK)
    }

    /// A service of which much is read: its restart is waited for, but not one that never was
    /// there.
    pub(crate) fn reader(patience: Patience) -> Result<Self, Failure> {
        Self::new(patience, RETRIES_OF_A_LOOK)
    }

    /// A service that much is sent to: nothing is tried again once the interrupt is raised.
    pub(crate) fn sender(patience: Patience, interrupt: Interrupt) -> Result<Self, Failure> {
        Ok(Self { interrupt: Some(interrupt), ..Self::new(patience, RETRIES)? })
    }

    fn new(patience: Patience, at_first: u32) -> Result<Self, Failure> {
        let Patience { service, retries } = patience;
        let route = Route::new(service.endpoint()?)?;
        let timeout = Some(PATIENCE);
        let agent = route.agent(|config| {
            config.timeout_send_body(timeout).timeout_recv_response(timeout).timeout_recv_body(timeout)
        });
        let patient = route.agent(|config| config.timeout_recv_response(timeout).timeout_per_read(timeout));
        Ok(Self {
            route,
            agent,
            patient,
            retries: retries.unwrap_or(RETRIES),
            retries_at_first: retries.unwrap_or(at_first),
            is_met: false,
            interrupt: None,
            retried: 0,
        })
    }

    /// The way to the service.
    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// The body of a 200, of at most `bytes_max` bytes.
    pub(crate) fn get(&mut self, path: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let answer = self.ask(path, bytes_max)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(self.refused(path, &answer)) }
    }

    /// `GET path`. Any status but those that pass is an answer.
    pub(crate) fn ask(&mut self, path: &str, bytes_max: u64) -> Result<Answer, Failure> {
        let request = Request::get(self.route.uri(path)).body(Vec::new()).map_err(unusable)?;
        self.whole(&request, bytes_max)
    }

    /// `GET path` of what the service lets wait for: the answer is not waited for once the
    /// interrupt is raised.
    pub(crate) fn wait_for(
        &mut self,
        path: &str,
        bytes_max: u64,
        interrupt: &Interrupt,
    ) -> Result<Answer, Failure> {
        let request = Request::get(self.route.uri(path)).body(Vec::new()).map_err(unusable)?;
        let (route, agent) = (self.route.clone(), self.agent.clone());
        self.tried(|| {
            let (route, agent, request) = (route.clone(), agent.clone(), request.clone());
            match interrupt.unless_raised(move || route.whole(&agent, &request, bytes_max)) {
                Ok(answer) => answer.map(Ok),
                Err(failure) => Ok(Err(failure)),
            }
        })?
    }

    /// Publishes lines, and has conflicts named if that is wanted. Any status but those that pass is
    /// an answer.
    pub(crate) fn publish(&mut self, lines: Vec<u8>, names_conflicts: bool) -> Result<Answer, Failure> {
        let path = match names_conflicts {
            true => "/publish?partial=true&on_conflict=reject",
            false => "/publish?partial=true",
        };
        let request =
            Request::post(self.route.uri(path)).header("content-type", "application/x-ndjson").body(lines);
        self.whole(&request.map_err(unusable)?, CLIENT_RECEIPT_BYTES_MAX)
    }

    /// Sends a JSON object. Any status but those that pass is an answer.
    pub(crate) fn send(&mut self, method: Method, path: &str, body: &Value) -> Result<Answer, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(self.route.uri(path))
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes());
        self.whole(&request.map_err(unusable)?, CLIENT_RECEIPT_BYTES_MAX)
    }

    /// Opens a stream of server-sent events that begins after the id `last`.
    pub(crate) fn stream(&mut self, path: &str, last: &str) -> Result<impl io::Read + use<>, Failure> {
        let request = Request::get(self.route.uri(path))
            .header("accept", "text/event-stream")
            .header("last-event-id", last)
            .body(Vec::new());
        let request = request.map_err(unusable)?;
        let (route, agent) = (self.route.clone(), self.patient.clone());
        let answer = self.tried(|| route.open(&agent, &request))?;
        if answer.status().as_u16() != 200 {
            let answer = route.take(answer, CLIENT_REFUSAL_BYTES_MAX);
            return Err(answer.map_or_else(
                |miss| match miss {
                    Miss::Untrusted(why) => unreachable(&route, &why),
                    miss => Failure::new(Exit::Fault, format!("{route}: {miss}")),
                },
                |answer| self.refused(path, &answer),
            ));
        }
        let kind =
            answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("no type");
        if !kind.starts_with("text/event-stream") {
            return Err(self.strange(path, "a tail of events", format_args!("it is {kind}")));
        }
        Ok(answer.into_body().into_reader())
    }

    fn whole(&mut self, request: &Request<Vec<u8>>, bytes_max: u64) -> Result<Answer, Failure> {
        let (route, agent) = (self.route.clone(), self.agent.clone());
        self.tried(|| route.whole(&agent, request, bytes_max))
    }

    /// Tries until it succeeds, can't, was tried often enough or is interrupted.
    fn tried<T>(&mut self, mut attempt: impl FnMut() -> Result<T, Miss>) -> Result<T, Failure> {
        let (mut pauses, mut tries) = (Pauses::default(), 0);
        let mut told = String::new();
        loop {
            let (why, pause) = match attempt() {
                Ok(done) => {
                    self.is_met = true;
                    return Ok(done);
                }
                Err(Miss::Lasting(why)) => return Err(Failure::new(Exit::Fault, why)),
                Err(Miss::Untrusted(why)) => return Err(unreachable(&self.route, &why)),
                Err(Miss::Passing { why, pause, is_answered }) => {
                    self.is_met |= is_answered;
                    (why, pause)
                }
            };
            let retries = if self.is_met { self.retries } else { self.retries_at_first };
            let route = &self.route;
            if tries >= retries {
                return Err(Failure::new(Exit::Unreachable, format!("gave up on {route}: {why}")));
            }
            // Each new reason, as the pause may be of another kind; a look goes unsaid, unless it
            // was asked to wait.
            if why != told && (retries > RETRIES_OF_A_LOOK || pause.is_some()) {
                match pause {
                    Some(pause) => {
                        say(format_args!("{route}: {why}; trying again in {} s", pause.as_secs()));
                    }
                    None => {
                        let left = retries - tries;
                        let seconds = Pauses::expected(left).as_secs().max(1);
                        say(format_args!(
                            "{route}: {why}; up to {left} more tries in about {seconds} s; trying again"
                        ));
                    }
                }
                told = why;
            }
            tries += 1;
            self.retried += 1;
            let pause = pauses.next(pause);
            match &self.interrupt {
                Some(interrupt) => interrupt.pause(pause)?,
                None => std::thread::sleep(pause),
            }
        }
    }

    /// The failure of a request that the service refuses.
    pub(crate) fn refused(&self, path: &str, answer: &Answer) -> Failure {
        let told = refusal::sentence(&answer.body);
        let place = self.route.place(path_alone(path));
        Failure::new(Exit::Fault, format!("{place} answers {}: {told}", answer.status))
    }

    /// The failure of an answer that can't be from this service.
    pub(crate) fn strange(&self, path: &str, wanted: &str, why: impl Display) -> Failure {
        let place = self.route.place(path_alone(path));
        Failure::new(
            Exit::Fault,
            format!("{place} answers something that is not {wanted} ({why}): is it sekali?"),
        )
    }
}

fn unreachable(route: &Route, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot reach {route}: {why}"))
}

/// A path without its query, which may be long.
fn path_alone(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(fault: ureq::http::Error) -> Failure {
    Failure::new(Exit::Fault, format!("cannot ask that: {fault}"))
}

/// A query value or a path segment, percent-encoded.
pub(crate) fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}
