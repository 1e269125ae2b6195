//! Decompression of a body, step by step. Memory is taken when the first bytes are there, not when
//! the head names an encoding.

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use self::zstd::Zstd;
use crate::http::body::content::Encoding;

mod zstd;

/// What a gzip decoder holds: its window and its tables.
const GZIP_BYTES: usize = 48 << 10;
/// How a gzip member begins.
const GZIP_BEGIN: &[u8] = &[0x1f];
/// gzip's window of 32 KiB, as a power of two.
const GZIP_WINDOW_LOG: u8 = 15;

/// Why a body can't be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It is not of this encoding, or damaged.
    Malformed,
    /// It ends too early.
    Truncated,
    /// What follows a whole member or frame begins as no other one does.
    Trailing,
}

enum Codec {
    Gzip(Box<Decompress>),
    Zstd(Box<Zstd>),
}

/// Decompresses one body: any number of gzip members or zstd frames.
pub(crate) struct Decompressor {
    encoding: Encoding,
    /// `None` until something is decoded.
    codec: Option<Codec>,
    /// Something came.
    has_begun: bool,
    /// Whether it stands at the end of a member or frame.
    is_whole: bool,
    /// Whether the last step filled its buffer, so that there may be more without any input.
    was_full: bool,
    made: u64,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor")
            .field("encoding", &self.encoding)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl Decompressor {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self { encoding, codec: None, has_begun: false, is_whole: false, was_full: false, made: 0 }
    }

    /// Bytes it holds.
    pub(crate) fn memory(&self) -> usize {
        match &self.codec {
            None if !self.has_begun => 0,
            None => match self.encoding {
                Encoding::Gzip => GZIP_BYTES,
                Encoding::Zstd => zstd::BEGIN_BYTES,
            },
            Some(Codec::Gzip(_)) => GZIP_BYTES,
            Some(Codec::Zstd(codec)) => codec.memory(),
        }
    }

    /// Notes that something came, so that a permit is taken before memory is. Whether it is the
    /// first.
    pub(crate) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    /// Bytes that came out of it.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Whether there may be more before the next input.
    pub(crate) fn has_more(&self) -> bool {
        self.was_full
    }

    /// Takes from `input`, fills `out`, and says how much of it.
    pub(crate) fn step(&mut self, input: &mut Bytes, out: &mut [u8]) -> Result<usize, Damage> {
        let codec = self.codec.get_or_insert_with(|| match self.encoding {
            Encoding::Gzip => Codec::Gzip(Box::new(Decompress::new_gzip(GZIP_WINDOW_LOG))),
            Encoding::Zstd => Codec::Zstd(Box::new(Zstd::new())),
        });
        let (taken, made) = match codec {
            Codec::Gzip(codec) => {
                if self.is_whole {
                    // Tapes and block devices pad with zeros, which gzip's own reader passes over.
                    let zeros = input.iter().take_while(|byte| **byte == 0).count();
                    input.advance(zeros);
                }
                if self.is_whole && input.is_empty() {
                    self.was_full = false;
                    return Ok(0);
                }
                if self.is_whole && !input.starts_with(GZIP_BEGIN) {
                    return Err(Damage::Trailing);
                }
                if self.is_whole {
                    codec.reset(true);
                    self.is_whole = false;
                }
                let before = (codec.total_in(), codec.total_out());
                let status = codec.decompress(input, out, FlushDecompress::None);
                self.is_whole |= status.map_err(|_| Damage::Malformed)? == Status::StreamEnd;
                let taken = (codec.total_in() - before.0) as usize;
                input.advance(taken);
                (taken, (codec.total_out() - before.1) as usize)
            }
            Codec::Zstd(codec) => {
                if self.is_whole && !zstd::may_begin(input) {
                    return Err(Damage::Trailing);
                }
                let before = input.len();
                let made = codec.step(input, out)?;
                let taken = before - input.len();
                if taken > 0 || made > 0 {
                    self.is_whole = codec.is_whole();
                }
                (taken, made)
            }
        };
        self.was_full = made == out.len();
        if taken == 0 && made == 0 && !input.is_empty() {
            return Err(Damage::Malformed);
        }
        self.made += made as u64;
        Ok(made)
    }

