//! The unit of systemd, judged by systemd's own rules. Nothing is started.

use super::{installed, root, succeed};

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
