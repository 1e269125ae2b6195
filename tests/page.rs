//! The live page, in a real browser: Chromium, driven by scripts of `tests/page` with the Node of
//! `make tools`. What is not installed is listed as not run, and with `SEKALI_TEST_ALL` that is a
//! failure.

mod browsing;
mod files;
mod stream;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sekali::clock::{Clock, SystemClock};
use sekali::limits::{GENERATION_BYTES, GENERATION_EVENTS};

use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::service::{Service, event};
use crate::support::until;
use browsing::{guarded, script};

/// An event with a source of its own.
fn sent(topic: &str, id: &str, source: &str, payload: &str) -> String {
    event(topic, id, payload).replace("\"source\":\"test\"", &format!("\"source\":\"{source}\""))
}

/// What senders of webhooks sign with here.
const SECRET: &str = "a-secret-of-the-test-0123456789";

/// A service that takes webhooks at `/in/hooks`.
fn hooked(change: impl FnOnce(Start) -> Start) -> Service {
    Service::started(|start| {
        let mut start = change(start);
        let (config, key) =
            (start.data_dir.with_file_name("sekali.toml"), start.data_dir.with_file_name("key"));
        std::fs::write(&key, SECRET).unwrap();
        let source = "[sources.hooks]\npreset = 'bearer'\ntopic = 'small.things'\nevent_id = '{body.id}'\n";
        std::fs::write(&config, format!("{source}secret_files = ['{}']\n", key.display())).unwrap();
        start.env.push(("SEKALI_CONFIG".into(), config.into()));
        start
    })
}