    /// There is no more input.
    pub(crate) fn finish(&self) -> Result<(), Damage> {
        if self.is_whole { Ok(()) } else { Err(Damage::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// Decodes `body`, given in pieces, with a buffer of `out` bytes a step.
    fn decode(encoding: Encoding, body: &[u8], piece: usize, out: usize) -> Result<Vec<u8>, Damage> {
        let mut decompressor = Decompressor::new(encoding);
        let (mut decoded, mut out) = (Vec::new(), vec![0; out]);
        for piece in body.chunks(piece) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() || decompressor.has_more() {
                let made = decompressor.step(&mut piece, &mut out)?;
                decoded.extend_from_slice(&out[..made]);
            }
        }
        decompressor.finish().map(|()| decoded)
    }

    #[test]
    fn a_body_is_the_same_in_pieces_of_any_size_and_with_any_room() {
        let plain: Vec<u8> = (0..30_000u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        for (encoding, body) in [(Encoding::Gzip, gzip(&plain)), (Encoding::Zstd, zstd(&plain))] {
            for piece in [1, 7, 1_000, 1 << 20] {
                for out in [1, 13, 4_096, 1 << 20] {
                    assert_eq!(
                        decode(encoding, &body, piece, out),
                        Ok(plain.clone()),
                        "{encoding:?} {piece} {out}"
                    );
                }
            }
        }
    }

    #[test]
    fn several_members_or_frames_are_one_body_and_what_follows_them_is_damage() {
        for (encoding, of) in [(Encoding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)] {
            let two = [of(b"ab"), of(b""), of(b"c")].concat();
            for out in [1, 2, 64] {
                assert_eq!(decode(encoding, &two, 3, out), Ok(b"abc".to_vec()), "{encoding:?} {out}");
            }
            let trailing = [of(b"ab"), b"garbage, not a member".to_vec()].concat();
            assert_eq!(decode(encoding, &trailing, 64, 64), Err(Damage::Trailing), "{encoding:?}");
            for piece in [1, 64] {
                let newline = [of(b"ab"), b"\n".to_vec()].concat();
                assert_eq!(decode(encoding, &newline, piece, 64), Err(Damage::Trailing), "{encoding:?}");
            }
        }
    }

    #[test]
    fn frames_of_the_reference_library_are_taken_and_frames_to_skip_skipped() {
        let plain: String = (0..40)
            .map(|n| {
                format!("{{\"topic\":\"t{}\",\"event_id\":\"{n}\",\"n\":{}}}\n", n % 3, n * n * 7919 % 1_000)
            })
            .collect();
        // zstd -19 --check
        let frame = [
            0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x7d, 0x06, 0x00, 0xe2, 0x4d, 0x21, 0x16, 0xa0, 0x29, 0x1d,
            0xa7, 0x7d, 0xe6, 0x1e, 0x6d, 0x06, 0xc0, 0x60, 0x24, 0x6d, 0x29, 0xa5, 0x4c, 0x09, 0x58, 0xdc,
            0xc3, 0xa9, 0x11, 0x80, 0xc6, 0x7f, 0xb7, 0xb9, 0x98, 0xe4, 0x99, 0x6a, 0xae, 0xbb, 0x32, 0x99,
            0xc9, 0xfc, 0xd9, 0x56, 0xf5, 0x8b, 0xf4, 0x0c, 0xc7, 0xbf, 0xf2, 0xda, 0xa9, 0x94, 0xf5, 0x2b,
            0x51, 0xad, 0x75, 0xae, 0x12, 0x99, 0xca, 0xa2, 0x6b, 0xbf, 0xf6, 0x57, 0x76, 0xc6, 0xa6, 0xaf,
            0x3b, 0xad, 0xae, 0x90, 0xaf, 0x23, 0x59, 0x8d, 0x75, 0x57, 0xa4, 0x92, 0x48, 0xda, 0x34, 0xbb,
            0xfc, 0x49, 0xce, 0x7c, 0x78, 0xd3, 0x8d, 0xa5, 0xd0, 0x47, 0xc5, 0xea, 0x5e, 0x34, 0x47, 0xbc,
            0x7a, 0xec, 0xac, 0x3d, 0x4f, 0x02, 0x1a, 0x73, 0x90, 0x03, 0x09, 0x90, 0x21, 0x07, 0x21, 0x18,
            0x04, 0x8a, 0x43, 0x61, 0x51, 0x20, 0x01, 0x32, 0x0a, 0x72, 0x90, 0x81, 0x21, 0x81, 0x50, 0x10,
            0x46, 0x51, 0xa8, 0x11, 0xa0, 0x74, 0xbe, 0xff, 0x1d, 0xb0, 0x97, 0x3a, 0x11, 0x08, 0x86, 0x11,
            0x81, 0x31, 0xe2, 0x9f, 0x0f, 0xd0, 0xc6, 0xbe, 0x8c, 0x91, 0xd9, 0x95, 0xe7, 0xb3, 0xb4, 0x70,
            0xb6, 0xc4, 0xcc, 0xe2, 0xcc, 0xc4, 0xac, 0xc5, 0xd2, 0x2a, 0x70, 0x99, 0x71, 0xa7, 0x29, 0x6e,
            0x4b, 0x4d, 0xf0, 0x2e, 0x9c, 0x3f, 0xd2, 0xdb, 0x70, 0xd5, 0xea, 0x53, 0x0d, 0x30, 0x47, 0x07,
            0x12, 0x73, 0x6e, 0xc8, 0xf2, 0xd4, 0xa4, 0x0a, 0x3f, 0x49, 0xca, 0x21,
        ];
        let skipped = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let body = [&skipped[..], &frame, &skipped].concat();
        for piece in [1, 5, 1_000] {
            let decoded =
                decode(Encoding::Zstd, &body, piece, 100).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(decoded.as_deref(), Ok(plain.as_str()));
        }
    }

    #[test]
    fn every_cut_and_every_turned_bit_is_noticed() {
        let plain = b"{\"topic\":\"t\"} some text, some more text".repeat(3);
        for (encoding, body) in [(Encoding::Gzip, gzip(&plain)), (Encoding::Zstd, zstd(&plain))] {
            for end in 0..body.len() {
                assert_eq!(
                    decode(encoding, &body[..end], 64, 64),
                    Err(Damage::Truncated),
                    "{encoding:?} {end}"
                );
            }
            for at in 0..body.len() * 8 {
                let mut damaged = body.clone();
                damaged[at / 8] ^= 1 << (at % 8);
                let decoded = decode(encoding, &damaged, 64, 64);
                // Some bits of gzip's head mean nothing.
                assert!(decoded.is_err() || decoded == Ok(plain.clone()), "{encoding:?} {at}");
            }
        }
    }

    #[test]
    fn zeros_behind_a_gzip_member_are_padding_and_behind_a_frame_damage() {
        let zeros = vec![0; 1_000];
        for out in [1, 2, 64] {
            for piece in [1, 3, 4_096] {
                let padded = [gzip(b"ab"), zeros.clone()].concat();
                assert_eq!(decode(Encoding::Gzip, &padded, piece, out), Ok(b"ab".to_vec()));
                let between = [&padded[..], &gzip(b"c")].concat();
                assert_eq!(decode(Encoding::Gzip, &between, piece, out), Ok(b"abc".to_vec()));
                let more = [&padded[..], b"more than zeros"].concat();
                assert_eq!(decode(Encoding::Gzip, &more, piece, out), Err(Damage::Trailing));
            }
        }
        assert_eq!(
            decode(Encoding::Gzip, &zeros, 64, 64),
            Err(Damage::Malformed),
            "zeros alone are no member"
        );
        assert_eq!(decode(Encoding::Zstd, &[zstd(b"ab"), zeros].concat(), 64, 64), Err(Damage::Trailing));
    }

    #[test]
    fn a_window_is_counted_when_it_fills_not_when_it_is_declared() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            assert_eq!(Decompressor::new(encoding).memory(), 0, "{encoding:?}: nothing came yet");
        }
        // A window of 8 MiB, twice, with a block of one byte each time.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3, 9, 0, 0, b'x'];
        let mut body = Bytes::from([frame, frame].concat());
        let (mut decompressor, mut out) = (Decompressor::new(Encoding::Zstd), vec![0; 64]);
        while !body.is_empty() || decompressor.has_more() {
            decompressor.step(&mut body, &mut out).unwrap();
            assert!(decompressor.memory() < 1 << 20, "{}", decompressor.memory());
        }
        let mut zeros = Bytes::from(zstd(&vec![0; 16 << 20]));
        let mut most = 0;
        let mut decompressor = Decompressor::new(Encoding::Zstd);
        let mut out = vec![0; 64 << 10];
        while !zeros.is_empty() || decompressor.has_more() {
            decompressor.step(&mut zeros, &mut out).unwrap();
            most = most.max(decompressor.memory());
        }
        assert!(most > 256 << 10, "{most}");
    }
}
