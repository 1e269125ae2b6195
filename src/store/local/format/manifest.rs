//! `MANIFEST`: which generations there are, and how the last process left them.
//!
//! JSON, so that a person can read it; replaced atomically (temporary file, fsync, rename, fsync of
//! the directory).

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::Covered;
use super::codec::FORMAT;
use super::hold::Hold;
use super::layout::MANIFEST;
use crate::disk::{self, Disk};
use crate::error::{During, Error, ErrorKind, Result};
use crate::sync::{self, Mutex};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Random, of this store; 32 hexadecimal digits.
    pub(crate) store_id: String,
    /// Key of all keyed hashes; 32 hexadecimal digits. Secret: who knows it can aim at a worker.
    pub(crate) secret: String,
    /// Oldest first; the last one is live.
    pub(crate) generations: Vec<Entry>,
    /// Set by a clean stop, cleared before the first write.
    pub(crate) clean: Option<Clean>,
    /// What `repair` gave up, in the order of the journals. Only of sealed generations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) holes: Vec<Hole>,
    /// CRC32C of all of the above, as compact JSON with 0 here: every other file is believed by
    /// what stands in this one.
    pub(crate) crc: u32,
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Number, from 1.
    pub(crate) id: u64,
    /// Seeds the CRCs of its files.
    pub(crate) nonce: u64,
    /// Number of its first frame.
    pub(crate) first_frame: u64,
    /// Number of its first event.
    pub(crate) first_event: u64,
    /// What is in it, once it takes no more events.
    pub(crate) closed: Option<Closed>,
    /// Whether its claims map, block map, frame map and filter are complete.
    pub(crate) sealed: bool,
}

/// What a generation holds that takes no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closed {
    /// Bytes of its journal.
    pub(crate) end: u64,
    /// Number of its last frame.
    pub(crate) last_frame: u64,
    /// Events, and so claims.
    pub(crate) events: u64,
    /// Sum of the low 64 bits of the claims' hashes, wrapping.
    pub(crate) claims_sum: u64,
    /// Earliest arrival, microseconds since 1970.
    pub(crate) received_min: i64,
    /// Latest arrival.
    pub(crate) received_max: i64,
}

/// A part of a sealed generation's journal that was damaged and given up: nothing is read there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hole {
    /// The generation's number.
    pub(crate) generation: u64,
    /// Where it begins in the journal.
    pub(crate) at: u64,
    /// Where the journal goes on.
    pub(crate) end: u64,
    /// Number of the first frame in it.
    pub(crate) first_frame: u64,
    /// Number of the first frame after it.
    pub(crate) next_frame: u64,
    /// Number of the first event in it.
    pub(crate) first_event: u64,
    /// Number of the first event after it.
    pub(crate) next_event: u64,
    /// Offsets that were given away in it, or may have been: they are not used again.
    pub(crate) topics: Vec<Burnt>,
}

/// Offsets of one topic that hold no event and never will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burnt {
    pub(crate) topic: String,
    pub(crate) first: u64,
    /// The first one after them.
    pub(crate) next: u64,
}

impl Hole {
    /// Event numbers in it.
    pub(crate) fn events(&self) -> u64 {
        self.next_event - self.first_event
    }

    /// Where a journal that ends at `end` need reach: what was given up at its end need not be
    /// there. The holes are those of its generation, in order.
    pub(crate) fn before_all_at(holes: &[Self], end: u64) -> u64 {
        holes.iter().rev().fold(end, |end, hole| if hole.end == end { hole.at } else { end })
    }
}

/// How a clean stop left the live generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clean {
    /// Bytes of its journal, all durable.
    pub(crate) end: u64,
    /// Number of its last frame.
    pub(crate) last_frame: u64,
    /// What its index covers; `None` if that is not to be trusted.
    pub(crate) covered: Option<CleanIndex>,
}

/// What [`Covered`] said when the index was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanIndex {
    /// Last frame in it.
    pub(crate) through: u64,
    /// Claims in it.
    pub(crate) claims: u64,
    /// Sum of their hashes.
    pub(crate) sum: u64,
}

impl From<Covered> for CleanIndex {
    fn from(covered: Covered) -> Self {
        Self { through: covered.through, claims: covered.claims, sum: covered.sum }
    }
}

impl Manifest {
    /// A new store's, without generations.
    pub(crate) fn new(store_id: [u8; 16], secret: [u8; 16]) -> Self {
        Self {
            format: FORMAT,
            store_id: to_hex(store_id),
            secret: to_hex(secret),
            generations: Vec::new(),
            clean: None,
            holes: Vec::new(),
            crc: 0,
        }
    }

    /// The holes in the journal of a generation, in order.
    pub(crate) fn holes_of(&self, id: u64) -> Arc<[Hole]> {
        self.holes.iter().filter(|hole| hole.generation == id).cloned().collect()
    }

