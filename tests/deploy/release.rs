//! What a release is made by: its workflow runs nothing that somebody else can change, and the
//! source package has what a build needs and nothing else.

use std::process::Command;

use super::{DOCKERFILE, installed, root, succeed};
use crate::support::tools;

const WORKFLOW: &str = include_str!("../../.github/workflows/release.yml");
const MAKEFILE: &str = include_str!("../../Makefile");

#[test]
fn actions_of_the_release_are_pinned_to_commits() {
    let actions: Vec<_> = WORKFLOW.lines().filter_map(|line| line.trim().split_once("uses: ")).collect();
    assert!(actions.len() >= 3, "{actions:?}");
    for (_, action) in actions {
        let commit = action.split_once('@').map(|(_, version)| version.split(' ').next().unwrap());
        let is_commit =
            commit.is_some_and(|at| at.len() == 40 && at.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(is_commit, "{action} can be moved to another commit");
        assert!(action.contains(" # v"), "{action} does not say its version");
    }
}

#[test]
fn an_auditor_finds_no_hole_in_the_workflows() {
    let Some(mut auditor) = installed(tools().join("deploy/bin/zizmor")) else { return };
    succeed(auditor.args(["--offline", "--quiet"]).arg(root().join(".github/workflows")));
}

#[test]
fn image_and_packages_are_built_by_the_same_tools() {
    let line = MAKEFILE.lines().find_map(|line| line.strip_prefix("SHIPPERS = ")).unwrap();
    let auditable = line.split(' ').find(|tool| tool.starts_with("cargo-auditable@")).unwrap();
    assert!(DOCKERFILE.contains(&format!("cargo install --locked {auditable}\n")), "{auditable}");
    for argument in ["BUILD_IMAGE", "RUNTIME_IMAGE"] {
        assert!(DOCKERFILE.contains(&format!("FROM ${{{argument}}}")), "{argument}");
        assert!(WORKFLOW.contains(&format!("--build-arg \"{argument}=")), "the release pins {argument}");
    }
}

#[test]
fn the_source_package_has_what_a_build_needs_and_no_stray_file() {
    let list = succeed(
        Command::new(env!("CARGO"))
            .args(["package", "--list", "--allow-dirty", "--offline"])
            .current_dir(root()),
    );
    let files: Vec<_> = list.lines().collect();
    for needed in ["Cargo.lock", "src/main.rs", "src/http/openapi.json", "config.example.toml", "LICENSE-MIT"]
    {
        assert!(files.contains(&needed), "{needed}");
    }
    for stray in ["target/", "data/", ".github/", ".ci/", "deploy/secrets/"] {
        assert!(!files.iter().any(|file| file.starts_with(stray)), "{stray}");
    }
}
