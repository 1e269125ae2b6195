//! The pages do what they say. Every snippet of README.md and of the pages below docs/ is run as it
//! is printed, in order, against a real server in place of the one on port 8080, and must succeed:
//!
//! | language | is run by |
//! |---|---|
//! | `sh` | bash |
//! | `python`, `js` | the Python and the Node of `make tools`, each as a file of its own |
//! | `toml` | `sekali config`, as a configuration file |
//! | `yaml` | promtool, as Prometheus' configuration |
//!
//! A block of `json` or `text` after it is what it prints, but for times, cursors and ids of
//! requests, and `…` for anything; a second one is what it prints when it is run once more. A
//! program that runs for ever is ended once it has printed that. A block without a language is a
//! picture. What a test can't run says so, `sh (not run: the reason)`, and is listed.
//!
//! Links between pages lead to a file and a heading that are there, the contents page names every
//! page, the reference has every setting, route and command, and tables of figures are what
//! `benches/tables.py` makes of the data.

mod links;
mod reference;

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::process::Start;
use crate::support::{promtool, tools, until};

/// Seconds that a snippet may take.
const SECONDS_MAX: u64 = 120;

struct Block {
    language: String,
    /// Why it is not run.
    note: Option<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let (language, note) = info.split_once(' ').unwrap_or((info, ""));
            let note = note.strip_prefix("(not run: ").and_then(|note| note.strip_suffix(')'));
            assert!(info == language || note.is_some_and(|note| !note.is_empty()), "what is ```{info}?");
            let note = note.map(str::to_owned);
            blocks.push(Block { language: language.to_owned(), note, text: text.join("\n") });
        }
    }
    blocks
}

/// A page that is tried, and the server that its snippets reach.
struct Page {
    name: String,
    dir: tempfile::TempDir,
    addr: SocketAddr,
}

impl Page {
    /// How a snippet is run; `None` if it can't be here, which is told.
    fn command(&self, language: &str, text: &str) -> Option<Command> {
        let file = |name: &str| -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let programs = Path::new(env!("CARGO_BIN_EXE_sekali")).parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = match language {
            "sh" => {
                let mut command = Command::new("bash");
                command.args(["-euo", "pipefail", "-c", text]);
                command
            }
            "python" => {
                let mut command = self.installed(&tools().join("python/bin/python"))?;
                command.arg(file("snippet.py"));
                command
            }
            "js" => {
                let modules = tools().join("node/node_modules");
                if !modules.exists() {
                    return self.installed(&modules);
                }
                // Modules are looked for beside the file.
                let _ = std::os::unix::fs::symlink(modules, self.dir.path().join("node_modules"));
                let mut command = self.installed(Path::new("node"))?;
                command.arg(file("snippet.mjs"));
                command
            }
            "toml" => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
                command.arg("config").arg("--config").arg(file("snippet.toml"));
                command
            }
            "yaml" => {
                let mut command = self.installed(&promtool())?;
                command.args(["check", "config"]).arg(file("snippet.yaml"));
                command
            }
            other => {
                panic!("{}: a block of {other} is neither run nor marked as not run:\n{text}", self.name)
            }
        };
        command
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("SEKALI_URL", format!("http://{}", self.addr))
            .env("SEKALI_LISTEN", self.addr.to_string())
            .stdin(Stdio::null());
        Some(command)
    }

    fn installed(&self, program: &Path) -> Option<Command> {
        let is_there =
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !is_there {
            assert!(
                std::env::var_os("SEKALI_TEST_ALL").is_none(),
                "{} is missing: make tools",
                program.display()
            );
            eprintln!("NOT RUN: {}: {} is missing: make tools", self.name, program.display());
        }
        is_there.then(|| Command::new(program))
    }

    /// Runs a snippet until it ends, or has printed what is shown; what it prints.
    fn run(&self, language: &str, text: &str, shown: Option<&str>) -> Option<String> {
        let addr = self.addr.to_string();
        let text = text.replace("127.0.0.1:8080", &addr).replace("localhost:8080", &addr);
        let mut command = self.command(language, &text)?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, failed) = (gathered(child.stdout.take().unwrap()), gathered(child.stderr.take().unwrap()));
        let ended = until(SECONDS_MAX, || {
            let has_shown = shown.is_some_and(|shown| fits(&plain(&said.text()), &plain(shown)));
            let status = child.try_wait().unwrap();
            (status.is_some() || (has_shown && language == "js")).then_some(status)
        });
        let status = match ended {
            Some(Some(status)) => Some(status),
            _ => {
                child.kill().and_then(|()| child.wait()).unwrap();
                None
            }
        };
        let (said, failed) = (said.whole(), failed.whole());
        let has_shown = ended.is_some_and(|status| status.is_none());
        let name = &self.name;
        assert!(
            has_shown || status.is_some_and(|status| status.success()),
            "{name}: {text}\n{said}\n{failed}"
        );
        Some(said)
    }
}

