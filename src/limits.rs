//! Every fixed limit, with its unit last, and how they relate.
//!
//! What a user may change is in [`crate::config`]; these are its defaults and the bounds that the
//! formats rest on.

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
/// Largest window of a zstd frame: the most that RFC 9659 lets a sender use.
pub const ZSTD_WINDOW_BYTES_MAX: usize = 8 << 20;
/// Largest window of a zstd file that `sekali publish` unpacks: what the zstd program unpacks
/// without being told to.
pub const FILE_WINDOW_BYTES_MAX: u64 = 128 << 20;
/// Longest line of a stream of events: the largest payload, with the other fields.
pub const LINE_BYTES_MAX: usize = EVENT_BYTES_MAX + (64 << 10);
/// Bytes at which a part of a stream is committed.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Lines at which a part of a stream is committed.
pub const CHUNK_LINES: usize = 1_000;
/// Most events in one request.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// Bytes of request bodies held at once, over all connections: half of it for the largest bodies
/// alone.
pub const INFLIGHT_BYTES_MAX: usize = 128 << 20;
/// Requests of one topic that are being stored at once; more of them wait.
pub const TOPIC_REQUESTS_MAX: usize = 256;
/// And their bytes; a larger request is alone.
pub const TOPIC_BYTES_INFLIGHT_MAX: usize = 1 << 20;
/// Connections served at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Largest request head (line and headers).
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Seconds for which a browser remembers what the pages of an allowed origin may send.
pub const PREFLIGHT_SECONDS: u32 = 600;
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
/// Journal bytes that are scanned for one page; a page that reaches it is short and still has a
/// `next_cursor`.
pub const PAGE_SCAN_BYTES_MAX: usize = 32 << 20;

/// Bytes of a piece of an answer that is made while it is sent; a larger event is a piece of its
/// own.
pub const PIECE_BYTES: usize = 64 << 10;
/// Bytes of events that are read at once for a client that has taken the first piece, as far as the
/// budget allows: a read that gives little costs as much as one that gives this.
pub const READ_BYTES: usize = 256 << 10;
/// Events of a read.
pub const READ_EVENTS_MAX: usize = 1_000;
/// Bytes of answers held for their readers, over all connections.
pub const ANSWER_BYTES_INFLIGHT_MAX: usize = 32 << 20;
/// The part of that budget that only whole answers may take: an event, metrics, the results of a
/// publish.
pub const ANSWER_BYTES_RESERVED: usize = 8 << 20;
/// A client may hold as many bytes of answers as it leaves free, and each of its connections one
/// for this many that the client may still hold.
pub const ANSWER_BYTES_FREE_SHARE: usize = 8;
/// Whole answers up to this many bytes are not counted: what HTTP keeps for a request is more.
pub const ANSWER_BYTES_UNCOUNTED: usize = 1 << 10;
/// What a gzip encoder takes while a stream lasts: its window, its hash chains, and what it has not
/// given yet.
pub const GZIP_ENCODER_BYTES: usize = 320 << 10;
/// Seconds that an answer under way waits for a permit for its next piece before it is cut short.
pub const ANSWER_WAIT_SECONDS: u64 = 30;
/// Reads of the disk at once; more wait. Each may hold a frame of the journal.
pub const READS_MAX: usize = 8;
/// Niceness of threads that go on with answers whose beginning was read: a tenth of the weight of
/// others, while those want a processor.
pub const NICENESS: i32 = 10;
/// The most that there is.
pub const NICENESS_LOWEST: i32 = 19;
/// Single events that are read at once, or wait for the budget of answers. Each is twice in memory.
pub const EVENTS_READ_MAX: usize = READS_MAX;
/// Pages that are read at once.
pub const PAGES_READ_MAX: usize = 4;
/// Scans that are read at once, by a thread of the lowest niceness.
pub const SCANS_READ_MAX: usize = 1;
/// Consumers whose events are read at once, by another such thread.
pub const TAKES_READ_MAX: usize = 1;
/// Journal bytes at which a read ends, short: the reader takes its next turn.
pub const LOOK_BYTES: usize = 1 << 20;
/// The same for a step of a scan.
pub const SCAN_BYTES: usize = 4 << 20;
/// A read that looked at this many events for each that it gives belongs to a scan.
pub const SCAN_PASSED_MIN: usize = 16;
/// Tails that are woken at once; the next group is woken a millisecond later.
pub const TAILS_WOKEN_MAX: usize = 32;
/// Pages that tails read last and share.
pub const TAIL_PAGES_KEPT: usize = 16;
/// Part of the topics, in percent, at which the operator is told that they run out.
pub const TOPICS_WARNED_PERCENT: usize = 80;
/// The last part of the topics, one in this many, is given out by quotas.
pub const TOPICS_SCARCE_PART: usize = 10;
/// Each client's quota an hour is one in this many of that part.
pub const TOPICS_CLIENT_PART: usize = 20;
/// Clients whose quotas of topics are counted apart; more of them share one.
pub const TOPICS_CLIENTS_MAX: usize = 1_024;
/// Clients whose rates of requests are known; those that were not seen for the longest time are
/// forgotten, and have full buckets again.
pub const RATES_MAX: usize = 1 << 16;
/// Most requests a second that a user may let each client send.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;
/// Seconds without an event after which a tail sends a sign of life.
pub const HEARTBEAT_SECONDS: u64 = 15;
/// Shortest body of an answer that is worth compressing.
pub const GZIP_BYTES_MIN: usize = 1 << 10;

