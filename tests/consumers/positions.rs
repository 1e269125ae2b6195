//! Where consumers have got to: kept through a restart and a kill, and moved to where somebody wants
//! them.

use super::*;

fn seek(service: &Service, to: &str) {
    let (status, answer) = ask(service, "POST", "/consumers/c/seek", &json!({"to": to}));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn what_was_acknowledged_is_not_given_after_a_kill_or_a_stop() {
    let mut service = Service::new();
    publish(&service, "t", 0, 100);
    put(&service, "c", &["t"], "start");
    put(&service, "gone", &["t"], "start");
    let (status, _) = ask(&service, "DELETE", "/consumers/gone", &Value::Null);
    assert_eq!(status, 204);
    for round in 0..6 {
        let given = take(&service, "c", "limit=10&holder=w");
        assert_eq!(offsets(&given)[0], ("t".to_owned(), round * 10));
        assert_eq!(acknowledge(&service, "c", &given), 200);
        take(&service, "c", "limit=10&holder=w");
        if round % 2 == 0 {
            service.server.kill();
        } else {
            assert_eq!(service.server.terminate(), Some(0));
        }
        service.start_again();
        let (status, _) = ask(&service, "GET", "/consumers/gone", &Value::Null);
        assert_eq!(status, 404);
    }
    assert_eq!(service.get("/consumers/c")["positions"], json!([{"topic": "t", "next_offset": 60}]));
}

#[test]
fn a_consumer_begins_where_it_is_told() {
    let service = Service::new();
    publish(&service, "t", 0, 5);
    publish(&service, "u", 0, 5);
    let cursor_of_all = service.get("/events?limit=7")["next_cursor"].as_str().unwrap().to_owned();
    let cursor_of_topic = service.get("/events?topic=t&limit=2")["next_cursor"].as_str().unwrap().to_owned();
    let since =
        service.get("/events?topic=u&limit=1")["events"][0]["received_at"].as_str().unwrap().to_owned();
    put(&service, "c", &["*"], "end");
    let all = |topics: &[(&str, std::ops::Range<u64>)]| {
        let of = |(topic, range): &(&str, std::ops::Range<u64>)| {
            let topic = (*topic).to_owned();
            range.clone().map(move |offset| (topic.clone(), offset)).collect::<Vec<_>>()
        };
        topics.iter().flat_map(of).collect::<Vec<_>>()
    };
    for (to, expected) in [
        ("end", all(&[])),
        ("start", all(&[("t", 0..5), ("u", 0..5)])),
        (&*cursor_of_all, all(&[("u", 2..5)])),
        (&*since, all(&[("u", 0..5)])),
        ("2100-01-01", all(&[])),
        ("1970-01-02", all(&[("t", 0..5), ("u", 0..5)])),
    ] {
        seek(&service, to);
        let mut given = drain(&service, "c", "");
        given.sort();
        assert_eq!(given, expected, "{to}");
    }
    seek(&service, &cursor_of_topic);
    assert_eq!(drain(&service, "c", ""), all(&[("t", 2..5)]), "the other topic stays where it is");
    let (status, _) =
        ask(&service, "POST", "/consumers/c/seek", &json!({"to": "a00000000000000000000000000000001"}));
    assert_eq!(status, 400, "the cursor of another store");
}

#[test]
fn a_topic_that_is_stuck_among_many_is_found_and_stays_found() {
    const TOPICS: u64 = 60;
    const STUCK: &str = "t-37";
    let service = Service::new();
    let names: Vec<String> = (0..TOPICS).map(|topic| format!("t-{topic}")).collect();
    let round = |number: &str| names.iter().map(|name| event(name, number, 1)).collect::<Vec<_>>();
    service.publish(round("0"));
    put(&service, "c", &["*"], "start");
    assert_eq!(drain(&service, "c", "limit=1000").len() as u64, TOPICS);
    service.publish(std::iter::once(event(STUCK, "stuck", 1)));
    sekali::sync::sleep(std::time::Duration::from_secs(3));
    service.publish(round("1"));
    let seconds = || service.get("/consumers/c")["lag_seconds"].as_f64().unwrap();
    let looks = (0..TOPICS).position(|_| seconds() >= 3.0);
    assert!(looks.is_some(), "it is never found: {}", service.get("/consumers/c"));
    for _ in 0..10 {
        assert!(seconds() >= 3.0, "it is lost again");
    }
    assert_eq!(drain(&service, "c", "limit=1000").len() as u64, TOPICS + 1);
    assert_eq!(seconds(), 0.0);
}

#[test]
fn consumers_are_listed_with_their_lag() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    for name in ["a", "b", "c"] {
        put(&service, name, &["t"], "start");
    }
    let given = take(&service, "b", "");
    assert_eq!(acknowledge(&service, "b", &given), 200);
    let first = service.get("/consumers?limit=2");
    let told: Vec<_> = first["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["lag"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("a", 3), ("b", 0)]);
    assert!(first["consumers"][0]["lag_seconds"].as_f64().is_some());
    let cursor = escape(first["next_cursor"].as_str().unwrap());
    let rest = service.get(&format!("/consumers?cursor={cursor}"));
    assert_eq!(rest["consumers"][0]["name"], "c");
    assert!(rest["next_cursor"].is_null());
}

#[test]
fn a_consumer_that_many_make_move_and_remove_at_once_is_as_if_one_came_after_the_other() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    let addr = service.addr;
    let at_once = |method: &str, path: &str, body: &Value| -> Vec<u16> {
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| ask_at(addr, method, path, body).0)).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    };
    for round in 0..10 {
        let mut made = at_once("PUT", "/consumers/c", &json!({"topics": ["t"]}));
        made.sort_unstable();
        assert_eq!(made, [200, 200, 200, 200, 200, 201], "round {round}");
        let moved = at_once("POST", "/consumers/c/seek", &json!({"to": "start"}));
        assert_eq!(moved, [200; 6], "round {round}");
        let removed = at_once("DELETE", "/consumers/c", &Value::Null);
        assert!(removed.iter().all(|status| [204, 404].contains(status)), "round {round}: {removed:?}");
    }
}

#[test]
fn whoever_waits_is_given_what_a_move_makes_new_and_told_that_there_is_no_consumer_any_more() {
    let service = Service::new();
    publish(&service, "t", 0, 3);
    let addr = service.addr;
    let while_one_waits = |work: &dyn Fn()| {
        std::thread::scope(|scope| {
            let waiting = scope
                .spawn(move || ask_at(addr, "GET", "/consumers/c/events?wait=20s&lease=60s", &Value::Null));
            let is_waiting = || {
                let leases = service.get("/consumers/c")["leases"].as_array().unwrap().len();
                (leases == 1).then_some(())
            };
            assert!(crate::support::until(30, is_waiting).is_some(), "nobody waits");
            work();
            waiting.join().unwrap()
        })
    };
    put(&service, "c", &["t"], "end");
    let (status, given) = while_one_waits(&|| {
        let moved = ask(&service, "POST", "/consumers/c/seek", &json!({"to": "start"}));
        assert_eq!(moved.0, 200, "{}", moved.1);
    });
    assert_eq!((status, offsets(&given).len()), (200, 3), "{given}");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    let (status, answer) = while_one_waits(&|| {
        assert_eq!(ask(&service, "DELETE", "/consumers/c", &Value::Null).0, 204);
    });
    assert_eq!(status, 404, "{answer}");
}
