//! What a primary shows that no standby has, and that is gone with it.

use serde_json::{Value, json};

use super::group::Group;
use super::node;
use crate::support::client::Client;
use crate::support::service::event;
use crate::support::until;

#[test]
fn a_topic_that_was_lost_with_the_primary_is_not_taken_for_the_one_that_has_its_number() {
    let Some(mut group) = Group::with("events") else { return };
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &group.url("events"), "replicated");
    let ((mut first, addr), (mut second, other)) = (start.ready().unwrap(), start.ready().unwrap());
    let json = [("Content-Type", "application/json")];
    let made = Client::new(other).send("PUT", "/consumers/c", &json, br#"{"topics":["phantom"]}"#).unwrap();
    assert_eq!(made.status, 201);

    group.cut_off_standbys();
    let answer = Client::new(addr).post("/publish", event("phantom", "1", 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    // A primary that recovers shows what nobody has acknowledged.
    group.primary.crash();
    let number = until(30, || {
        let query = "SELECT slot, topic_id FROM sekali_topics WHERE name = 'phantom'";
        let row = group.primary.client("events").query_opt(query, &[]).ok()??;
        Some((row.get::<_, i16>(0), row.get::<_, i32>(1)))
    });
    let (slot, id) = number.expect("the topic is there");
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
