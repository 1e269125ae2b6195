//! Consumers of a data directory whose service has stopped or was killed.

use super::*;

fn verify(service: &Service) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sekali"))
        .arg("verify")
        .arg("--data-dir")
        .arg(&service.start.data_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn leases_of_a_data_directory_end_with_the_service() {
    let mut service = Service::new();
    publish(&service, "t", 0, 100);
    put(&service, "c", &["t"], "start");
    for round in 0..4 {
        let given = take(&service, "c", "limit=10&holder=w");
        assert_eq!(offsets(&given)[0], ("t".to_owned(), round * 10));
        assert_eq!(acknowledge(&service, "c", &given), 200);
        let late = take(&service, "c", "limit=10&holder=w");
        if round % 2 == 0 {
            service.server.kill();
        } else {
            assert_eq!(service.server.terminate(), Some(0));
            verify(&service);
        }
        service.start_again();
        assert_eq!(acknowledge(&service, "c", &late), 409);
        assert_eq!(service.get("/consumers/c")["leases"], json!([]));
    }
}

#[test]
fn positions_are_carried_from_generation_to_generation() {
    let mut service = Service::new();
    publish(&service, "first", 0, 5);
    put(&service, "c", &["*"], "start");
    let given = take(&service, "c", "");
    assert_eq!(acknowledge(&service, "c", &given), 200);
    let generation = |service: &Service| {
        std::fs::read_dir(&service.start.data_dir)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("gen-"))
            .count()
    };
    let mut number = 0;
    while generation(&service) < 5 {
        publish(&service, "t", number, 500);
        number += 500;
    }
    assert_eq!(service.server.terminate(), Some(0));
    verify(&service);
    service.start_again();
    let told = service.get("/consumers/c");
    assert_eq!(told["positions"], json!([{"topic": "first", "next_offset": 5}]));
    assert_eq!(told["lag"], number);
    assert_eq!(drain(&service, "c", "limit=1000").len() as u64, number);
}
