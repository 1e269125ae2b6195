//! The head of a request, line by line: whether it has one meaning, and how its body is framed.

use memchr::memchr;

use super::{Refusal, Start};
use crate::limits::{BLANK_LINES_MAX, HEAD_BYTES_MAX};

/// Largest length that is told apart from nonsense: no body is that long.
const LENGTH_MAX: u64 = i64::MAX as u64;

const CONTROLS: &str = "the head holds a control character, such as NUL or a bare CR";

/// What has been read of a head.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line that is being read begins.
    line: usize,
    /// Where the search for its end goes on.
    searched: usize,
    /// Empty lines that came before it.
    blanks: usize,
    is_http_10: bool,
    length: Option<u64>,
    coding: Option<Coding>,
}

/// What `Transfer-Encoding` says, over all of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Nothing,
    Chunked,
    /// Chunked twice, or with a comma too many.
    Malformed,
    Unknown,
}

impl Head {
    /// Whether the body of a whole head is chunked.
    pub(super) fn is_chunked(&self) -> bool {
        self.coding.is_some()
    }

    /// The length that a whole head declares.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Goes on with a head of which `received` begins with what was received before.
    pub(super) fn look(&mut self, received: &[u8]) -> Result<Start, Refusal> {
        while let Some(at) = memchr(b'\n', &received[self.searched..]) {
            let (begin, end) = (self.line, self.searched + at);
            let Some((b'\r', line)) = received[begin..end].split_last() else {
                return Err(Refusal::bad("a line of the head ends with a bare LF; it must end with CR LF"));
            };
            if begin == 0 && line.is_empty() {
                self.blanks += 1;
                if self.blanks > BLANK_LINES_MAX {
                    return Err(Refusal::bad("there are too many empty lines before the request"));
                }
                self.searched = 0;
                return Ok(Start::Blank(end + 1));
            }
            if end >= HEAD_BYTES_MAX {
                return Err(Refusal::too_large());
            }
            (self.line, self.searched) = (end + 1, end + 1);
            if line.is_empty() {
                self.check()?;
                return Ok(Start::Head(end + 1));
            }
            if holds_controls(line) {
                return Err(Refusal::bad(CONTROLS));
            }
            if begin == 0 {
                check_target(line)?;
                self.is_http_10 = line.ends_with(b"HTTP/1.0");
            } else {
                self.field(line)?;
            }
        }
        // What can't be a head, such as the greeting of another protocol, is not waited for.
        let rest = &received[self.searched..];
        if holds_controls(rest.strip_suffix(b"\r").unwrap_or(rest)) {
            return Err(Refusal::bad(CONTROLS));
        }
        self.searched = received.len() - usize::from(rest.ends_with(b"\r"));
        if received.len() >= HEAD_BYTES_MAX {
            return Err(Refusal::too_large());
        }
        Ok(Start::Partial)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::bad("a header goes on in a second line, which is obsolete: send it in one"));
        }
        let Some(colon) = memchr(b':', line) else {
            return Err(Refusal::bad("a line of the head has no colon"));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if matches!(name.last(), None | Some(b' ' | b'\t')) {
            return Err(Refusal::bad("a header's name must not be empty or followed by a blank"));
        }
        // Names are told apart by their lengths first: few are that long.
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value)?;
        } else if name.len() == 17 && name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value);
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        match length.filter(|length| is_number && *length <= LENGTH_MAX) {
            Some(_) if self.length.is_some() => Err(Refusal::bad("there is more than one Content-Length")),
            Some(length) => {
                self.length = Some(length);
                Ok(())
            }
            None => Err(Refusal::bad("Content-Length must be a number of bytes")),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        let mut coding = self.coding.unwrap_or(Coding::Nothing);
        for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            coding = match coding {
                _ if name.is_empty() => Coding::Malformed,
                _ if !name.eq_ignore_ascii_case(b"chunked") => Coding::Unknown,
                Coding::Nothing => Coding::Chunked,
                Coding::Unknown => Coding::Unknown,
                Coding::Chunked | Coding::Malformed => Coding::Malformed,
            };
        }
        self.coding = Some(coding);
    }

    /// What can be said of a head only when all its lines are there.
    fn check(&self) -> Result<(), Refusal> {
        let Some(coding) = self.coding else { return Ok(()) };
        if self.length.is_some() {
            return Err(Refusal::bad("a request has either a Content-Length or a Transfer-Encoding"));
        }
        if self.is_http_10 {
            return Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding"));
        }
        match coding {
            Coding::Chunked => Ok(()),
            Coding::Unknown => Err(Refusal::unknown_coding()),
            Coding::Nothing | Coding::Malformed => {
                Err(Refusal::bad("Transfer-Encoding must be chunked, and say so once"))
            }
        }
    }
}

/// Refuses what hyper would leave out of a request line: a fragment, and a scheme of its own.
fn check_target(line: &[u8]) -> Result<(), Refusal> {
    if memchr(b'#', line).is_some() {
        return Err(Refusal::bad("a fragment, from # on, is not sent: write a # of a name as %23"));
    }
    let target = line.splitn(3, |byte| *byte == b' ').nth(1).unwrap_or_default();
    let scheme = target.strip_prefix(b"/").map_or(memchr(b':', target), |_| None);
    match scheme.map(|end| (&target[..end], &target[end..])) {
        Some((scheme, rest))
            if rest.starts_with(b"://")
                && !scheme.eq_ignore_ascii_case(b"http")
                && !scheme.eq_ignore_ascii_case(b"https") =>
        {
            Err(Refusal::bad("the request is for another protocol than HTTP"))
        }
        _ => Ok(()),
    }
}

/// Whether a line has a byte that no head may hold. It is looked at as a whole, so that the
/// compiler can look at many bytes at once.
fn holds_controls(line: &[u8]) -> bool {
    line.iter().fold(false, |found, byte| found | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f))
}
