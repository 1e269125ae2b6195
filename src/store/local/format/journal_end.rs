//! The end of a journal: whether it was cut, and how what lies there becomes durable or zero.

use std::path::Path;

use super::codec::{FixedRecord, FrameHeader};
use crate::disk::DiskFile;
use crate::error::{During, Error, ErrorKind, Result};

/// Zeros written by one call. As long as it takes, no frame can be written to the same file.
const PIECE_BYTES: u64 = 128 << 10;

/// Writes what is in the file from `from` to `to` again, so that the next sync makes it durable
/// whatever happened to the last one.
pub(crate) fn rewrite(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let length = piece.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..length], at).during("read", path)?;
        file.write_all_at(&piece[..length], at).during("write to", path)?;
        at += length as u64;
    }
    Ok(())
}

/// Whether the file ends where no journal of ours can: with its last frame, or within one.
pub(crate) fn is_cut(file: &dyn DiskFile, path: &Path, end: u64) -> Result<bool> {
    let len = file.len().during("read", path)?;
    let mut head =
        vec![0; FrameHeader::BYTES.min(usize::try_from(len.saturating_sub(end)).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, end).during("read", path)?;
    let Ok(header) = FrameHeader::from_bytes(&head) else {
        return Ok(head.iter().any(|byte| *byte != 0) || head.is_empty());
    };
    let frame_end = end + FrameHeader::BYTES as u64 + u64::from(header.length);
    Ok(FrameHeader::open(&head, header.nonce).is_ok() && header.at == end && frame_end > len)
}

/// Zeroes what lies after the end; returns where the file ends.
pub(crate) fn clear_tail(file: &dyn DiskFile, path: &Path, end: u64) -> Result<u64> {
    let len = file.len().during("read", path)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = end;
    while at < len {
        let length = piece.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..length], at).during("read", path)?;
        if piece[..length].iter().any(|byte| *byte != 0) {
            zero(file, path, at, at + length as u64, |_, _| {})?;
        }
        at += length as u64;
    }
    Ok(len.max(end))
}

/// Writes zeros and makes them durable; returns where they end. Before each piece, `make_way` gets
/// its beginning and end.
pub(crate) fn zero(
    file: &dyn DiskFile,
    path: &Path,
    from: u64,
    to: u64,
    make_way: impl Fn(u64, u64),
) -> Result<u64> {
    static ZEROS: [u8; PIECE_BYTES as usize] = [0; PIECE_BYTES as usize];
    let mut at = from;
    while at < to {
        let end = to.min(at + PIECE_BYTES);
        make_way(at, end);
        file.write_all_at(&ZEROS[..(end - at) as usize], at).during("write zeros to", path)?;
        at = end;
    }
    // Final, whatever the reason: what was written before may be lost.
    file.sync().map_err(|e| Error::new(ErrorKind::Io, format!("cannot sync {}: {e}", path.display())))?;
    Ok(to)
}
