//! Manual pages and completions, as packages have them.

use std::path::Path;
use std::process::Command;

use super::{installed, succeed};

fn sekali() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sekali"))
}

fn pages(folder: &Path) -> Vec<std::path::PathBuf> {
    succeed(sekali().arg("man").arg(folder));
    let mut pages: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let help = succeed(sekali().arg("--help"));
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    // A description may go on in the next line.
    let names = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then_some(name)
    });
    let names: Vec<_> = names.collect();
    assert!(names.contains(&"serve"), "{names:?}");
    for name in &names {
        let page = folder.path().join(format!("sekali-{name}.1"));
        assert!(pages.contains(&page), "{name} has no page");
    }
    assert_eq!(pages.len(), names.len() + 1, "the program has a page, too");
}

#[test]
fn readers_of_manual_pages_find_no_fault_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let title = concat!("\n.TH sekali-serve 1 \"\" \"sekali ", env!("CARGO_PKG_VERSION"), "\"");
    let page = std::fs::read_to_string(folder.path().join("sekali-serve.1")).unwrap();
    assert!(page.contains(title), "{page}");
    if let Some(mut linter) = installed("mandoc") {
        succeed(linter.args(["-T", "lint", "-W", "error"]).args(&pages));
    }
    if let Some(mut man) = installed("man") {
        let output =
            man.args(["--warnings", "--local-file"]).args(&pages).env("PAGER", "cat").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn examples_of_a_manual_page_are_lines_as_in_the_help() {
    let Some(mut reader) = installed("mandoc") else { return };
    let folder = tempfile::tempdir().unwrap();
    pages(folder.path());
    let said = succeed(reader.args(["-T", "utf8", "-O", "width=120"]).arg(folder.path().join("sekali.1")));
    let line = said.lines().find(|line| line.trim_start().starts_with("sekali publish events.ndjson"));
    assert!(line.is_some_and(|line| line.ends_with("each event once")), "{said}");
}

#[test]
fn pages_go_to_a_folder_that_exists_or_the_command_says_why_not() {
    let output = sekali().args(["man", "/dev/null/man"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/null/man"), "{said}");
}

#[test]
fn completions_are_scripts_that_their_shell_reads() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("sekali.bash");
    std::fs::write(&script, succeed(sekali().args(["completions", "bash"]))).unwrap();
    succeed(Command::new("bash").arg("-n").arg(script));
}
