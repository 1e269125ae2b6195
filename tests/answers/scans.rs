//! Scans: reads that look at much and give nothing.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::{frames, service};
use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::service::event;
use crate::support::until;

/// A store that takes a while to read: payloads that don't pack.
fn long_service() -> Service {
    let service = service();
    let mut random = fastrand::Rng::with_seed(1);
    let mut filler = || -> String { (0..1_000).map(|_| random.alphanumeric()).collect() };
    service.publish((0..40_000).map(|n| event("t", &format!("e{n}"), format!("\"{}\"", filler()))));
    service
}

/// Waits until the service rests.
fn rests(service: &Service) {
    let mut last = service.ticks();
    let rested = until(60, || {
        std::thread::park_timeout(Duration::from_millis(500));
        let now = service.ticks();
        (now <= std::mem::replace(&mut last, now) + 2).then_some(())
    });
    assert!(rested.is_some(), "it never comes to rest");
}

/// Ticks that `work` costs, and what it leaves behind.
fn cost(service: &Service, work: impl FnOnce()) -> u64 {
    rests(service);
    let before = service.ticks();
    work();
    rests(service);
    service.ticks() - before
}

#[test]
fn a_scan_ends_when_its_reader_has_gone() {
    const ABANDONED: usize = 60;
    let service = long_service();
    let path = "/events?source=nobody&order=desc";
    let mut client = Client::new(service.addr);
    let mut pages = 0;
    let whole = cost(&service, || {
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("{path}{cursor}")).unwrap();
            let page: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
            pages += 1;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return,
            }
        }
    });
    assert!(pages > 1, "the store is too small to show anything");
    for accept in ["application/x-ndjson", "application/json", "text/event-stream"] {
        let path = if accept.ends_with("event-stream") { "/events?source=nobody" } else { path };
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        let over_http_1 = cost(&service, || {
            for _ in 0..ABANDONED {
                TcpStream::connect(service.addr).unwrap().write_all(head.as_bytes()).unwrap();
            }
        });
        let over_http_2 = cost(&service, || {
            let asked = frames::ask(service.addr, &[path; ABANDONED], &[("accept", accept)]);
            // Long enough to begin, not to end.
            std::thread::park_timeout(Duration::from_millis(20));
            drop(asked);
        });
        for (over, ticks) in [("HTTP/1.1", over_http_1), ("HTTP/2", over_http_2)] {
            eprintln!("{accept} over {over}: {ticks} ticks, and {whole} to read all of the store once");
            assert!(
                ticks < 100 + whole * ABANDONED as u64 / 4,
                "{ABANDONED} abandoned scans cost {ticks} ticks, {accept} over {over}; one to its end {whole}"
            );
        }
    }
}

