//! Clusters of PostgreSQL that tests start, and that never outlive them.
//!
//! A guardian waits for the end of the test's process, however it ends; then it stops the cluster and
//! removes its files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::client::escape;
use super::until;

/// Settings of all clusters: many connections, and nothing that a test does not need.
const SETTINGS: &str = "
listen_addresses = ''
max_connections = 600
shared_buffers = 128MB
max_wal_size = 2GB
unix_socket_permissions = 0777
logging_collector = off
dynamic_shared_memory_type = mmap
";

/// A server of a cluster; stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    /// Its data, its socket and its log.
    dir: PathBuf,
    guardian: Child,
}

impl Postgres {
    /// A new cluster, which is ready.
    ///
    /// # Errors
    /// Why there can't be one on this machine.
    pub fn start() -> Result<Self, String> {
        Self::start_with("")
    }

    /// The same with further settings.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub fn start_with(settings: &str) -> Result<Self, String> {
        let cluster = Self::empty()?;
        let data = cluster.data();
        let made = cluster
            .program("initdb")?
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(&data)
            .output();
        let made = made.map_err(|e| format!("initdb can't be started: {e}"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        cluster.configure(settings);
        cluster.run();
        Ok(cluster)
    }

    /// A standby of another cluster, which knows it by this name.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub fn standby_of(primary: &Self, name: &str) -> Result<Self, String> {
        let cluster = Self::empty()?;
        let made = cluster
            .program("pg_basebackup")?
            .args(["-R", "-X", "stream", "-c", "fast", "-d", &primary.source(name), "-D"])
            .arg(cluster.data())
            .output()
            .map_err(|e| format!("pg_basebackup can't be started: {e}"))?;
        if !made.status.success() {
            return Err(format!("pg_basebackup: {}", String::from_utf8_lossy(&made.stderr)));
        }
        cluster.configure("");
        cluster.run();
        Ok(cluster)
    }

    /// How a standby of this name reaches it.
    fn source(&self, name: &str) -> String {
        format!("host={} user=postgres application_name={name}", self.dir.display())
    }

    /// Has a standby follow another primary.
    pub fn follow(&self, primary: &Self, name: &str) {
        self.follow_source(&primary.source(name));
    }

    /// Has a standby receive nothing more.
    pub fn follow_nobody(&self) {
        self.follow_source("");
    }

    fn follow_source(&self, source: &str) {
        let mut client = self.client("postgres");
        client.batch_execute(&format!("ALTER SYSTEM SET primary_conninfo = '{source}'")).unwrap();
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.client("postgres").batch_execute("SELECT pg_promote(true, 60)").unwrap();
    }

    /// How far a standby has received the log of its primary.
    pub fn received(&self) -> u64 {
        let query = "SELECT (pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint";
        let row = self.client("postgres").query_one(query, &[]).unwrap();
        row.get::<_, i64>(0).unsigned_abs()
    }

    /// Its folder, as a host of a URL.
    pub fn host(&self) -> String {
        escape(&self.dir.display().to_string())
    }

