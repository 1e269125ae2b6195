//! The files people deploy with agree with the program, and what checks such files finds no fault:
//! each is read by the program that will read it, or run where that takes neither a daemon nor a
//! cluster. `make tools` installs those; what is not there is listed as not run.

mod chart;
mod compose;
mod image;
mod manual;
mod package;
mod release;
mod unit;
mod unsafe_code;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DOCKERFILE: &str = include_str!("../Dockerfile");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command of this program, if it is installed.
fn installed(program: impl AsRef<OsStr>) -> Option<Command> {
    let program = program.as_ref();
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        let program = program.display();
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{program} is not installed: make tools");
        eprintln!("NOT RUN: {program} is not installed: make tools");
    }
    is_there.then(|| Command::new(program))
}

/// Whether the test runs as root; if not, it is listed as not run.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "this test needs root");
        eprintln!("NOT RUN: this test needs root");
    }
    is_root
}

/// Runs a command, which must succeed; what it prints.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}\n{said}\n{}", String::from_utf8_lossy(&stderr));
    said
}

/// The JSON that a command prints, which must succeed.
fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command)).unwrap()
}

/// What the program takes for settings in this environment.
fn settings<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    json(Command::new(env!("CARGO_BIN_EXE_sekali")).args(["config", "--json"]).env_clear().envs(variables))
}

/// `NAME=value` pairs of the image's environment.
fn environment() -> Vec<(&'static str, &'static str)> {
    DOCKERFILE
        .split_whitespace()
        .filter(|word| word.starts_with("SEKALI_"))
        .filter_map(|word| word.split_once('='))
        .collect()
}

#[test]
fn the_image_sets_only_what_is_a_setting() {
    let pairs = environment();
    let settings = settings(pairs.clone());
    assert_eq!(pairs.len(), 2);
    for (name, value) in pairs {
        let key = name.trim_start_matches("SEKALI_").to_lowercase();
        assert_eq!(settings[&key]["value"], value, "{name}");
        assert_eq!(settings[&key]["origin"], format!("env {name}"));
    }
}

#[test]
fn the_image_is_built_by_the_oldest_compiler_that_is_promised() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let version = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(
        DOCKERFILE.contains(&format!("ARG BUILD_IMAGE=rust:{version}-")),
        "Dockerfile must build with Rust {version}"
    );
}

#[test]
fn the_image_is_built_without_the_files_of_tests() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let targets = ["test", "example"].iter().flat_map(|kind| manifest[*kind].as_array().unwrap());
    for target in targets {
        // Without a path cargo looks for the file even if it builds something else.
        assert!(target.get("path").is_some(), "{target} needs a path");
    }
}

#[test]
fn the_program_is_small_and_its_line_tables_are_kept_where_it_is_packed() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    assert_eq!(manifest["profile"]["release"]["strip"].as_str(), Some("debuginfo"));
    assert_eq!(manifest["profile"]["dist"]["strip"].as_str(), Some("none"));
    for file in [DOCKERFILE, include_str!("../Makefile")] {
        let at = |part: &str| file.find(part).unwrap_or_else(|| panic!("{part}"));
        let (built, kept) = (at("cargo auditable build"), at("objcopy --only-keep-debug"));
        assert!(built < kept && kept < at("objcopy --strip-debug --add-gnu-debuglink=sekali.debug"));
    }
}

#[test]
fn the_tools_of_the_tests_start_no_service() {
    let makefile = include_str!("../Makefile");
    let installed = makefile.lines().find(|line| line.contains("xfs_io:xfsprogs")).unwrap();
    assert!(!installed.contains("prometheus"), "Debian's package starts one: {installed}");
}

#[test]
fn the_image_runs_as_nobody_keeps_data_in_a_volume_and_checks_its_health() {
    for line in ["USER 65532:65532", "VOLUME /data", "STOPSIGNAL SIGTERM", "EXPOSE 8080"] {
        assert!(DOCKERFILE.lines().any(|found| found == line), "{line}");
    }
    assert!(DOCKERFILE.contains(r#"CMD ["/usr/local/bin/sekali", "health"]"#));
    assert_eq!(environment().first(), Some(&("SEKALI_DATA_DIR", "/data")));
}

#[test]
fn the_license_files_are_what_the_manifest_says() {
    assert!(include_str!("../Cargo.toml").contains(r#"license = "MIT OR Apache-2.0""#));
    assert!(include_str!("../LICENSE-MIT").starts_with("MIT License"));
    assert!(include_str!("../LICENSE-APACHE").contains("Apache License"));
}