/// Seconds a request waits to be admitted before it is refused with 503.
pub const ADMISSION_SECONDS: u64 = 2;
/// Seconds in which the rest of a refused body is read and dropped, so that its sender gets to read
/// why.
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
// The largest event goes out even where others hold half of the budget.
const _: () = assert!(
    2 * (EVENT_BYTES_MAX + PIECE_BYTES) * ANSWER_BYTES_FREE_SHARE
        <= ANSWER_BYTES_INFLIGHT_MAX - ANSWER_BYTES_RESERVED
);
const _: () = assert!(GZIP_BYTES_MIN >= ANSWER_BYTES_UNCOUNTED);
const _: () = assert!(PAGES_READ_MAX + SCANS_READ_MAX + TAKES_READ_MAX < READS_MAX);
const _: () = assert!(INFLIGHT_BYTES_MAX >= BODY_BYTES_MAX * 4);
const _: () = assert!(LINGER_BYTES_MAX >= BODY_BYTES_MAX * 2);
const _: () = assert!(EVENT_BYTES_MAX <= BODY_BYTES_MAX);
const _: () = assert!(DECODED_BYTES_MAX >= BODY_BYTES_MAX && DECODED_BYTES_MAX <= INFLIGHT_BYTES_MAX);
const _: () = assert!(ZSTD_WINDOW_BYTES_MAX <= INFLIGHT_BYTES_MAX / 4);
const _: () = assert!(CHUNK_BYTES + LINE_BYTES_MAX <= INFLIGHT_BYTES_MAX / 4);

