//! The unit of systemd, judged by systemd's own rules. Nothing is started.

use super::{installed, root, succeed};
use crate::support::process::Start;
use crate::support::service::Service;

const UNIT: &str = include_str!("../../deploy/sekali.service");

#[test]
fn the_unit_is_exposed_to_little() {
    let Some(mut analyze) = installed("systemd-analyze") else { return };
    // The threshold is ten times what is printed.
    succeed(
        analyze
            .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
            .arg(root().join("deploy/sekali.service")),
    );
}

#[test]
fn the_calls_that_the_unit_allows_are_enough_to_store_seal_and_stop() {
    if installed("systemd-analyze").is_none() || installed("python3").is_none() {
        return;
    }
    let at = |path: &str| root().join(path).into_os_string();
    let mut service = Service::started(|start| {
        let under = vec!["python3".into(), at("tests/deploy/sandbox.py"), at("deploy/sekali.service")];
        Start { under, ..start }
    });
    // Several generations, so that the work in the background is done too.
    let event = |id| {
        format!(r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"test"}}"#)
    };
    for first in (0..2_000).step_by(100) {
        let events: Vec<_> = (first..first + 100).map(event).collect();
        assert_eq!(service.post(&format!("[{}]", events.join(","))), 200);
    }
    assert_eq!(service.stored(), 2_000);
    assert_eq!(service.server.terminate(), Some(0), "{}", service.server.log());
}

#[test]
fn systemd_reads_the_unit_and_the_certificate_laid_over_it() {
    let Some(mut analyze) = installed("systemd-analyze") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Where this program is, in place of where a package has it; its manual pages are not installed.
    let unit = UNIT.replace("/usr/bin/sekali", env!("CARGO_BIN_EXE_sekali"));
    let unit: Vec<_> = unit.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    std::fs::write(at("sekali.service"), unit.join("\n")).unwrap();
    std::fs::create_dir(at("sekali.service.d")).unwrap();
    std::fs::copy(root().join("deploy/sekali-tls.conf"), at("sekali.service.d/tls.conf")).unwrap();
    let output = analyze.args(["verify", "--man=no"]).arg(at("sekali.service")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Faults of the machine's own units are told as well.
    let ours: Vec<_> =
        said.lines().filter(|line| line.contains("sekali") || line.contains("tls.conf")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn the_service_is_not_started_again_where_only_a_person_can_help() {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).unwrap();
    // The command line, the configuration, damage: docs/reference/command-line.md.
    assert_eq!(line.split(' ').collect::<Vec<_>>(), ["2", "3", "7"]);
}
