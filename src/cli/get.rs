//! `sekali get`: did it arrive?

use clap::builder::NonEmptyStringValueParser;
use sekali::limits::CLIENT_LINE_BYTES_MAX;
use serde_json::Value;

use super::client::answers::Event;
use super::client::remote::{Remote, escape};
use super::client::target::ServiceUrl;
use super::exit::{Exit, Failure};
use super::terminal::output::print;
use super::terminal::text::for_stdout;

/// How the service says that there is no such event. Any other 404 is one of something else.
const ABSENT: &str = "no event with this id is stored in this topic";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali get orders.paid order-1001
  sekali get orders.paid order-1001 | jq .payload

Exit codes: 0 it is stored and printed, 10 it is not stored, 1 refused, 9 the service could not be reached.")]
pub(super) struct Arguments {
    #[command(flatten)]
    service: ServiceUrl,
    /// The topic of the event
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// The id of the event
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    event_id: String,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut remote = Remote::look(self.service)?;
        let path = format!("/events/{}/{}", escape(&self.topic), escape(&self.event_id));
        let answer = remote.ask(&path, CLIENT_LINE_BYTES_MAX)?;
        match answer.status {
            200 => {}
            404 if is_absent(&answer.body) => {
                let sentence = format!("no event {:?} is stored in topic {:?}", self.event_id, self.topic);
                return Err(Failure::new(Exit::Absent, sentence));
            }
            _ => return Err(remote.refused(&path, &answer)),
        }
        let strange = |why: String| remote.strange(&path, "this event", why);
        let text = String::from_utf8(answer.body).map_err(|e| strange(e.to_string()))?;
        let event: Event<'_> = serde_json::from_str(&text).map_err(|e| strange(e.to_string()))?;
        if event.topic != self.topic || event.event_id != self.event_id {
            return Err(strange("it has another topic or id".to_owned()));
        }
        // Between tokens a blank is as good as a line's end.
        print(for_stdout(&text.replace(['\n', '\r'], " ")))?;
        Ok(Exit::Success)
    }
}

fn is_absent(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["detail"] == ABSENT)
}
