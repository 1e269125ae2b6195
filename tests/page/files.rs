//! The page's files: what they may do, what browsers are told about them, and their types.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

use super::browsing::modules;
use super::stream::Stream;
use crate::support::client::Client;
use crate::support::service::{Service, event};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn ask(service: &Service, path: &str, headers: &[(&str, &str)]) -> Response<ureq::Body> {
    let mut request = Request::get(format!("{}{path}", service.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let config = Agent::config_builder().http_status_as_error(false).build();
    Agent::from(config).run(request.body(()).unwrap()).unwrap()
}

/// A header of an answer.
fn header<'a>(answer: &'a Response<ureq::Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// The files that are served, with their texts.
fn files() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let served = entries.filter(|path| path.extension().is_some_and(|ending| ending != "json"));
    served
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn a_browser_gets_the_page_and_a_program_the_description() {
    let service = Service::new();
    for (accept, kind) in [
        (BROWSER, "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
    ] {
        let answer = ask(&service, "/", &[("accept", accept)]);
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-type")),
            (200, Some(kind)),
            "{accept}"
        );
    }
    let page = ask(&service, "/", &[("accept", BROWSER)]);
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let permissions = header(&page, "permissions-policy").unwrap();
    assert!(["camera=()", "geolocation=()", "microphone=()"].iter().all(|none| permissions.contains(none)));
    assert_eq!(header(&page, "cache-control"), Some("no-cache"));
    let mut known =
        ask(&service, "/", &[("accept", BROWSER), ("if-none-match", header(&page, "etag").unwrap())]);
    assert_eq!((known.status().as_u16(), known.body_mut().read_to_vec().unwrap().len()), (304, 0));
    assert_eq!(ask(&service, "/page/nothing.js", &[]).status(), 404);
}

#[test]
fn all_that_the_page_loads_is_there_and_packs_to_a_hundred_kilobytes() {
    let service = Service::new();
    let (mut packed, mut loaded) = (0, BTreeSet::new());
    for (name, text) in files() {
        let path = format!("/page/{name}");
        let mut answer = ask(&service, &path, &[("accept-encoding", "gzip")]);
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-encoding")),
            (200, Some("gzip")),
            "{path}"
        );
        packed += answer.body_mut().read_to_vec().unwrap().len();
        loaded.extend(
            text.split('"')
                .filter_map(|part| part.strip_prefix("./").or(part.strip_prefix("/page/")))
                .map(str::to_owned),
        );
    }
    assert!(packed < 100_000, "{packed} bytes");
    eprintln!("the page packs to {packed} bytes");
    let there: BTreeSet<String> =
        files().into_iter().map(|(name, _)| name).filter(|name| name != "index.html").collect();
    assert_eq!(loaded, there);
    // All at once, and not each when the one before has come.
    let first = std::fs::read_to_string(folder().join("index.html")).unwrap();
    for name in there {
        assert!(first.contains(&format!("\"/page/{name}\"")), "index.html does not load {name} ahead");
    }
}

#[test]
fn text_is_never_read_as_html_and_nothing_comes_from_elsewhere() {
    for (name, text) in files() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "eval(",
            "new Function",
            "srcdoc",
            "\"style\"",
            "javascript:",
        ] {
            assert!(!text.contains(word), "{name} has {word}");
        }
        let elsewhere: Vec<_> = text
            .split("http")
            .skip(1)
            .filter(|rest| rest.starts_with("://") || rest.starts_with("s://"))
            .collect();
        // Names of a kind of XML, which nobody asks for.
        assert!(elsewhere.iter().all(|rest| rest.starts_with("://www.w3.org/")), "{name}: {elsewhere:?}");
    }
}

#[test]
fn the_page_fits_the_openapi_document() {
    let compiler = modules().join(".bin/tsc");
    if !compiler.exists() {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "TypeScript is not installed: make tools");
        eprintln!("NOT RUN: TypeScript is not installed: make tools");
        return;
    }
    let service = Service::new();
    service.publish([event("t", "1", 1)]);
    service.make_consumer("late");
    let document = Client::new(service.addr).get("/openapi.json").unwrap().body;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("openapi.json"), document).unwrap();
    run(
        dir.path(),
        Command::new(modules().join(".bin/openapi-typescript")).args(["openapi.json", "-o", "openapi.d.ts"]),
    );
    std::fs::write(dir.path().join("live.ts"), typed(&messages(&service))).unwrap();
    // The same settings, with the types of this document.
    let settings = folder().join("tsconfig.json");
    let own = serde_json::json!({
        "extends": settings,
        "compilerOptions": { "paths": { "openapi": [dir.path().join("openapi.d.ts")] } },
        "include": [folder().join("*.js"), "live.ts"],
    });
    std::fs::write(dir.path().join("tsconfig.json"), own.to_string()).unwrap();
    run(dir.path(), Command::new(compiler).args(["-p", "tsconfig.json"]));
}

/// What `/live` sends until ten seconds are over and it was measured how far consumers are.
fn messages(service: &Service) -> Vec<(String, Value)> {
    let (mut stream, mut messages) = (Stream::open(service, None).unwrap(), Vec::new());
    let is_whole = |figures: &Value| !figures["ten"].is_null() && !figures["largest_lag"].is_null();
    while !messages.last().is_some_and(|(_, last)| is_whole(last)) {
        assert!(messages.len() < 60, "{messages:?}");
        messages.push(stream.next().unwrap());
    }
    messages
}

/// A module that fits the document only if each message does: none may lack a member or have one more.
fn typed(messages: &[(String, Value)]) -> String {
    let mut text = "import type { components } from \"openapi\";\n".to_owned();
    for (number, (kind, message)) in messages.iter().enumerate() {
        let schema = if kind == "window" { "Window" } else { "Figures" };
        text +=
            &format!("export const message{number}: components[\"schemas\"][\"{schema}\"] = {message};\n");
    }
    text
}

fn run(dir: &Path, command: &mut Command) {
    let output = command.current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success(), "{command:?}: {said}");
}
