//! Runs of frames: where in a journal the frame with an event is, from a sparse list.

use crate::store::local::format::claim::FrameLocation;
use crate::store::local::format::codec::FrameHeader;
use crate::store::local::format::manifest::Hole;

/// Bytes of journal after which the sparse list of frames gets another entry.
const FRAME_STRIDE_BYTES: u64 = 64 << 10;

/// Part of a journal: whole frames in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRun {
    /// Where it begins and ends in the file.
    pub(crate) bytes: (u64, u64),
    /// Its first event's number, and that of the first one after it.
    pub(crate) events: (u64, u64),
    /// Earliest and latest arrival in it.
    pub(crate) received: (i64, i64),
}

/// How far a generation reaches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Number of its first event, and of the first one after it.
    pub(crate) first_event: u64,
    pub(crate) next_event: u64,
    /// Bytes of its journal.
    pub(crate) end: u64,
}

impl FrameRun {
    /// What is left of it on the side of a hole on which `event` is.
    pub(crate) fn beside(mut self, hole: &Hole, event: u64) -> Self {
        if hole.first_event > event {
            self.bytes.1 = self.bytes.1.min(hole.at);
            self.events.1 = self.events.1.min(hole.first_event);
        } else {
            self.bytes.0 = self.bytes.0.max(hole.end);
            self.events.0 = self.events.0.max(hole.next_event);
        }
        self
    }

    /// From one entry of a sparse list of frames to the next.
    pub(crate) fn between(
        entry: Option<(u64, FrameLocation)>,
        next: Option<(u64, FrameLocation)>,
        all: Extent,
    ) -> Self {
        let everything = FrameLocation { at: 0, received_min: i64::MIN, received_max: i64::MAX };
        let (first, location) = entry.unwrap_or((all.first_event, everything));
        let (behind, to) = next.map_or((all.next_event, all.end), |(event, location)| (event, location.at));
        Self {
            bytes: (location.at, to),
            events: (first, behind),
            received: (location.received_min, location.received_max),
        }
    }
}

/// Adds a frame to a sparse list: a new entry every [`FRAME_STRIDE_BYTES`], else its arrivals to
/// the last entry. Frames without events are left out, so that event numbers ascend.
pub(crate) fn add_sparse(frames: &mut Vec<(u64, FrameLocation)>, frame: &FrameHeader) {
    if frame.events == 0 {
        return;
    }
    match frames.last_mut() {
        Some((_, last)) if frame.at - last.at < FRAME_STRIDE_BYTES => {
            last.received_min = last.received_min.min(frame.received_min);
            last.received_max = last.received_max.max(frame.received_max);
        }
        _ => {
            let (received_min, received_max) = (frame.received_min, frame.received_max);
            frames.push((frame.first_event, FrameLocation { at: frame.at, received_min, received_max }));
        }
    }
}
