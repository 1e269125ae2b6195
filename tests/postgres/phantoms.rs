//! What a primary shows that no standby has, and that is gone with it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::group::Group;
use super::node;
use crate::support::client::Client;
use crate::support::service::event;
use crate::support::until;

/// Has an event on the primary alone, which shows it to whoever asks; nobody has acknowledged it.
fn shown_by_the_primary_alone(group: &Group, addr: std::net::SocketAddr) -> (i16, i32) {
    group.cut_off_standbys();
    let answer = Client::new(addr).post("/publish", event("phantom", "1", 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    // A primary that recovers shows what nobody has acknowledged.
    group.primary.crash();
    let number = until(30, || {
        let query = "SELECT slot, topic_id FROM sekali_topics WHERE name = 'phantom'";
        let row = group.primary.client("events").query_opt(query, &[]).ok()??;
        Some((row.get(0), row.get(1)))
    });
    number.expect("the topic is there")
}

#[test]
fn what_one_primary_shows_is_not_covered_by_a_commit_of_the_next() {
    let Some(mut group) = Group::with("events") else { return };
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &group.url("events"), "replicated");
    let (mut writer, mut reader) = (start.ready().unwrap(), start.ready().unwrap());
    shown_by_the_primary_alone(&group, writer.1);
    let (addr, gone) = (reader.1, AtomicBool::new(false));
    // Each waits for a commit, one after another: of those, one meets the next primary.
    std::thread::scope(|scope| {
        let read = || {
            while !gone.load(Ordering::SeqCst) {
                let Ok(answer) = Client::new(addr).get("/events/phantom/1") else { continue };
                let text = String::from_utf8_lossy(&answer.body);
                assert_ne!(answer.status, 200, "it is shown, and is gone: {text}");
                if answer.status == 404 {
                    gone.store(true, Ordering::SeqCst);
                }
            }
        };
        (0..8).for_each(|_| _ = scope.spawn(read));
        let failed_over = std::panic::catch_unwind(AssertUnwindSafe(|| {
            group.fail_over_late();
            assert!(until(60, || gone.load(Ordering::SeqCst).then_some(())).is_some(), "nobody is told");
        }));
        gone.store(true, Ordering::SeqCst);
        failed_over.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!((writer.0.terminate(), reader.0.terminate()), (Some(0), Some(0)), "{}", reader.0.log());
}

#[test]
fn a_topic_that_was_lost_with_the_primary_is_not_taken_for_the_one_that_has_its_number() {
    let Some(mut group) = Group::with("events") else { return };
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &group.url("events"), "replicated");
    let ((mut first, addr), (mut second, other)) = (start.ready().unwrap(), start.ready().unwrap());
    let json = [("Content-Type", "application/json")];
    let made = Client::new(other).send("PUT", "/consumers/c", &json, br#"{"topics":["phantom"]}"#).unwrap();
    assert_eq!(made.status, 201);

    let (slot, id) = shown_by_the_primary_alone(&group, addr);
    let paths =
        ["/events?topic=phantom", "/events/phantom/1", "/events", "/topics", "/consumers/c/events?holder=w"];
    std::thread::scope(|scope| {
        for path in paths {
            scope.spawn(move || {
                let shown = Client::new(other).get(path).unwrap();
                assert_eq!(shown.status, 503, "{path}: {}", String::from_utf8_lossy(&shown.body));
            });
        }
    });

    group.fail_over();
    let mut count = 0;
    let name: Option<String> = until(60, || {
        let events: Vec<String> = (count..count + 100).map(|n| event(&format!("n{n}"), "1", n)).collect();
        let sent = Client::new(addr).post("/publish", format!("[{}]", events.join(",")).as_bytes());
        count += if sent.is_ok_and(|answer| answer.status == 200) { 100 } else { 0 };

        let query = "SELECT name FROM sekali_topics WHERE slot = $1 AND topic_id = $2";
        group.primary.client("events").query_opt(query, &[&slot, &id]).ok()?.map(|row| row.get(0))
    });
    let name = name.unwrap_or_else(|| panic!("no topic has the number: {}", first.log()));
    let get = |path: &str| {
        let answer = until(60, || {
            let answer = Client::new(other).get(path).ok()?;
            (answer.status != 503).then_some(answer)
        });
        let answer = answer.unwrap_or_else(|| panic!("{path} is not answered: {}", second.log()));
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let (status, shown) = get("/events?topic=phantom");
    assert_eq!((status, &shown["events"]), (200, &json!([])), "{name} is shown in its place");
    assert_eq!(get("/events/phantom/1").0, 404, "{name} is shown in its place");
    let (status, given) = get("/consumers/c/events?holder=w");
    assert_eq!((status, &given["events"]), (200, &json!([])), "{name} is given in its place");
    let (status, shown) = get(&format!("/events?topic={name}"));
    assert_eq!((status, shown["events"][0]["topic"].as_str()), (200, Some(&*name)));
    assert_eq!((first.terminate(), second.terminate()), (Some(0), Some(0)), "{}", second.log());
}
