//! Every fixed limit, with its unit last, and how they relate.
//!
//! What a user may change is in [`crate::config`]; these are its defaults and the bounds that the formats rest on.

/// Longest topic.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Longest event id.
pub const EVENT_ID_BYTES_MAX: usize = 256;
/// Longest source.
pub const SOURCE_BYTES_MAX: usize = 255;
/// Longest timestamp text.
pub const TIMESTAMP_BYTES_MAX: usize = 64;
/// Deepest nesting of a payload.
pub const PAYLOAD_DEPTH_MAX: usize = 64;
/// Largest payload, as it was sent.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Largest request body.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Largest request body after decompression.
pub const DECODED_BYTES_MAX: usize = 64 << 20;
/// Most decoded bytes for each compressed one, once [`RATIO_FREE_BYTES`] are decoded.
pub const RATIO_MAX: u64 = 100;
/// So much may be decoded at any ratio.
pub const RATIO_FREE_BYTES: u64 = 1 << 20;
/// Largest window of a zstd frame: the most that RFC 9659 lets a sender use.
pub const ZSTD_WINDOW_BYTES_MAX: usize = 8 << 20;
/// Longest line of a stream of events: the largest payload, and room for the other fields.
pub const LINE_BYTES_MAX: usize = EVENT_BYTES_MAX + (64 << 10);
/// Bytes at which a part of a stream is committed.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Lines at which a part of a stream is committed.
pub const CHUNK_LINES: usize = 1_000;
/// Most events in one request.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// Bytes of request bodies held at once, over all connections.
pub const INFLIGHT_BYTES_MAX: usize = 64 << 20;
/// Requests of one topic that are being stored at once; more of them wait. A commit of so many takes milliseconds.
pub const TOPIC_REQUESTS_MAX: usize = 256;
/// And their bytes; a larger request is alone.
pub const TOPIC_BYTES_INFLIGHT_MAX: usize = 1 << 20;
/// Connections served at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Largest request head (line and headers).
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most faults listed in one refusal.
pub const FAULTS_LISTED_MAX: usize = 100;
/// Most topics in one store.
pub const TOPICS_MAX: usize = 200_000;

/// Topics with figures of their own in `/metrics`.
pub const TOPICS_MEASURED_MAX: usize = 100;

/// Events on a page of `GET /events` when `limit` is absent.
pub const PAGE_EVENTS_DEFAULT: usize = 100;
/// Most events on a page.
pub const PAGE_EVENTS_MAX: usize = 10_000;
/// Bytes of events at which a page ends, short; it may have one event more.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// Journal bytes that are scanned for one page; a page that reaches it is short and still has a `next_cursor`.
pub const PAGE_SCAN_BYTES_MAX: usize = 32 << 20;

/// Bytes of a piece of an answer that is made while it is sent; a larger event is a piece of its own.
pub const PIECE_BYTES: usize = 64 << 10;
/// Bytes of events that are read at once for a reader that has taken the first piece, as long as there is room: a read that
/// gives little costs as much as one that gives this.
pub const READ_BYTES: usize = 256 << 10;
/// Events of a read.
pub const READ_EVENTS_MAX: usize = 1_000;
/// Bytes of answers held for their readers, over all connections.
pub const ANSWER_BYTES_INFLIGHT_MAX: usize = 32 << 20;
/// Of these, bytes that only whole answers may take: an event, figures, the results of a publish.
pub const ANSWER_BYTES_RESERVED: usize = 8 << 20;
/// A connection may hold one byte of answers for so many that are free.
pub const ANSWER_BYTES_FREE_SHARE: usize = 4;
/// Whole answers of so many bytes are not counted: what HTTP keeps for a request is more.
pub const ANSWER_BYTES_UNCOUNTED: usize = 1 << 10;
/// What a gzip encoder takes while a stream lasts: its window, its hash chains, and what it has not given yet.
pub const GZIP_ENCODER_BYTES: usize = 320 << 10;
/// Seconds that an answer under way waits for room for its next piece before it is cut short.
pub const ANSWER_WAIT_SECONDS: u64 = 30;
/// Reads of the disk at once; more wait. Each may hold a frame of the journal.
pub const READS_MAX: usize = 8;
/// Pages that are read at once.
pub const PAGES_READ_MAX: usize = 4;
/// Scans that are read at once, by a thread of the lowest niceness.
pub const SCANS_READ_MAX: usize = 1;
/// Journal bytes at which a read ends, short: the reader takes its next turn.
pub const LOOK_BYTES: usize = 1 << 20;
/// The same for a step of a scan.
pub const SCAN_BYTES: usize = 4 << 20;
/// A read that looked at so many events for each that it gives is a scan's.
pub const SCAN_PASSED_MIN: usize = 16;
/// Tails that are woken at once; the next so many are a millisecond later.
pub const TAILS_WOKEN_MAX: usize = 32;
/// Pages that tails read last and share.
pub const TAIL_PAGES_KEPT: usize = 16;
/// Part of the topics, in percent, at which the operator is told that they run out.
pub const TOPICS_WARNED_PERCENT: usize = 80;
/// The last part of the topics, one of so many, is given out in shares.
pub const TOPICS_SCARCE_PART: usize = 10;
/// And each client gets one of so many of that part an hour.
pub const TOPICS_CLIENT_PART: usize = 20;
/// Clients whose shares are counted apart; more of them share one.
pub const TOPICS_CLIENTS_MAX: usize = 1_024;
/// Seconds without an event after which a tail sends a sign of life.
pub const HEARTBEAT_SECONDS: u64 = 15;
/// Shortest body of an answer that is worth compressing.
pub const GZIP_BYTES_MIN: usize = 1 << 10;

