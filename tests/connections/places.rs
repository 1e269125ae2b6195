//! Places for connections: when all are taken, which newcomer gets one and which connection loses
//! one.

use sekali::http::Limits;

use super::peer::{Peer, calm, frame, frames, preface, request, serve, wait_for_connections};
use crate::support::until;

const BODY_TO_COME: &str = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
const TAIL: &str = "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";

#[test]
fn a_newcomer_gets_the_place_of_whoever_has_been_idle_longest() {
    let addr = serve(Limits { connections_max: 4, ..calm() });
    let mut idle: Vec<_> = (0..4)
        .map(|_| {
            let mut peer = Peer::new(addr);
            assert_eq!(peer.get("/stats").status, 200);
            // So that each is idle for another time.
            std::thread::park_timeout(std::time::Duration::from_millis(600));
            peer
        })
        .collect();
    for ended in 0..2 {
        let mut newcomer = Peer::new(addr);
        assert_eq!(newcomer.get("/stats").status, 200, "a place like any other");
        assert!(idle[0].rest().is_empty());
        idle.remove(0);
        idle.push(newcomer);
        assert!(idle.iter().all(|peer| !peer.is_ended()), "after {ended} others: one more went");
    }
}

#[test]
fn of_idle_connections_those_of_the_peer_with_the_most_go_first() {
    let addr = serve(Limits { connections_max: 6, ..calm() });
    let mut honest = Peer::from(2, addr);
    assert_eq!(honest.get("/stats").status, 200);
    let crowd: Vec<_> = (0..5)
        .map(|_| {
            let mut peer = Peer::from(3, addr);
            assert_eq!(peer.get("/stats").status, 200);
            peer
        })
        .collect();
    let mut others: Vec<_> = (4..7).map(|host| Peer::from(host, addr)).collect();
    assert!(others.iter_mut().all(|other| other.get("/stats").status == 200));
    assert!(!honest.is_ended(), "it was idle longest, but has one place only");
    let ended = until(10, || (crowd.iter().filter(|peer| peer.is_ended()).count() == 3).then_some(()));
    assert!(ended.is_some(), "the crowd makes room");
}

#[test]
fn while_all_are_busy_only_the_state_of_the_service_is_told() {
    let addr = serve(Limits { connections_max: 3, ..calm() });
    let busy: Vec<_> = (0..3).map(|_| Peer::sending(addr, BODY_TO_COME)).collect();
    let refused = until(10, || {
        let mut newcomer = Peer::new(addr);
        newcomer.send("GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = String::from_utf8(newcomer.rest()).unwrap();
        answer.starts_with("HTTP/1.1 503 ").then_some(answer)
    });
    let refused = refused.unwrap();
    assert!(
        refused.contains("\r\nretry-after: ") && refused.contains("\r\nconnection: close\r\n"),
        "{refused}"
    );
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut newcomer = Peer::new(addr);
        newcomer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = String::from_utf8(newcomer.rest()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    // A reserved place is nobody's for long.
    assert!(Peer::new(addr).rest().is_empty());
    drop(busy);
    wait_for_connections(addr, 0);
    assert_eq!(Peer::new(addr).get("/stats").status, 200);
}

#[test]
fn connections_that_say_nothing_keep_nobody_from_asking() {
    let addr = serve(Limits { connections_max: 20, ..calm() });
    for opening in [&b""[..], b"PRI * HTTP/2.", b"GET /stats HT", &preface(100)] {
        let silent: Vec<_> = (0..80).map(|_| Peer::sending(addr, opening)).collect();
        let served = until(20, || (Peer::new(addr).get("/stats").status == 200).then_some(()));
        assert!(served.is_some(), "{opening:?}");
        assert_eq!(Peer::new(addr).get("/healthz").status, 200);
        drop(silent);
    }
}

#[test]
fn tails_take_half_of_the_places_at_most() {
    let addr = serve(Limits { connections_max: 6, ..calm() });
    let tail = |host| {
        let mut peer = Peer::from(host, addr);
        peer.send(TAIL);
        peer
    };
    // One after the other, as a client has no more of them than it leaves free.
    let mut tails: Vec<_> = [1, 1, 2]
        .map(|host| {
            let mut tail = tail(host);
            let mut start = [0; 15];
            std::io::Read::read_exact(&mut tail.0, &mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200 OK");
            tail
        })
        .into();
    let mut one_more = tail(3);
    let mut answer = [0; 400];
    let length = std::io::Read::read(&mut one_more.0, &mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
    tails.pop();
    let started = until(20, || {
        let mut tail = tail(3);
        let mut start = [0; 12];
        std::io::Read::read_exact(&mut tail.0, &mut start).unwrap();
        (&start == b"HTTP/1.1 200").then_some(())
    });
    assert!(started.is_some(), "a tail that ends makes room for another");
}

#[test]
fn a_connection_without_a_request_is_kept_as_long_as_was_set() {
    let addr = serve(Limits { keep_alive_seconds: 2, ..calm() });
    let mut peer = Peer::new(addr);
    for _ in 0..3 {
        // Far longer than a head may take, if that were the limit.
        assert_eq!(peer.get("/healthz").status, 200);
        std::thread::park_timeout(std::time::Duration::from_millis(1_200));
        assert!(!peer.is_ended());
    }
    assert!(peer.rest().is_empty());
}

#[test]
fn a_head_has_its_own_time_however_long_a_connection_is_kept() {
    let addr = serve(Limits { head_seconds: 1, ..calm() });
    for opening in ["", "G", "PRI", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"] {
        assert!(Peer::sending(addr, opening).rest().is_empty(), "{opening:?}");
    }
    let mut peer = Peer::new(addr);
    assert_eq!(peer.get("/healthz").status, 200);
    std::thread::park_timeout(std::time::Duration::from_millis(2_500));
    assert_eq!(peer.get("/healthz").status, 200, "idle, which is no slow head");
    peer.send("GET /healthz HTTP/1.1\r\n");
    assert!(peer.rest().is_empty());
}

#[test]
fn whoever_goes_within_a_preface_is_gone_at_once() {
    let addr = serve(calm());
    for opening in ["P", "PRI * HTTP/2."] {
        let mut peer = Peer::sending(addr, opening);
        peer.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(peer.rest().is_empty());
    }
    wait_for_connections(addr, 0);
}

#[test]
fn an_http_2_connection_that_only_pings_is_idle() {
    let addr = serve(Limits { head_seconds: 1, keep_alive_seconds: 1, ..calm() });
    // One asks for nothing, one no longer does, one has a tail.
    for (asked, stays) in [(None, false), (Some("/healthz"), false), (Some("/events"), true)] {
        let mut peer = Peer::sending(addr, preface(1 << 16));
        if let Some(path) = asked {
            peer.send(request(1, "GET", path));
        }
        let pinger = Peer(peer.0.try_clone().unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (mut goes, mut pongs) = (false, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut pinger = pinger;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = std::io::Write::write_all(&mut pinger.0, &frame(6, 0, 0, &[7; 8]));
                    std::thread::park_timeout(std::time::Duration::from_millis(200));
                }
            });
            frames(&mut peer, |kind, _, payload| {
                goes |= kind == 7;
                pongs += usize::from(kind == 6 && payload == [7; 8]);
                stays && pongs > 20
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(goes, !stays, "{asked:?}: after {pongs} pings");
    }
}
