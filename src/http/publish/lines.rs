//! `POST /publish` of a stream of lines, of any length: it is committed in chunks while it arrives,
//! in flat memory.
//!
//! ```text
//! body → pieces → lines ┬ gathers while the chunk before it is committed
//!                       └→ chunk, decoded → commit, one at a time → progress
//! ```
//! Chunks are committed in order and one at a time. So the first of two lines with one id wins, and
//! the number of lines stored is exact. A chunk need not be full: when nothing is being committed,
//! what is there goes.

use std::pin::Pin;
use std::sync::Arc;

use hyper::StatusCode;

use crate::auth::Caller;
use crate::http::body::budget::BodyPermit;
use crate::http::body::content::Encoding;
use crate::http::body::decoded::{DecodedBody, PIECE_BYTES};
use crate::http::body::eviction::Sender;
use crate::http::body::pace::Pace;
use crate::http::body::upload::Upload;
use crate::http::publish::chunk::{Chunk, Lines};
use crate::http::publish::options::Options;
use crate::http::publish::permitted;
use crate::http::publish::publish_answer::{Counts, conflict, push_errors};
use crate::http::service::Service;
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::problem::{Fault, Loc, Problem};
use crate::limits::{BARREN_BYTES_MAX, FAULTS_LISTED_MAX, LINE_BYTES_MAX, ZSTD_WINDOW_BYTES_MAX};
use crate::quota::QuotaKey;
use crate::store::{EventStore, Status};

/// A chunk under way to the store.
type Commit<'a> = Pin<Box<dyn Future<Output = Result<Progress, Problem>> + Send + 'a>>;

/// How far a stream got, or a chunk of it.
#[derive(Debug, Default)]
struct Progress {
    /// Lines up to here are settled: stored, blank, or refused under `partial`.
    lines: usize,
    counts: Counts,
    rejected: u64,
    /// By line; no more than are listed.
    errors: Vec<(usize, Fault)>,
}

impl Progress {
    fn add(&mut self, chunk: Self) {
        self.lines = chunk.lines;
        self.counts.add(chunk.counts);
        self.rejected += chunk.rejected;
        self.errors.extend(chunk.errors);
        self.errors.truncate(FAULTS_LISTED_MAX);
    }

    fn into_answer(self) -> Answer {
        let is_partial = !self.errors.is_empty();
        let mut body = vec![b'{'];
        self.counts.write_to(&mut body);
        if is_partial {
            push_errors(&mut body, "line", self.rejected, &self.errors);
        }
        body.push(b'}');
        json(if is_partial { StatusCode::MULTI_STATUS } else { StatusCode::OK }, body)
    }

    /// A refusal that says how far the stream got.
    fn refuse(&self, problem: Problem) -> Problem {
        let mut progress = format!("{{\"lines\":{},", self.lines).into_bytes();
        self.counts.write_to(&mut progress);
        progress.extend_from_slice(format!(",\"rejected\":{}}}", self.rejected).as_bytes());
        let (status, lines) = (problem.status(), self.lines);
        let message =
            format!("{}; lines up to {lines} are settled: go on with line {}", problem.message(), lines + 1);
        problem.saying(status, message).with_member("progress", progress).close()
    }
}

/// The end of a stream that has not been read yet.
#[derive(Debug)]
struct LineReader<'a> {
    source: DecodedBody,
    lines: Lines,
    permit: BodyPermit<'a>,
    pace: Pace<'a>,
    encoding: Option<Encoding>,
    /// Bytes that had come when the last line that was not blank was whole.
    received_before: u64,
    /// Bytes that had come, and what they had decoded to, when the last event was found.
    fruitful: (u64, u64),
    /// The last chunk had lines, and no event among them: a line alone no longer shows that there
    /// is something to send.
    is_fruitless: bool,
    /// Lines cut so far.
    cut: usize,
    /// Lines may not be published with this token, and were left out.
    has_forbidden: bool,
    is_ended: bool,
    /// Why it ended, if not because it was over.
    failure: Option<Problem>,
}

