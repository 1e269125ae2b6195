//! What was stored is read back.

use serde_json::json;

use super::{Service, event};
use crate::support::client::escape;

#[test]
fn payloads_come_back_byte_for_byte() {
    let mut service = Service::new();
    let payloads = [
        "123456789012345678901234567890.123456789012345678901234567890",
        "1e999999",
        r#"{"b":1,"a":[ 1, 2 ],"b":2}"#,
        r#""\u00e9\/\ud83d\ude00""#,
        "null",
        &format!("\"{}\"", "x".repeat(300_000)),
    ];
    for (number, payload) in payloads.iter().enumerate() {
        let body = event("p", &number.to_string()).to_string().replace(r#"{"n":1}"#, payload);
        assert_eq!(service.publish(body).0, 200);
        let answer = service.client.get(&format!("/events/p/{number}")).unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.contains(&format!("\"payload\":{payload},")),
            "{}",
            text.chars().take(200).collect::<String>()
        );
    }
    let mut absent = event("p", "absent");
    absent.as_object_mut().unwrap().remove("payload");
    service.publish(absent.to_string());
    assert_eq!(service.get("/events/p/absent").1["payload"], json!({}));
}

#[test]
fn listings_filter_order_and_page_without_gap_or_repeat() {
    let mut service = Service::new();
    for batch in 0..12 {
        let events: Vec<_> =
            (0..50).map(|i| event(if i % 3 == 0 { "a" } else { "b/ä" }, &format!("{batch}-{i}"))).collect();
        assert_eq!(service.publish(json!(events).to_string()).0, 200);
    }
    let mut pages = |query: &str| {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = service.get(&format!("/events?limit=37{query}{cursor}"));
            assert_eq!(status, 200, "{page}");
            let events = page["events"].as_array().unwrap();
            assert_eq!(page["count"], events.len());
            ids.extend(events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    };
    let topic = format!("&topic={}", escape("b/ä"));
    for filter in ["", "&topic=a", &topic] {
        let forwards = pages(filter);
        let mut backwards = pages(&format!("{filter}&order=desc"));
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let mut distinct = forwards.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(
            (distinct.len(), forwards.len()),
            match filter {
                "" => (600, 600),
                "&topic=a" => (204, 204),
                _ => (396, 396),
            }
        );
    }
    assert_eq!(pages("&source=test").len(), 600);
    assert_eq!(pages("&source=other").len(), 0);
    assert_eq!(pages("&since=2020-01-01T00:00:00Z").len(), 600);
    assert_eq!(pages("&until=2020-01-01T00:00:00%2B01:00").len(), 0);
    let (status, _) = service.get(&format!("/events/{}/{}", escape("b/ä"), "3-1"));
    assert_eq!(status, 200);
    assert_eq!(service.get("/events/a/none").0, 404);
    assert_eq!(service.get("/topics").1["topics"][1]["unique_processed"], 396);
    let first = service.get("/topics?limit=1").1;
    assert_eq!(first["topics"][0]["topic"], "a");
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(service.get(&format!("/topics?cursor={cursor}")).1["topics"][0]["topic"], "b/ä");
    assert_eq!(Service::new().get(&format!("/topics?cursor={cursor}")).0, 400, "of another store");
    for (query, place) in [
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("order=up", "order"),
        ("since=yesterday", "since"),
        ("until=1e18", "until"),
        ("limit=0", "limit"),
        ("limit=0&topic=a&event_id=1", "limit"),
        ("event_id=1", "event_id"),
    ] {
        let (status, answer) = service.get(&format!("/events?{query}"));
        assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["query", place])));
    }
    assert_eq!(service.get("/events?cursor=nonsense").0, 400);
    assert_eq!(service.get("/events?topic=a&event_id=1&cursor=nonsense").0, 400);
    assert_eq!(service.get("/topics?limit=0").0, 422, "an empty page would say that there is no more");
    for bad in ["0", "501", "x"] {
        assert_eq!(service.get(&format!("/duplicates?limit={bad}")).0, 422, "{bad}");
    }
}