/// Delivers a webhook; the status.
fn deliver(service: &Service, secret: &str) -> u16 {
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    Client::new(service.addr).post_with("/in/hooks", &headers, br#"{"id":"hook-1"}"#).unwrap().status
}

/// Sends JSON; the status and the JSON of the answer.
fn ask(service: &Service, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let headers = [("content-type", "application/json")];
    let answer = Client::new(service.addr).send(method, path, &headers, body.as_bytes()).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// A service with events of three topics, one of which came twice, a source of webhooks, of which
/// some were refused, and a consumer.
fn filled() -> Service {
    fill(hooked(|start| start))
}

fn fill(service: Service) -> Service {
    let orders = (0..120).map(|number| {
        let payload = format!(r#"{{"amount":{number},"nested":{{"list":[1,2,3]}}}}"#);
        sent("orders.paid", &format!("order-{number}"), ["checkout", "shop"][number % 2], &payload)
    });
    service.publish(orders);
    assert_eq!(
        service.post(&sent("orders.paid", "order-3", "shop", r#"{"amount":3,"nested":{"list":[1,2,3]}}"#)),
        200
    );
    service.publish((0..9).map(|number| event("small.things", &number.to_string(), number)));
    let exact = r#"{"z":123456789012345678901234567890,"a":1.10,"c":1e-400,"d":-0,"e":9007199254740993}"#;
    assert_eq!(service.post(&event("exact", "numbers", exact)), 200);
    for (secret, status) in [(SECRET, 200), ("wrong", 401), ("wrong", 401)] {
        assert_eq!(deliver(&service, secret), status);
    }
    assert_eq!(ask(&service, "POST", "/in/hooks", "{}").0, 401);
    let (status, made) = ask(&service, "PUT", "/consumers/billing", r#"{"topics":["orders.*"]}"#);
    assert_eq!(status, 201, "{made}");
    service
}

#[test]
fn every_view_shows_what_the_service_has() {
    let Some(script) = script("views.cjs") else { return };
    let service = filled();
    // One worker is late, and one is gone.
    for name in ["gone", "late"] {
        let path = format!("/consumers/{name}");
        assert_eq!(ask(&service, "PUT", &path, r#"{"topics":["small.*"]}"#).0, 201);
        let (status, given) = ask(&service, "GET", &format!("{path}/events?holder=worker-7&lease=1s"), "");
        assert_eq!(status, 200, "{given}");
        if name == "late" {
            std::thread::sleep(std::time::Duration::from_millis(1_100));
            let receipt = format!(r#"{{"receipt":{}}}"#, given["receipt"]);
            assert_eq!(ask(&service, "POST", &format!("{path}/ack"), &receipt).0, 409);
        }
    }
    script.run(&service);
}

#[test]
fn ten_thousand_topics_are_sorted_filtered_and_scrolled() {
    let Some(script) = script("topics.cjs") else { return };
    let service = Service::new();
    service.publish((0..10_000).map(|number| event(&format!("topic.{number:05}"), "1", number)));
    eprintln!("{}", script.run(&service));
}

#[test]
fn hostile_names_and_payloads_are_shown_as_text() {
    let Some(script) = script("hostile.cjs") else { return };
    let service = Service::new();
    let markup = r#"<img src=x onerror=alert(1)><script>alert(2)</script>"#;
    let turned = "a\u{202e}b\u{200b}c";
    let colours = r"\u001b[31mred\u001b[0m\u0000";
    let payload = format!(r#"{{"{markup}":"{markup}","{turned}":"{turned}","ansi":"{colours}"}}"#);
    // In UTF-8 it takes eight bytes; and a character that nobody sees.
    assert_eq!(service.post(&event("x\u{34f}y", "letters", "\"ééé\"")), 200);
    for topic in [markup, turned, "../..", "a/b?c#d%2f&e=f"] {
        assert_eq!(service.post(&event(topic, topic, &payload)), 200, "{topic}");
    }
    let long = format!("\"{}\"", "x".repeat((1 << 20) - 8));
    assert_eq!(service.post(&event("large", "long", long)), 200);
    let wide = format!("[{}0]", "1,".repeat(200_000));
    assert_eq!(service.post(&event("large", "wide", wide)), 200);
    let laid_out = "{\n\t\"it's\" : \"50 %s\\\\ `!$(x)` \u{200b}\",\r\n\"b\":\t1.0 }";
    assert_eq!(service.post(&event("laid out", "1", laid_out)), 200);
    let deep = format!("{}1{}", "[".repeat(63), "]".repeat(63));
    assert_eq!(service.post(&event("large", "deep", deep)), 200);
    let long = "y".repeat(255);
    assert_eq!(service.post(&event(&long, &long, 1)), 200);
    script.run(&service);
}

#[test]
fn a_live_list_waits_for_its_reader_and_catches_up_in_flat_memory() {
    let Some(script) = script("tail.cjs") else { return };
    // A minute, where there is time for it.
    let is_long =
        std::env::var_os("SEKALI_TEST_ALL").is_some() || std::env::var_os("SEKALI_FAULTS").is_some();
    let script = if is_long { script.with(&[("SEKALI_PAGE_SECONDS", "60")]) } else { script };
    let service = filled();
    let batch: Vec<_> = (0..1_000).map(|number| event("batch", &number.to_string(), number)).collect();
    assert_eq!(service.post(&format!("[{}]", batch.join(","))), 200);
    let (addr, stop) = (service.addr, Arc::new(AtomicBool::new(false)));
    let mut publisher = None;
    let end = std::panic::catch_unwind(AssertUnwindSafe(|| {
        script.run_with(&service.url(), |asked| match asked {
            "one" => service.post(&event("batch", "one", 1)).to_string(),
            "begin" => {
                let stop = Arc::clone(&stop);
                publisher = Some(std::thread::spawn(move || publish_until(addr, &stop)));
                String::new()
            }
            "stop" => {
                stop.store(true, Ordering::Relaxed);
                publisher.take().unwrap().join().unwrap().to_string()
            }
            other => panic!("{other}?"),
        })
    }));
    stop.store(true, Ordering::Relaxed);
    eprintln!("{}", end.unwrap());
}

/// Publishes a thousand events a second, until told to stop; how many.
fn publish_until(addr: SocketAddr, stop: &AtomicBool) -> u64 {
    let (mut http, mut due) = (Client::new(addr), SystemClock.monotonic());
    for batch in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return batch * 50;
        }
        let events: Vec<_> =
            (0..50).map(|number| event("live", &format!("{batch}-{number}"), number)).collect();
        let body = format!("[{}]", events.join(","));
        wait_for("the events are taken", || {
            http.post("/publish", body.as_bytes()).is_ok_and(|answer| answer.status == 200).then_some(())
        });
        due += Duration::from_millis(50);
        sekali::sync::park_timeout(due.saturating_duration_since(SystemClock.monotonic()));
    }
    unreachable!("it is told to stop before")
}

#[test]
fn an_open_page_survives_its_service_and_loses_and_repeats_nothing() {
    let Some(script) = script("restart.cjs") else { return };
    let mut service = filled();
    // It has to come back where the page looks for it.
    service.start.listen = service.addr.to_string();
    let mut number = 0;
    script.run_with(&service.url(), |asked| match asked {
        "kill" => {
            service.server.kill();
            String::new()
        }
        "start" => {
            service.start_again();
            String::new()
        }
        "publish" => {
            number += 1;
            assert_eq!(service.post(&event("live", &format!("live-{number}"), number)), 200);
            format!("live-{number}")
        }
        other => panic!("{other}?"),
    });
}

#[test]
fn a_token_is_asked_for_kept_in_the_tab_and_forgotten() {
    let Some(script) = script("token.cjs") else { return };
    let (service, [admin, reader]) = guarded([&["admin"], &["read:small.*"]]);
    let mut http = Client::new(service.addr);
    let bearer = format!("Bearer {admin}");
    for (topic, id) in [("small.things", "1"), ("secret", "1")] {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        assert_eq!(http.post_with("/publish", &headers, event(topic, id, 1).as_bytes()).unwrap().status, 200);
    }
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let made = http.send("PUT", "/consumers/billing", &headers, br#"{"topics":["*"]}"#).unwrap();
    assert_eq!(made.status, 201);
    script.with(&[("ADMIN", &admin), ("READER", &reader)]).run(&service);
    let log = service.server.log();
    assert!(!log.contains(&admin) && !log.contains(&reader));
}

#[test]
fn everybody_can_use_it_by_keyboard_by_ear_and_on_a_phone() {
    let Some(script) = script("access.cjs") else { return };
    script.run(&filled());
}

#[test]
fn each_state_is_told_in_words_that_everybody_can_read() {
    let Some(script) = script("states.cjs") else { return };
    let mut service = Service::new();
    let pid = Pid::from_raw(service.server.pid().cast_signed()).unwrap();
    script.run_with(&service.url(), |asked| {
        match asked {
            "hold" => kill_process(pid, Signal::STOP).unwrap(),
            "go on" => kill_process(pid, Signal::CONT).unwrap(),
            "kill" => service.server.kill(),
            other => panic!("{other}?"),
        }
        String::new()
    });
}

#[test]
fn something_is_seen_before_the_service_says_a_figure() {
    let Some(script) = script("paint.cjs") else { return };
    eprintln!("{}", script.run(&filled()));
}

/// Takes the pictures of the documentation: `make screenshots`.
#[test]
#[ignore = "it writes to docs/images"]
fn screenshots() {
    let Some(script) = script("screenshots.cjs") else { return };
    // As most are: with generations of the size that is the default.
    let service = fill(hooked(|start| Start {
        generation_events: GENERATION_EVENTS,
        generation_bytes: GENERATION_BYTES,
        ..start
    }));
    let (addr, stop) = (service.addr, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut http, mut last) = (Client::new(addr), Vec::new());
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let kind = (number % 7 % 4) as usize;
                let topic = ["orders.paid", "orders.shipped", "users.signed-up", "payments.failed"][kind];
                let source = ["checkout", "warehouse", "web", "billing"][kind];
                let events = (0..8 + number / 10 % 12).map(|n| {
                    let id = number * 100 + n;
                    let payload = format!(r#"{{"order":{id},"amount":"{}.50","currency":"EUR"}}"#, id % 97);
                    sent(topic, &format!("evt-{id:08}"), source, &payload)
                });
                // Some come twice.
                let again = last.drain(..).take((number % 3) as usize);
                let events: Vec<String> = again.chain(events).collect();
                let _ = http.post("/publish", format!("[{}]", events.join(",")).as_bytes());
                last = events;
                sekali::sync::park_timeout(std::time::Duration::from_millis(25));
            }
        });
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| script.run(&service)));
        stop.store(true, Ordering::Relaxed);
        end.unwrap();
    });
}

/// Waits for a condition, or says what never came.
fn wait_for(what: &str, ready: impl FnMut() -> Option<()>) {
    assert!(until(30, ready).is_some(), "never: {what}");
}