impl<S: EventStore> Service<S> {
    pub(crate) async fn publish_lines(
        &self,
        body: Upload,
        encoding: Option<Encoding>,
        options: &Options,
        caller: &Caller,
        sender: Sender,
    ) -> Result<Answer, Problem> {
        let mut reader = LineReader {
            source: DecodedBody::new(body, encoding),
            lines: Lines::default(),
            permit: self.body_budget.permit_for_stream(),
            pace: Pace::of_stream(&self.body_budget.waiting, &*self.clock, (sender, caller)),
            encoding,
            received_before: 0,
            fruitful: (0, 0),
            is_fruitless: false,
            cut: 0,
            has_forbidden: false,
            is_ended: false,
            failure: None,
        };
        let mut progress = Progress::default();
        match self.store_lines(&mut reader, &mut progress, options, caller, sender.key).await {
            Ok(()) => {
                let mut answer = progress.into_answer();
                if reader.has_forbidden {
                    answer.extensions_mut().insert(permitted::HasForbidden);
                }
                Ok(answer)
            }
            Err(problem) => Err(progress.refuse(problem)),
        }
    }

    async fn store_lines(
        &self,
        reader: &mut LineReader<'_>,
        progress: &mut Progress,
        options: &Options,
        caller: &Caller,
        key: QuotaKey,
    ) -> Result<(), Problem> {
        let mut committing: Option<Commit<'_>> = None;
        // Decoded while the chunk before it is committed.
        let mut next: Option<(Chunk, BodyPermit<'_>)> = None;
        loop {
            if next.is_none()
                && (reader.lines.is_full() || (committing.is_none() && reader.lines.count() > 0))
            {
                next = Some(self.chunk(reader, caller, options.partial));
            }
            if committing.is_none()
                && let Some((chunk, permit)) = next.take()
            {
                committing = Some(Box::pin(self.commit(chunk, permit, options.reject_conflicts, key)));
                continue;
            }
            if committing.is_none() && reader.is_ended {
                return reader.failure.take().map_or(Ok(()), Err);
            }
            let reads = !reader.is_ended && !reader.lines.is_full();
            tokio::select! {
                done = wait(&mut committing), if committing.is_some() => {
                    committing = None;
                    progress.add(done?);
                }
                () = reader.fill(), if reads => {}
            }
        }
    }

    /// The next chunk, with what its caller may publish. A fault ends the stream, unless it is to
    /// go on.
    fn chunk<'a>(
        &self,
        reader: &mut LineReader<'a>,
        caller: &Caller,
        goes_on: bool,
    ) -> (Chunk, BodyPermit<'a>) {
        let (mut chunk, permit) = reader.chunk(goes_on);
        let forbidden = permitted::only_lines(caller, &mut chunk, goes_on);
        if goes_on || forbidden == 0 {
            if chunk.rejected > 0 {
                self.reject(chunk.rejected);
            }
            chunk.rejected += forbidden;
            reader.has_forbidden |= forbidden > 0;
        } else {
            chunk.rejected = forbidden;
        }
        if !goes_on && !chunk.faults.is_empty() {
            reader.end_before(&mut chunk, forbidden > 0);
        }
        (chunk, permit)
    }

    async fn commit(
        &self,
        chunk: Chunk,
        permit: BodyPermit<'_>,
        reject_conflicts: bool,
        key: QuotaKey,
    ) -> Result<Progress, Problem> {
        let Chunk { batch, numbers, through: lines, faults: mut errors, rejected } = chunk;
        if batch.is_empty() {
            return Ok(Progress { lines, rejected, errors, ..Progress::default() });
        }
        let (outcomes, counts) = self.append(Arc::new(batch), key).await?;
        drop(permit);
        if reject_conflicts && counts.conflicts > 0 {
            let lines =
                numbers.iter().zip(&outcomes).filter(|(_, outcome)| outcome.status == Status::Conflict);
            errors
                .extend(lines.map(|(line, _)| (*line, conflict(vec![Loc::Name("body"), Loc::Index(*line)]))));
            errors.sort_by_key(|(line, _)| *line);
        }
        Ok(Progress { lines, counts, rejected, errors })
    }
}