    /// A directory of its own with a guardian, and nothing else.
    fn empty() -> Result<Self, String> {
        let root =
            ["/dev/shm", "/tmp"].iter().map(Path::new).find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
        let dir =
            tempfile::Builder::new().prefix("sekali-pg-").tempdir_in(root).map_err(|e| e.to_string())?.keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((user, group)) = user()? {
            chown(&dir, Some(user), Some(group)).unwrap();
        }
        let stop = format!(
            "cat > /dev/null; for pid in $(head -qn1 {dir}/*/postmaster.pid 2> /dev/null); do kill -QUIT $pid; \
             while kill -0 $pid 2> /dev/null; do sleep 0.05; done; done; rm -rf {dir}",
            dir = dir.display()
        );
        let guardian = Command::new("sh")
            .args(["-c", &stop])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("sh can't be started: {e}"))?;
        Ok(Self { dir, guardian })
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A program of PostgreSQL, run by a user that it accepts.
    fn program(&self, name: &str) -> Result<Command, String> {
        let path = programs()?.join(name);
        let mut command = match user()? {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg(format!("--regid={group}"))
                    .arg("--clear-groups")
                    .arg(path);
                command
            }
            None => Command::new(path),
        };
        command.current_dir(&self.dir).stdin(Stdio::null());
        Ok(command)
    }

    fn configure(&self, settings: &str) {
        let mut file =
            std::fs::OpenOptions::new().append(true).open(self.data().join("postgresql.conf")).unwrap();
        write!(file, "{SETTINGS}\nunix_socket_directories = '{}'\n{settings}\n", self.dir.display()).unwrap();
    }

    /// Starts the server, which must not be running, and waits until it takes connections.
    pub fn run(&self) {
        let started = self
            .program("pg_ctl")
            .and_then(|mut program| {
                // Its log is no pipe, as the server would keep it open.
                let log = self.dir.join("log");
                program
                    .args(["start", "-w", "-t", "60", "-D"])
                    .arg(self.data())
                    .arg("-l")
                    .arg(log)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .map_err(|e| e.to_string())
            })
            .unwrap();
        assert!(started.success(), "the database does not start: {}", self.log());
    }

    /// Kills the whole server with SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        let pid = self.pid();
        let children = children(pid);
        for pid in std::iter::once(pid).chain(children.iter().copied()) {
            signal(pid, "KILL");
        }
        let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}/cwd")).exists() || is_zombie(*pid);
        let gone = until(30, || (is_gone(&pid) && children.iter().all(is_gone)).then_some(()));
        assert!(gone.is_some(), "the database is not gone");
        // Until the system has buried the process, another would take it for running.
        for file in [self.data().join("postmaster.pid"), self.dir.join(".s.PGSQL.5432.lock")] {
            std::fs::remove_file(file).unwrap();
        }
    }

    /// Kills a process that serves a connection, after which the server ends all others and recovers.
    pub fn crash(&self) {
        let mut client = self.client("postgres");
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        signal(pid.unsigned_abs(), "KILL");
    }

    /// Has the process stand still that takes connections, until what is returned is dropped.
    pub fn stand_still(&self) -> StandsStill {
        let pid = self.pid();
        signal(pid, "STOP");
        StandsStill(pid)
    }

    /// Whether the server was not killed.
    pub fn is_running(&self) -> bool {
        self.data().join("postmaster.pid").exists()
    }

    /// The process of the server.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Where its socket is.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    /// The URL of a database, over its socket.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.host())
    }

    /// A connection of the test itself.
    pub fn client(&self, database: &str) -> postgres::Client {
        let connected = until(30, || postgres::Client::connect(&self.url(database), postgres::NoTls).ok());
        connected.unwrap_or_else(|| panic!("the database takes no connections: {}", self.log()))
    }

    /// Makes an empty database.
    pub fn create(&self, database: &str) {
        let statement = format!("CREATE DATABASE {database} TEMPLATE template0");
        self.client("postgres").batch_execute(&statement).unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

/// A process that stands still.
#[derive(Debug)]
pub struct StandsStill(u32);

impl Drop for StandsStill {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

/// The processes whose parent is this one.
fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The folder of the newest PostgreSQL on this machine.
///
/// # Errors
/// There is none.
pub fn programs() -> Result<PathBuf, String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest =
        versions.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists()).max_by_key(number);
    newest.map(|path| path.join("bin")).ok_or_else(|| "PostgreSQL is not installed: make programs".to_owned())
}

/// The user and group that servers run as where the test is root, whom they refuse.
fn user() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .map(Some)
        .ok_or_else(|| "there is no user for PostgreSQL".to_owned())
}

/// Whether the suites are run against a store in a database: `SEKALI_TEST_STORE=postgres`.
pub fn is_asked_for() -> bool {
    match std::env::var("SEKALI_TEST_STORE").as_deref() {
        Err(_) | Ok("" | "local") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("SEKALI_TEST_STORE must be local or postgres, not {other:?}"),
    }
}

/// A configuration with a store in these databases, each with its slots, and with what else is set.
pub fn configuration(groups: &[(&str, String)], settings: &str) -> String {
    let group = |(slots, url): &(&str, String)| format!("[[group]]\nslots = {slots:?}\nstore = {url:?}\n");
    format!("{settings}\n{}", groups.iter().map(group).collect::<String>())
}

/// The arguments of a service with the databases that stand for a data directory, if the suites are run
/// against some: the cluster of this test process has two for each, which share the slots of a store. A
/// service with a configuration of its own has one: several can't be named by arguments.
pub fn instead_of(data_dir: &Path, has_configuration: bool) -> Vec<OsString> {
    static CLUSTER: OnceLock<Postgres> = OnceLock::new();
    static ARGUMENTS: Mutex<Option<HashMap<PathBuf, Vec<OsString>>>> = Mutex::new(None);
    if !is_asked_for() {
        return Vec::new();
    }
    let cluster = CLUSTER.get_or_init(|| Postgres::start().unwrap());
    let number = {
        let mut known = ARGUMENTS.lock().unwrap();
        let known = known.get_or_insert_default();
        if let Some(arguments) = known.get(data_dir).filter(|arguments| !arguments.is_empty()) {
            return arguments.clone();
        }
        let number = known.len();
        known.insert(data_dir.to_owned(), Vec::new());
        number
    };
    let arguments = match has_configuration {
        true => cluster.one_store(number),
        false => cluster.two_groups(number),
    };
    ARGUMENTS.lock().unwrap().get_or_insert_default().insert(data_dir.to_owned(), arguments.clone());
    arguments
}

impl Postgres {
    fn one_store(&self, number: usize) -> Vec<OsString> {
        let database = format!("t{number}");
        self.create(&database);
        let url = self.url(&database);
        ["--store", &url, "--store-durability", "local"].map(OsString::from).to_vec()
    }

    fn two_groups(&self, number: usize) -> Vec<OsString> {
        let file = self.dir.join(format!("store{number}.toml"));
        let groups = [("0-19,40-63", 'a'), ("20-39", 'b')].map(|(slots, letter)| {
            let database = format!("t{number}{letter}");
            self.create(&database);
            (slots, self.url(&database))
        });
        std::fs::write(&file, configuration(&groups, "store_durability = \"local\"")).unwrap();
        vec!["--config".into(), file.into_os_string()]
    }
}
