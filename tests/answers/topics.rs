//! Topics are never removed, so that one client can't use up all that there may be.

use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::service::Service;
use crate::support::service::event;
use crate::support::until;

fn topics(names: std::ops::Range<usize>) -> String {
    let events: Vec<_> = names.map(|n| event(&format!("topic-{n}"), "1", "1")).collect();
    format!("[{}]", events.join(","))
}

#[test]
fn the_last_topics_are_given_out_in_shares() {
    let service =
        Service::started(|start| Start { env: vec![("SEKALI_TOPICS_MAX".into(), "1000".into())], ..start });
    let mut client = Client::new(service.addr);
    let mut publish = |body: &str| client.post("/publish", body.as_bytes()).unwrap();
    assert_eq!(publish(&topics(0..799)).status, 200);
    assert!(!service.server.log().contains("topics run out"));
    assert_eq!(publish(&topics(799..900)).status, 200);
    let told = until(10, || service.server.log().contains("topics run out").then_some(()));
    assert!(told.is_some(), "{}", service.server.log());
    let refused = publish(&topics(900..910));
    assert_eq!(refused.status, 429, "{}", String::from_utf8_lossy(&refused.body));
    assert!(String::from_utf8_lossy(&refused.body).contains("--topics-max"));
    // One in twenty of the last hundred, an hour.
    assert_eq!(publish(&topics(895..905)).status, 200);
    assert_eq!(publish(&event("another", "1", "1")).status, 429);
    assert_eq!(publish(&event("topic-3", "2", "1")).status, 200, "known topics go on");
    let lines = ureq::post(format!("{}/publish", service.url()))
        .config()
        .http_status_as_error(false)
        .build()
        .header("content-type", "application/x-ndjson")
        .send(event("another", "1", "1"))
        .unwrap();
    assert_eq!(lines.status(), 429, "a stream of lines is no way round");
    let wait: u64 = lines.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_000..=3_601).contains(&wait), "{wait} seconds");
    assert!((service.figure("sekali_topics") - 905.0).abs() < 0.5);
    assert!((service.figure("sekali_topics_max") - 1_000.0).abs() < 0.5);
}

#[test]
fn figures_of_topics_are_right_when_there_are_more_than_have_names() {
    let mut service = super::service();
    service.publish((0..150).map(|n| event(&format!("topic-{n:03}"), "1", "1")));
    service
        .publish((0..150).map(|n| event(&format!("topic-{n:03}"), "1", if n % 2 == 0 { "1" } else { "2" })));
    for round in 0..2 {
        let others = |outcome: &str| {
            service.figure(&format!("sekali_topic_events_total{{topic=\"\",outcome=\"{outcome}\"}}"))
        };
        // Which topics were made first is up to the workers.
        let mut counts = (0.0, 0.0);
        let counted = until(10, || {
            counts = (others("stored"), others("duplicate") + others("conflict"));
            (counts == (50.0, 50.0)).then_some(())
        });
        assert!(counted.is_some(), "round {round}: {counts:?}");
        let stats = service.get("/stats");
        assert_eq!(
            ["unique_processed", "duplicate_dropped", "conflicts"].map(|name| stats[name].as_u64().unwrap()),
            [150, 150, 75]
        );
        assert_eq!(stats["topics"].as_array().unwrap().len(), 150);
        if round == 0 {
            assert_eq!(service.server.terminate(), Some(0));
            service.start_again();
        }
    }
}