/// What a program prints, while it does.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

fn gathered(mut output: impl Read + Send + 'static) -> Gathered {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let gathering = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut some) {
            gathering.lock().unwrap().extend_from_slice(&some[..read]);
        }
    });
    Gathered { bytes, reader }
}

impl Gathered {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn whole(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
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

/// The database of an old service, which the pages take for granted.
fn make_aggregator(dir: &Path) {
    let schema =
        "CREATE TABLE processed_events (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, event_id TEXT,
           timestamp TEXT, source TEXT, payload TEXT, UNIQUE (topic, event_id));
         INSERT INTO processed_events (topic, event_id, timestamp, source, payload)
           VALUES ('orders.paid', 'old-1', '2025-10-20T10:00:00+00:00', 'checkout', '{}');";
    rusqlite::Connection::open(dir.join("aggregator.db")).unwrap().execute_batch(schema).unwrap();
}

/// Runs all that a page shows; how many snippets that were.
fn try_page(name: &str) -> u64 {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    make_aggregator(dir.path());
    let mut start = Start::tiny_generations(&dir.path().join("data"));
    // Pages that write it show what takes effect without a restart.
    let config = dir.path().join("sekali.toml");
    std::fs::write(&config, "").unwrap();
    start.env.push(("SEKALI_CONFIG".into(), config.into()));
    let (_server, addr) = start.ready().unwrap();
    let page = Page { name: name.to_owned(), dir, addr };
    let mut last: Option<(&Block, Option<String>)> = None;
    let mut ran = 0;
    let blocks = blocks(&text);
    for (at, block) in blocks.iter().enumerate() {
        let is_shown = |block: &&Block| ["json", "text"].contains(&block.language.as_str());
        if let Some(note) = &block.note {
            let first = block.text.lines().next().unwrap_or_default();
            eprintln!("NOT RUN: {name}: `{first}`: {note}");
            last = None;
        } else if is_shown(&block) {
            let Some((snippet, printed)) = &mut last else {
                let is_json = serde_json::from_str::<serde_json::Value>(&block.text).is_ok();
                assert!(block.language != "json" || is_json, "{name}: this is no JSON:\n{}", block.text);
                continue;
            };
            let again = || page.run(&snippet.language, &snippet.text, Some(&block.text));
            let Some(printed) = printed.take().or_else(again) else { continue };
            let (printed, shown) = (plain(&printed), plain(&block.text));
            assert!(fits(&printed, &shown), "{name}: {}\n{printed}\n{shown}", snippet.text);
        } else if !block.language.is_empty() {
            let shown = blocks.get(at + 1).filter(is_shown).map(|block| block.text.as_str());
            let printed = page.run(&block.language, &block.text, shown);
            ran += u64::from(printed.is_some());
            last = printed.map(|printed| (block, Some(printed)));
        }
    }
    ran
}

#[test]
fn every_page_does_what_it_says() {
    for program in ["bash", "curl", "gzip", "openssl", "zstd"] {
        let version = if program == "openssl" { "version" } else { "--version" };
        if Command::new(program).arg(version).output().is_err() {
            assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{program} is not installed");
            eprintln!("NOT RUN: {program} is not installed");
            return;
        }
    }
    assert!(try_page("README.md") > 0);
    let pages = pages("docs");
    assert!(pages.len() >= 20, "{pages:?}");
    for name in pages {
        let ran = try_page(&name);
        let shows_how = name.starts_with("docs/tutorial/") || name.starts_with("docs/how-to/");
        // What that page shows takes tools that may be missing.
        let may_show_nothing = !shows_how || name == "docs/how-to/connect-clients.md";
        assert!(ran > 0 || may_show_nothing, "{name} shows nothing that can be run");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages in a folder and the folders in it.
fn pages(folder: &str) -> Vec<String> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
        if root().join(&name).is_dir() {
            pages.append(&mut self::pages(&name));
        } else if name.ends_with(".md") {
            pages.push(name);
        }
    }
    pages.sort();
    pages
}

#[test]
fn a_snippet_is_run_or_says_why_it_is_not() {
    let read =
        |page: &str| blocks(page).into_iter().map(|block| (block.language, block.note)).collect::<Vec<_>>();
    let marked = read("```sh (not run: it takes days)\nsleep 1d\n```\n```\n+--+\n```\n```js\n1\n```");
    let note = Some("it takes days".to_owned());
    assert_eq!(marked, [("sh".into(), note), (String::new(), None), ("js".into(), None)]);
    for info in ["sh not run", "sh (not run: )", "python3 x"] {
        assert!(std::panic::catch_unwind(|| blocks(&format!("```{info}\n```"))).is_err(), "{info}");
    }
}
