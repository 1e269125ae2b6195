//! A server on a store of its own, and readers of its streams.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::support::process::Start;
use crate::support::service::Service;

pub const LINES: &str = "application/x-ndjson";
pub const TAIL: &str = "text/event-stream";
/// Time in which something must come.
const PATIENCE: Duration = Duration::from_secs(60);

pub type Stream = BufReader<Box<dyn Read + Send>>;

/// Generations that hold more than one page of a stream.
pub fn service() -> Service {
    Service::started(|start| Start { generation_events: 1_000, generation_bytes: 16 << 20, ..start })
}

impl Service {
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Otherwise this client asks for more than the test does.
        if !headers.iter().any(|(name, _)| *name == "accept-encoding") {
            request = request.header("accept-encoding", "identity");
        }
        let config = Agent::config_builder().timeout_recv_body(Some(PATIENCE)).http_status_as_error(false);
        Agent::from(config.build()).run(request.body(()).unwrap()).unwrap()
    }

    pub fn open(&self, query: &str, form: &str) -> Stream {
        self.open_with(query, form, &[])
    }

    pub fn open_with(&self, query: &str, form: &str, headers: &[(&str, &str)]) -> Stream {
        let headers = [&[("accept", form)], headers].concat();
        let answer = self.ask("GET", &format!("/events?{query}"), &headers);
        assert_eq!(answer.status(), 200, "{query}");
        BufReader::new(Box::new(answer.into_body().into_reader()))
    }

    pub fn page(&self, query: &str) -> Value {
        self.ask("GET", &format!("/events?{query}"), &[]).body_mut().read_json().unwrap()
    }

    /// All events that a query lists, by pages.
    pub fn pages(&self, query: &str) -> Vec<Value> {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.page(&format!("{query}{cursor}"));
            events.extend(page["events"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }
}

/// All lines of an export, which ends.
pub fn lines(export: impl BufRead) -> Vec<Value> {
    export.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}
