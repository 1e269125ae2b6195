//! Any bytes, at any place of any file of a data directory.

use sekali::disk::{Disk, Open};
use sekali_fuzz::{go_through, golden};

/// Plays one input.
pub(crate) fn play(data: &[u8]) {
    let disk = golden();
    let files = disk.files();
    let mut rest = data;
    // The input is a list of changes: a file, an offset in it, a length, and that many bytes.
    while let [file, a, b, c, len, more @ ..] = rest {
        let (bytes, behind) = more.split_at(usize::from(*len).min(more.len()));
        rest = behind;
        let path = &files[usize::from(*file) % files.len()];
        let file = disk.open(path, Open::Write).expect("a file");
        let len = file.len().expect("a length").max(1);
        let at = u64::from(u32::from_le_bytes([*a, *b, *c, 0])) % len;
        match bytes {
            [] => file.set_len(at).expect("a cut"),
            bytes => file.write_all_at(bytes, at).expect("a write"),
        }
    }
    go_through(&disk);
}
