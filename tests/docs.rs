//! The pages do what they say. In README.md and docs/*.md every block of `sh` is run, in order, by a real shell against a
//! real server, in place of the one on port 8080, and must succeed. A block of `json` or `text` behind it is what it prints, but for times,
//! cursors and ids of requests, and `…` for anything; a second one is what it prints when it is run once more. Blocks of any other language, such
//! as `bash`, are not run: they load for long, or need what a test must not touch.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a surprise ends the test")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use support::process::Start;

struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language: language.to_owned(), text: text.join("\n") });
        }
    }
    blocks
}

/// Runs a script; what it prints.
fn run(script: &str, dir: &Path, addr: SocketAddr) -> String {
    let script =
        script.replace("127.0.0.1:8080", &addr.to_string()).replace("localhost:8080", &addr.to_string());
    let programs = Path::new(env!("CARGO_BIN_EXE_sekali")).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(dir)
        .env("PATH", path)
        .env("SEKALI_URL", format!("http://{addr}"))
        .env("SEKALI_LISTEN", addr.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{said}\n{failed}");
    said.into_owned()
}

/// Text without what differs from run to run.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.trim();
    while let Some((before, behind)) = rest.split_once("\":\"") {
        let name = before.rsplit('"').next().unwrap_or_default();
        plain.push_str(before);
        plain.push_str("\":\"");
        rest = behind;
        if ["first_seen", "received_at", "next_cursor", "request_id"].contains(&name) {
            rest = behind.split_once('"').map_or("", |(_, rest)| rest);
            plain.push_str("*\"");
        }
    }
    plain + rest
}

/// Whether this is what the page shows, in which `…` stands for anything.
fn fits(printed: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    for part in parts.clone() {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    parts.next_back().is_none_or(|last| printed.ends_with(last)) && (shown.contains('…') || rest.is_empty())
}

fn try_page(name: &str) {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_server, addr) = Start::tiny_generations(&dir.path().join("data")).ready().unwrap();
    let mut script: Option<(String, Option<String>)> = None;
    let mut ran = 0;
    for Block { language, text } in blocks(&page) {
        match language.as_str() {
            "sh" => {
                let printed = run(&text, dir.path(), addr);
                script = Some((text, Some(printed)));
                ran += 1;
            }
            "json" | "text" => {
                let Some((text_of_script, printed)) = &mut script else { continue };
                let printed = printed.take().unwrap_or_else(|| run(text_of_script, dir.path(), addr));
                let (printed, shown) = (plain(&printed), plain(&text));
                assert!(fits(&printed, &shown), "{name}: {text_of_script}\n{printed}\n{shown}");
            }
            _ => script = None,
        }
    }
    assert!(ran > 0 || name == "docs/clients.md", "{name} shows nothing that can be run");
}

#[test]
fn every_page_does_what_it_says() {
    for program in ["bash", "curl"] {
        if Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{program} is not installed");
            eprintln!("NOT RUN: {program} is not installed");
            return;
        }
    }
    try_page("README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    pages.retain(|page| page.to_string_lossy().ends_with(".md"));
    pages.sort();
    assert!(pages.len() >= 5, "{pages:?}");
    for page in pages {
        try_page(&format!("docs/{}", page.to_string_lossy()));
    }
}
