//! Server-sent events, which go on after the last one where the connection broke.

use std::io::{BufRead, BufReader, Read, Write};

use sekali::limits::{CLIENT_LINE_BYTES_MAX, CLIENT_PAGE_BYTES_MAX};

use super::format::{Asked, Format};
use crate::cli::client::answers::{Event, event_page};
use crate::cli::client::remote::{Pauses, Remote, escape};
use crate::cli::exit::Failure;
use crate::cli::terminal::output::{say, unwritable};

/// Writes events as they arrive, until there were `limit` of them.
pub(super) fn follow(
    remote: &mut Remote,
    (filters, asked): (&str, &Asked),
    newest: Option<&Newest>,
    limit: Option<u64>,
    out: &mut impl Write,
    mut format: Format,
) -> Result<(), Failure> {
    let cursor = newest.and_then(|newest| newest.cursor.as_deref()).unwrap_or_default();
    let path = format!("/events?{}", format!("{filters}{cursor}").trim_start_matches('&'));
    let (mut left, mut last, mut pauses) = (limit.unwrap_or(u64::MAX), String::new(), Pauses::default());
    while left > 0 {
        let mut stream = EventStream { input: BufReader::new(remote.stream(&path, &last)?) };
        while left > 0 {
            let Some(message) = stream.next() else {
                say(format_args!("{}: the connection ended; going on", remote.route()));
                std::thread::sleep(pauses.next(None));
                break;
            };
            if let Some(event) = message.data {
                pauses = Pauses::default();
                let strange = |why: String| remote.strange(&path, "a tail of events", why);
                if !newest.is_some_and(|newest| newest.is(&event)) {
                    let rendered = format.render(std::iter::once(event.as_str()), asked).map_err(strange)?;
                    out.write_all(rendered.as_bytes()).map_err(unwritable)?;
                    left -= 1;
                }
                // Output is flushed as soon as nothing more can be read at once.
                if stream.input.buffer().is_empty() || left == 0 {
                    out.flush().map_err(unwritable)?;
                }
            }
            last = message.id.unwrap_or(last);
        }
    }
    Ok(())
}

/// The newest event when following began: what is stored from then on comes after it.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// The query's part that begins at that event: every cursor names the first event not yet
    /// given, in whichever order.
    cursor: Option<String>,
    topic: String,
    event_id: String,
}

impl Newest {
    /// The newest event of a topic, or of all.
    pub(super) fn of(remote: &mut Remote, topic: Option<&str>) -> Result<Self, Failure> {
        let of_topic = topic.map(|topic| format!("&topic={}", escape(topic))).unwrap_or_default();
        let path = format!("/events?limit=1&order=desc{of_topic}");
        let body = remote.get(&path, CLIENT_PAGE_BYTES_MAX)?;
        let strange = |why: String| remote.strange(&path, "a page of events", why);
        let page = event_page(&body, 1).map_err(strange)?;
        let cursor = page.next_cursor.map(|next| format!("&cursor={}", escape(&next)));
        let Some(event) = page.events.0.first() else { return Ok(Self { cursor, ..Self::default() }) };
        let event: Event<'_> = serde_json::from_str(event.get()).map_err(|e| strange(e.to_string()))?;
        Ok(Self { cursor, topic: event.topic.into_owned(), event_id: event.event_id.into_owned() })
    }

    fn is(&self, text: &str) -> bool {
        serde_json::from_str::<Event<'_>>(text)
            .is_ok_and(|event| event.topic == self.topic && event.event_id == self.event_id)
    }
}

#[derive(Default)]
struct Message {
    id: Option<String>,
    data: Option<String>,
}

struct EventStream<R> {
    input: BufReader<R>,
}

impl<R: Read> EventStream<R> {
    /// The next message; `None` where the stream ends or breaks, within a message too.
    fn next(&mut self) -> Option<Message> {
        let mut message = Message::default();
        loop {
            let mut line = String::new();
            (&mut self.input).take(CLIENT_LINE_BYTES_MAX).read_line(&mut line).ok()?;
            let line = line.strip_suffix('\n')?;
            match line.split_once(": ") {
                Some(("id", id)) => message.id = Some(id.to_owned()),
                Some(("data", data)) => message.data = Some(data.to_owned()),
                _ if line.is_empty() && (message.id.is_some() || message.data.is_some()) => {
                    return Some(message);
                }
                _ => {}
            }
        }
    }
}