/// Seconds a request's body may take, and those in which a stream brings an event.
pub const BODY_SECONDS: u64 = 30;
/// Seconds over which the pace of a body is measured; the first are grace.
pub const BODY_WINDOW_SECONDS: u64 = 10;
/// Bytes a second that a body brings in each window until it is whole: a modem's pace will do.
pub const BODY_RATE_MIN: u64 = 1 << 10;
/// Bytes of each body that have a part of the budget of their own, so that small bodies wait for no
/// large ones.
pub const BODY_FIRST_BYTES: usize = 64 << 10;
/// A body with more bytes takes a *large permit*: one for the largest that it can become.
pub const LARGE_BYTES_MIN: usize = 4 << 20;
/// Seconds that a body waits for a large permit before it is refused with 503.
pub const TICKET_SECONDS: u64 = 10;
/// Bytes a second below which a body may be ended when others lack the bytes that it holds.
pub const PRESSED_RATE_MIN: u64 = 64 << 10;
/// When bodies are ended, this part of the budget is freed, so that it need not be done for each
/// body.
pub const EVICTED_PART: usize = 16;
/// Most that a decoder holds: a window, what is decoded ahead of it, and a block as it was sent.
pub const DECODER_BYTES_MAX: usize = ZSTD_WINDOW_BYTES_MAX + (1 << 20);
/// Largest body that is decoded where it is received; a larger one is decoded by a thread beside
/// the runtime's.
pub const DECODED_INLINE_BYTES_MAX: usize = 256 << 10;
/// Most bytes that decompressing a stream may add to what was sent without bringing an event.
pub const BARREN_BYTES_MAX: u64 = 4 << 20;

const _: () = assert!(BODY_SECONDS.is_multiple_of(BODY_WINDOW_SECONDS));
const _: () = assert!(PRESSED_RATE_MIN > BODY_RATE_MIN);
// The largest body, at a steady pace that has it whole in time, is never found to be slow.
const _: () = assert!(PRESSED_RATE_MIN < BODY_BYTES_MAX as u64 / BODY_SECONDS);
// The largest part of the budget has a large permit for the largest body, and for two that are not
// compressed.
const _: () = assert!(INFLIGHT_BYTES_MAX / 16 * 9 >= DECODED_BYTES_MAX);
const _: () = assert!(INFLIGHT_BYTES_MAX / 16 * 9 >= 2 * BODY_BYTES_MAX);
const _: () = assert!(BODY_FIRST_BYTES <= INFLIGHT_BYTES_MAX / 8 / 100);
const _: () = assert!(DECODED_INLINE_BYTES_MAX <= LARGE_BYTES_MIN);
// A line is seen whole before the stream counts as barren.
const _: () = assert!(BARREN_BYTES_MAX as usize > 2 * LINE_BYTES_MAX + CHUNK_BYTES);
/// Requests under way on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 100;
/// Requests under way over HTTP/2 until their answers begin, for each connection that may be
/// served. A client may have as many as it leaves for others.
pub const STREAMS_SHARE: usize = 2;
/// Bytes of bodies that the clients of all HTTP/2 connections may send before they are wanted, but
/// for the least window of each: the fewer connections there are, the more may each.
pub const STREAM_WINDOWS_BYTES: usize = 16 << 20;
/// The least window of an HTTP/2 connection, which is what a client may send before it is told of
/// any (RFC 9113, 6.9.2).
pub const STREAM_WINDOW_BYTES_MIN: usize = (64 << 10) - 1;
/// The largest one.
pub const STREAM_WINDOW_BYTES_MAX: usize = 1 << 20;
/// Requests that an HTTP/2 client may take back before they were looked at; one more ends the
/// connection.
pub const STREAMS_RESET_MAX: usize = 20;
/// Seconds between pings on an HTTP/2 connection; one that is not answered within 20 seconds ends
/// it.
pub const PING_SECONDS: u64 = 20;

// Connections.

