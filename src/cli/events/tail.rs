//! Following: server-sent events, taken up again behind the last one where the connection broke.

use std::io::{BufRead, BufReader, Read, Write};

use super::super::remote::{Pauses, Remote};
use super::super::{Failure, broken, say};
use super::shape::Shape;

/// Longest line that a tail may send: an event with all its fields.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Writes events as they arrive, until there were `limit` of them.
pub(super) fn follow(
    remote: &mut Remote,
    filters: &str,
    limit: Option<u64>,
    out: &mut impl Write,
    mut shape: Shape,
) -> Result<(), Failure> {
    let path = format!("/events?{}", filters.trim_start_matches('&'));
    let (mut left, mut last, mut pauses) = (limit.unwrap_or(u64::MAX), String::new(), Pauses::default());
    while left > 0 {
        let mut tail = Tail { input: BufReader::new(remote.tail(&path, &last)?) };
        while left > 0 {
            let Some(message) = tail.next() else {
                say(format_args!("http://{}: the connection ended; going on", remote.host()));
                std::thread::sleep(pauses.next(None));
                break;
            };
            if let Some(event) = message.data {
                pauses = Pauses::default();
                shape.write(out, std::iter::once(event.as_str())).map_err(broken)?;
                left -= 1;
                // As soon as there is nothing more to be read at once.
                if tail.input.buffer().is_empty() || left == 0 {
                    out.flush().map_err(broken)?;
                }
            }
            last = message.id.unwrap_or(last);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Message {
    id: Option<String>,
    data: Option<String>,
}

struct Tail<R> {
    input: BufReader<R>,
}

impl<R: Read> Tail<R> {
    /// The next message; `None` where the tail ends or breaks, within a message too.
    fn next(&mut self) -> Option<Message> {
        let mut message = Message::default();
        loop {
            let mut line = String::new();
            (&mut self.input).take(LINE_BYTES_MAX).read_line(&mut line).ok()?;
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
