//! Lines of a stream, gathered until there are enough to commit; then decoded.

use bytes::{BufMut, Bytes, BytesMut};

use crate::event::Batch;
use crate::http::body::content::strip_mark;
use crate::http::publish::decode::Collector;
use crate::http::publish::faults;
use crate::http::wire::problem::Fault;
use crate::limits::{CHUNK_BYTES, CHUNK_LINES, FAULTS_LISTED_MAX, LINE_BYTES_MAX};

/// Whole lines that were not cut yet, and the begin of the next one.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// Where the last whole line ends.
    whole: usize,
    /// Whole lines.
    count: usize,
    /// Lines that were not blank, of the whole stream.
    filled: u64,
    /// The rest of a line that is too long is dropped.
    is_skipping: bool,
}

impl Lines {
    /// Takes a piece of the stream.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        if self.is_skipping {
            let Some(end) = memchr::memchr(b'\n', piece) else { return };
            piece = &piece[end + 1..];
            self.is_skipping = false;
        }
        let from = self.buffer.len();
        self.buffer.extend_from_slice(piece);
        for end in memchr::memchr_iter(b'\n', piece) {
            self.end_line(from + end + 1);
        }
        if self.buffer.len() - self.whole > LINE_BYTES_MAX {
            // Enough to see that it is too long.
            self.buffer.truncate(self.whole + LINE_BYTES_MAX + 1);
            self.end();
            self.is_skipping = true;
        }
    }

    /// The stream is over: what is left is a line.
    pub(crate) fn end(&mut self) {
        if self.buffer.len() > self.whole {
            self.buffer.put_u8(b'\n');
            self.end_line(self.buffer.len());
        }
    }

    fn end_line(&mut self, end: usize) {
        self.filled += u64::from(!self.buffer[self.whole..end].trim_ascii().is_empty());
        self.whole = end;
        self.count += 1;
    }

    /// How many lines of the stream were not blank.
    pub(crate) fn filled(&self) -> u64 {
        self.filled
    }

    /// Bytes of the line that has begun.
    pub(crate) fn begun(&self) -> usize {
        self.buffer.len() - self.whole
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_full(&self) -> bool {
        self.whole >= CHUNK_BYTES || self.count >= CHUNK_LINES
    }

    /// All whole lines, and how many.
    pub(crate) fn cut(&mut self) -> (Bytes, usize) {
        let lines = self.buffer.split_to(std::mem::take(&mut self.whole)).freeze();
        (lines, std::mem::take(&mut self.count))
    }
}

/// Decoded lines.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) batch: Batch,
    /// The line of each event of the batch.
    pub(crate) numbers: Vec<usize>,
    /// Lines of the stream up to the end of this chunk, or up to the first fault if that ends it.
    pub(crate) through: usize,
    /// What is wrong with which lines; no more than are listed.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// Lines that are invalid.
    pub(crate) rejected: u64,
}

impl Chunk {
    /// Decodes `text`, whole lines that follow line `before`. An invalid line ends it, unless it is
    /// to go on.
    pub(crate) fn decode(text: &Bytes, before: usize, goes_on: bool) -> Self {
        let mut events = Collector::new(text.clone());
        let mut chunk = Self { through: before, ..Self::default() };
        for line in text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n') {
            let (number, line) = (chunk.through + 1, strip_mark(line));
            if !line.trim_ascii().is_empty() {
                if line.len() <= LINE_BYTES_MAX && events.take(line) {
                    chunk.numbers.push(number);
                } else {
                    chunk.rejected += 1;
                    // What is not listed is not looked for: thousands of bad lines come in a few
                    // compressed bytes.
                    if chunk.faults.len() < FAULTS_LISTED_MAX {
                        let faults = faults::find_in_line(line, number);
                        chunk.faults.extend(faults.into_iter().map(|fault| (number, fault)));
                    }
                    if !goes_on {
                        break;
                    }
                }
            }
            chunk.through = number;
        }
        chunk.batch = events.finish();
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        for piece in pieces {
            lines.push(piece);
        }
        lines.end();
        let (text, count) = lines.cut();
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert_eq!(lines.len(), count);
        lines
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let stream = b"one\ntwo\r\n\n\nthree\nfour";
        let whole = cut(&[stream]);
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[5], b"four\n");
        for at in 0..stream.len() {
            assert_eq!(cut(&[&stream[..at], &stream[at..]]), whole);
        }
        assert_eq!(cut(&[b"one\n"]).len(), 1, "nothing behind the last line's end is no line");
        assert_eq!(cut(&[]).len(), 0);
    }

    #[test]
    fn a_line_that_is_too_long_is_held_in_part_and_those_behind_it_whole() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let more = vec![b'y'; 10 * LINE_BYTES_MAX];
        for pieces in [
            vec![b"one\n".as_slice(), &long, &more, b"z\nthree\n"],
            vec![b"one\n".as_slice(), &[&long[..], &more].concat(), b"\nthree\n"],
        ] {
            let lines = cut(&pieces);
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[1].len(), LINE_BYTES_MAX + 2);
            assert_eq!(lines[2], b"three\n");
        }
        assert_eq!(cut(&[&long[1..], b"\n"])[0].len(), LINE_BYTES_MAX + 1, "the longest line is taken");
    }

    #[test]
    fn a_chunk_ends_before_its_first_fault_or_goes_on() {
        let good = |id: u32| {
            format!(r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":""}}"#)
        };
        let text = Bytes::from(format!("{}\n\r\n{}\r\n{{}}\n{}\n", good(1), good(2), good(3)));
        let chunk = Chunk::decode(&text, 10, false);
        assert_eq!((chunk.numbers, chunk.through, chunk.rejected), (vec![11, 13], 13, 1));
        assert!(chunk.faults.iter().all(|(line, _)| *line == 14));
        let chunk = Chunk::decode(&text, 10, true);
        assert_eq!((chunk.numbers, chunk.through, chunk.rejected), (vec![11, 13, 15], 15, 1));
    }
}
