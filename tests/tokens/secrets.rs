//! What must stay secret is planted wherever a client can put it, and looked for wherever others
//! can read: the log at its most talkative, figures, refusals, the process's arguments and variables.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use sekali::auth::token::Token;

use super::{made, program};
use crate::support::client::Client;
use crate::support::service::event;
use crate::support::until;

/// What events carry.
const PAYLOAD: &str = "planted-payload-1f0c";

struct Talkative {
    process: Child,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Talkative {
    fn new(admin: &mut String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        *admin = made(&dir.path().join("tokens.toml"), &["--name", "admin", "--allow", "admin"]);
        let process = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--log", "trace"])
            .arg("--data-dir")
            .arg(data)
            .arg("--tokens-file")
            .arg(dir.path().join("tokens.toml"))
            .stderr(Stdio::from(File::create(&log).unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let listening = || {
            let text = std::fs::read_to_string(&log).unwrap();
            let (_, rest) = text.split_once("listening on http://")?;
            rest.split('"').next()?.parse().ok()
        };
        let addr = until(60, listening).expect("it listens");
        Self { process, addr, dir }
    }

    fn read(&self, file: &str) -> String {
        let bytes = std::fs::read(format!("/proc/{}/{file}", self.process.id())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn nothing_secret_is_told_to_anybody() {
    let mut admin = String::new();
    let service = Talkative::new(&mut admin);
    let reader = made(&service.dir.path().join("tokens.toml"), &["--name", "reader", "--allow", "read:a"]);
    let unknown = Token::generate().unwrap();
    let mut told = Vec::new();
    let mut ask = |method: &str, path: &str, token: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = Client::new(service.addr).send(method, path, &headers, body.as_bytes());
        // A head that can't be read may be answered by the end of the connection.
        let Ok(answer) = answer else { return 0 };
        if answer.status >= 400 || path == "/metrics" {
            told.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
        answer.status
    };
    let payload = format!("\"{PAYLOAD}\"");
    let known = until(10, || (ask("GET", "/stats", &reader, "") == 200).then_some(()));
    assert!(known.is_some());
    assert_eq!(ask("POST", "/publish", &admin, &event("a", "1", &payload)), 200);
    assert_eq!(
        ask("POST", "/publish?on_conflict=reject", &admin, &event("a", "1", format!("[{payload}]"))),
        409
    );
    assert_eq!(ask("POST", "/publish", &reader, &event("a", "2", &payload)), 403);
    for token in
        [unknown.reveal(), &admin[..admin.len() - 1], &format!("{admin} {admin}"), &admin.repeat(300)]
    {
        for path in ["/publish", "/metrics", "/nowhere"] {
            assert_ne!(ask("POST", path, token, &event("a", "3", &payload)), 200);
        }
    }
    for body in [
        payload.as_str(),
        &format!("{{{payload}:{payload}}}"),
        &format!("{payload}}}"),
        &format!("[{payload}"),
    ] {
        assert_ne!(ask("POST", "/publish", &admin, body), 200);
    }
    let in_topic = event(PAYLOAD, "1", 1).replace("\"event_id\":\"1\"", "\"event_id\":\"\"");
    assert_eq!(ask("POST", "/publish", &admin, &in_topic), 422);
    assert_ne!(ask("GET", &format!("/events?cursor={PAYLOAD}"), &admin, ""), 200);
    assert_ne!(ask("GET", &format!("/events?limit={PAYLOAD}"), &admin, ""), 200);
    assert_eq!(ask("GET", "/metrics", &admin, ""), 200);

    let limits = service.read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "no core is left: {core}");

    let log = std::fs::read_to_string(service.dir.path().join("log")).unwrap();
    assert!(
        log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""),
        "the log is talkative"
    );
    let secret = |token: &str| token[18..].to_owned();
    let secrets = [PAYLOAD.to_owned(), secret(&admin), secret(&reader), secret(unknown.reveal())];
    let file = std::fs::read_to_string(service.dir.path().join("tokens.toml")).unwrap();
    for secret in &secrets {
        for (place, text) in [
            ("the log", log.clone()),
            ("answers", told.join("\n")),
            ("arguments", service.read("cmdline")),
            ("variables", service.read("environ")),
            ("the tokens file", file.clone()),
        ] {
            let at = text.find(secret.as_str());
            assert!(
                at.is_none(),
                "{place}: {:?}",
                at.map(|at| &text[at.saturating_sub(300)..at + secret.len()])
            );
        }
    }
}