    /// Reads and checks the file in `dir`; `None` if there is none.
    ///
    /// # Errors
    /// `Unusable` for a newer format, `Corrupt` if it contradicts itself; `Io`, also if it can't be
    /// told whether there is one.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        if disk::is_absent(disk, &path).during("look for", &path)? {
            return Ok(None);
        }
        Self::read_from(disk, &path).map(Some)
    }

    /// Reads and checks a file that is there.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub(super) fn read_from(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let content = disk::read(disk, path).during("read", path)?;
        let format =
            serde_json::from_slice::<Format>(&content).map_err(|e| damaged(path, &e.to_string()))?.format;
        if format > FORMAT {
            let message = format!(
                "{} has format {format}, and this version of sekali knows up to {FORMAT}: use a newer version",
                path.display()
            );
            return Err(Error::new(ErrorKind::Unusable, message));
        }
        let manifest: Self = serde_json::from_slice(&content).map_err(|e| damaged(path, &e.to_string()))?;
        if manifest.crc != manifest.checksum() {
            return Err(damaged(path, "its checksum is wrong"));
        }
        manifest.check().map_err(|what| damaged(path, what))?;
        Ok(Self { crc: 0, ..manifest })
    }

    /// Replaces the file in the directory that is held, if it still is.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(crate) fn write(&self, disk: &dyn Disk, hold: &Hold) -> Result<()> {
        hold.check()?;
        let path = hold.dir().join(MANIFEST);
        let sealed = Self { crc: self.checksum(), ..self.clone() };
        let mut content = serde_json::to_vec_pretty(&sealed).map_err(|e| damaged(&path, &e.to_string()))?;
        content.push(b'\n');
        disk::replace(disk, &path, &content).during("replace", &path)
    }

    fn checksum(&self) -> u32 {
        let compact = serde_json::to_vec(&Self { crc: 0, ..self.clone() });
        compact.map_or(0, |bytes| crc32c::crc32c(&bytes))
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        from_hex(&self.store_id).ok_or("store_id is not 32 hexadecimal digits")?;
        from_hex(&self.secret).ok_or("secret is not 32 hexadecimal digits")?;
        let Some((live, older)) = self.generations.split_last() else { return Err("it names no generation") };
        if live.closed.is_some() || live.sealed || older.iter().any(|entry| entry.closed.is_none()) {
            return Err("not exactly the last generation is live");
        }
        let ascend = self.generations.windows(2).all(|pair| {
            let follows = pair[0].closed.is_some_and(|closed| {
                closed.last_frame.checked_add(1) == Some(pair[1].first_frame)
                    && pair[0].first_event.checked_add(closed.events) == Some(pair[1].first_event)
            });
            pair[0].id < pair[1].id && follows
        });
        if !ascend {
            return Err("the generations do not follow one another");
        }
        let fits = |hole: &Hole| {
            self.generations.iter().any(|entry| {
                entry.closed.is_some_and(|closed| {
                    let behind = entry.first_event + closed.events;
                    (entry.id, entry.sealed) == (hole.generation, true)
                        && hole.at < hole.end
                        && hole.end <= closed.end
                        && hole.first_frame < hole.next_frame
                        && (entry.first_event..=hole.next_event).contains(&hole.first_event)
                        && hole.next_event <= behind
                })
            }) && hole.topics.iter().all(|burnt| burnt.first < burnt.next)
        };
        let in_order = self.holes.windows(2).all(|pair| {
            (pair[0].generation, pair[0].end) <= (pair[1].generation, pair[1].at)
                && pair[0].next_event <= pair[1].first_event
        });
        if in_order && self.holes.iter().all(fits) { Ok(()) } else { Err("a hole is not where one can be") }
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        from_hex(&self.store_id).unwrap_or_default()
    }

    pub(crate) fn secret(&self) -> [u8; 16] {
        from_hex(&self.secret).unwrap_or_default()
    }
}

/// A number that has not been used before.
pub(crate) fn random_u64() -> Result<u64> {
    sync::random_u64().map_err(|e| {
        let message = format!("the operating system gives no random numbers: {e}");
        Error::new(ErrorKind::Io, message)
    })
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn damaged(path: &Path, what: &str) -> Error {
    let message =
        format!("{} is damaged: {what}; restore it from a backup of the data directory", path.display());
    Error::new(ErrorKind::Corrupt, message)
}

fn to_hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// The manifest of an open store, and the hold on its directory: changed under a lock, in memory
/// once it is on disk.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    hold: Hold,
    current: Mutex<Manifest>,
}

impl ManifestFile {
    pub(crate) fn new(hold: Hold, manifest: Manifest) -> Self {
        Self { hold, current: Mutex::new(manifest) }
    }