/// Most bytes of a PROXY head after its fixed part: addresses, and extensions such as those that a
/// cloud's balancer adds.
pub const PROXY_HEAD_BYTES_MAX: usize = 4 << 10;
/// Seconds that a head may take from its first byte, a new connection until that, one over HTTP/2
/// until its first request, and the handshake of TLS before.
pub const HEAD_SECONDS: u64 = 10;
/// Handshakes of TLS that are signed at once, by half of the threads at most.
pub const HANDSHAKES_MAX: usize = 8;
/// Bytes of answers that TLS takes before the kernel does: two of its records.
pub const TLS_BUFFER_BYTES: usize = 32 << 10;
/// Days before the certificate expires from which on the operator is told.
pub const CERTIFICATE_WARNED_DAYS: i64 = 14;
/// Seconds that a connection is kept without a request: longer than the 60 that balancers keep
/// theirs, so that these close first.
pub const KEEP_ALIVE_SECONDS: u64 = 75;
/// Most seconds that a user may have a connection kept.
pub const KEEP_ALIVE_SECONDS_MAX: u64 = 86_400;
/// Seconds in which a client must take some of an answer that waits for it; over HTTP/2 a piece of
/// each stream's.
pub const STALL_SECONDS: u64 = 30;
/// Seconds that a connection which is told to end, and has no request under way, gets to do so.
pub const GRACE_SECONDS: u64 = 2;
/// When all permits are taken and busy, a peer with more than one in this many of them gives one up
/// to another peer.
pub const CONNECTIONS_PEER_SHARE: usize = 2;
/// Connections served at once by the listener for operators, which has permits of its own.
pub const OPS_CONNECTIONS_MAX: usize = 64;
/// Most permits beyond those of `connections_max`, where only the state of the service is told.
pub const CONNECTIONS_RESERVED_MAX: usize = 32;
/// There is one such permit for this many others, and at least one.
pub const CONNECTIONS_RESERVED_SHARE: usize = 8;
/// Seconds that a reserved permit is kept without a request.
pub const RESERVED_SECONDS: u64 = 2;
/// A tail holds its permit for as long as its reader likes, so at most one permit in this many is
/// for tails.
pub const TAILS_SHARE: usize = 2;
/// Connections without a request that are looked for at once when permits are short.
pub const CANDIDATES_MAX: usize = 64;
/// Empty lines that may stand before a request, as some clients send one after a body.
pub const BLANK_LINES_MAX: usize = 4;
/// Longest line that begins a chunk of a body.
pub const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;
/// Piece in which an answer leaves over HTTP/2: the size of its frames, unless both sides agree on
/// another.
pub const STREAM_PIECE_BYTES: usize = 16 << 10;
/// Shortest piece of which it matters that HTTP/2 may still hold it when its request counts as
/// answered.
pub const STREAM_LAST_BYTES_MIN: usize = 1 << 10;

/// Seconds that the live page shows one by one.
pub const WINDOW_SECONDS: usize = 300;
/// Tens of seconds that it shows before that: an hour.
pub const WINDOW_TENS: usize = 360;
/// Bytes of what a page is told of that hour, at most.
pub const WINDOW_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(WINDOW_TENS * 10 == 3_600 && WINDOW_BYTES_MAX <= PIECE_BYTES);

/// Events that were dropped last, of which it is known who sent them.
pub const DROPS_KEPT: usize = 500;
/// Dropped events that are noted a second, at most.
pub const DROPS_NOTED_PER_SECOND: usize = 100;
/// And of one request.
pub const DROPS_NOTED_PER_REQUEST: usize = 10;

const _: () =
    assert!(DROPS_NOTED_PER_REQUEST < DROPS_NOTED_PER_SECOND && DROPS_NOTED_PER_SECOND < DROPS_KEPT);

/// Lines of the log that wait for stderr to take them; more are dropped and counted.
pub const LOG_BYTES_MAX: usize = 1 << 20;
/// Seconds that an ending process waits for stderr to take what was said last.
pub const LOG_SECONDS: u64 = 1;

const _: () = assert!(HEAD_SECONDS < STALL_SECONDS && STALL_SECONDS < KEEP_ALIVE_SECONDS);
const _: () = assert!(GRACE_SECONDS < HEAD_SECONDS && RESERVED_SECONDS < HEAD_SECONDS);
const _: () = assert!(GRACE_SECONDS >= LINGER_SECONDS && GRACE_SECONDS < DRAIN_SECONDS);
const _: () = assert!(KEEP_ALIVE_SECONDS <= KEEP_ALIVE_SECONDS_MAX);
const _: () =
    assert!(CONNECTIONS_RESERVED_MAX < CONNECTIONS_MAX && CONNECTIONS_RESERVED_SHARE > 1 && TAILS_SHARE >= 2);
