//! What `sekali verify` and `sekali rebuild` say of a stopped store.

use std::process::Output;

use serde_json::{Value, json};

use super::{event, text};
use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::until;

fn run(service: &Service, arguments: &[&str]) -> Output {
    let data_dir = service.path("data").display().to_string();
    service.run(&[arguments, &["--data-dir", &data_dir]].concat())
}

fn said(service: &Service, arguments: &[&str]) -> String {
    let output = run(service, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_store_of_few_events_is_told_whole() {
    let mut service = Service::new();
    for (events, sound, rebuilt) in [
        (
            0,
            "sound: journals, indexes, filters and counters agree on 0 events in 1 generation\n",
            "0 events in 1 generation\n\
             no generation is sealed yet, so there was nothing to rebuild\n\
             1 live generation with 0 events was not touched, but for the index, which the next start rebuilds\n",
        ),
        (
            1,
            "sound: journals, indexes, filters and counters agree on 1 event in 1 generation\n",
            "1 event in 1 generation\n\
             no generation is sealed yet, so there was nothing to rebuild\n\
             1 live generation with 1 event was not touched, but for the index, which the next start rebuilds\n",
        ),
    ] {
        if events > 0 {
            service.start_again();
            assert_eq!(service.post(&event("t", "1")), 200);
        }
        assert_eq!(service.server.terminate(), Some(0));
        assert_eq!(said(&service, &["verify"]), sound);
        assert_eq!(said(&service, &["rebuild"]), rebuilt);
        let proof: Value = serde_json::from_str(&said(&service, &["verify", "--json"])).unwrap();
        assert_eq!((&proof["sound"], &proof["events"]), (&json!(true), &json!(events)));
    }
}

#[test]
fn all_events_of_many_generations_are_counted_the_live_one_too() {
    const EVENTS: u64 = 2_000;
    let mut service = Service::new();
    // Not more than a part of a generation at once.
    for first in (0..EVENTS).step_by(100) {
        let events: Vec<_> = (first..first + 100).map(|id| event("t", &id.to_string())).collect();
        assert_eq!(service.post(&format!("[{}]", events.join(","))), 200);
    }
    let has_sealed = || {
        let metrics = text(&Client::new(service.addr).get("/metrics").unwrap().body);
        let sealed =
            metrics.lines().find_map(|line| line.strip_prefix("sekali_generations{state=\"sealed\"} "));
        sealed.is_some_and(|count| count != "0").then_some(())
    };
    assert!(until(60, has_sealed).is_some(), "nothing is sealed");
    assert_eq!(service.server.terminate(), Some(0));
    assert!(said(&service, &["verify"]).starts_with("sound: "), "what is told of it is in words");
    let told = said(&service, &["rebuild"]);
    let counts: Value = serde_json::from_str(&said(&service, &["rebuild", "--json"])).unwrap();
    let count = |name: &str| counts[name].as_u64().unwrap();
    let (generations, sealed) = (count("generations"), count("sealed_generations"));
    assert_eq!(count("events"), EVENTS);
    assert!(0 < sealed && sealed < generations && count("sealed_events") < EVENTS, "{counts}");
    assert!(told.starts_with(&format!("2,000 events in {generations} generations\n")), "{told}");
    let made = format!("the indexes of {sealed} sealed generation");
    assert!(told.contains(&made) && told.contains("rebuilt from"), "{told}");
    assert!(told.contains("not touched, but for the index"), "{told}");
    // What it says it does, and does not.
    service.start_again();
    assert_eq!(service.stored(), EVENTS);
    assert_eq!(service.server.terminate(), Some(0));
    assert!(said(&service, &["verify"]).starts_with("sound: "));

    let filter = service.path("data").join("gen-000001/filter");
    std::fs::write(&filter, b"not a filter").unwrap();
    let output = run(&service, &["verify"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("not sound: 1 fault among 2,000 events in "), "{told}");
    assert!(told.contains("gen-000001/filter"), "{told}");
    let output = run(&service, &["verify", "--json"]);
    let proof: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &proof["sound"]), (Some(1), &json!(false)));

    // What can be rebuilt is, and the damage of the live journal is told all the same.
    // There may be the folder of a next one already.
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(service.path("data/MANIFEST")).unwrap()).unwrap();
    let live = manifest["generations"].as_array().unwrap().last().unwrap()["id"].as_u64().unwrap();
    let live = service.path("data").join(format!("gen-{live:06}/journal"));
    let mut journal = std::fs::read(&live).unwrap();
    // The first frame, and all that follows it.
    journal[..1_000].fill(0xff);
    std::fs::write(&live, journal).unwrap();
    let output = run(&service, &["rebuild"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}{}", text(&output.stderr));
    assert!(told.contains("rebuilt from") && told.contains(&live.display().to_string()), "{told}");
}