/// Seconds until a request's head must be complete.
pub const HEAD_SECONDS: u64 = 10;
/// Seconds a request's body may take; of a stream, each line or 64 KiB.
pub const BODY_SECONDS: u64 = 30;
/// Seconds a request waits for room before it is refused with 503.
pub const ADMISSION_SECONDS: u64 = 2;
/// Seconds in which the rest of a refused body is read and dropped, so that its sender gets to read why.
pub const LINGER_SECONDS: u64 = 2;
/// And the most bytes of it.
pub const LINGER_BYTES_MAX: usize = 64 << 20;
/// Seconds that a stop waits for requests under way.
pub const DRAIN_SECONDS: u64 = 20;

/// Stored events at which a generation is full.
pub const GENERATION_EVENTS: u64 = 1_000_000;
/// Journal bytes at which a generation is full.
pub const GENERATION_BYTES: u64 = 512 << 20;

const _: () = assert!(PIECE_BYTES <= READ_BYTES && READ_BYTES <= LOOK_BYTES && LOOK_BYTES <= SCAN_BYTES);
const _: () = assert!(SCAN_BYTES <= PAGE_SCAN_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_RESERVED < ANSWER_BYTES_INFLIGHT_MAX);
// The largest event goes out even where others hold half of the room.
const _: () = assert!(
    2 * (EVENT_BYTES_MAX + PIECE_BYTES) * ANSWER_BYTES_FREE_SHARE
        <= ANSWER_BYTES_INFLIGHT_MAX - ANSWER_BYTES_RESERVED
);
const _: () = assert!(GZIP_BYTES_MIN >= ANSWER_BYTES_UNCOUNTED);
const _: () = assert!(PAGES_READ_MAX + SCANS_READ_MAX < READS_MAX);
const _: () = assert!(INFLIGHT_BYTES_MAX >= BODY_BYTES_MAX * 4);
const _: () = assert!(LINGER_BYTES_MAX >= BODY_BYTES_MAX * 2);
const _: () = assert!(EVENT_BYTES_MAX <= BODY_BYTES_MAX);
const _: () = assert!(DECODED_BYTES_MAX >= BODY_BYTES_MAX && DECODED_BYTES_MAX <= INFLIGHT_BYTES_MAX);
const _: () = assert!(ZSTD_WINDOW_BYTES_MAX <= INFLIGHT_BYTES_MAX / 4);
const _: () = assert!(CHUNK_BYTES + LINE_BYTES_MAX <= INFLIGHT_BYTES_MAX / 4);
/// Requests under way on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 100;
/// Requests that an HTTP/2 client may take back before they were looked at; one more ends the connection.
pub const STREAMS_RESET_MAX: usize = 20;
/// Seconds between pings on an HTTP/2 connection; one that is not answered within 20 seconds ends it.
pub const KEEP_ALIVE_SECONDS: u64 = 20;
