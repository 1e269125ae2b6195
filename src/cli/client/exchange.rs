//! One request and its answer: no redirect is followed, and no more of an answer is held than its
//! kind can have.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use sekali::limits::CLIENT_REFUSAL_BYTES_MAX;
use sekali::server::SPEAKS_TLS;
use ureq::http::header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION};
use ureq::http::{Request, Response};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::absolute;
use super::proxy::{self, Via};
use super::refusal;
use super::target::{Endpoint, Target};
use super::trust::{self, Trust};
use crate::cli::exit::{Exit, Failure};

type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait that a service may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What may be otherwise a moment later.
const PASSING: [u16; 7] = [408, 429, 500, 502, 503, 504, 507];

/// A service, and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) target: Target,
    trust: Option<Trust>,
    via: Option<Via>,
}

/// An answer of which everything was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A request that has no answer that can be used.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It would not be otherwise the next time.
    Lasting(String),
    /// The two sides don't speak TLS alike, or one does not believe the other. That would not be
    /// otherwise either.
    Untrusted(String),
    /// It may be otherwise the next time.
    Passing {
        why: String,
        /// What the service asked for.
        pause: Option<Duration>,
        /// Whether there was an answer, of whatever kind.
        is_answered: bool,
    },
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lasting(why) | Self::Untrusted(why) | Self::Passing { why, .. } => f.write_str(why),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target.url())?;
        match &self.via {
            Some(via) => write!(f, " through {via}"),
            None => Ok(()),
        }
    }
}

