//! A chunked body: where it ends, and whether its framing is what RFC 9112 says.

use super::Broken;
use crate::limits::{CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX};

/// Digits of the largest size that is told apart from nonsense.
const DIGITS_MAX: usize = 15;

/// Where a reader is in a chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Of the chunk, as its line says.
    size: u64,
    digits: usize,
    /// Bytes of the line that is being read; of trailers, all of them.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Blanks after a size.
    Blank,
    Extension,
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a line of trailers.
    Trailers,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Chunks {
    /// How many of the next bytes belong to the body; then whether that was its end, or it is
    /// broken after them.
    pub(super) fn take(&mut self, next: &[u8]) -> (usize, Result<bool, Broken>) {
        let mut at = 0;
        while at < next.len() {
            if let State::Data(left) = self.state {
                let step = usize::try_from(left).map_or(next.len() - at, |left| left.min(next.len() - at));
                at += step;
                self.state = match left - step as u64 {
                    0 => State::DataCr,
                    left => State::Data(left),
                };
                continue;
            }
            let Some(state) = self.step(next[at]) else { return (at, Err(Broken)) };
            self.state = state;
            at += 1;
            if state == State::End {
                return (at, Ok(true));
            }
        }
        (at, Ok(false))
    }

    /// What follows a byte that is no data; `None` if it must not stand here.
    fn step(&mut self, byte: u8) -> Option<State> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Size | State::Blank, b'\r' | b'\t' | b' ' | b';') if self.digits == 0 => None,
            (State::Size | State::Blank | State::Extension, b'\r') => Some(State::SizeLf),
            (State::Size | State::Blank, b'\t' | b' ') => self.more(State::Blank, CHUNK_LINE_BYTES_MAX),
            (State::Size | State::Blank, b';') => self.more(State::Extension, CHUNK_LINE_BYTES_MAX),
            (State::Extension, byte) if is_text(byte) => self.more(State::Extension, CHUNK_LINE_BYTES_MAX),
            (State::SizeLf, b'\n') => {
                (self.digits, self.length) = (0, 0);
                Some(if self.size == 0 { State::Trailers } else { State::Data(self.size) })
            }
            (State::DataCr, b'\r') => Some(State::DataLf),
            (State::DataLf, b'\n') => {
                self.size = 0;
                Some(State::Size)
            }
            (State::Trailers, b'\r') => Some(State::EndLf),
            // A line that begins with a blank would go on with the one before it.
            (State::Trailers, b' ' | b'\t') => None,
            (State::Trailer, b'\r') => self.more(State::TrailerLf, HEAD_BYTES_MAX),
            (State::Trailers | State::Trailer, byte) if is_text(byte) => {
                self.more(State::Trailer, HEAD_BYTES_MAX)
            }
            (State::TrailerLf, b'\n') => self.more(State::Trailers, HEAD_BYTES_MAX),
            (State::EndLf, b'\n') => Some(State::End),
            _ => None,
        }
    }

    fn digit(&mut self, digit: u8) -> Option<State> {
        self.digits += 1;
        let value = char::from(digit).to_digit(16)?;
        self.size = self.size << 4 | u64::from(value);
        (self.digits <= DIGITS_MAX).then_some(State::Size)
    }

    fn more(&mut self, state: State, most: usize) -> Option<State> {
        self.length += 1;
        (self.length <= most).then_some(state)
    }
}

/// Whether a byte may stand within a line.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
