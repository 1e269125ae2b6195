//! A process that serves, and asking it in ways that need its process: sockets, signals, proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::peer::SOON;
use crate::support::until;

/// `sekali`, without settings of this process' own environment.
pub fn sekali() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEKALI_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A process, and the lines that it has written to stderr; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// A service on a store in `dir`, which listens by these arguments. It begins within `command`.
    pub fn serve(command: &mut Command, dir: &Path, arguments: &[&str]) -> Self {
        command.args(["serve", "--log-format", "json", "--log", "debug", "--workers", "1", "--data-dir"]);
        let running = Self::start(command.arg(dir.join("data")).args(arguments));
        running.line("listening on ");
        running
    }

    /// The first line with this text, once it is there.
    pub fn line(&self, part: &str) -> String {
        let find = || self.lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned();
        until(SOON, find).unwrap_or_else(|| panic!("no {part:?} in {:#?}", self.lines.lock().unwrap()))
    }

    /// An address that the log tells as `field`.
    pub fn addr(&self, field: &str) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.line(&format!("\"{field}\":"))).unwrap();
        line[field].as_str().unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal; the exit code, if it ends by itself.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        until(SOON, || self.child.try_wait().unwrap()).unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program is there. If it is not, the test that needs it is listed as not run.
pub fn has(program: &Path) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok() || program.exists();
    if !is_there {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "{} is not installed", program.display());
        eprintln!("NOT RUN: {} is not installed", program.display());
    }
    is_there
}

/// A directory with a short name: the path of a Unix socket has little room.
pub fn short_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new().prefix("sk").tempdir_in("/tmp").unwrap();
    let socket = dir.path().join("sock");
    (dir, socket)
}

/// What the service at a Unix socket answers to a GET.
pub fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
