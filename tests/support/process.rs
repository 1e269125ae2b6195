//! A server process that is started, found and killed, and that never outlives its test.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::client::Client;
use super::door::Door;
use super::{postgres, until};

/// Lines of the server's log that are kept for a failure's message.
const LOG_LINES_KEPT: usize = 60;
/// Seconds until a started server must be ready, and a stopped one gone.
const READY_SECONDS: u64 = 60;

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Start {
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: String,
    pub workers: usize,
    pub generation_events: u64,
    pub generation_bytes: u64,
    /// Environment variables beside those of the test.
    pub env: Vec<(OsString, OsString)>,
    /// A program, with its arguments, that runs the server and becomes it.
    pub under: Vec<OsString>,
}

impl Start {
    /// One that rotates generations all the time.
    pub fn tiny_generations(data_dir: &Path) -> Self {
        let data_dir = data_dir.to_owned();
        Self {
            data_dir,
            listen: "127.0.0.1:0".to_owned(),
            workers: 2,
            generation_events: 300,
            generation_bytes: 65_536,
            env: Vec::new(),
            under: Vec::new(),
        }
    }

    /// Starts the process, and waits for nothing.
    pub fn spawn(&self) -> Server {
        let mut words = self.under.iter().cloned().chain([binary()]);
        let door = Door::lock(&self.data_dir);
        let has_configuration = self.env.iter().any(|(name, _)| name == "SEKALI_CONFIG");
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .args(["serve", "--listen", &self.listen, "--log-format", "json", "--data-dir"])
            .arg(&self.data_dir)
            .args(["--workers", &self.workers.to_string()])
            .args(["--generation-events", &self.generation_events.to_string()])
            .args(["--generation-bytes", &self.generation_bytes.to_string()])
            .args(postgres::instead_of(&self.data_dir, has_configuration))
            .args(door.iter().flat_map(Door::arguments))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("the server cannot be started: {e}"));
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, addr) = channel();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if let Some(addr) = address(&line) {
                        let _ = sender.send(addr);
                    }
                    let mut log = log.lock().unwrap();
                    if log.len() == LOG_LINES_KEPT {
                        log.pop_front();
                    }
                    log.push_back(line);
                }
            });
        }
        Server { child, log, addr, door }
    }

    /// Starts the process and waits until it listens, ready or not.
    ///
    /// # Errors
    /// A sentence with the end of the server's log.
    pub fn spawn_listening(&self) -> Result<(Server, SocketAddr), String> {
        let mut server = self.spawn();
        let addr = server.listening()?;
        Ok((server, addr))
    }

    /// Starts the process and waits until it is ready to serve.
    ///
    /// # Errors
    /// A sentence with the end of the server's log.
    pub fn ready(&self) -> Result<(Server, SocketAddr), String> {
        let (mut server, addr) = self.spawn_listening()?;
        let mut client = Client::new(addr);
        let ready = until(READY_SECONDS, || match client.get("/readyz") {
            Ok(answer) if answer.status == 200 => Some(true),
            _ => server.exited().then_some(false),
        });
        match ready {
            Some(true) => Ok((server, addr)),
            _ => Err(format!("the server did not get ready; its log:\n{}", server.log())),
        }
    }
}

/// The program.
pub fn binary() -> OsString {
    std::env::var_os("SEKALI_BIN")
        .unwrap_or_else(|| option_env!("CARGO_BIN_EXE_sekali").unwrap_or("sekali").into())
}

fn address(line: &str) -> Option<SocketAddr> {
    let start = line.find("\"addr\":\"")? + 8;
    let text = &line[start..];
    text[..text.find('"')?].parse().ok()
}

/// A field of a process's status, such as `VmHWM:` (most KiB of memory) or `Threads:`; `None` if
/// the process is gone.
pub fn status(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.split_whitespace().next()?.parse().ok()
}

/// A process of its own process group; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    addr: Receiver<SocketAddr>,
    door: Option<Door>,
}

impl Server {
    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A field of its status, see [`status`].
    pub fn status(&self, field: &str) -> u64 {
        status(self.pid(), field).unwrap_or_else(|| panic!("the process has no {field}"))
    }

    /// The address it listens on, once it says so; where it is locked, that of the relay to it.
    ///
    /// # Errors
    /// It ended, or time is over: a sentence with the end of its log.
    pub fn listening(&mut self) -> Result<SocketAddr, String> {
        let addr = self.addr.recv_timeout(Duration::from_secs(READY_SECONDS)).map_err(|e| {
            format!("the server does not listen ({e}; {:?}); its log:\n{}", self.wait(), self.log())
        })?;
        Ok(self.door.as_mut().map_or(addr, |door| door.open(addr)))
    }

    /// The variables with which commands come in where it is locked.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        self.door.iter().flat_map(Door::variables)
    }

    /// Waits for it to listen, at most `time`.
    pub fn listens_within(&self, time: Duration) -> bool {
        self.addr.recv_timeout(time).is_ok()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether it has ended.
    pub fn exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // Sent only before the process is reaped, so the id is still its own.
        kill_process(pid, signal).unwrap_or_else(|e| panic!("the signal was not sent: {e}"));
    }

    /// How it ended, once it has; `None` if it still runs after a minute.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        until(READY_SECONDS, || self.child.try_wait().ok().flatten())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// If it did not die of it.
    pub fn kill(&mut self) {
        assert!(!self.exited(), "the server ended before it was killed; its log:\n{}", self.log());
        self.signal(Signal::KILL);
        let status = self.wait();
        assert_eq!(status.and_then(|s| s.signal()), Some(9), "not killed: {status:?}\n{}", self.log());
    }

    /// SIGTERM, and its exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.is_some(), "the server did not stop; its log:\n{}", self.log());
        status.and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
