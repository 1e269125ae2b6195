//! Going through a journal frame by frame, along the chain of their headers and over the holes that
//! MANIFEST declares.

use std::path::Path;
use std::sync::Arc;

use super::codec::FrameHeader;
use super::frame::{Chain, Frame};
use super::manifest::{Closed, Entry, Hole};
use super::reader::FrameReader;
use crate::disk::DiskFile;
use crate::error::{Error, Result};

/// Whether a frame is the one that comes next.
fn follows(header: &FrameHeader, chain: &Chain) -> bool {
    header.sequence == chain.sequence
        && header.first_event == chain.first_event
        && header.previous_crc == chain.previous_crc
        && header.store_id == chain.store_id
}

/// A walk through one generation's journal.
pub(crate) struct Walk {
    /// Where it is: what comes next must follow from this.
    pub(crate) chain: Chain,
    reader: FrameReader,
    first_event: u64,
    holes: Arc<[Hole]>,
    end: Option<u64>,
    received: Option<(i64, i64)>,
}

/// What came next.
pub(crate) enum Step<'a> {
    /// A frame that follows.
    Frame(Frame<'a>),
    /// A hole that MANIFEST declares.
    Hole(Hole),
    /// The end of a closed generation.
    End,
    /// No frame is here that follows: the end of the live journal, or damage.
    Nothing,
}

impl Walk {
    /// A walk from the beginning.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        path: &Path,
        store_id: [u8; 16],
        entry: &Entry,
        holes: Arc<[Hole]>,
    ) -> Self {
        Self {
            chain: Chain::begin(store_id, entry),
            reader: FrameReader::new(file, path, entry.nonce),
            first_event: entry.first_event,
            holes,
            end: entry.closed.map(|closed| closed.end),
            received: None,
        }
    }

    /// Goes on to what comes next.
    ///
    /// # Errors
    /// `Unusable` for a frame of a newer version; `Io`.
    pub(crate) fn step(&mut self) -> Result<Step<'_>> {
        let at = self.chain.at;
        if self.end.is_some_and(|end| at >= end) {
            return Ok(Step::End);
        }
        if let Some(hole) = self.holes.iter().find(|hole| hole.at == at).cloned() {
            self.skip(&hole)?;
            return Ok(Step::Hole(hole));
        }
        let Some(frame) = self.reader.frame(at)? else { return Ok(Step::Nothing) };
        let header = &frame.header;
        if !follows(header, &self.chain) {
            return Ok(Step::Nothing);
        }
        if header.events > 0 {
            let (min, max) = self.received.unwrap_or((header.received_min, header.received_max));
            self.received = Some((min.min(header.received_min), max.max(header.received_max)));
        }
        self.chain.sequence += 1;
        self.chain.first_event += u64::from(header.events);
        self.chain.at = frame.end();
        self.chain.previous_crc = header.crc;
        Ok(Step::Frame(frame))
    }

    /// Goes on after a hole.
    ///
    /// # Errors
    /// As [`Walk::step`].
    pub(crate) fn skip(&mut self, hole: &Hole) -> Result<()> {
        let next = self.reader.header(hole.end)?;
        self.chain.at = hole.end;
        self.chain.sequence = hole.next_frame;
        self.chain.first_event = hole.next_event;
        self.chain.previous_crc = next.map_or(0, |next| next.previous_crc);
        Ok(())
    }

    /// The next valid header from `from` on.
    ///
    /// # Errors
    /// As [`Walk::step`].
    pub(crate) fn next_header(&mut self, from: u64) -> Result<Option<FrameHeader>> {
        self.reader.next_header(from)
    }

    /// Whether the whole frame is there that begins at `at`.
    ///
    /// # Errors
    /// As [`Walk::step`].
    pub(crate) fn is_whole(&mut self, at: u64) -> Result<bool> {
        Ok(self.reader.frame(at)?.is_some())
    }

    /// Looks on to the end of the file: what is here is the end only if nothing later says that
    /// there was more.
    ///
    /// # Errors
    /// `Corrupt` if something does; else as [`Walk::step`].
    pub(crate) fn check_end(&mut self) -> Result<()> {
        let mut from = self.chain.at + 1;
        while let Some(header) = self.next_header(from)? {
            if header.durable_through >= self.chain.sequence {
                let what = "no valid frame, and a durable one was here";
                return Err(Error::corrupt(self.reader.path(), self.chain.at, what));
            }
            from = header.at + 1;
        }
        Ok(())
    }

    /// What it went through, given the sum of the claims.
    pub(crate) fn closed(&self, claims_sum: u64) -> Closed {
        let (received_min, received_max) = self.received.unwrap_or_default();
        Closed {
            end: self.chain.at,
            last_frame: self.chain.sequence.saturating_sub(1),
            events: self.chain.first_event - self.first_event,
            claims_sum,
            received_min,
            received_max,
        }
    }
}