#[test]
fn any_name_can_be_looked_up_by_a_query() {
    let mut service = Service::new();
    for (topic, id) in [("..", "stats"), ("dots", "."), (".", ".."), ("a/b", "c?d&e+f%2F")] {
        assert_eq!(service.publish(event(topic, id).to_string()).0, 200);
        let query =
            |topic: &str, id: &str| format!("/events?topic={}&event_id={}", escape(topic), escape(id));
        let (status, page) = service.get(&query(topic, id));
        assert_eq!((status, &page["count"], &page["topic"]), (200, &json!(1), &json!(topic)), "{page}");
        assert_eq!(page["events"][0]["event_id"], id);
        assert_eq!(page["next_cursor"], json!(null));
        let none = json!({"topic": topic, "count": 0, "events": [], "next_cursor": null});
        assert_eq!(service.get(&query(topic, "none")), (200, none));
        let source = escape(page["events"][0]["source"].as_str().unwrap());
        for (filter, count) in [
            (format!("source={source}&since=2020-01-01&until=2999-01-01"), 1),
            (format!("source={source}-"), 0),
            ("since=2999-01-01".to_owned(), 0),
            ("until=2020-01-01".to_owned(), 0),
        ] {
            let (status, page) = service.get(&format!("{}&{filter}", query(topic, id)));
            assert_eq!((status, &page["count"]), (200, &json!(count)), "{filter}");
        }
    }
}

#[test]
fn booleans_of_the_query_are_taken_as_pydantic_takes_them() {
    let mut service = Service::new();
    for (word, status) in [
        ("true", 207),
        ("True", 207),
        ("1", 207),
        ("yes", 207),
        ("on", 207),
        ("False", 422),
        ("0", 422),
        ("2", 422),
    ] {
        let answer = service.client.post(&format!("/publish?partial={word}"), b"[{}]").unwrap();
        assert_eq!(answer.status, status, "{word}");
    }
}

#[test]
fn timestamps_come_back_as_they_came() {
    let mut service = Service::new();
    let forms = [
        json!("2026-11-22T10:00:00,123"),
        json!("2026-11-22 10:00:00.123456+00"),
        json!("2026-11-22_10:00"),
        json!("2026-11-22t10:00:00+0530"),
        json!("2026-11-22"),
        json!("1763800000"),
        json!(1_763_800_000),
        json!(-1),
    ];
    for (number, form) in forms.iter().enumerate() {
        let mut event = event("t", &number.to_string());
        event["timestamp"] = form.clone();
        assert_eq!(service.publish(event.to_string()).0, 200, "{form}");
    }
    let raw = event("t", "raw").to_string().replace(r#""2026-11-22T10:00:00Z""#, "1763800000.1200");
    assert_eq!(service.publish(&raw).0, 200);
    for restarted in [false, true] {
        if restarted {
            service.restart(true);
        }
        let page = service.get("/events?topic=t").1;
        let back: Vec<_> =
            page["events"].as_array().unwrap().iter().map(|event| &event["timestamp"]).collect();
        assert_eq!(back[..forms.len()], forms.iter().collect::<Vec<_>>());
        let text = String::from_utf8(service.client.get("/events/t/raw").unwrap().body).unwrap();
        assert!(text.contains(r#""timestamp":1763800000.1200,"#), "{text}");
    }
    // The same for the range of a listing.
    for (since, count) in [
        ("2020-01-01", 9),
        ("2020-01-01T00:00:00.000000%2B0000", 9),
        ("2020-01-01T00:00Z", 9),
        ("2020-01-01+00:00:00,5+00", 9),
        ("1577836800", 9),
        ("1577836800000", 9),
        ("2100-01-01", 0),
        ("4102444800", 0),
    ] {
        let (status, page) = service.get(&format!("/events?since={since}"));
        assert_eq!((status, &page["count"]), (200, &json!(count)), "{since}");
    }
}
