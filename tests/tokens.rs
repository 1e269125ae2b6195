//! Tokens from outside: who is let in, what each scope allows on each route, and what happens to
//! what is under way when a token ends. A real process, whose tokens file is written by the
//! program's own commands.

mod audit;
mod command;
mod ends;
mod scopes;
mod secrets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::client::{Client, Response};
use crate::support::service::Service;
use serde_json::Value;

/// The program, with nothing of this process's environment that it would take for a setting.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEKALI_") {
            command.env_remove(name);
        }
    }
    command
}

/// A service whose tokens file is made before it starts.
struct Guarded {
    service: Service,
    tokens_file: PathBuf,
}

impl Guarded {
    /// One with an admin token, which is returned.
    fn new() -> (Self, String) {
        Self::with(&[])
    }

    /// The same, with these variables.
    fn with(variables: &[(&str, &str)]) -> (Self, String) {
        let mut admin = String::new();
        let service = Service::started(|mut start| {
            let file = start.data_dir.with_file_name("tokens.toml");
            admin = made(&file, &["--name", "admin", "--allow", "admin"]);
            start.env.push(("SEKALI_TOKENS_FILE".into(), file.into()));
            start.env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
            start
        });
        let tokens_file = service.path("tokens.toml");
        (Self { service, tokens_file }, admin)
    }

    fn addr(&self) -> SocketAddr {
        self.service.addr
    }

    /// Makes a token, and waits until the service knows it.
    fn token(&self, scopes: &[&str]) -> String {
        let arguments: Vec<_> = scopes.iter().flat_map(|scope| ["--allow", scope]).collect();
        self.token_as(&arguments)
    }

    fn token_as(&self, arguments: &[&str]) -> String {
        let token = made(&self.tokens_file, &[&["--name", "test"], arguments].concat());
        let known = crate::support::until(10, || {
            (self.ask(Some(&token), "GET", "/stats").status != 401).then_some(())
        });
        assert!(known.is_some(), "the token is not known: {}", self.service.server.log());
        token
    }

    /// Sends a request without a body.
    fn ask(&self, token: Option<&str>, method: &str, path: &str) -> Response {
        self.send(token, method, path, "application/json", b"")
    }

    fn send(&self, token: Option<&str>, method: &str, path: &str, kind: &str, body: &[u8]) -> Response {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", kind)];
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        Client::new(self.addr()).send(method, path, &headers, body).unwrap()
    }

    fn publish(&self, token: &str, path: &str, body: &str) -> (u16, Value) {
        json(&self.send(Some(token), "POST", path, "application/json", body.as_bytes()))
    }

    fn get(&self, token: &str, path: &str) -> (u16, Value) {
        json(&self.ask(Some(token), "GET", path))
    }
}

fn json(answer: &Response) -> (u16, Value) {
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Runs `sekali token` on a tokens file.
fn token_command(file: &std::path::Path, arguments: &[&str]) -> Output {
    program().arg("token").args(arguments).arg("--tokens-file").arg(file).output().unwrap()
}

/// What a command prints that succeeds.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

/// A new token.
fn made(file: &std::path::Path, arguments: &[&str]) -> String {
    printed(&token_command(file, &[&["create"], arguments].concat()))
}

/// The public part of a token.
fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}