const _: () = assert!(CHUNK_LINE_BYTES_MAX <= HEAD_BYTES_MAX);
const _: () = assert!(STREAM_LAST_BYTES_MIN < STREAM_PIECE_BYTES);
const _: () = assert!(STREAMS_SHARE * CONNECTIONS_MAX * HEAD_BYTES_MAX <= INFLIGHT_BYTES_MAX);
const _: () = assert!(
    STREAM_WINDOW_BYTES_MIN < STREAM_WINDOW_BYTES_MAX && STREAM_WINDOW_BYTES_MAX <= STREAM_WINDOWS_BYTES
);

/// Bytes of a refusal that a client command reads: enough for what it shows.
pub const CLIENT_REFUSAL_BYTES_MAX: u64 = 64 << 10;
/// Largest answer to a chunk of lines that a client command takes: counts, and the faults listed.
pub const CLIENT_RECEIPT_BYTES_MAX: u64 = 1 << 20;
/// Largest page that a client command takes.
pub const CLIENT_PAGE_BYTES_MAX: u64 = 24 << 20;
/// Largest answer of `/stats` that a client command takes: it has the names of all topics.
pub const CLIENT_STATS_BYTES_MAX: u64 = 64 << 20;
/// Longest line of a tail that a client command takes: an event with all its fields.
pub const CLIENT_LINE_BYTES_MAX: u64 = 8 << 20;

const _: () = assert!(CLIENT_PAGE_BYTES_MAX as usize >= 2 * (PAGE_BYTES_MAX + LINE_BYTES_MAX));
const _: () = assert!(CLIENT_STATS_BYTES_MAX as usize >= TOPICS_MAX * (TOPIC_BYTES_MAX + 3));
const _: () = assert!(CLIENT_RECEIPT_BYTES_MAX as usize >= FAULTS_LISTED_MAX * 8 * SOURCE_BYTES_MAX);
const _: () = assert!(CLIENT_LINE_BYTES_MAX as usize >= 2 * LINE_BYTES_MAX);

/// Most bytes of a tokens file: some thousand tokens.
pub const TOKENS_FILE_BYTES_MAX: u64 = 4 << 20;
/// Seconds in which a ticket can be used.
pub const AUTH_TICKET_SECONDS: u64 = 30;
/// Most tickets that wait to be used.
pub const AUTH_TICKETS_MAX: usize = 10_000;
/// Most of them that one client has, so that it leaves some for others.
pub const AUTH_TICKETS_CLIENT_MAX: usize = 1_000;
/// Failures to show a token, of one client within a minute, that are answered at once.
pub const FAILURES_FREE: u32 = 20;
/// Seconds that the answers to further ones wait.
pub const FAILURE_PAUSE_SECONDS: u64 = 1;
/// Most failures whose answers wait at once. Further ones are answered without a pause, so that
/// what they hold meanwhile is bounded.
pub const FAILURES_WAITING_MAX: usize = 1_000;
/// Most clients whose failures are counted apart.
pub const FAILURES_PEERS_MAX: usize = 10_000;
const _: () = assert!(AUTH_TICKETS_CLIENT_MAX * 10 <= AUTH_TICKETS_MAX);

/// Most sources of webhooks: each has figures of its own.
pub const SOURCES_MAX: usize = 256;
/// Longest name of a source.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;
/// Most secrets of a source, each of which a delivery is checked with.
pub const SECRETS_MAX: usize = 8;
/// Largest file of a secret or a public key.
pub const SECRET_FILE_BYTES_MAX: u64 = 16 << 10;
/// Most signatures of a delivery, each of which is compared.
pub const SIGNATURES_MAX: usize = 8;
/// Largest body of a delivery: what an event may hold.
pub const DELIVERY_BYTES_MAX: usize = EVENT_BYTES_MAX;
/// Most events of a delivery that is a list.
pub const LISTED_EVENTS_MAX: usize = 5_000;
/// Longest answer to a sender that asks whether somebody is there.
pub const CHALLENGE_BYTES_MAX: usize = 1 << 10;

