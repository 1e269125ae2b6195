//! What each client may take: whoever reaches a bound is refused, and the others are not.

use std::net::SocketAddr;
use std::sync::Arc;

use sekali::auth::authenticator::Authenticator;
use sekali::auth::token::Token;
use sekali::auth::tokens_file::{Entry, TokensFile};
use sekali::clock::{Clock, SystemClock};
use sekali::http::Limits;
use sekali::limits::STREAMS_MAX;

use super::peer::{Peer, calm, frames, preface, request, serve};
use crate::support::frames::{END_HEADERS, HEADERS, block, frame, status as status_of};
use crate::support::{now, until};

const TAIL: &str = "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
const BODY_TO_COME: &str = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";

/// The answers to many requests of a host, one right after the other.
pub fn flood(addr: SocketAddr, host: u8, header: impl Fn(usize) -> String) -> String {
    let request = |number| format!("GET /stats HTTP/1.1\r\nHost: localhost\r\n{}", header(number));
    let requests: String = (0..50).map(|number| request(number) + "\r\n").collect();
    let mut peer = Peer::from(host, addr);
    peer.send(requests + &request(50) + "Connection: close\r\n\r\n");
    String::from_utf8(peer.rest()).unwrap()
}

pub fn is_refused(answers: &str) -> bool {
    answers.contains("HTTP/1.1 429 ") && answers.contains("\r\nretry-after: ")
}

/// The status of the answer to a request with one more header.
pub fn status(addr: SocketAddr, host: u8, header: &str) -> u16 {
    let mut peer = Peer::from(host, addr);
    peer.send(format!("GET /stats HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"));
    peer.answer().status
}

#[test]
fn a_client_beyond_its_rate_is_refused_and_neither_others_nor_health_checks_are() {
    let addr = serve(Limits { peer_requests_per_second: Some(1), ..calm() });
    let answers = flood(addr, 2, |_| String::new());
    assert!(is_refused(&answers) && answers.starts_with("HTTP/1.1 200 "), "{answers}");
    assert_eq!(Peer::from(3, addr).get("/stats").status, 200);
    let mut hasty = Peer::from(2, addr);
    for path in ["/healthz", "/readyz", "/metrics"].into_iter().cycle().take(30) {
        assert_eq!(hasty.get(path).status, 200, "{path}");
    }
    let served = until(20, || (hasty.get("/stats").status == 200).then_some(()));
    assert!(served.is_some(), "the client is never served again");
}

#[test]
fn clients_behind_a_trusted_proxy_have_rates_of_their_own_and_nobody_else_may_name_one() {
    let trusted_proxies = vec!["127.0.0.2".parse().unwrap()];
    let addr = serve(Limits { peer_requests_per_second: Some(1), trusted_proxies, ..calm() });
    assert!(is_refused(&flood(addr, 2, |_| "X-Forwarded-For: 192.0.2.1\r\n".to_owned())));
    for header in ["X-Forwarded-For: 192.0.2.1, 192.0.2.2", "Forwarded: for=192.0.2.3;proto=https"] {
        assert_eq!(status(addr, 2, header), 200, "{header}");
    }
    // Each as if it were another client.
    let lies = |number: usize| format!("X-Forwarded-For: 198.51.100.{number}\r\n");
    assert!(is_refused(&flood(addr, 3, lies)), "headers of a client count");
    let spoofs = |number: usize| format!("X-Forwarded-For: 198.51.100.{number}, 192.0.2.9\r\n");
    assert!(is_refused(&flood(addr, 2, spoofs)), "what is left of the client counts");
    // All addresses of a network of IPv6.
    let hosts = |number: usize| format!("X-Forwarded-For: 2001:db8::{number}\r\n");
    assert!(is_refused(&flood(addr, 2, hosts)));
    assert_eq!(status(addr, 2, "X-Forwarded-For: 2001:db8:0:1::1"), 200);
}

#[test]
fn a_client_that_keeps_most_connections_busy_gives_one_up_to_each_other_client() {
    let addr = serve(Limits { connections_max: 6, ..calm() });
    let greedy: Vec<_> = (0..6)
        .map(|_| {
            let mut peer = Peer::from(2, addr);
            peer.send(BODY_TO_COME);
            peer
        })
        .collect();
    let served = until(20, || (Peer::from(3, addr).get("/stats").status == 200).then_some(()));
    assert!(served.is_some(), "others are told the state of the service alone");
    // Its end may come a little later than the place is free.
    assert!(until(20, || greedy.iter().any(Peer::is_ended).then_some(())).is_some());
    assert!(greedy.iter().filter(|peer| !peer.is_ended()).count() >= 3, "half of them stay");
}

#[test]
fn a_trusted_proxy_may_have_all_connections() {
    let trusted_proxies = vec!["127.0.0.2".parse().unwrap()];
    let addr = serve(Limits { connections_max: 3, trusted_proxies, ..calm() });
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let mut peer = Peer::from(2, addr);
            peer.send(BODY_TO_COME);
            peer
        })
        .collect();
    let refused = until(20, || (Peer::from(3, addr).get("/stats").status == 503).then_some(()));
    assert!(refused.is_some() && busy.iter().all(|peer| !peer.is_ended()));
}

