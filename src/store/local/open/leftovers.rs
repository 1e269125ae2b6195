//! Folders of generations that MANIFEST does not name: what they hold decides what becomes of them.
//!
//! | a folder holds | with a MANIFEST it is | without one it is |
//! |---|---|---|
//! | a frame that is not of a topic table | refused | refused |
//! | a journal of zeros after whole topic tables, or nothing | removed | removed, if it is the first generation's |
//! | anything else | set aside under another name | refused |
//! | what the operating system does not show | left, and the start ends | left, and the start ends |
//!
//! So nothing is removed but what was prepared for a generation that never began.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, Open};
use crate::error::{During, Error, ErrorKind, Result};
use crate::store::local::format::codec::{DecodeError, FixedRecord, FrameHeader, FrameKind};
use crate::store::local::format::layout::{GENERATION_PREFIX, JOURNAL, MANIFEST, folder_id};
use crate::store::local::format::manifest::Manifest;
use crate::store::local::format::reader::FrameReader;
use crate::store::local::format::stray::missing;
use crate::store::local::generation::head::new_head_bytes;

/// Bytes of a journal that are looked at at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// No event, for certain.
    Nothing,
    /// Frames with events, of whatever generation, or of a newer version.
    Events,
    /// It can't be said.
    Unclear(String),
}

/// The folders that MANIFEST does not name, none of which has events.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    empty: Vec<PathBuf>,
    unclear: Vec<(PathBuf, String)>,
}

impl Leftovers {
    /// Looks into each of them. Nothing is changed.
    ///
    /// # Errors
    /// `Corrupt` if one has events; `Io` if one can't be looked into.
    pub(crate) fn find(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<Self> {
        let mut found = Self::default();
        for name in disk.list(dir).during("list", dir)? {
            let Some(id) = folder_id(&name) else { continue };
            if manifest.generations.iter().any(|entry| entry.id == id) {
                continue;
            }
            let folder = dir.join(&name);
            match content(disk, &folder, 0)? {
                Content::Nothing => found.empty.push(folder),
                Content::Unclear(what) => found.unclear.push((folder, what)),
                Content::Events => {
                    let message = format!(
                        "{} holds events, but {MANIFEST} does not name it: restore the {MANIFEST} that does",
                        folder.display()
                    );
                    return Err(Error::new(ErrorKind::Corrupt, message));
                }
            }
        }
        Ok(found)
    }

    /// Removes those that hold nothing, and sets the others aside.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn clear(self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        for folder in &self.empty {
            disk.remove_dir_all(folder).during("remove", folder)?;
        }
        for (folder, what) in &self.unclear {
            let aside = set_aside(disk, folder)?;
            tracing::warn!(
                folder = %folder.display(), aside = %aside.display(), holds = what,
                "a folder that {MANIFEST} does not name is set aside: look at it, then remove it"
            );
        }
        if !self.unclear.is_empty() {
            disk.sync_dir(dir).during("sync", dir)?;
        }
        Ok(())
    }
}

/// Removes what is left of a store whose making broke off.
///
/// # Errors
/// `Corrupt` if there is anything else of a store; `Io`.
pub(crate) fn clear_for_new_store(disk: &dyn Disk, dir: &Path, cure: &str) -> Result<()> {
    let mut left = Vec::new();
    for name in disk.list(dir).during("list", dir)?.iter().filter(|name| name.starts_with(GENERATION_PREFIX))
    {
        let folder = dir.join(name);
        let what = match folder_id(name) {
            Some(1) => match content(disk, &folder, new_head_bytes())? {
                Content::Nothing => {
                    left.push(folder);
                    continue;
                }
                Content::Events => "holds events".to_owned(),
                Content::Unclear(what) => format!("holds {what}"),
            },
            _ => "is of a store".to_owned(),
        };
        return Err(missing(&folder, &what, cure));
    }
    left.iter().try_for_each(|folder| disk.remove_dir_all(folder).during("remove", folder))
}