impl<'a> LineReader<'a> {
    /// Reads until it got on, or the stream is over. May be dropped and called again.
    async fn fill(&mut self) {
        if let Err(problem) = self.read().await {
            self.fail(problem);
        }
    }

    async fn read(&mut self) -> Result<(), Problem> {
        let (before, enough) = (self.lines.count(), self.source.received() + PIECE_BYTES as u64);
        while self.lines.count() == before && self.source.received() < enough {
            self.permit.grow_to(self.lines.bytes() + self.source.memory(), &mut self.pace).await?;
            let Some(piece) = self.pace.wait(self.source.next()).await?? else {
                self.lines.end();
                self.is_ended = true;
                return Ok(());
            };
            let filled = self.lines.filled();
            self.lines.push(&piece);
            let is_filled = self.lines.filled() > filled;
            if is_filled {
                self.received_before = self.source.received();
            }
            self.pace.note(self.source.received(), self.progress(), self.permit.held());
            if is_filled && !self.is_fruitless {
                self.pace.restart();
            }
            if self.barren() > BARREN_BYTES_MAX {
                let message = format!(
                    "the body decodes to more than {BARREN_BYTES_MAX} bytes without an event: leave out what is none"
                );
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message).close());
            }
        }
        Ok(())
    }

    /// How far the next line is, in bytes; after lines without an event, all that came. Of zstd a
    /// whole window may come before any of it is decoded.
    fn progress(&self) -> u64 {
        if self.is_fruitless {
            return self.source.received();
        }
        let packed = match self.encoding {
            Some(Encoding::Zstd) => self.source.received() - self.received_before,
            _ => 0,
        };
        packed.min((ZSTD_WINDOW_BYTES_MAX + LINE_BYTES_MAX) as u64) + self.lines.begun() as u64
    }

    /// Bytes that decompressing added to what was sent since the last event.
    fn barren(&self) -> u64 {
        let (received, made) = self.fruitful;
        (self.source.made() - made).saturating_sub(self.source.received() - received)
    }

    fn fail(&mut self, problem: Problem) {
        self.is_ended = true;
        self.failure = Some(problem);
    }

    /// Cuts and decodes what is there.
    fn chunk(&mut self, goes_on: bool) -> (Chunk, BodyPermit<'a>) {
        let (text, count) = self.lines.cut();
        let permit = self.permit.split(text.len());
        let chunk = Chunk::decode(&text, self.cut, goes_on);
        self.cut += count;
        self.is_fruitless = chunk.batch.is_empty();
        if !self.is_fruitless {
            self.fruitful = (self.source.received(), self.source.made());
            self.pace.restart();
        }
        (chunk, permit)
    }

    /// Ends the stream before the line that a chunk's faults are about.
    fn end_before(&mut self, chunk: &mut Chunk, is_forbidden: bool) {
        let before = chunk.through;
        let faults = chunk.faults.drain(..).map(|(line, mut fault)| {
            fault.msg = format!("line {line}: {}; the {before} lines before it are stored", fault.msg);
            fault
        });
        let problem = Problem::invalid(faults.collect());
        let (status, what) = match is_forbidden {
            true => (StatusCode::FORBIDDEN, "may not be published with this token"),
            false => (StatusCode::UNPROCESSABLE_ENTITY, "is no valid event"),
        };
        self.lines = Lines::default();
        self.fail(problem.saying(status, format!("line {} {what}", before + 1)));
    }
}

/// The outcome of what is under way; never, if nothing is.
async fn wait(commit: &mut Option<Commit<'_>>) -> Result<Progress, Problem> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}
