//! The command line as a client, from outside: the real program against a real server.

mod hostile;
mod lies;
mod newcomer;
mod proxy;
mod publish;
mod read;
mod schemas;
mod sqlite;
mod stopped;
mod terminal;
mod untouched;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::service::Service;
use serde_json::Value;

/// The program as a client of the service.
impl Service {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.args(arguments).env("SEKALI_URL", self.url()).envs(self.server.variables());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it with this on stdin.
    fn pipe(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended before it read all.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        child.wait_with_output().unwrap()
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn event(topic: &str, id: &str) -> String {
    crate::support::service::event(topic, id, r#"{"n":1}"#)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The totals that `--json` prints.
fn totals(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)))
}