/// Gives what is at `path` another name, which nothing of a store has.
pub(crate) fn set_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let aside = path.with_added_extension(format!("aside-{number}"));
        if !disk.presence(&aside).during("look for", &aside)? {
            disk.rename(path, &aside).during("set aside", path)?;
            return Ok(aside);
        }
        number += 1;
    }
}

/// What a folder holds. So many bytes at the beginning of its journal may be of a topic table that
/// was not written whole.
fn content(disk: &dyn Disk, folder: &Path, head_bytes: u64) -> Result<Content> {
    let names = disk.list(folder).during("list", folder)?;
    let path = folder.join(JOURNAL);
    if names.iter().any(|name| name == JOURNAL) {
        match journal_content(disk, &path, head_bytes)? {
            Content::Nothing => {}
            other => return Ok(other),
        }
    }
    Ok(match names.into_iter().find(|name| name != JOURNAL) {
        Some(name) => Content::Unclear(name),
        None => Content::Nothing,
    })
}

/// What a journal holds, of whatever nonce.
fn journal_content(disk: &dyn Disk, path: &Path, head_bytes: u64) -> Result<Content> {
    let file = disk.open(path, Open::Read).during("open", path)?;
    let len = file.len().during("measure", path)?;
    let mut window = vec![0; FrameHeader::BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut window, 0).during("read", path)?;
    // Topic tables, frame by frame: what lies after them must be zeros.
    let mut zeros_from = 0;
    if let Ok(header) = FrameHeader::from_bytes(&window) {
        let mut reader = FrameReader::new(Arc::clone(&file), path, header.nonce);
        while let Some(frame) = reader.frame(zeros_from)? {
            if frame.header.kind != FrameKind::Topics as u8 {
                return Ok(Content::Events);
            }
            zeros_from = frame.end();
        }
    }
    zeros_from = zeros_from.max(head_bytes);
    let (mut at, mut is_clear) = (0, true);
    // Piece by piece: it may be a whole generation's.
    while at < len {
        window.resize((len - at).min(WINDOW_BYTES) as usize, 0);
        file.read_exact_at(&mut window, at).during("read", path)?;
        if memchr::memmem::find_iter(&window, &FrameHeader::MAGIC).any(|at| begins_events(&window[at..])) {
            return Ok(Content::Events);
        }
        let known = usize::try_from(zeros_from.saturating_sub(at)).unwrap_or(usize::MAX).min(window.len());
        is_clear &= window[known..].iter().all(|byte| *byte == 0);
        // A header may lie across two pieces.
        at += (WINDOW_BYTES - FrameHeader::BYTES as u64).min(len - at);
    }
    Ok(match is_clear {
        true => Content::Nothing,
        false => Content::Unclear(format!("a {JOURNAL} with bytes that are no topic table")),
    })
}

