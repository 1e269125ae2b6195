//! Three machines with PostgreSQL under Patroni, each in a network namespace of its own.
//!
//! ```text
//!  clients' network 10.77.0.0/24      the cluster's network 10.78.0.0/24
//!   test, nodes of sekali: .254        etcd, Patroni, replication
//!        └──── .1 ─┬─ .2 ─┬─ .3             .1 ─┴─ .2 ─┴─ .3
//! ```
//! A test of it runs in namespaces too, in a process of its own: whatever it starts ends with it, and this
//! machine's network is not touched.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use super::{postgres, tools, until};

/// The variable that names the folder of a test which runs in its own namespaces.
const ISOLATED: &str = "SEKALI_TEST_ISOLATED";
/// What the test leaves there when it begins.
const BEGUN: &str = "begun";
/// How Patroni is set: what `docs/how-to/postgresql.md` asks for, and the shortest times that it allows.
const CONFIGURATION: &str = r#"
scope: events
name: n{n}
restapi: {listen: 10.78.0.{n}:8008, connect_address: 10.78.0.{n}:8008}
etcd3: {hosts: "10.78.0.1:2379,10.78.0.2:2379,10.78.0.3:2379"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    synchronous_mode: quorum
    synchronous_mode_strict: true
    synchronous_node_count: 1
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 300, shared_buffers: 64MB, wal_log_hints: "on", dynamic_shared_memory_type: mmap}
  initdb: [{encoding: UTF8}, {locale: C}, no-sync]
postgresql:
  listen: "10.77.0.{n},10.78.0.{n}:5432"
  connect_address: 10.78.0.{n}:5432
  data_dir: {dir}/data
  pgpass: {dir}/pgpass
  bin_dir: {programs}
  authentication: {superuser: {username: postgres}, replication: {username: postgres}, rewind: {username: postgres}}
  parameters: {unix_socket_directories: "{dir}"}
  pg_hba: ["local all all trust", "host all all 0.0.0.0/0 trust", "host replication all 0.0.0.0/0 trust"]
"#;

