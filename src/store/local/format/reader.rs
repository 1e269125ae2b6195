//! Reading the frames of a journal: forwards through a window, or anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::newer_version;
use super::codec::{DecodeError, FixedRecord, FrameHeader};
use super::frame::{Frame, is_whole};
use super::manifest::Hole;
use crate::disk::DiskFile;
use crate::error::{Error, Result};

/// Bytes read at once by a scan of a whole journal.
const SCAN_BYTES: usize = 1 << 20;
/// Bytes read at once for a page.
const PAGE_BYTES: usize = 96 << 10;

/// Reads frames of one journal, forwards through a window, or anywhere.
#[derive(Debug)]
pub(crate) struct FrameReader {
    path: PathBuf,
    nonce: u64,
    window: Window,
}

impl FrameReader {
    pub(crate) fn new(file: Arc<dyn DiskFile>, path: &Path, nonce: u64) -> Self {
        let window = Window { file, bytes: Vec::new(), start: 0, step: SCAN_BYTES };
        Self { path: path.to_owned(), nonce, window }
    }

    /// Reads smaller pieces, for short runs.
    pub(crate) fn short(mut self) -> Self {
        self.window.step = PAGE_BYTES;
        self
    }

    /// Where the journal is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All frames from the beginning up to `end`, which are known to be there, over these holes.
    pub(crate) fn frames(self, end: u64, holes: Arc<[Hole]>) -> Frames {
        Frames { reader: self, at: 0, end, holes }
    }

    /// The frame that begins at `at`; `None` if there is no whole, valid one.
    ///
    /// # Errors
    /// `Unusable` for a frame of a newer version; `Io`.
    pub(crate) fn frame(&mut self, at: u64) -> Result<Option<Frame<'_>>> {
        frame(&mut self.window, &self.path, self.nonce, at)
    }

    /// The frame that begins at `at`, where there must be one.
    ///
    /// # Errors
    /// `Corrupt` if there is none; else as [`FrameReader::frame`].
    pub(crate) fn known_frame(&mut self, at: u64) -> Result<Frame<'_>> {
        frame(&mut self.window, &self.path, self.nonce, at)?.ok_or_else(|| no_frame(&self.path, at))
    }

    /// The header of the frame that begins at `at`.
    ///
    /// # Errors
    /// As [`FrameReader::frame`].
    pub(crate) fn header(&mut self, at: u64) -> Result<Option<FrameHeader>> {
        header(&mut self.window, &self.path, self.nonce, at)
    }

    /// The header of the frame that begins at `at`, where there must be one.
    ///
    /// # Errors
    /// As [`FrameReader::known_frame`].
    pub(crate) fn known_header(&mut self, at: u64) -> Result<FrameHeader> {
        self.header(at)?.ok_or_else(|| no_frame(&self.path, at))
    }

    /// Where the next valid header begins, from `at` on, up to the end of the file.
    ///
    /// # Errors
    /// As [`FrameReader::frame`].
    pub(crate) fn next_header(&mut self, mut at: u64) -> Result<Option<FrameHeader>> {
        let magic = memchr::memmem::Finder::new(&FrameHeader::MAGIC);
        loop {
            let Some(bytes) = self.window.some_bytes(at, &self.path)? else { return Ok(None) };
            match magic.find(bytes) {
                Some(step) => {
                    if let Some(header) = self.header(at + step as u64)? {
                        return Ok(Some(header));
                    }
                    at += step as u64 + 1;
                }
                // The magic may lie across the end of the window.
                None => at += (bytes.len() - FrameHeader::MAGIC.len() + 1) as u64,
            }
        }
    }
}

fn no_frame(path: &Path, at: u64) -> Error {
    Error::corrupt(path, at, "no valid frame")
}

fn header(window: &mut Window, path: &Path, nonce: u64, at: u64) -> Result<Option<FrameHeader>> {
    let Some(bytes) = window.bytes(at, FrameHeader::BYTES, path)? else { return Ok(None) };
    match FrameHeader::open(bytes, nonce) {
        Ok(header) if header.at == at => Ok(Some(header)),
        Ok(_) | Err(DecodeError::Malformed(_)) => Ok(None),
        Err(newer) => Err(newer_version(path, at, &newer)),
    }
}

fn frame<'a>(window: &'a mut Window, path: &'a Path, nonce: u64, at: u64) -> Result<Option<Frame<'a>>> {
    let Some(header) = header(window, path, nonce, at)? else { return Ok(None) };
    let length = FrameHeader::BYTES + header.length as usize;
    let Some(bytes) = window.bytes(at, length, path)? else { return Ok(None) };
    match is_whole(&header, bytes) {
        Ok(is_whole) => Ok(is_whole.then_some(Frame { header, bytes, path })),
        Err(newer) => Err(newer_version(path, at, &newer)),
    }
}

/// The frames of a part of a journal that are known to be there, one after the other.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: FrameReader,
    at: u64,
    end: u64,
    holes: Arc<[Hole]>,
}

impl Frames {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// As [`FrameReader::known_frame`].
    #[allow(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>> {
        while let Some(hole) = self.holes.iter().find(|hole| hole.at == self.at) {
            self.at = hole.end;
        }
        if self.is_at_end() {
            return Ok(None);
        }
        let frame = self.reader.known_frame(self.at)?;
        self.at = frame.end();
        Ok(Some(frame))
    }

    /// Whether the frame given last is the last one.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }
}

/// Bytes of a file that were read together.
#[derive(Debug)]
struct Window {
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
    start: u64,
    /// Bytes read at once.
    step: usize,
}

impl Window {
    /// `length` bytes from `at`; `None` if the file ends before.
    fn bytes(&mut self, at: u64, length: usize, path: &Path) -> Result<Option<&[u8]>> {
        if self.held(at) < length {
            self.fill(at, length, path)?;
        }
        if self.held(at) < length {
            return Ok(None);
        }
        let from = (at - self.start) as usize;
        Ok(Some(&self.bytes[from..from + length]))
    }

    /// What there is from `at`, at least a magic's length.
    fn some_bytes(&mut self, at: u64, path: &Path) -> Result<Option<&[u8]>> {
        if self.held(at) < FrameHeader::MAGIC.len() {
            self.fill(at, self.step, path)?;
        }
        if self.held(at) < FrameHeader::MAGIC.len() {
            return Ok(None);
        }
        Ok(Some(&self.bytes[(at - self.start) as usize..]))
    }

    /// Bytes in the window from `at` on.
    fn held(&self, at: u64) -> usize {
        match at.checked_sub(self.start) {
            Some(skip) => self.bytes.len().saturating_sub(usize::try_from(skip).unwrap_or(usize::MAX)),
            None => 0,
        }
    }

    fn fill(&mut self, at: u64, length: usize, path: &Path) -> Result<()> {
        self.start = at;
        self.bytes.resize(length.max(self.step), 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.file.read_at(&mut self.bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.bytes.clear();
                    return Err(Error::io("read", path, e));
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
