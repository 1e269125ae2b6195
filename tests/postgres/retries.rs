//! Statements that are sent again, and for how long.

use std::time::Duration;

use serde_json::Value;

use super::{cluster, ready_node};
use crate::support::client::Client;
use crate::support::postgres::Postgres;
use crate::support::service::event;

/// Has the insertion of an event fail in this way, the first so many times.
fn fail(cluster: &Postgres, state: &str, times: i64) {
    let trigger = format!(
        "DROP SEQUENCE IF EXISTS tried;
         CREATE SEQUENCE tried;
         CREATE OR REPLACE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('tried') <= {times} THEN
                 RAISE EXCEPTION 'again' USING ERRCODE = '{state}';
             END IF;
             RETURN NEW;
         END
         $$;
         CREATE OR REPLACE TRIGGER again BEFORE INSERT ON sekali_events FOR EACH ROW EXECUTE FUNCTION again()"
    );
    cluster.client("events").batch_execute(&trigger).unwrap();
}

fn tried(cluster: &Postgres) -> i64 {
    cluster.client("events").query_one("SELECT last_value FROM tried", &[]).unwrap().get(0)
}

#[test]
fn what_a_database_could_not_put_in_order_is_stored_once() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, mut server, addr) = ready_node(&cluster);
    let mut client = Client::new(addr);
    for (n, state) in ["40001", "40P01"].into_iter().enumerate() {
        fail(&cluster, state, 3);
        let answer = client.post("/publish?results=all", event("t", state, n).as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, told["results"][0]["status"].as_str()), (200, Some("stored")), "{told}");
        assert_eq!(tried(&cluster), 4, "{state}");
    }
    let stats: Value = serde_json::from_slice(&client.get("/stats").unwrap().body).unwrap();
    let counted = (stats["unique_processed"].as_u64(), stats["duplicate_dropped"].as_u64());
    assert_eq!(counted, (Some(2), Some(0)), "{stats}");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn statements_that_fail_all_the_time_are_sent_more_and_more_rarely() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, mut server, addr) = ready_node(&cluster);
    fail(&cluster, "40001", i64::MAX);
    let publish = |topics: usize| {
        let events: Vec<String> = (0..topics).map(|n| event(&format!("t{n}"), "e", n)).collect();
        Client::new(addr).post("/publish", format!("[{}]", events.join(",")).as_bytes()).unwrap().status
    };
    assert_eq!(publish(1), 503);
    // With pauses that do not grow it would be sixty times.
    let tried = tried(&cluster);
    assert!((2..40).contains(&tried), "it was tried {tried} times");
    // Where the statements of all slots fail, what is sent at once is bounded by the connections.
    let (mut admin, mut most) = (cluster.client("events"), 0);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| publish(640));
        while !sender.is_finished() {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sekali'";
            most = admin.query_one(query, &[]).unwrap().get::<_, i64>(0).max(most);
            sekali::sync::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(sender.join().unwrap(), 503);
    });
    assert!((2..=24).contains(&most), "{most} connections");
    server.kill();
}

#[test]
fn a_request_is_answered_in_time_while_the_database_takes_connections_and_says_nothing() {
    let Some(cluster) = cluster("") else { return };
    let (_dir, mut server, addr) = ready_node(&cluster);
    // A client waits for thirty seconds, and a request for ten.
    let publish = |topic: &str, id: &str| {
        Client::new(addr).post("/publish", event(topic, id, 1).as_bytes()).unwrap().status
    };
    ["t", "u"].iter().for_each(|topic| assert_eq!(publish(topic, "first"), 200));
    // So that the node knows the topic.
    assert_eq!(publish("t", "second"), 200);
    let mut admin = cluster.client("postgres");
    let still = cluster.stand_still();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sekali'";
    assert!(!admin.query(end, &[]).unwrap().is_empty());
    std::thread::scope(|scope| {
        for topic in ["t", "u", "new"] {
            scope.spawn(move || assert_eq!(publish(topic, "third"), 503, "{topic}"));
        }
    });
    drop(still);
    server.kill();
}
