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
/// Largest window of a zstd file that `sekali publish` unpacks: what the zstd program unpacks without being told to.
pub const FILE_WINDOW_BYTES_MAX: u64 = 128 << 20;
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
/// Journal bytes read for one page; a page that reaches it is short and still has a `next_cursor`.
pub const PAGE_SCAN_BYTES_MAX: usize = 32 << 20;

/// Events read at once for a stream of them.
pub const STREAM_PAGE_EVENTS: usize = 1_000;
/// Bytes of events at which that ends; what a stream holds is this and one event.
pub const STREAM_PAGE_BYTES: usize = 256 << 10;
/// Seconds without an event after which a tail sends a sign of life.
pub const HEARTBEAT_SECONDS: u64 = 15;
/// Shortest body of an answer that is worth compressing.
pub const GZIP_BYTES_MIN: u64 = 1 << 10;

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