/// Whether these bytes begin with a frame other than those a generation begins with, of whatever
/// nonce.
fn begins_events(bytes: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..FrameHeader::BYTES) else { return false };
    let Ok(nonce) = FrameHeader::from_bytes(bytes).map(|header| header.nonce) else { return false };
    match FrameHeader::open(bytes, nonce) {
        Ok(header) => header.kind != FrameKind::Topics as u8,
        // Of a newer version: it may be anything.
        Err(DecodeError::Newer(..)) => true,
        Err(DecodeError::Malformed(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::SystemDisk;
    use crate::store::local::format::frame::{Chain, FrameBuilder};
    use crate::store::local::generation::head::{empty_table, write_head};

    /// A directory with the folder of a generation whose journal holds a head, then some bytes.
    fn with_journal(head: bool, at: usize, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gen-000001");
        fs::create_dir(&folder).unwrap();
        let path = folder.join(JOURNAL);
        let file = SystemDisk.open(&path, Open::New).unwrap();
        file.set_len(4 * WINDOW_BYTES).unwrap();
        if head {
            let mut chain = Chain {
                store_id: [1; 16],
                nonce: 7,
                sequence: 1,
                first_event: 0,
                at: 0,
                durable_through: 0,
                previous_crc: 0,
            };
            write_head(&*file, &path, &mut FrameBuilder::default(), &mut chain, &empty_table()).unwrap();
            assert_eq!(chain.at, new_head_bytes());
        }
        file.write_all_at(bytes, at as u64).unwrap();
        (dir, folder)
    }

    fn clear(dir: &Path) -> Result<()> {
        Leftovers::find(&SystemDisk, dir, &Manifest::new([1; 16], [2; 16]))?.clear(&SystemDisk, dir)
    }

    #[test]
    fn what_was_prepared_and_never_began_is_removed() {
        for head in [false, true] {
            let (dir, folder) = with_journal(head, 0, b"");
            clear(dir.path()).unwrap();
            assert!(!folder.exists());
            let (dir, folder) = with_journal(head, 0, b"");
            clear_for_new_store(&SystemDisk, dir.path(), "restore it").unwrap();
            assert!(!folder.exists());
        }
    }

    #[test]
    fn what_may_hold_events_is_set_aside_and_no_store_is_made_beside_it() {
        let behind_head = new_head_bytes() as usize;
        for at in [behind_head, behind_head + 500, 3 * WINDOW_BYTES as usize] {
            let (dir, folder) = with_journal(true, at, b"x");
            let error = clear_for_new_store(&SystemDisk, dir.path(), "restore it").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let journal = fs::read(folder.join(JOURNAL)).unwrap();
            clear(dir.path()).unwrap();
            let aside = dir.path().join("gen-000001.aside-1");
            assert!(!folder.exists() && fs::read(aside.join(JOURNAL)).unwrap() == journal);
            assert!(clear_for_new_store(&SystemDisk, dir.path(), "restore it").is_err(), "it is of a store");
            // And the next one as well, beside it.
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("claims"), "").unwrap();
            assert!(clear_for_new_store(&SystemDisk, dir.path(), "restore it").is_err());
            clear(dir.path()).unwrap();
            assert!(aside.exists() && dir.path().join("gen-000001.aside-2/claims").exists());
        }
    }

    #[test]
    fn the_head_of_a_store_whose_making_broke_off_may_be_torn() {
        let (dir, folder) = with_journal(false, new_head_bytes() as usize - 1, b"x");
        clear_for_new_store(&SystemDisk, dir.path(), "restore it").unwrap();
        assert!(!folder.exists());
        let (dir, folder) = with_journal(true, 20, b"torn");
        clear(dir.path()).unwrap();
        assert!(!folder.exists() && dir.path().join("gen-000001.aside-1").exists());
    }

    #[test]
    fn a_later_generation_is_of_a_store_even_if_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("gen-000002")).unwrap();
        let error = clear_for_new_store(&SystemDisk, dir.path(), "restore it").unwrap_err();
        assert!(error.to_string().contains("gen-000002 is of a store, but MANIFEST is missing"), "{error}");
        assert!(dir.path().join("gen-000002").exists());
    }

    #[test]
    fn what_can_not_be_looked_into_stays() {
        let (dir, folder) = with_journal(true, 0, b"");
        fs::remove_file(folder.join(JOURNAL)).unwrap();
        std::os::unix::fs::symlink(JOURNAL, folder.join(JOURNAL)).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("gen-000002")).unwrap();
        assert_eq!(clear(dir.path()).unwrap_err().kind(), ErrorKind::Io);
        assert!(clear_for_new_store(&SystemDisk, dir.path(), "restore it").is_err());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(clear(dir.path()).unwrap_err().kind(), ErrorKind::Io);
        assert!(fs::symlink_metadata(dir.path().join("gen-000002")).is_ok());
    }
}
