//! The fields of an event, and the names that columns for them have in the databases of services of
//! this kind.

/// The fields of an event, in the order in which they are read.
pub(super) const FIELDS: [&str; 5] = ["topic", "event_id", "timestamp", "source", "payload"];
pub(super) const TOPIC: usize = 0;
pub(super) const EVENT_ID: usize = 1;
pub(super) const TIMESTAMP: usize = 2;
pub(super) const SOURCE: usize = 3;
pub(super) const PAYLOAD: usize = 4;

/// Names of each field besides its own, in small letters and without `_`. A name beats those of
/// later ranks; within a rank all are as good.
const NAMES: [[&[&str]; 3]; 5] = [
    [&["topicname", "eventtopic"], &["eventtype", "channel", "stream"], &["type", "subject", "category"]],
    [
        &["eventid", "eventuuid", "messageid", "msgid"],
        &["uuid", "uid", "id", "idempotencykey", "deduplicationid", "dedupid", "dedupkey"],
        &["eventkey", "key"],
    ],
    [
        &[
            "eventtimestamp",
            "eventtime",
            "eventts",
            "ts",
            "tsiso",
            "timestampiso",
            "timestamputc",
            "occurredat",
        ],
        &["time", "datetime", "createdat", "publishedat", "emittedat", "sentat", "producedat"],
        &[
            "receivedat",
            "ingestedat",
            "insertedat",
            "storedat",
            "processedat",
            "firstseen",
            "firstseenat",
            "seenat",
        ],
    ],
    [
        &["eventsource", "sourcename", "src"],
        &["origin", "producer", "publisher", "sender"],
        &["service", "servicename"],
    ],
    [
        &["payloadjson", "payloadtext", "payloaddata", "eventpayload", "jsonpayload"],
        &["data", "datajson", "eventdata", "body", "bodyjson", "eventbody", "content"],
        &["message", "msg", "value", "json"],
    ],
];
/// The rank of names that often mean something else.
pub(super) const FAINT: usize = 3;

/// The rank of a column's name for a field, from 0, which is the field's own name, to [`FAINT`];
/// `None` if the field is not called so anywhere.
pub(super) fn rank(field: usize, name: &str) -> Option<usize> {
    if name.eq_ignore_ascii_case(FIELDS[field]) {
        return Some(0);
    }
    let plain = plain(name);
    NAMES[field].iter().position(|names| names.contains(&plain.as_str())).map(|rank| rank + 1)
}

/// Whether a column may be called so that holds payloads in a form of its own: `payload_raw`,
/// `order_payload`.
pub(super) fn is_like_payload(name: &str) -> bool {
    plain(name).contains("payload") && !is_bookkeeping(name)
}

/// Last words of names that stand for what a service notes about an event, and hardly for what the
/// event holds.
const BOOKKEEPING: &str = "at on time date ts timestamp received created updated modified inserted stored seen expiry \
    expires ttl id uuid key hash sha sha1 sha256 md5 crc digest checksum fingerprint signature \
    etag count counter counts hits attempt attempts retries tries size length len status state \
    outcome flag processed duplicate version type kind encoding format schema url uri path \
    worker node host hostname instance consumer handler group queue partition shard offset seq \
    sequence priority level";

/// Whether a column is called as one of a service's notes.
pub(super) fn is_bookkeeping(name: &str) -> bool {
    // The last word, in whichever way words are told apart.
    let mut last = String::new();
    let mut was_small = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && was_small) {
            last.clear();
        }
        if c.is_ascii_alphanumeric() {
            last.push(c.to_ascii_lowercase());
        }
        was_small = c.is_ascii_lowercase();
    }
    BOOKKEEPING.split_ascii_whitespace().any(|word| word == last)
}

/// A name without what conventions differ in.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