    /// What is held of the directory.
    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Changes the manifest and makes the change durable.
    pub(crate) fn update(&self, disk: &dyn Disk, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut current = self.current.lock();
        let mut next = current.clone();
        change(&mut next);
        next.write(disk, &self.hold)?;
        *current = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new([0xab; 16], [1; 16]);
        let closed = Closed {
            end: 100,
            last_frame: 4,
            events: 9,
            claims_sum: u64::MAX,
            received_min: -1,
            received_max: 2,
        };
        let live = Entry { id: 2, nonce: 8, first_frame: 5, first_event: 9, closed: None, sealed: false };
        let sealed =
            Entry { id: 1, nonce: 7, first_frame: 0, first_event: 0, closed: Some(closed), sealed: true };
        manifest.generations = vec![sealed, live];
        let covered = Some(CleanIndex { through: 5, claims: 1, sum: 3 });
        manifest.clean = Some(Clean { end: 50, last_frame: 5, covered });
        manifest
    }

    fn write(manifest: &Manifest, dir: &Path) {
        manifest.write(&SystemDisk, &Hold::take(&SystemDisk, dir).unwrap()).unwrap();
    }

    #[test]
    fn golden() {
        let dir = tempfile::tempdir().unwrap();
        write(&manifest(), dir.path());
        let text = std::fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        assert_eq!(text, include_str!("manifest/golden-4.json"));
        assert_eq!(Manifest::read(&SystemDisk, dir.path()).unwrap(), Some(manifest()));
        let older = [
            include_str!("manifest/golden-1.json"),
            include_str!("manifest/golden-2.json"),
            include_str!("manifest/golden-3.json"),
        ];
        for (format, text) in (1..).zip(older) {
            std::fs::write(dir.path().join(MANIFEST), text).unwrap();
            let older = Manifest { format, ..manifest() };
            assert_eq!(Manifest::read(&SystemDisk, dir.path()).unwrap(), Some(older));
        }
    }

    fn with_hole() -> Manifest {
        let topics = vec![Burnt { topic: "orders".to_owned(), first: 1, next: 4 }];
        let hole = Hole {
            generation: 1,
            at: 20,
            end: 90,
            first_frame: 1,
            next_frame: 3,
            first_event: 2,
            next_event: 5,
            topics,
        };
        Manifest { holes: vec![hole], ..manifest() }
    }

    #[test]
    fn golden_with_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        write(&with_hole(), dir.path());
        let text = std::fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        assert_eq!(text, include_str!("manifest/golden-4-hole.json"));
        let read = Manifest::read(&SystemDisk, dir.path()).unwrap().unwrap();
        assert_eq!((read.holes_of(1).len(), read.holes_of(2).len()), (1, 0));
        assert_eq!(read, with_hole());
        std::fs::write(dir.path().join(MANIFEST), include_str!("manifest/golden-3-hole.json")).unwrap();
        let older = Manifest { format: 3, ..with_hole() };
        assert_eq!(Manifest::read(&SystemDisk, dir.path()).unwrap(), Some(older));
    }

    #[test]
    fn a_hole_where_none_can_be_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let changes: [fn(&mut Manifest); 10] = [
            |manifest| manifest.holes[0].generation = 2,
            |manifest| manifest.holes[0].generation = 3,
            |manifest| manifest.holes[0].end = 20,
            |manifest| manifest.holes[0].end = 101,
            |manifest| manifest.holes[0].next_frame = 1,
            |manifest| manifest.holes[0].first_event = 6,
            |manifest| manifest.holes[0].next_event = 10,
            |manifest| manifest.holes[0].topics[0].next = 1,
            |manifest| manifest.holes.push(manifest.holes[0].clone()),
            |manifest| manifest.generations[0].sealed = false,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut manifest = with_hole();
            change(&mut manifest);
            write(&manifest, dir.path());
            assert!(Manifest::read(&SystemDisk, dir.path()).is_err(), "change {number}");
        }
    }

    #[test]
    fn a_manifest_that_contradicts_itself_or_is_newer_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            std::fs::write(dir.path().join(MANIFEST), text).unwrap();
            let error = Manifest::read(&SystemDisk, dir.path()).unwrap_err();
            assert!(error.to_string().contains("MANIFEST"), "{error}");
            error.kind()
        };
        assert_eq!(refused(""), ErrorKind::Corrupt);
        assert_eq!(refused("{}"), ErrorKind::Corrupt);
        assert_eq!(refused(r#"{"format":5,"new":true}"#), ErrorKind::Unusable);
        let good = include_str!("manifest/golden-4.json");
        assert_eq!(refused(&good.replace("\"events\": 9", "\"events\": 8")), ErrorKind::Corrupt);
        assert_eq!(refused(&good.replace("abab", "abax")), ErrorKind::Corrupt);
        assert_eq!(refused(&good.replace("\"id\": 2", "\"id\": 1")), ErrorKind::Corrupt);
    }

    #[test]
    fn a_change_of_any_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MANIFEST);
        let good = include_bytes!("manifest/golden-4.json");
        for (at, byte) in good.iter().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()) {
            let mut bytes = good.to_vec();
            bytes[at] = if byte.is_ascii_digit() { b'0' + (byte - b'0' + 1) % 10 } else { byte ^ 1 };
            std::fs::write(&path, &bytes).unwrap();
            assert!(Manifest::read(&SystemDisk, dir.path()).is_err(), "byte {at}");
        }
    }
}
