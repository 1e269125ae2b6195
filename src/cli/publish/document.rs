//! Events in JSON or NDJSON, told apart by how they begin: `[` begins an array; lines that are JSON
//! each are NDJSON; anything else is one document. Arrays and lines are read as they are sent, in
//! flat memory.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::sender::{Sender, TEXT_BYTES_MAX, TOO_LONG};
use crate::cli::exit::{Exit, Failure};

/// Largest document that is no array.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Gives all events of `input` to `sender`. `stands_still` says whether nothing more comes for now.
pub(super) fn feed<R: Read>(
    mut input: BufReader<R>,
    sender: &mut Sender,
    stands_still: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let mut lines = Lines { input: &mut input, number: 0, is_cut: false };
    let Some(mut first) = lines.next_full()? else { return Ok(()) };
    if first.begins_with(b'[') {
        sender.count_by("event");
        return feed_array((&first.text[..]).chain(input), sender);
    }
    // A document may be a single line.
    lines.lengthen(&mut first)?;
    if is_json(&first.text) {
        // What can't have several events in it need not wait for the second line.
        if let Ok(Envelope { events: None }) = serde_json::from_slice(&first.text) {
            return feed_lines([first], lines, sender, stands_still);
        }
        return match lines.next_full()? {
            Some(second) => feed_lines([first, second], lines, sender, stands_still),
            None => feed_document(&first.text, sender),
        };
    }
    match lines.next_full()? {
        Some(second) if is_json(&second.text) && second.begins_with(b'{') => {
            feed_lines([first, second], lines, sender, stands_still)
        }
        second => {
            let mut text = first.text;
            text.extend(second.into_iter().flat_map(|line| line.text));
            input.take(DOCUMENT_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
            feed_document(&text, sender)
        }
    }
}

/// A line with its end, or what is held of a longer one.
struct Line {
    number: u64,
    text: Vec<u8>,
}

impl Line {
    fn begins_with(&self, byte: u8) -> bool {
        self.text.trim_ascii_start().first() == Some(&byte)
    }
}

struct Lines<'a, R> {
    input: &'a mut BufReader<R>,
    number: u64,
    /// Whether the input stands within the last line. Its rest is skipped as late as the next line
    /// is asked for: until then it may belong to an array or a document.
    is_cut: bool,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        if self.is_cut {
            self.input.skip_until(b'\n').map_err(unreadable)?;
        }
        let mut text = Vec::new();
        let mut held = self.input.take(TEXT_BYTES_MAX as u64);
        if held.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        self.is_cut = text.len() == TEXT_BYTES_MAX && !text.ends_with(b"\n");
        self.number += 1;
        if self.number == 1
            && let Some(rest) = text.strip_prefix("\u{feff}".as_bytes())
        {
            text = rest.to_vec();
        }
        Ok(Some(Line { number: self.number, text }))
    }

    /// The next line that is not blank. One that is cut may not be, whatever it begins with.
    fn next_full(&mut self) -> Result<Option<Line>, Failure> {
        while let Some(line) = self.next()? {
            if self.is_cut || !line.text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Reads on in the last line if it is cut, as far as a document goes.
    fn lengthen(&mut self, line: &mut Line) -> Result<(), Failure> {
        if self.is_cut {
            let mut held = self.input.take(DOCUMENT_BYTES_MAX);
            held.read_until(b'\n', &mut line.text).map_err(unreadable)?;
            self.is_cut = !line.text.ends_with(b"\n");
        }
        Ok(())
    }
}

fn feed_lines<R: Read>(
    first: impl IntoIterator<Item = Line>,
    mut lines: Lines<'_, R>,
    sender: &mut Sender,
    stands_still: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    for line in first {
        sender.take(line.number, &line.text)?;
    }
    loop {
        if lines.input.buffer().is_empty() && stands_still() {
            sender.flush()?;
        }
        let Some(line) = lines.next()? else { return Ok(()) };
        sender.take(line.number, &line.text)?;
    }
}

/// An object whose `events` are one or many; without them it may be an event.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Option<&'a RawValue>,
}

/// An event, or an object whose `events` are one or many.
fn feed_document(text: &[u8], sender: &mut Sender) -> Result<(), Failure> {
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
    let bytes_left = Cell::new(TEXT_BYTES_MAX);
    let mut json = serde_json::Deserializer::from_reader(Bounded { input, bytes_left: &bytes_left });
    let array = Array { sender, failure: &mut failure, bytes_left: &bytes_left };
    let fed = array.deserialize(&mut json).and_then(|()| json.end());
    match (failure, fed) {
        (Some(failure), _) => Err(failure),
        (None, Err(e)) => Err(Failure::new(
            Exit::Fault,
            format!("the array can't be read to its end: {e}; what stands before that is sent"),
        )),
        (None, Ok(())) => Ok(()),
    }
}

/// The text of an array. An element is held whole, so one that goes on and on ends the reading.
struct Bounded<'a, R> {
    input: R,
    /// What may still be read for the element under way.
    bytes_left: &'a Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes_left = self.bytes_left.get();
        if bytes_left == 0 {
            return Err(io::Error::other(TOO_LONG));
        }
        let room = out.len().min(bytes_left);
        let read = self.input.read(&mut out[..room])?;
        self.bytes_left.set(bytes_left - read);
        Ok(read)
    }
}

/// Gives each element of an array to the sender as it is read.
struct Array<'a> {
    sender: &'a mut Sender,
    failure: &'a mut Option<Failure>,
    bytes_left: &'a Cell<usize>,
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
        for number in 1.. {
            self.bytes_left.set(TEXT_BYTES_MAX);
            let element = elements.next_element::<Box<RawValue>>();
            let element = element.map_err(|e| A::Error::custom(format_args!("event {number}: {e}")))?;
            let Some(element) = element else { break };
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
fn unreadable(e: io::Error) -> Failure {
    Failure::new(Exit::Fault, format!("cannot read the input: {e}"))
}