/// A store with many consumers that lag in many topics.
fn lagging_service() -> Service {
    let service = service();
    for round in 0..2 {
        service.publish((0..4_000).map(|n| event(&format!("t-{n}"), &format!("{round}"), "1")));
    }
    let mut client = Client::new(service.addr);
    let json = [("Content-Type", "application/json")];
    for consumer in 0..300 {
        let path = format!("/consumers/c-{consumer}");
        let answer = client.send("PUT", &path, &json, br#"{"topics":["*"]}"#).unwrap();
        assert_eq!(answer.status, 201);
    }
    service
}

#[test]
fn a_list_of_consumers_ends_when_its_reader_has_gone() {
    const ABANDONED: usize = 60;
    let service = lagging_service();
    let path = "/consumers?limit=10000";
    let whole = cost(&service, || {
        assert_eq!(service.get(path)["consumers"].as_array().unwrap().len(), 300);
    });
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let over_http_1 = cost(&service, || {
        for _ in 0..ABANDONED {
            TcpStream::connect(service.addr).unwrap().write_all(head.as_bytes()).unwrap();
        }
    });
    let over_http_2 = cost(&service, || {
        let asked = frames::ask(service.addr, &[path; ABANDONED], &[]);
        std::thread::park_timeout(Duration::from_millis(20));
        drop(asked);
    });
    for (over, ticks) in [("HTTP/1.1", over_http_1), ("HTTP/2", over_http_2)] {
        eprintln!("{over}: {ticks} ticks, and {whole} for the whole list once");
        assert!(
            ticks < 100 + whole * ABANDONED as u64 / 4,
            "{ABANDONED} abandoned lists cost {ticks} ticks over {over}; a whole one {whole}"
        );
    }
}

#[test]
fn finds_and_publishes_do_not_wait_for_lists_of_consumers() {
    let service = lagging_service();
    let lists: Vec<_> =
        (0..8).map(|_| frames::ask(service.addr, &["/consumers?limit=10000"; 100], &[])).collect();
    let mut client = Client::new(service.addr);
    let begin = crate::support::now();
    for n in 0..50 {
        assert_eq!(client.get(&format!("/events/t-{n}/0")).unwrap().status, 200);
        assert_eq!(
            client.post("/publish", event("t-1", &format!("n{n}"), "1").as_bytes()).unwrap().status,
            200
        );
        // Figures of consumers that are not known in time are shown as they were.
        assert_eq!(client.get("/consumers/c-7").unwrap().status, 200);
    }
    assert_eq!(client.get("/metrics").unwrap().status, 200);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(30), "150 small requests took {took:?} beside lists of consumers");
    drop(lists);
}

#[test]
fn finds_and_publishes_do_not_wait_for_scans() {
    let service = long_service();
    let paths = ["/events?source=nobody&limit=1"; 100];
    let scans: Vec<_> = (0..8).map(|_| frames::ask(service.addr, &paths, &[])).collect();
    let exports: Vec<_> = (0..8)
        .map(|_| {
            frames::ask(service.addr, &["/events?source=nobody"; 100], &[("accept", "application/x-ndjson")])
        })
        .collect();
    let mut client = Client::new(service.addr);
    let begin = crate::support::now();
    for n in 0..50 {
        assert_eq!(client.get(&format!("/events/t/e{n}")).unwrap().status, 200);
        assert_eq!(client.get(&format!("/events/t/unknown{n}")).unwrap().status, 404);
        assert_eq!(
            client.post("/publish", event("t", &format!("n{n}"), "1").as_bytes()).unwrap().status,
            200
        );
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "150 small requests took {took:?} beside scans");
    drop((scans, exports));
}

/// Ticks of processor time that threads have had which let others go first, and that all have had.
fn ticks_of_threads(service: &Service) -> (u64, u64) {
    let (mut giving_way, mut all) = (0, 0);
    for thread in std::fs::read_dir(format!("/proc/{}/task", service.server.pid())).unwrap() {
        // A thread that has just ended has nothing to read.
        let Ok(stat) = std::fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        all += ticks;
        if fields[16].parse::<i64>().unwrap() > 0 {
            giving_way += ticks;
        }
    }
    (giving_way, all)
}

#[test]
fn who_goes_on_with_a_long_answer_lets_others_go_first() {
    let service = long_service();
    let kinds = [("/events", "application/x-ndjson", 4), ("/events?limit=10000", "application/json", 30)];
    for (path, accept, times) in kinds {
        rests(&service);
        let (giving_way, all) = ticks_of_threads(&service);
        let mut client = Client::new(service.addr);
        for _ in 0..times {
            let answer = client.send("GET", path, &[("Accept", accept)], b"").unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body.len() > 8_000_000, "{} bytes", answer.body.len());
        }
        let (giving_way_after, all_after) = ticks_of_threads(&service);
        let (giving_way, all) = (giving_way_after - giving_way, all_after - all);
        eprintln!("{path}: of {all} ticks, threads that give way had {giving_way}");
        // What is left is what writes to the connection.
        assert!(giving_way * 3 > all, "{path}: of {all} ticks, threads that give way had {giving_way}");
    }
}