impl Route {
    /// The way that the environment says.
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        let Endpoint { target, trust } = endpoint;
        let via = proxy::of(&target, |name| std::env::var(name).ok());
        let via = via.map_err(|why| {
            Failure::new(Exit::Configuration, format!("cannot reach {}: {why}", target.url()))
        })?;
        Ok(Self { target, trust, via })
    }

    /// The way past every proxy.
    pub(crate) fn direct(endpoint: Endpoint) -> Self {
        let Endpoint { target, trust } = endpoint;
        Self { target, trust, via: None }
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        self.target.url() + path
    }

    /// What a path there is called in a sentence.
    pub(crate) fn place(&self, path: &str) -> String {
        let uri = self.uri(path);
        self.via.as_ref().map_or_else(|| uri.clone(), |via| format!("{uri} through {via}"))
    }

    /// The proxy that gets requests themselves, not a tunnel to the service.
    fn relay(&self) -> Option<&Proxy> {
        let proxy = self.via.as_ref().map(|via| &via.proxy)?;
        (!self.target.is_tls && proxy.protocol() == ProxyProtocol::Http).then_some(proxy)
    }

    /// Statuses and redirects are answers here, not faults.
    pub(crate) fn agent(&self, set: impl FnOnce(Config) -> Config) -> Agent {
        let mut config = Agent::config_builder();
        if let Some(trust) = &self.trust {
            config = config.tls_config(trust.for_ureq());
        }
        let relay = self.relay();
        let tunnel = self.via.as_ref().filter(|_| relay.is_none());
        let config = config
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .proxy(tunnel.map(|via| via.proxy.clone()));
        let config = set(config).user_agent(concat!("sekali/", env!("CARGO_PKG_VERSION"))).build();
        match relay {
            Some(proxy) => absolute::agent(config, proxy, self.target.url()),
            None => config.into(),
        }
    }

    /// `GET path`, tried once. `timeout` bounds all of it.
    pub(crate) fn get(&self, path: &str, timeout: Duration, bytes_max: u64) -> Result<Answer, Miss> {
        let agent = self.agent(|config| config.timeout_global(Some(timeout)));
        let request = Request::get(self.uri(path)).body(Vec::new());
        let answer = self.send(&agent, &request.map_err(|e| Miss::Lasting(e.to_string()))?)?;
        self.take(answer, bytes_max)
    }

    /// Sends a request once, and takes the whole answer; a status that may pass is none.
    pub(crate) fn whole(
        &self,
        agent: &Agent,
        request: &Request<Vec<u8>>,
        bytes_max: u64,
    ) -> Result<Answer, Miss> {
        let answer = self.open(agent, request)?;
        self.take(answer, bytes_max)
    }

    /// Sends a request once, and takes the head of its answer; a status that may pass is none.
    pub(crate) fn open(
        &self,
        agent: &Agent,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<ureq::Body>, Miss> {
        let answer = self.send(agent, request)?;
        let status = answer.status().as_u16();
        if !PASSING.contains(&status) {
            return Ok(answer);
        }
        let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = asked.map(|seconds: u64| Duration::from_secs(seconds).min(PAUSE_MAX));
        // What it says is worth telling; if that can't be read, the status is.
        let body = self.take(answer, CLIENT_REFUSAL_BYTES_MAX).map(|answer| answer.body).unwrap_or_default();
        let why = format!("it answers {status}: {}", refusal::sentence(&body));
        Err(Miss::Passing { why, pause, is_answered: true })
    }

    fn send(&self, agent: &Agent, request: &Request<Vec<u8>>) -> Result<Response<ureq::Body>, Miss> {
        let mut request = request.clone();
        if let Some(authorization) = &self.target.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(authorization) = self.relay().and_then(absolute::authorization) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let uri = self.place(request.uri().path());
        let answer = agent.run(request).map_err(|e| self.miss(e))?;
        if !answer.status().is_redirection() {
            return Ok(answer);
        }
        let location = answer.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
        let to = location.map_or("nowhere".to_owned(), |to| to.chars().take(500).collect());
        Err(Miss::Lasting(redirected(uri, answer.status().as_u16(), &to)))
    }

    /// The body of an answer. Of a refusal its beginning is enough; of what was asked for, too much
    /// is none.
    pub(crate) fn take(&self, mut answer: Response<ureq::Body>, bytes_max: u64) -> Result<Answer, Miss> {
        let status = answer.status().as_u16();
        let is_wanted = answer.status().is_success();
        let held = if is_wanted { bytes_max + 1 } else { CLIENT_REFUSAL_BYTES_MAX };
        // As large as it can get, of which only what is written takes memory: growing would take
        // twice as much.
        let length = answer.body().content_length().unwrap_or(held).min(held);
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let read = answer.body_mut().as_reader().take(held).read_to_end(&mut body);
        read.map_err(|e| self.miss(e.into()))?;
        if !self.target.is_tls && body == SPEAKS_TLS.as_bytes() {
            return Err(Miss::Untrusted(format!("it speaks TLS: ask https://{}", self.target.host)));
        }
        if is_wanted && body.len() as u64 > bytes_max {
            let why = format!("{self} answers more than the {bytes_max} bytes that this can have");
            return Err(Miss::Lasting(why));
        }
        Ok(Answer { status, body })
    }

    fn miss(&self, fault: ureq::Error) -> Miss {
        if let ureq::Error::Io(e) = &fault
            && let Some(why) = trust::refusal(e)
        {
            return Miss::Untrusted(why);
        }
        let why = match fault {
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => match self.via {
                None => "connection refused; is it running? --url or SEKALI_URL names another".to_owned(),
                Some(_) => "the proxy refuses the connection; NO_PROXY names hosts that need none".to_owned(),
            },
            ureq::Error::Io(e) => e.to_string(),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::ConnectProxyFailed(why) => match why.strip_prefix("proxy server responded ") {
                // The number stands there twice.
                Some(status) => format!("the proxy answers {}", status.split('/').next().unwrap_or_default()),
                None => why,
            },
            fault => fault.to_string(),
        };
        Miss::Passing { why, pause: None, is_answered: false }
    }
}

/// A redirect, which is an answer of something else: what is sent there might be stored nowhere.
pub(crate) fn redirected(from: impl fmt::Display, status: u16, to: &str) -> String {
    format!(
        "{from} redirects ({status}) to {to}, and redirects are not followed: name the service itself with --url"
    )
}
