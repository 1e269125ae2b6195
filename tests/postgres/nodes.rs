//! Several nodes of one store.

use std::collections::HashMap;

use serde_json::Value;

use super::{cluster, node};
use crate::support::client::Client;
use crate::support::rounds;
use crate::support::service::event;

fn get(client: &mut Client, path: &str) -> Value {
    serde_json::from_slice(&client.get(path).unwrap().body).unwrap()
}

#[test]
fn the_same_events_through_three_nodes_at_once_are_stored_once() {
    let Some(cluster) = cluster("") else { return };
    cluster.create("events");
    let dir = tempfile::tempdir().unwrap();
    let start = node(dir.path(), &cluster.url("events"), "local");
    // They make the schema at the same time.
    let mut nodes: Vec<_> = (0..3).map(|_| start.spawn()).collect();
    let addrs: Vec<_> = nodes.iter_mut().map(|node| node.listening().unwrap()).collect();
    let count = rounds("SEKALI_DATABASE_EVENTS") as usize;
    let bodies: Vec<String> = (0..count)
        .map(|n| event(["a", "b", "c", "d", "e"][n % 5], &format!("e{n}"), n))
        .collect::<Vec<_>>()
        .chunks(100)
        .map(|events| format!("[{}]", events.join(",")))
        .collect();
    let senders: Vec<_> = addrs
        .iter()
        .map(|addr| {
            let (addr, bodies) = (*addr, bodies.clone());
            std::thread::spawn(move || {
                let mut client = Client::new(addr);
                let mut stored = Vec::new();
                for body in bodies {
                    let answer = client.post("/publish?results=all", body.as_bytes()).unwrap();
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    assert_eq!(answer.status, 200, "{text}");
                    let json: Value = serde_json::from_str(&text).unwrap();
                    for result in json["results"].as_array().unwrap() {
                        if result["status"] == "stored" {
                            stored.push(result["event_id"].as_str().unwrap().to_owned());
                        }
                        assert_ne!(result["status"], "conflict", "{result}");
                    }
                }
                stored
            })
        })
        .collect();
    let mut times_stored: HashMap<String, usize> = HashMap::new();
    for sender in senders {
        for id in sender.join().unwrap() {
            *times_stored.entry(id).or_default() += 1;
        }
    }
    assert_eq!(times_stored.len(), count, "each id was once answered as stored");
    assert!(times_stored.values().all(|times| *times == 1), "and once alone");
    let mut clients: Vec<Client> = addrs.iter().map(|addr| Client::new(*addr)).collect();
    for client in &mut clients {
        let stats = get(client, "/stats");
        assert_eq!(
            (stats["received"].clone(), stats["unique_processed"].clone()),
            (Value::from(3 * count), Value::from(count))
        );
    }
    // A listing goes on at another node.
    let (mut listed, mut cursor, mut turn) = (Vec::new(), String::new(), 0);
    loop {
        let page = get(&mut clients[turn % 3], &format!("/events?limit=700{cursor}"));
        listed.extend(
            page["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["event_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        turn += 1;
    }
    assert_eq!(listed.len(), count);
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), count, "no event is listed twice");
    // What one node has answered, another shows at once.
    for n in 0..30 {
        let answer = clients[n % 3].post("/publish", event("late", &format!("l{n}"), n).as_bytes()).unwrap();
        assert_eq!(answer.status, 200);
        let found = clients[(n + 1) % 3].get(&format!("/events/late/l{n}")).unwrap();
        assert_eq!(found.status, 200, "event {n} is not shown by the next node");
    }
    for node in &mut nodes {
        assert_eq!(node.terminate(), Some(0), "{}", node.log());
    }
    let left = cluster.client("events").query_one("SELECT count(*) FROM sekali_attempts", &[]).unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "a node that stops leaves nothing behind");
}
