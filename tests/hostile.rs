//! Requests that are wrong on purpose, over HTTP/1.1 and HTTP/2, as raw bytes from outside.
//!
//! Each case stands in a table with the answers that the RFCs allow: 9110 (semantics), 9112
//! (HTTP/1.1) and 9113 (HTTP/2). Where an RFC leaves a choice, the table says which one this
//! service has taken. All cases meet one service, which must go on serving others, and must have
//! stored exactly what it answered.

mod bytes;
mod calls;
mod framing;
mod http1;
mod http2;

use crate::support::service::Service;

/// Fewer cases than this would mean that a part of the tables was lost.
const CASES_MIN: usize = 200;

#[test]
fn every_hostile_request_gets_the_answer_that_the_rfc_asks_for_and_others_are_served() {
    let service = Service::new();
    let faults: Vec<String> = [http1::run(&service), http2::run(&service), calls::run(&service)]
        .into_iter()
        .inspect(|(cases, _)| assert!(*cases > 0))
        .flat_map(|(_, faults)| faults)
        .collect();
    let cases = http1::count() + http2::count() + calls::count();
    eprintln!("{cases} hostile requests, {} answered otherwise than the RFCs say", faults.len());
    assert!(cases >= CASES_MIN, "only {cases} cases");
    assert!(faults.is_empty(), "{} of {cases}:\n{}", faults.len(), faults.join("\n"));
    let expected = http1::stored() + http2::stored() + calls::stored();
    assert_eq!(service.stored(), expected, "what is refused is not stored, and what is answered 200 is");
}
