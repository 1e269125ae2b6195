//! Seeded events. Event number n of a seed, with one size and one kind of ids, always has the same
//! bytes, so a repetition needs no memory of the original.

/// How far back a repeated event lies at most.
pub(super) const RECENT_EVENTS: u64 = 100_000;

/// Every event begins with these bytes, but for digits in places of fixed width; larger ones go on
/// with a note in the payload.
const TEMPLATE: &[u8] = br#"{"topic":"bench.00000","event_id":"00000000-0000-4000-8000-000000000000","timestamp":"2026-01-01T00:00:00.000000Z","source":"bench","payload":{"order":"0000000000000000","amount":100000,"currency":"IDR","customer":"0000000000000000","items":[{"sku":"00000000","qty":1}]}}"#;

/// The source of every event.
pub(super) const SOURCE: &str = "bench";

/// The offset in the template of what follows `marker`.
const fn offset_after(marker: &[u8]) -> usize {
    let mut at = 0;
    while at + marker.len() <= TEMPLATE.len() {
        let mut same = 0;
        while same < marker.len() && TEMPLATE[at + same] == marker[same] {
            same += 1;
        }
        if same == marker.len() {
            return at + marker.len();
        }
        at += 1;
    }
    // Reached at compile time only, where it is an error.
    TEMPLATE.len() * 2
}

const TOPIC: usize = offset_after(b"\"topic\":\"bench.");
const EVENT_ID: usize = offset_after(b"\"event_id\":\"");
const MICROS: usize = offset_after(b"00:00:00.");
const ORDER: usize = offset_after(b"\"order\":\"");
const AMOUNT: usize = offset_after(b"\"amount\":");
const CUSTOMER: usize = offset_after(b"\"customer\":\"");
const SKU: usize = offset_after(b"\"sku\":\"");

const _: () = assert!(
    TOPIC < EVENT_ID
        && EVENT_ID < MICROS
        && MICROS < ORDER
        && ORDER < AMOUNT
        && AMOUNT < CUSTOMER
        && CUSTOMER < SKU
);
const _: () = assert!(SKU < TEMPLATE.len());

/// What ends the payload and the event.
const END: &[u8] = b"}}";
const NOTE: &[u8] = b",\"note\":\"";
/// Bytes of the smallest event.
pub(super) const EVENT_BYTES: u32 = TEMPLATE.len() as u32;
/// The time of the first UUIDv7, 2026-01-01, in milliseconds.
const UUID_V7_START: u64 = 1_767_225_600_000;
/// Text that notes are cut out of. It is long, so that notes which are compressed together hardly
/// ever overlap.
const NOTES_BYTES: usize = 1 << 20;