#[test]
fn a_client_has_no_more_tails_than_it_leaves_free() {
    let addr = serve(Limits { connections_max: 20, ..calm() });
    let begin = |host| {
        let mut peer = Peer::from(host, addr);
        peer.send(TAIL);
        let mut start = [0; 13];
        std::io::Read::read_exact(&mut peer.0, &mut start).unwrap();
        (peer, String::from_utf8(start.to_vec()).unwrap())
    };
    let tails: Vec<_> = (0..6).map(|_| begin(2)).collect();
    let statuses: Vec<_> =
        tails.iter().map(|(_, start)| start.trim_start_matches("HTTP/1.1 ").trim()).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "200", "429"]);
    assert_eq!(begin(3).1, "HTTP/1.1 200 ");
}

#[test]
fn a_client_with_most_requests_of_http_2_under_way_leaves_some_for_others() {
    let addr = serve(Limits { connections_max: 20, ..calm() });
    let head = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/publish"),
        (":authority", "localhost"),
        ("content-type", "application/json"),
        ("content-length", "100"),
    ]);
    // Their bodies do not come.
    let heads = (0..STREAMS_MAX).flat_map(|number| frame(HEADERS, END_HEADERS, 1 + 2 * number, &head));
    let first_answer = |peer: &mut Peer| {
        let mut answer = None;
        frames(peer, |kind, _, payload| {
            assert_ne!(kind, u8::MAX, "the connection ended");
            answer = (kind == HEADERS).then(|| status_of(payload)).flatten();
            kind == HEADERS
        });
        answer
    };
    let mut greedy = Peer::from(2, addr);
    greedy.send(preface(1 << 16).into_iter().chain(heads).collect::<Vec<u8>>());
    assert_eq!(first_answer(&mut greedy), Some(503));
    let mut other = Peer::from(3, addr);
    other.send([preface(1 << 16), request(1, "GET", "/stats")].concat());
    assert_eq!(first_answer(&mut other), Some(200));
}

/// Limits for a service that asks for tokens, and two tokens that may read.
fn guarded(limits: Limits) -> (Limits, [String; 2]) {
    let tokens = [(); 2].map(|()| Token::generate().unwrap());
    let entry = |token: &Token| Entry::new(token, "test", vec!["read:*".parse().unwrap()], SystemClock.now());
    let file = TokensFile { tokens: tokens.iter().map(entry).collect(), ..TokensFile::default() };
    let authenticator = Arc::new(Authenticator::new(Arc::new(SystemClock), file));
    (Limits { authenticator, ..limits }, tokens.map(|token| token.reveal().to_owned()))
}

#[test]
fn each_token_has_a_rate_of_its_own_from_wherever_it_comes() {
    let (limits, [one, other]) = guarded(Limits { peer_requests_per_second: Some(1), ..calm() });
    let addr = serve(limits);
    let shows = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let answers = flood(addr, 2, |_| shows(&one));
    assert!(is_refused(&answers) && answers.starts_with("HTTP/1.1 200 "), "{answers}");
    let header = |token: &str| shows(token).trim_end().to_owned();
    assert_eq!(status(addr, 2, &header(&other)), 200, "another token of the same peer");
    // Half of the requests come from each of two peers, and together they are too many.
    let both = [2, 3].map(|host| flood(addr, host, |_| shows(&other)));
    assert!(both.iter().all(|answers| is_refused(answers)), "{both:?}");
    let served = until(20, || (status(addr, 3, &header(&one)) == 200).then_some(()));
    assert!(served.is_some(), "the token is never served again");
    let begun = now();
    let answers = [2, 3].map(|host| flood(addr, host, |_| shows(&one))).concat();
    let served = answers.matches("HTTP/1.1 200 ").count() as u64;
    assert!(served <= 2 + begun.elapsed().as_secs(), "two peers have one share: {served} were served");
}

#[test]
fn each_token_has_a_share_of_the_tails_of_its_own_from_wherever_it_comes() {
    let (limits, [one, other]) = guarded(Limits { connections_max: 20, ..calm() });
    let addr = serve(limits);
    let begin = |host, token: &str| {
        let mut peer = Peer::from(host, addr);
        peer.send(TAIL.replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n")));
        let mut start = [0; 12];
        std::io::Read::read_exact(&mut peer.0, &mut start).unwrap();
        (peer, std::str::from_utf8(&start[9..]).unwrap().to_owned())
    };
    let tails: Vec<_> = [2, 3, 2, 3, 2, 3, 2].into_iter().map(|host| begin(host, &one)).collect();
    let statuses: Vec<_> = tails.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "200", "429", "429"], "two peers have one share");
    assert_eq!(begin(2, &other).1, "200", "another token of the same peer");
}
