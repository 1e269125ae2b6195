//! Input that was packed with gzip or zstd. It is known by how it begins, which is how no JSON
//! begins; its name may be any. Several gzip members or zstd frames in a row are one text, and
//! zeros after gzip, as tapes and tar leave them, are nothing.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sekali::limits::FILE_WINDOW_BYTES_MAX;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last bytes of the magic of a zstd frame that is skipped; the first one is any of sixteen.
const ZSTD_SKIPPED_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// gzip's window of 32 KiB, as a power of two.
const GZIP_WINDOW_LOG: u8 = 15;

/// What the input is in the middle of.
enum Part {
    Start,
    Plain,
    Gzip(Box<Decompress>),
    /// A gzip member has ended.
    GzipEnd,
    Zstd(Box<FrameDecoder>),
    /// A zstd frame has ended.
    ZstdEnd(Box<FrameDecoder>),
}

/// An input, unpacked if it is packed.
pub(super) struct Unpacked<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    /// What it is called in a sentence.
    name: String,
    part: Part,
}

impl<R: BufRead> Unpacked<R> {
    pub(super) fn new(input: R, name: String) -> Self {
        Self { input: Cursor::new(Vec::new()).chain(input), name, part: Part::Start }
    }

    /// Looks how the input begins.
    fn start(&mut self) -> io::Result<Part> {
        let (held, input) = self.input.get_mut();
        let mut head = Vec::new();
        input.take(ZSTD_MAGIC.len() as u64).read_to_end(&mut head)?;
        let part = if head.starts_with(&GZIP_MAGIC) {
            gzip()
        } else if head == ZSTD_MAGIC || head.get(1..) == Some(&ZSTD_SKIPPED_MAGIC) {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(FILE_WINDOW_BYTES_MAX);
            Part::ZstdEnd(Box::new(decoder))
        } else {
            Part::Plain
        };
        *held = Cursor::new(head);
        Ok(part)
    }

    fn damaged(&mut self, packer: &str, why: &str) -> io::Error {
        let is_over = self.input.fill_buf().is_ok_and(<[u8]>::is_empty);
        let why = if is_over { "the file is cut off" } else { why };
        io::Error::other(format!("{}: it can't be unpacked ({packer}): {why}", self.name))
    }

    /// What follows a gzip member; `None` at the end.
    fn next_member(&mut self) -> io::Result<Option<Part>> {
        loop {
            let held = self.input.fill_buf()?;
            let zeros = held.iter().take_while(|byte| **byte == 0).count();
            match (held.first(), held.len()) {
                (None, _) => return Ok(None),
                (Some(0), _) => self.input.consume(zeros),
                (Some(first), _) if *first == GZIP_MAGIC[0] => return Ok(Some(gzip())),
                _ => {
                    let sentence = format!("{}: something else follows what gzip has packed", self.name);
                    return Err(io::Error::other(sentence));
                }
            }
        }
    }

    /// What follows a zstd frame; `None` at the end.
    fn next_frame(&mut self, mut decoder: Box<FrameDecoder>) -> io::Result<Option<Part>> {
        while !self.input.fill_buf()?.is_empty() {
            match decoder.reset(&mut self.input) {
                Ok(()) => return Ok(Some(Part::Zstd(decoder))),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.input).take(length.into()), &mut io::sink())?;
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_))) => {
                    let sentence = format!("{}: something else follows what zstd has packed", self.name);
                    return Err(io::Error::other(sentence));
                }
                Err(e) => return Err(self.damaged("zstd", &e.to_string())),
            }
        }
        Ok(None)
    }
}