/// Runs this test again in namespaces of its own, where it gets a folder; `None` to the caller outside, once
/// that is done.
///
/// # Panics
/// If the test fails there.
pub fn isolated(test: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(ISOLATED).map(PathBuf::from) {
        std::fs::write(dir.join(BEGUN), "").unwrap();
        return Some(dir);
    }
    if let Err(why) = programs() {
        eprintln!("NOT RUN: {test}: {why}");
        assert_ne!(std::env::var("SEKALI_TEST_ALL").as_deref(), Ok("1"), "a test could not be run");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("sekali-patroni-").tempdir().unwrap();
    let done = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        // The first process of a namespace buries all that end in it.
        .args(["sh", "-c", r#""$0" "$@"; exit $?"#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ISOLATED, dir.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success(), "{test} failed in its namespaces");
    // A name that no test has is no failure of the program.
    assert!(dir.path().join(BEGUN).exists(), "there is no test {test}");
    None
}

/// Patroni, etcd and the folder of PostgreSQL.
fn programs() -> Result<[PathBuf; 3], String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    let programs =
        [tools().join("patroni/bin/patroni"), tools().join("etcd/usr/bin/etcd"), postgres::programs()?];
    if let Some(missing) = programs.iter().find(|path| !path.exists()) {
        return Err(format!("{} is not there: make tools", missing.display()));
    }
    Ok(programs)
}

fn run(words: &str) {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One machine.
#[derive(Debug)]
pub struct Machine {
    /// From 1.
    pub number: usize,
    dir: PathBuf,
    /// What keeps its namespace.
    holder: Child,
    /// What was started there, and not waited for yet.
    started: Mutex<Vec<Child>>,
}

impl Machine {
    fn new(number: usize, dir: &Path) -> Self {
        let dir = dir.join(format!("n{number}"));
        std::fs::create_dir(&dir).unwrap();
        let holder = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().unwrap();
        let machine = Self { number, dir, holder, started: Mutex::default() };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let is_apart = || machine.namespace().filter(|namespace| *namespace != own);
        until(10, is_apart).expect("a network namespace is made");
        let pid = machine.holder.id();
        for net in [77, 78] {
            run(&format!("ip link add v{net}.{number} type veth peer name e{net} netns {pid}"));
            run(&format!("ip link set v{net}.{number} master br{net} up"));
            run(&format!("nsenter -t {pid} -n ip addr add 10.{net}.0.{number}/24 dev e{net}"));
            run(&format!("nsenter -t {pid} -n ip link set e{net} up"));
        }
        run(&format!("nsenter -t {pid} -n ip link set lo up"));
        machine
    }

    fn namespace(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/ns/net", self.holder.id())).ok()
    }

    /// Starts a program there, as a user that is not root to it, which PostgreSQL asks for.
    fn start(&self, name: &str, program: &Path, arguments: &[String]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{name}.log")))
            .unwrap();
        let started = Command::new("nsenter")
            .args(["-t", &self.holder.id().to_string(), "-n"])
            .args(["unshare", "--user", "--map-user=1000", "--map-group=1000"])
            .arg(program)
            .args(arguments)
            .env("HOME", &self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.started.lock().unwrap().push(started);
    }

    /// Starts etcd and Patroni, which starts PostgreSQL.
    pub fn run(&self) {
        let [patroni, etcd, postgres] = programs().unwrap();
        let (n, dir) = (self.number, self.dir.display());
        let peers: Vec<String> = (1..=3).map(|n| format!("n{n}=http://10.78.0.{n}:2380")).collect();
        let flags = format!(
            "--name n{n} --data-dir {dir}/etcd --initial-cluster {} --initial-cluster-state new \
             --initial-advertise-peer-urls http://10.78.0.{n}:2380 --listen-peer-urls http://10.78.0.{n}:2380 \
             --listen-client-urls http://10.78.0.{n}:2379 --advertise-client-urls http://10.78.0.{n}:2379 \
             --heartbeat-interval 200 --election-timeout 2000",
            peers.join(",")
        );
        self.start("etcd", &etcd, &flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let configuration = CONFIGURATION
            .replace("{n}", &n.to_string())
            .replace("{dir}", &dir.to_string())
            .replace("{programs}", &postgres.display().to_string());
        let path = self.dir.join("patroni.yml");
        std::fs::write(&path, configuration).unwrap();
        self.start("patroni", &patroni, &[path.display().to_string()]);
    }

    /// The processes there of this name; all for an empty one.
    fn processes(&self, name: &str) -> Vec<u32> {
        let namespace = self.namespace();
        let is_there = |pid: &u32| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let comm = std::fs::read_to_string(proc.join("comm")).unwrap_or_default();
            *pid != self.holder.id()
                && std::fs::read_link(proc.join("ns/net")).ok() == namespace
                && (name.is_empty() || comm.trim() == name)
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_there).collect()
    }

    /// Sends a signal to the processes of this name, all for an empty one; how many there were.
    pub fn signal(&self, name: &str, signal: &str) -> usize {
        let pids = self.processes(name);
        for pid in &pids {
            let _ = Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(pid.to_string())
                .stderr(Stdio::null())
                .status();
        }
        pids.len()
    }

    /// Ends all that runs there, as the loss of its power would.
    pub fn kill(&self) {
        let gone = until(30, || (self.signal("", "KILL") == 0).then_some(()));
        assert!(gone.is_some(), "machine {} does not end", self.number);
        self.started.lock().unwrap().drain(..).for_each(|mut started| drop(started.wait()));
        // Its number may be another process's already, which Patroni would take for the server.
        let _ = std::fs::remove_file(self.dir.join("data/postmaster.pid"));
    }

    /// Cuts it off from one network, or connects it again.
    pub fn link(&self, network: u8, is_up: bool) {
        run(&format!("ip link set v{network}.{} {}", self.number, if is_up { "up" } else { "down" }));
    }

    /// The end of its logs.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("patroni.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// The three.
#[derive(Debug)]
pub struct Machines(pub [Machine; 3]);

impl Machines {
    /// Starts them, and waits until two standbys follow a primary.
    pub fn start(dir: &Path) -> Self {
        run("ip link set lo up");
        for net in [77, 78] {
            run(&format!("ip link add br{net} type bridge"));
            run(&format!("ip link set br{net} up"));
            run(&format!("ip addr add 10.{net}.0.254/24 dev br{net}"));
        }
        let machines = Self([1, 2, 3].map(|number| Machine::new(number, dir)));
        machines.0.iter().for_each(Machine::run);
        machines.whole();
        machines
    }

    /// What the first Patroni that answers says of the members.
    fn members(&self) -> Option<Vec<Value>> {
        self.0.iter().find_map(|machine| {
            let cluster = asked(&format!("10.78.0.{}:8008", machine.number)).ok()?;
            cluster["members"].as_array().cloned()
        })
    }

    fn in_role(&self, role: &str) -> Vec<usize> {
        let members = self.members().unwrap_or_default();
        let number = |member: &Value| member["name"].as_str()?.trim_start_matches('n').parse().ok();
        let is_meant = |member: &&Value| {
            member["role"] == role
                && ["running", "streaming"].contains(&member["state"].as_str().unwrap_or_default())
        };
        members.iter().filter(is_meant).filter_map(number).collect()
    }

    /// Waits until a primary has two standbys that commits may wait for.
    ///
    /// # Panics
    /// If that takes more than three minutes.
    pub fn whole(&self) {
        let is_whole =
            || (self.in_role("leader").len() == 1 && self.in_role("quorum_standby").len() == 2).then_some(());
        assert!(
            slowly(180, is_whole).is_some(),
            "the cluster is not whole: {:?}\n{}",
            self.members(),
            self.logs()
        );
    }

    /// The machine with the primary.
    ///
    /// # Panics
    /// If there is none within two minutes.
    pub fn primary(&self) -> &Machine {
        let number = slowly(120, || self.in_role("leader").first().copied());
        let number = number.unwrap_or_else(|| panic!("no primary: {}", self.logs()));
        &self.0[number - 1]
    }

    /// The URL of a database that names all three.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@10.77.0.1,10.77.0.2,10.77.0.3/{database}")
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        self.0.iter().map(|machine| format!("n{}:\n{}\n", machine.number, machine.log())).collect()
    }
}

/// What Patroni at this address says of its cluster; a stopped one says nothing, and is not waited for.
fn asked(addr: &str) -> std::io::Result<Value> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&addr.parse().unwrap(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /cluster HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(serde_json::from_str(answer.split_once("\r\n\r\n").unwrap_or_default().1)?)
}

/// Like [`until`], for what takes seconds and costs requests.
pub fn slowly<T>(seconds: u64, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    until(seconds, || {
        let value = ready();
        if value.is_none() {
            sekali::sync::park_timeout(Duration::from_millis(300));
        }
        value
    })
}
