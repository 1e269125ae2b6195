//! Has Python sign deliveries, and Node.js verify some, with the senders' own libraries.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Map, Value, json};

use super::{SECRET, URL, unix_now};
use crate::support::tools;

/// A delivery that is signed.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: String,
    pub(super) body: Vec<u8>,
}

impl Signed {
    /// A header's value.
    pub(super) fn header(&mut self, name: &str) -> &mut String {
        let found = self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &mut found.unwrap_or_else(|| panic!("there is no {name}")).1
    }
}

/// A process that signs.
pub(super) struct Signer {
    process: Child,
    answers: BufReader<ChildStdout>,
}

/// Whether senders' libraries are at `path`.
fn are_there(path: &Path) -> bool {
    let there = path.exists();
    if !there {
        assert!(
            std::env::var_os("SEKALI_TEST_ALL").is_none(),
            "senders' libraries are not installed: make tools"
        );
        eprintln!("NOT RUN: senders' libraries are not installed: make tools");
    }
    there
}

/// What the libraries of senders that verify only say of these, if they are there.
pub(super) fn verify(deliveries: &[(&str, &Signed)]) -> Option<Vec<bool>> {
    let folder = tools().join("senders");
    if !are_there(&folder.join("node_modules")) {
        return None;
    }
    // Evaluated there, so that the libraries are found.
    let mut process = Command::new("node")
        .args(["--input-type=module", "--eval", include_str!("verify.mjs")])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    for (sender, signed) in deliveries {
        let headers: Map<_, _> =
            signed.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let body = str::from_utf8(&signed.body).unwrap();
        writeln!(stdin, "{}", json!({"sender": sender, "secret": SECRET, "headers": headers, "body": body}))
            .unwrap();
    }
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(output.stdout.lines().map(|line| line.unwrap().parse().unwrap()).collect())
}

impl Signer {
    /// One, if the libraries are there.
    pub(super) fn start() -> Option<Self> {
        let python = tools().join("sources/bin/python");
        if !are_there(&python) {
            return None;
        }
        let mut process = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sources/sign.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, answers })
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.process.stdin.as_mut().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{request} was not signed"))
    }

    /// What the file of a sender's secret holds.
    pub(super) fn key(&mut self, sender: &str, secret: &str) -> String {
        let body = super::body(sender, "k");
        let answer = self.ask(
            &json!({"preset": sender, "secret": secret, "body": body, "time": 1, "id": "k", "url": URL}),
        );
        answer["key"].as_str().unwrap().to_owned()
    }

    /// A delivery that is signed now.
    pub(super) fn sign(&mut self, sender: &str, secret: &str, id: &str, body: &str) -> Signed {
        self.sign_at(sender, secret, id, body, unix_now())
    }

    /// A delivery that was signed then.
    pub(super) fn sign_at(&mut self, sender: &str, secret: &str, id: &str, body: &str, time: i64) -> Signed {
        let answer = self.ask(
            &json!({"preset": sender, "secret": secret, "body": body, "time": time, "id": id, "url": URL}),
        );
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = answer["headers"].as_object().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Signed { headers, query: text(&answer["query"]), body: text(&answer["body"]).into_bytes() }
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
