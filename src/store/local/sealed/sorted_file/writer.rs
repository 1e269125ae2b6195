//! Writes sorted files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BLOCK_BYTES, BODY_BYTES, BlockBuffer, KEYS_AT, Shape};
use crate::disk::{Behind, Disk, DiskFile, Open};
use crate::error::{During, Error, Result};

const WRITE_BYTES: usize = 64 << 10;

/// Writes a sorted file.
#[derive(Debug)]
pub struct Writer {
    file: Arc<dyn DiskFile>,
    /// Its blocks from the first on.
    blocks: Behind,
    path: PathBuf,
    shape: Shape,
    /// Whole blocks, then the one being filled.
    buffer: Vec<u8>,
    /// Where the block being filled begins in the buffer.
    block_at: usize,
    /// Its number.
    block: u64,
    count: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Writer {
    /// Begins a file at `path`, where none is.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; `Unusable` for widths out of range.
    pub fn create(disk: &dyn Disk, path: &Path, shape: Shape) -> Result<Self> {
        shape.check(path)?;
        let file = disk.open(path, Open::New).during("create", path)?;
        Ok(Self {
            blocks: Behind::new(Arc::clone(&file), BLOCK_BYTES as u64),
            file,
            path: path.to_owned(),
            shape,
            buffer: Vec::with_capacity(WRITE_BYTES + BLOCK_BYTES),
            block_at: 0,
            block: 1,
            count: 0,
            first_key: vec![0; shape.key_width],
            last_key: vec![0; shape.key_width],
        })
    }

    /// Adds a record, whose key is greater than that before.
    ///
    /// # Errors
    /// `Corrupt` if it is not, or if key or value have another width; `Io`, `NoSpace`.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key.len() != self.shape.key_width || value.len() != self.shape.value_width {
            return Err(Error::corrupt(
                &self.path,
                self.block * BLOCK_BYTES as u64,
                "a record to be written has another width",
            ));
        }
        if self.count == 0 {
            self.first_key.copy_from_slice(key);
        } else if *key <= self.last_key[..] {
            return Err(Error::corrupt(
                &self.path,
                self.block * BLOCK_BYTES as u64,
                "records to be written are not in order",
            ));
        }
        if self.buffer.len() - self.block_at + self.shape.record_width() > BODY_BYTES {
            self.close_block()?;
        }
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        self.last_key.copy_from_slice(key);
        self.count += 1;
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        self.buffer.resize(self.block_at + BODY_BYTES, 0);
        let crc = self.shape.crc(self.block, &self.buffer[self.block_at..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.block_at = self.buffer.len();
        self.block += 1;
        if self.block_at >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.blocks.write(&self.buffer).during("write", &self.path)?;
        self.buffer.clear();
        self.block_at = 0;
        Ok(())
    }

    /// Ends the file and makes its content durable; the caller makes its name so. Returns the
    /// number of records.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; the file is then of no use.
    pub fn finish(mut self) -> Result<u64> {
        if self.buffer.len() > self.block_at {
            self.close_block()?;
        }
        self.write()?;
        let mut block = BlockBuffer::default();
        block.0[..KEYS_AT].copy_from_slice(&self.shape.head(self.count));
        let width = self.shape.key_width;
        block.0[KEYS_AT..KEYS_AT + width].copy_from_slice(&self.first_key);
        block.0[KEYS_AT + width..KEYS_AT + 2 * width].copy_from_slice(&self.last_key);
        let crc = self.shape.crc(0, &block.0[..BODY_BYTES]);
        block.0[BODY_BYTES..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&block.0, 0).during("write", &self.path)?;
        self.blocks.finish().during("sync", &self.path)?;
        Ok(self.count)
    }
}

/// Writes a whole sorted file from records in strictly ascending order, and makes its content
/// durable.
///
/// # Errors
/// Those of [`Writer`].
pub fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    disk: &dyn Disk,
    path: &Path,
    shape: Shape,
    records: impl IntoIterator<Item = (K, V)>,
) -> Result<u64> {
    let mut writer = Writer::create(disk, path, shape)?;
    for (key, value) in records {
        writer.push(key.as_ref(), value.as_ref())?;
    }
    writer.finish()
}