/// Whether a topic is one of those that events are made for.
pub(super) fn is_topic(topic: &str) -> bool {
    let number = topic.strip_prefix("bench.");
    number.is_some_and(|number| number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The kind of ids that events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ids {
    /// Random: they come in no order
    #[value(name = "uuidv4")]
    UuidV4,
    /// They begin with a time in milliseconds, which goes on by one every hundred events
    #[value(name = "uuidv7")]
    UuidV7,
}

/// Makes the events of a run.
#[derive(Debug)]
pub(super) struct Workload {
    seed: u64,
    choices: fastrand::Rng,
    /// Upper bound of each topic's share of all 64-bit numbers.
    topic_bounds: Vec<u64>,
    duplicates: f64,
    ids: Ids,
    /// Bytes of each event.
    bytes: usize,
    /// Hexadecimal digits, which hardly compress.
    notes: Vec<u8>,
    unique: u64,
}

impl Workload {
    /// Events of `seed` in `topics` topics, of which the n-th has the weight 1/n. A share of them,
    /// `duplicates` from 0 to 1, repeats an earlier one. An event has `bytes` bytes, or a few more
    /// if that is too little for a note and more than the smallest event has.
    pub(super) fn new(seed: u64, topics: u32, duplicates: f64, ids: Ids, bytes: u32) -> Self {
        let total: f64 = (1..=topics).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut sum = 0.0;
        let bound = |rank| {
            sum += 1.0 / f64::from(rank) / total;
            (sum * u64::MAX as f64) as u64
        };
        let topic_bounds = (1..=topics).map(bound).collect();
        let mut choices = fastrand::Rng::with_seed(seed);
        let (bytes, mut notes) = (bytes as usize, Vec::new());
        if bytes > TEMPLATE.len() {
            let digits =
                std::iter::repeat_with(|| choices.u8(..16)).map(|digit| b"0123456789abcdef"[digit as usize]);
            notes.extend(digits.take(NOTES_BYTES + bytes));
        }
        let bytes =
            if notes.is_empty() { TEMPLATE.len() } else { bytes.max(TEMPLATE.len() + NOTE.len() + 1) };
        Self { seed, choices, topic_bounds, duplicates, ids, bytes, notes, unique: 0 }
    }

    /// Different events made so far.
    pub(super) fn unique(&self) -> u64 {
        self.unique
    }

    /// Appends a body of `events` events: an array, or for one event that alone.
    pub(super) fn write_body(&mut self, events: u32, out: &mut Vec<u8>) {
        if events == 1 {
            return self.write_event(out);
        }
        for index in 0..events {
            out.push(if index == 0 { b'[' } else { b',' });
            self.write_event(out);
        }
        out.push(b']');
    }

    /// Bytes of a body of `events` events.
    pub(super) fn body_bytes(&self, events: u32) -> usize {
        let events = events as usize;
        if events == 1 { self.bytes } else { events * (self.bytes + 1) + 1 }
    }

    fn write_event(&mut self, out: &mut Vec<u8>) {
        let number = if self.unique > 0 && self.choices.f64() < self.duplicates {
            self.unique - 1 - self.choices.u64(..self.unique.min(RECENT_EVENTS))
        } else {
            self.unique += 1;
            self.unique - 1
        };
        let start = out.len();
        out.extend_from_slice(TEMPLATE);
        self.patch(number, &mut out[start..]);
        if let Some(note) = (self.bytes - TEMPLATE.len()).checked_sub(NOTE.len() + 1) {
            let at = mixed(number) as usize % NOTES_BYTES;
            out.truncate(out.len() - END.len());
            out.extend_from_slice(NOTE);
            out.extend_from_slice(&self.notes[at..at + note]);
            out.push(b'"');
            out.extend_from_slice(END);
        }
    }

    /// Writes what makes event `number` itself into a copy of the template.
    fn patch(&self, number: u64, event: &mut [u8]) {
        // Two runs of different seeds share ids with the chance of two UUIDs.
        let draw = |which: u64| mixed(mixed(self.seed ^ (which << 56)) ^ number);
        let (high, low, other) = (draw(1), draw(2), draw(3));
        let rank = self.topic_bounds.partition_point(|bound| *bound < other).min(self.topic_bounds.len() - 1);
        decimal(&mut event[TOPIC..TOPIC + 5], rank as u64);
        let id = &mut event[EVENT_ID..EVENT_ID + 36];
        let first = match self.ids {
            Ids::UuidV4 => high >> 16,
            // Milliseconds since 1970, a hundred events each.
            Ids::UuidV7 => {
                id[14] = b'7';
                UUID_V7_START + number / 100
            }
        };
        hexadecimal(&mut id[..8], first >> 16);
        hexadecimal(&mut id[9..13], first);
        hexadecimal(&mut id[15..18], high);
        id[19] = b"89ab"[(low >> 62) as usize];
        hexadecimal(&mut id[20..23], low >> 48);
        hexadecimal(&mut id[24..36], low);
        decimal(&mut event[MICROS..MICROS + 6], number);
        hexadecimal(&mut event[ORDER..ORDER + 16], other.rotate_left(32));
        // The leading 1 stays, as a JSON number begins with no zero.
        decimal(&mut event[AMOUNT + 1..AMOUNT + 6], high);
        hexadecimal(&mut event[CUSTOMER..CUSTOMER + 16], low.rotate_left(8));
        hexadecimal(&mut event[SKU..SKU + 8], high ^ low);
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input changes about half
/// of the output.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Fills `out` with the last digits of `value`.
fn decimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Fills `out` with the last hexadecimal digits of `value`.
fn hexadecimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
    struct Event {
        topic: String,
        event_id: String,
        source: String,
        timestamp: String,
        payload: serde_json::Value,
    }

    fn events(seed: u64, duplicates: f64, count: u32) -> (Vec<Event>, u64) {
        events_like(seed, duplicates, count, Ids::UuidV4, EVENT_BYTES)
    }

    fn events_like(seed: u64, duplicates: f64, count: u32, ids: Ids, bytes: u32) -> (Vec<Event>, u64) {
        let mut workload = Workload::new(seed, 64, duplicates, ids, bytes);
        let mut body = Vec::new();
        workload.write_body(count, &mut body);
        assert_eq!(body.len(), workload.body_bytes(count));
        (serde_json::from_slice(&body).unwrap(), workload.unique())
    }

    #[test]
    fn every_event_is_json_of_about_270_bytes_with_a_uuid_of_version_4() {
        let (events, _) = events(7, 0.0, 1_000);
        assert!((250..=300).contains(&TEMPLATE.len()), "{}", TEMPLATE.len());
        for event in &events {
            assert!(is_topic(&event.topic) && event.source == SOURCE);
            let id = event.event_id.as_bytes();
            assert!(id.len() == 36 && id[14] == b'4' && b"89ab".contains(&id[19]), "{}", event.event_id);
            assert!(sekali::clock::Timestamp::parse(&event.timestamp).is_some());
            assert!(event.payload["amount"].as_u64().is_some_and(|amount| amount >= 100_000));
        }
        assert_eq!(events.iter().map(|event| &event.event_id).collect::<HashSet<_>>().len(), 1_000);
    }

    #[test]
    fn uuids_of_version_7_come_in_order_of_time_and_are_as_unique() {
        let (events, _) = events_like(7, 0.0, 10_000, Ids::UuidV7, EVENT_BYTES);
        for event in &events {
            let id = event.event_id.as_bytes();
            assert!(id.len() == 36 && id[14] == b'7' && b"89ab".contains(&id[19]), "{}", event.event_id);
        }
        assert!(events.windows(2).all(|pair| pair[0].event_id[..13] <= pair[1].event_id[..13]));
        assert!(events[0].event_id[..13] < events[9_999].event_id[..13]);
        assert_eq!(events.iter().map(|event| &event.event_id).collect::<HashSet<_>>().len(), 10_000);
    }

    #[test]
    fn a_larger_event_has_a_note_of_its_own_and_exactly_its_size() {
        for bytes in [EVENT_BYTES, EVENT_BYTES + 11, EVENT_BYTES + 12, 2_048, 64 << 10] {
            let (events, unique) = events_like(7, 0.4, 20, Ids::UuidV4, bytes);
            let notes: HashSet<_> =
                events.iter().filter_map(|event| event.payload["note"].as_str()).collect();
            assert!(
                notes.iter().all(|note| TEMPLATE.len() + NOTE.len() + 1 + note.len() == bytes as usize),
                "{bytes}"
            );
            assert!(notes.is_empty() == (bytes == EVENT_BYTES) && notes.len() as u64 <= unique, "{bytes}");
            assert!(bytes < 2_048 || notes.len() as u64 == unique, "{bytes}");
        }
    }

    #[test]
    fn the_announced_number_of_unique_events_is_what_was_made_and_repeats_are_the_same_bytes() {
        let (events, unique) = events(8, 0.4, 20_000);
        let mut first = std::collections::HashMap::new();
        for event in &events {
            assert_eq!(first.entry(event.event_id.clone()).or_insert_with(|| event.clone()), event);
        }
        assert_eq!(first.len() as u64, unique);
        assert!((11_500..12_500).contains(&unique), "{unique}");
    }

    #[test]
    fn a_seed_replays_exactly_and_another_seed_shares_no_id() {
        let ids = |seed| events(seed, 0.4, 5_000).0.into_iter().map(|e| e.event_id).collect::<Vec<_>>();
        assert_eq!(ids(1), ids(1));
        let ours: HashSet<_> = ids(1).into_iter().collect();
        assert!(ids(2).iter().all(|id| !ours.contains(id)));
    }

    #[test]
    fn topics_follow_zipf() {
        let (events, _) = events(9, 0.0, 20_000);
        let share =
            |topic: &str| events.iter().filter(|e| e.topic == topic).count() as f64 / events.len() as f64;
        // The sum of 1/1 .. 1/64 is 4.744.
        assert!((share("bench.00000") - 1.0 / 4.744).abs() < 0.02);
        assert!((share("bench.00001") - 0.5 / 4.744).abs() < 0.02);
    }
}
