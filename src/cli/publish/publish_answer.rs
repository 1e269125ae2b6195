//! The answer to a chunk of lines, held against what was sent: anything can answer 200, and only a
//! answer that adds up says that events are stored.

use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::answers::Counts;
use crate::cli::client::exchange::Answer;

/// What became of the lines of a chunk.
#[derive(Debug)]
pub(super) struct PublishAnswer {
    pub(super) counts: Counts,
    /// Lines that were refused, of those that are settled; without the one that ended the chunk
    /// early.
    pub(super) rejected: u64,
    /// Faults of the refused lines, each with its line.
    pub(super) errors: Vec<Value>,
    /// Lines that need not be sent again.
    pub(super) settled: usize,
    /// The line that ended the chunk early, counted from 1: the last one that is settled.
    pub(super) refused: Option<usize>,
}

/// Why an answer does not say what became of the lines.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is a refusal of everything.
    Refused,
    /// It can't be the answer to what was sent: a sentence.
    Strange(String),
}

/// As it stands in an answer of 207: with what was refused.
#[derive(Deserialize)]
struct Partial {
    rejected: u64,
    errors: Vec<Value>,
}

/// In a refusal: how far the chunk got.
#[derive(Deserialize)]
struct Refusal {
    progress: Progress,
}

#[derive(Deserialize)]
struct Progress {
    lines: usize,
    received: u64,
    unique_processed: u64,
    duplicate_dropped: u64,
    conflicts: u64,
    rejected: u64,
}

impl PublishAnswer {
    /// The answer to `sent` lines.
    pub(super) fn read(answer: &Answer, sent: usize) -> Result<Self, Unread> {
        let strange = |e: serde_json::Error| Unread::Strange(e.to_string());
        let whole = |rejected, errors| {
            let counts: Counts = serde_json::from_slice(&answer.body).map_err(strange)?;
            Self { counts, rejected, errors, settled: sent, refused: None }.checked(sent)
        };
        match answer.status {
            200 => whole(0, Vec::new()),
            207 => {
                let Partial { rejected, errors } = serde_json::from_slice(&answer.body).map_err(strange)?;
                whole(rejected, errors)
            }
            // 1xx to 3xx, but for a 200 with another number: nobody said that anything is stored.
            status if status < 400 => Err(Unread::Strange(format!("it answers {status}"))),
            _ => {
                let refusal: Refusal = serde_json::from_slice(&answer.body).map_err(|_| Unread::Refused)?;
                let Progress { lines, received, unique_processed, duplicate_dropped, conflicts, rejected } =
                    refusal.progress;
                if lines >= sent {
                    return Err(Unread::Strange(format!(
                        "it settled {lines} lines of {sent} and refused one more"
                    )));
                }
                let counts = Counts { received, unique_processed, duplicate_dropped, conflicts };
                let refused = Some(lines + 1);
                Self { counts, rejected, errors: Vec::new(), settled: lines + 1, refused }.checked(lines)
            }
        }
    }

    /// Itself, if it accounts for `lines` lines.
    fn checked(self, lines: usize) -> Result<Self, Unread> {
        if let Some(fault) = self.counts.fault() {
            return Err(Unread::Strange(fault));
        }
        let (received, rejected) = (self.counts.received, self.rejected);
        if received.checked_add(rejected) != Some(lines as u64) {
            let why = format!("{lines} events were sent, but {received} received and {rejected} refused");
            return Err(Unread::Strange(why));
        }
        let is_of_them =
            |error: &Value| error["line"].as_u64().is_some_and(|line| (1..=lines as u64).contains(&line));
        if !self.errors.iter().all(is_of_them) {
            return Err(Unread::Strange(format!("it names faults of other lines than the {lines} sent")));
        }
        if self.errors.is_empty() && self.refused.is_none() && rejected > 0 {
            return Err(Unread::Strange(format!("it refused {rejected} events and names none")));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str, sent: usize) -> Result<(u64, u64, usize), Unread> {
        let answer = Answer { status, body: body.as_bytes().to_vec() };
        PublishAnswer::read(&answer, sent).map(|read| (read.counts.received, read.rejected, read.settled))
    }

    fn counts(received: u64, stored: u64, dropped: u64, more: &str) -> String {
        format!(
            r#"{{"received":{received},"unique_processed":{stored},"duplicate_dropped":{dropped},"conflicts":0{more}}}"#
        )
    }

    #[test]
    fn an_answer_accounts_for_every_line() {
        assert_eq!(read(200, &counts(5, 3, 2, ""), 5).unwrap(), (5, 0, 5));
        let faults = r#","rejected":2,"errors":[{"line":2},{"line":5},{"line":5}]"#;
        assert_eq!(read(207, &counts(3, 3, 0, faults), 5).unwrap(), (3, 2, 5));
        let progress =
            format!(r#"{{"detail":"no","progress":{}}}"#, counts(2, 2, 0, r#","rejected":1,"lines":3"#));
        assert_eq!(read(413, &progress, 5).unwrap(), (2, 1, 4));
    }

    #[test]
    fn a_refusal_of_everything_is_none() {
        for body in ["", "no", "{}", "<html>", r#"{"detail":"no"}"#] {
            assert!(matches!(read(422, body, 5), Err(Unread::Refused)), "{body}");
        }
    }

    #[test]
    fn what_does_not_add_up_is_none() {
        let faults =
            |rejected: u64, line: u64| format!(r#","rejected":{rejected},"errors":[{{"line":{line}}}]"#);
        for (status, body) in [
            (200, counts(4, 4, 0, "")),
            (200, counts(6, 6, 0, "")),
            (200, counts(5, 4, 2, "")),
            (200, counts(u64::MAX, u64::MAX, 1, "")),
            (200, counts(5, u64::MAX, u64::MAX, "")),
            (200, counts(5, 5, 0, "").replace("conflicts\":0", "conflicts\":1")),
            (200, counts(5, 5, 0, "").replace(",\"conflicts\":0", "")),
            (200, counts(5, 5, 0, "").replace(":0", ":-0.0")),
            (200, counts(5, 5, 0, "").replace(":0", ":null")),
            (200, counts(5, 5, 0, r#","received":5"#)),
            // Refused ones go with 207.
            (200, counts(3, 3, 0, &faults(2, 1))),
            (207, counts(5, 5, 0, "")),
            (207, counts(3, 3, 0, &faults(1, 1))),
            (207, counts(3, 3, 0, &faults(2, 0))),
            (207, counts(3, 3, 0, &faults(2, 6))),
            (207, counts(3, 3, 0, r#","rejected":2,"errors":[]"#)),
            (201, counts(5, 5, 0, "")),
            (204, String::new()),
            (413, format!(r#"{{"progress":{}}}"#, counts(2, 2, 0, r#","rejected":0,"lines":3"#))),
            (413, format!(r#"{{"progress":{}}}"#, counts(5, 5, 0, r#","rejected":0,"lines":5"#))),
        ] {
            assert!(matches!(read(status, &body, 5), Err(Unread::Strange(_))), "{status} {body}");
        }
    }
}