fn gzip() -> Part {
    Part::Gzip(Box::new(Decompress::new_gzip(GZIP_WINDOW_LOG)))
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let next = match &mut self.part {
                Part::Start => Some(self.start()?),
                Part::Plain => return self.input.read(out),
                Part::Gzip(decoder) => {
                    let held = self.input.fill_buf()?;
                    let (taken, made) = (decoder.total_in(), decoder.total_out());
                    let is_over = held.is_empty();
                    let status = decoder.decompress(held, out, FlushDecompress::None);
                    let (taken, made) = (decoder.total_in() - taken, decoder.total_out() - made);
                    self.input.consume(taken as usize);
                    match status {
                        Err(e) => return Err(self.damaged("gzip", &e.to_string())),
                        Ok(Status::StreamEnd) => self.part = Part::GzipEnd,
                        Ok(_) if is_over && made == 0 => return Err(self.damaged("gzip", "")),
                        Ok(_) => {}
                    }
                    if made > 0 {
                        return Ok(made as usize);
                    }
                    continue;
                }
                Part::GzipEnd => self.next_member()?,
                Part::Zstd(decoder) if decoder.can_collect() > 0 => return decoder.read(out),
                Part::Zstd(decoder) if !decoder.is_finished() => {
                    let blocks = BlockDecodingStrategy::UptoBlocks(1);
                    if let Err(e) = decoder.decode_blocks(&mut self.input, blocks) {
                        return Err(self.damaged("zstd", &e.to_string()));
                    }
                    continue;
                }
                Part::Zstd(decoder) => {
                    let told = decoder.get_checksum_from_data();
                    if told.is_some() && told != decoder.get_calculated_checksum() {
                        return Err(self.damaged("zstd", "its checksum is wrong"));
                    }
                    Some(Part::ZstdEnd(std::mem::take(decoder)))
                }
                Part::ZstdEnd(decoder) => {
                    let decoder = std::mem::take(decoder);
                    self.next_frame(decoder)?
                }
            };
            match next {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    /// Reads all of it, with as many bytes at hand at once.
    fn read(input: &[u8], at_once: usize) -> Result<Vec<u8>, String> {
        let input = BufReader::with_capacity(at_once, input);
        let mut text = Vec::new();
        Unpacked::new(input, "x".to_owned()).read_to_end(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }

    #[test]
    fn what_is_packed_is_unpacked_and_all_else_is_left_alone() {
        let text: Vec<u8> = (0..400_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let (one, other) = text.split_at(1_000);
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for at_once in [1, 7, 1 << 16] {
            for (name, input, expected) in [
                ("gzip", gzipped(&text), &text[..]),
                ("gzip members", [gzipped(one), gzipped(b""), gzipped(other)].concat(), &text),
                ("gzip and zeros", [gzipped(one), vec![0; 10_240]].concat(), one),
                ("zstd", zstd(&text), &text),
                ("zstd frames", [&skipped[..], &zstd(one), &skipped, &zstd(other), &skipped].concat(), &text),
                ("a frame that is skipped", skipped.clone(), b""),
                ("plain", text.clone(), &text),
                ("the begin of a magic", vec![0x28, 0xb5], &[0x28, 0xb5]),
                ("nothing", vec![], b""),
            ] {
                assert!(read(&input, at_once).as_deref() == Ok(expected), "{name} {at_once}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_told_with_the_name_and_never_taken_for_whole() {
        let text = b"0123456789".repeat(1_000);
        for packed in [gzipped(&text), zstd(&text)] {
            for length in 4..packed.len() {
                let fault = read(&packed[..length], 64).unwrap_err();
                assert!(
                    fault.starts_with("x: ") && fault.ends_with("the file is cut off"),
                    "{length}: {fault}"
                );
            }
            let behind = [&packed[..], b"{}"].concat();
            assert!(read(&behind, 64).unwrap_err().starts_with("x: "));
        }
        let mut damaged = gzipped(&text);
        let end = damaged.len() - 6;
        damaged[end] ^= 1;
        assert!(
            read(&[damaged, vec![0; 9]].concat(), 64)
                .unwrap_err()
                .starts_with("x: it can't be unpacked (gzip)")
        );
    }
}