const _: () = assert!(DELIVERY_BYTES_MAX <= BODY_BYTES_MAX && LISTED_EVENTS_MAX <= BATCH_EVENTS_MAX);

/// Longest name of a consumer.
pub const CONSUMER_NAME_BYTES_MAX: usize = 64;
/// Longest name of whoever holds a lease.
pub const HOLDER_BYTES_MAX: usize = 128;
/// Most consumers in one store.
pub const CONSUMERS_MAX: usize = 2_000;
/// Most patterns in the filter of a consumer.
pub const CONSUMER_PATTERNS_MAX: usize = 100;
/// Most positions, one for each topic, of all consumers together.
pub const POSITIONS_MAX: usize = 500_000;
/// Most bytes that one change of a consumer may add to the journal.
pub const CONSUMER_CHANGE_BYTES_MAX: usize = 16 << 20;
/// Most parts that the topics of a consumer are shared out to.
pub const PARTITIONS_MAX: usize = 256;
/// Seconds that a lease lasts when nobody says how long.
pub const LEASE_SECONDS_DEFAULT: u64 = 30;
/// Most seconds that a lease lasts.
pub const LEASE_SECONDS_MAX: u64 = 3_600;
/// Most seconds that a reader waits for an event.
pub const CONSUMER_WAIT_SECONDS_MAX: u64 = 60;
/// Seconds after which whoever waits for a consumer's events looks whether another node moved it.
pub const CONSUMER_LOOK_SECONDS: u64 = 5;
/// Names of consumers that were moved, kept for those who wait; who missed some looks for itself.
pub const CONSUMER_MOVES_KEPT: usize = 64;
/// Most events that are given to a consumer at once.
pub const CONSUMER_EVENTS_MAX: usize = 1_000;
/// Bytes of events at which an answer to a consumer ends; it may have one event more.
pub const CONSUMER_BYTES: usize = 256 << 10;
/// Most bytes of what is sent to make a consumer, to move it, or to acknowledge.
pub const CONSUMER_BODY_BYTES_MAX: usize = 64 << 10;
/// Topics that are looked at in one step of looking for what is new to a consumer.
pub const CONSUMER_LOOK_TOPICS: usize = 2_000;
/// The last blocks of events of which it is known which topics they are of; a consumer that asks
/// after more looks at its topics.
pub const TOPIC_NOTES_KEPT: usize = 1 << 16;
/// Topics in which a consumer lags up to which the lag is told exactly, whenever somebody reads.
pub const LAG_TOPICS_COUNTED: usize = 1_000;
/// Topics in which a consumer lags of which one look finds out how old the oldest event is; the
/// next look goes on with others.
pub const LAG_TOPICS_READ_MAX: usize = 16;
/// Topics with the oldest events that are remembered, so that they are found without a read.
pub const LAG_TOPICS_KEPT: usize = 16;
/// Topics that take as long to look at as one event takes to read.
pub const LAG_READ_TOPICS: usize = CONSUMER_LOOK_TOPICS / 4;
/// Seconds in which the lags of consumers are found out for `/metrics`; what is not known then is
/// shown as it was, and the next time begins with it.
pub const LAG_FIGURES_SECONDS: u64 = 2;
/// Consumers that one piece of a list of them has.
pub const CONSUMERS_PIECE: usize = 16;
/// Positions that are shown of a consumer.
pub const POSITIONS_SHOWN_MAX: usize = 1_000;
/// Consumers with figures of their own in `/metrics`.
pub const CONSUMERS_MEASURED_MAX: usize = 100;

