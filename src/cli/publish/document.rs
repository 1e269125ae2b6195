//! Events in JSON or NDJSON, told apart by how they begin: `[` begins an array; lines that are JSON each are NDJSON;
//! anything else is one document. Arrays and lines are read as they are sent, in flat memory.

use std::fmt;
use std::io::{BufRead, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::{Exit, Failure};
use super::sender::Sender;

/// Longest line that is held; none as long is an event.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Largest document that is no array.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Gives all events of `input` to `sender`.
pub(super) fn feed(mut input: impl BufRead, sender: &mut Sender) -> Result<(), Failure> {
    let mut lines = Lines { input: &mut input, number: 0 };
    let Some(first) = lines.next_full()? else { return Ok(()) };
    if first.text.first() == Some(&b'[') {
        sender.count_by("event");
        return feed_array((&first.text[..]).chain(input), sender);
    }
    if is_json(&first.text) {
        return match lines.next_full()? {
            Some(second) => feed_lines([first, second], lines, sender),
            None => feed_document(&first.text, sender),
        };
    }
    match lines.next_full()? {
        Some(second) if is_json(&second.text) && second.text.first() == Some(&b'{') => {
            feed_lines([first, second], lines, sender)
        }
        second => {
            let mut text = first.text;
            text.extend(second.into_iter().flat_map(|line| line.text));
            input.take(DOCUMENT_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
            feed_document(&text, sender)
        }
    }
}

/// A line with its end.
struct Line {
    number: u64,
    text: Vec<u8>,
}

struct Lines<'a, R> {
    input: &'a mut R,
    number: u64,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut text = Vec::new();
        let mut held = self.input.take(LINE_BYTES_MAX as u64);
        if held.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        if text.len() == LINE_BYTES_MAX && !text.ends_with(b"\n") {
            self.input.skip_until(b'\n').map_err(unreadable)?;
        }
        self.number += 1;
        if self.number == 1
            && let Some(rest) = text.strip_prefix("\u{feff}".as_bytes())
        {
            text = rest.to_vec();
        }
        Ok(Some(Line { number: self.number, text }))
    }

    /// The next line that is not blank, without blanks before it.
    fn next_full(&mut self) -> Result<Option<Line>, Failure> {
        while let Some(line) = self.next()? {
            let text = line.text.trim_ascii_start();
            if !text.is_empty() {
                return Ok(Some(Line { text: text.to_vec(), ..line }));
            }
        }
        Ok(None)
    }
}

fn feed_lines<R: BufRead>(
    first: [Line; 2],
    mut lines: Lines<'_, R>,
    sender: &mut Sender,
) -> Result<(), Failure> {
    for line in first {
        feed_line(&line, sender)?;
    }
    while let Some(line) = lines.next()? {
        feed_line(&line, sender)?;
    }
    Ok(())
}

fn feed_line(line: &Line, sender: &mut Sender) -> Result<(), Failure> {
    if line.text.len() == LINE_BYTES_MAX {
        sender.refuse(line.number, "the line is far too long for an event");
        return Ok(());
    }
    sender.take(line.number, &line.text)
}

/// An event, or an object whose `events` are one or many.
fn feed_document(text: &[u8], sender: &mut Sender) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        events: Option<&'a RawValue>,
    }
    sender.count_by("event");
    if !is_json(text) {
        let what = "the input is neither lines of JSON nor a JSON document of at most 256 MiB; for lines, one event a line";
        return Err(Failure::new(Exit::Fault, what));
    }
    match serde_json::from_slice::<Envelope<'_>>(text) {
        Ok(Envelope { events: Some(events) }) if events.get().starts_with('[') => {
            feed_array(events.get().as_bytes(), sender)
        }
        Ok(Envelope { events: Some(event) }) => sender.take(1, event.get().as_bytes()),
        _ => sender.take(1, text),
    }
}

fn feed_array(input: impl Read, sender: &mut Sender) -> Result<(), Failure> {
    let mut failure = None;
    let mut json = serde_json::Deserializer::from_reader(input);
    let fed = Array { sender, failure: &mut failure }.deserialize(&mut json).and_then(|()| json.end());
    match (failure, fed) {
        (Some(failure), _) => Err(failure),
        (None, Err(e)) => Err(Failure::new(
            Exit::Fault,
            format!("the array is not JSON: {e}; what stands before that is sent"),
        )),
        (None, Ok(())) => Ok(()),
    }
}

/// Gives each element of an array to the sender as it is read.
struct Array<'a> {
    sender: &'a mut Sender,
    failure: &'a mut Option<Failure>,
}

impl<'de> DeserializeSeed<'de> for Array<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            number += 1;
            if let Err(failure) = self.sender.take(number, element.get().as_bytes()) {
                *self.failure = Some(failure);
                return Err(A::Error::custom("sending failed"));
            }
        }
        Ok(())
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(e: std::io::Error) -> Failure {
    Failure::new(Exit::Fault, format!("cannot read the input: {e}"))
}
