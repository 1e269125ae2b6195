//! `POST /publish` of a stream of lines: committed in chunks while it arrives, in flat memory, of any length.
//!
//! ```text
//! body → pieces → lines ┬ gathers while the chunk before it is committed
//!                       └→ chunk, decoded → commit, one at a time → progress
//! ```
//! Chunks are committed in order and one at a time, so that of two lines with one id the first wins, and "so many lines
//! are stored" is exact. A chunk need not be full: when nothing is being committed, what is there goes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use super::Service;
use super::answer::{Answer, json};
use super::body::Share;
use super::chunk::{Chunk, Lines};
use super::content::{self, Encoding};
use super::options::Options;
use super::problem::{Fault, Loc, Problem};
use super::receipt::{Counts, conflict, push_errors};
use super::source::{PIECE_BYTES, Source};
use super::upload::Upload;
use crate::limits::{BODY_SECONDS, FAULTS_LISTED_MAX};
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
struct Reader<'a> {
    source: Source,
    lines: Lines,
    share: Share<'a>,
    /// Lines cut so far.
    cut: usize,
    is_ended: bool,
    /// Why it ended, if not because it was over.
    failure: Option<Problem>,
}

impl<S: EventStore> Service<S> {
    pub(super) async fn publish_lines(
        &self,
        body: Upload,
        encoding: Option<Encoding>,
        options: &Options,
        peer: IpAddr,
    ) -> Result<Answer, Problem> {
        let (source, lines) = (Source::new(body, encoding), Lines::default());
        let mut reader =
            Reader { source, lines, share: self.share(), cut: 0, is_ended: false, failure: None };
        let mut progress = Progress::default();
        match self.store_lines(&mut reader, &mut progress, options, peer).await {
            Ok(()) => Ok(progress.into_answer()),
            Err(problem) => Err(progress.refuse(problem)),
        }
    }

    async fn store_lines(
        &self,
        reader: &mut Reader<'_>,
        progress: &mut Progress,
        options: &Options,
        peer: IpAddr,
    ) -> Result<(), Problem> {
        let mut committing: Option<Commit<'_>> = None;
        // Decoded while the chunk before it is committed.
        let mut next: Option<(Chunk, Share<'_>)> = None;
        loop {
            if next.is_none()
                && (reader.lines.is_full() || (committing.is_none() && reader.lines.count() > 0))
            {
                next = Some(reader.chunk(options.partial));
            }
            if committing.is_none()
                && let Some((chunk, share)) = next.take()
            {
                self.reject_lines(&chunk);
                committing = Some(Box::pin(self.commit(chunk, share, options.reject_conflicts, peer)));
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

    fn reject_lines(&self, chunk: &Chunk) {
        if chunk.rejected > 0 {
            self.reject(chunk.rejected);
        }
    }

    async fn commit(
        &self,
        chunk: Chunk,
        share: Share<'_>,
        reject_conflicts: bool,
        peer: IpAddr,
    ) -> Result<Progress, Problem> {
        let Chunk { batch, numbers, through: lines, faults: mut errors, rejected } = chunk;
        if batch.is_empty() {
            return Ok(Progress { lines, rejected, errors, ..Progress::default() });
        }
        let (outcomes, counts) = self.append(Arc::new(batch), peer).await?;
        drop(share);
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

impl<'a> Reader<'a> {
    /// Reads until it got on, or the stream is over. May be dropped and called again.
    async fn fill(&mut self) {
        let deadline = Duration::from_secs(BODY_SECONDS);
        let read = tokio::time::timeout(deadline, self.read()).await.unwrap_or_else(|_| {
            let message = format!(
                "neither a whole line nor 64 KiB arrived within {BODY_SECONDS} seconds; a blank line keeps a stream alive"
            );
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message).close())
        });
        if let Err(problem) = read {
            self.fail(problem);
        }
    }

    async fn read(&mut self) -> Result<(), Problem> {
        let (before, enough) = (self.lines.count(), self.source.received() + PIECE_BYTES as u64);
        while self.lines.count() == before && self.source.received() < enough {
            self.share.grow_to(self.lines.bytes() + self.source.memory()).await?;
            match self.source.next().await? {
                Some(piece) => self.lines.push(&piece),
                None => {
                    self.lines.end();
                    self.is_ended = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, problem: Problem) {
        self.is_ended = true;
        self.failure = Some(problem);
    }

    /// Cuts and decodes what is there. A fault ends the stream, unless it is to go on.
    fn chunk(&mut self, goes_on: bool) -> (Chunk, Share<'a>) {
        let (mut text, count) = self.lines.cut();
        if self.cut == 0 {
            text = content::without_mark(text);
        }
        let share = self.share.split(text.len());
        let mut chunk = Chunk::decode(&text, self.cut, goes_on);
        self.cut += count;
        if !goes_on && !chunk.faults.is_empty() {
            let before = chunk.through;
            let faults = chunk.faults.drain(..).map(|(line, mut fault)| {
                fault.msg = format!("line {line}: {}; the {before} lines before it are stored", fault.msg);
                fault
            });
            let problem = Problem::invalid(faults.collect());
            let message = format!("line {} is no valid event", before + 1);
            self.lines = Lines::default();
            self.fail(problem.saying(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        (chunk, share)
    }
}

/// The outcome of what is under way; never, if nothing is.
async fn wait(commit: &mut Option<Commit<'_>>) -> Result<Progress, Problem> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}