const _: () = assert!(CONSUMER_EVENTS_MAX <= READ_EVENTS_MAX && CONSUMER_BYTES <= READ_BYTES);
const _: () = assert!(PARTITIONS_MAX <= u16::MAX as usize);
const _: () = assert!(CONSUMERS_MEASURED_MAX <= CONSUMERS_MAX && CONSUMERS_PIECE < CONSUMERS_MAX);
const _: () =
    assert!(LAG_READ_TOPICS > 0 && LAG_TOPICS_KEPT > 0 && LAG_FIGURES_SECONDS < ANSWER_WAIT_SECONDS);
// A receipt names each topic of its events once, with at most five bytes and ten for the offset.
const _: () = assert!(CONSUMER_EVENTS_MAX * 15 * 4 / 3 < CONSUMER_BODY_BYTES_MAX / 2);

// A database.

/// Slots of a new store, over all of its databases.
pub const DATABASE_SLOTS: usize = 64;
/// Connections of a node to each database that write.
pub const DATABASE_WRITES_MAX: usize = 16;
/// And that read.
pub const DATABASE_READS_MAX: usize = 8;
/// Seconds in which a connection must be had, made or waited for.
pub const DATABASE_CONNECT_SECONDS: u64 = 4;
/// Seconds of silence after which a connection counts as lost.
pub const DATABASE_SILENCE_SECONDS: u64 = 8;
/// Seconds in which a request to store events is answered: until then a statement without an answer
/// is sent again.
pub const DATABASE_REQUEST_SECONDS: u64 = 10;
/// Seconds in which a read that found no connection is tried again.
pub const DATABASE_READ_SECONDS: u64 = 5;
/// Seconds in which figures are read for `/metrics`.
pub const DATABASE_FIGURES_SECONDS: u64 = 2;
/// Seconds in which a commit must be acknowledged that covers what was read.
pub const DATABASE_COVER_SECONDS: u64 = 6;
/// Shortest pause before a statement is sent again; each further one is about twice as long.
pub const DATABASE_PAUSE_MILLIS_MIN: u64 = 20;
/// And the longest.
pub const DATABASE_PAUSE_MILLIS_MAX: u64 = 500;
/// Times that a node tries to make the schema, as others may be making it.
pub const DATABASE_MIGRATION_TRIES_MAX: usize = 10;
/// Topics that are read at once.
pub const DATABASE_TOPICS_READ: usize = 1_000;
/// Keys of events that are read of a slot first; each further time it is twice as many.
pub const DATABASE_KEYS_FIRST: usize = 128;
/// Events that are looked at for one page; with more, the page is short.
pub const DATABASE_LOOKED_MAX: usize = 4_000;
/// The same for a step of a scan.
pub const DATABASE_SCANNED_MAX: usize = 20_000;
/// Parts of requests that wait for one slot.
pub const SLOT_PIECES_MAX: usize = 1_024;
/// Events at which a statement is full.
pub const STATEMENT_EVENTS: usize = 1_000;
/// Bytes of events at which it is.
pub const STATEMENT_BYTES: usize = 4 << 20;

const _: () = assert!(DATABASE_PAUSE_MILLIS_MIN * 2 < DATABASE_PAUSE_MILLIS_MAX);
const _: () = assert!(DATABASE_CONNECT_SECONDS < DATABASE_COVER_SECONDS);
const _: () =
    assert!(DATABASE_COVER_SECONDS < DATABASE_REQUEST_SECONDS && DATABASE_REQUEST_SECONDS < DRAIN_SECONDS);
const _: () = assert!(DATABASE_LOOKED_MAX > READ_EVENTS_MAX && DATABASE_SCANNED_MAX >= DATABASE_LOOKED_MAX);
const _: () = assert!(STATEMENT_BYTES > EVENT_BYTES_MAX);
