//! Where a service listens: Unix sockets, an address for operators, sockets that systemd opens.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use super::peer::{Peer, SOON};
use super::served::{Running, get, has, sekali, short_dir};
use crate::support::until;

#[test]
fn a_unix_socket_is_served_has_its_mode_and_goes_with_the_service() {
    let (dir, socket) = short_dir();
    let listen = format!("unix:{}", socket.display());
    let arguments = ["--listen", &*listen, "--listen-mode", "0660"];
    let mut service = Running::serve(&mut sekali(), dir.path(), &arguments);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(get(&socket, "/stats").starts_with("HTTP/1.1 200 "));
    service.line("a connection by the Unix socket");
    let uid = format!("\"uid\":{},", rustix::process::getuid().as_raw());
    assert!(service.line("a connection by the Unix socket").contains(&uid));
    service.line(&format!("\"peer\":\"uid {}\"", rustix::process::getuid().as_raw()));
    if has(Path::new("curl")) {
        let curl = Command::new("curl")
            .args(["-s", "--json", r#"{"topic":"t","event_id":"1","timestamp":0,"source":"s"}"#])
            .arg("--unix-socket")
            .arg(&socket)
            .arg("http://localhost/publish")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&curl.stdout).contains("\"stored\""), "{curl:?}");
    }
    let health = sekali().arg("health").env("SEKALI_LISTEN", &listen).output().unwrap();
    assert_eq!(health.status.code(), Some(0), "{health:?}");
    let (other, _) = short_dir();
    let second =
        sekali().args(["serve", "--listen", &*listen, "--data-dir"]).arg(other.path().join("data")).output();
    let second = second.unwrap();
    assert_eq!(second.status.code(), Some(6), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process does"), "{second:?}");
    assert!(get(&socket, "/healthz").starts_with("HTTP/1.1 200 "), "the second one has taken the socket");
    assert_eq!(service.end(Signal::TERM), Some(0));
    assert!(!socket.exists());
    let health = sekali().arg("health").env("SEKALI_LISTEN", &listen).output().unwrap();
    assert_eq!(health.status.code(), Some(1), "{health:?}");
}

#[test]
fn a_socket_of_a_killed_process_is_replaced_and_no_other_file_is() {
    let (dir, socket) = short_dir();
    let listen = format!("unix:{}", socket.display());
    let mut killed = Running::serve(&mut sekali(), dir.path(), &["--listen", &listen]);
    killed.end(Signal::KILL);
    assert!(socket.exists());
    let mut service = Running::serve(&mut sekali(), dir.path(), &["--listen", &listen]);
    assert!(get(&socket, "/healthz").starts_with("HTTP/1.1 200 "));
    assert_eq!(service.end(Signal::TERM), Some(0));
    std::fs::write(&socket, "somebody's").unwrap();
    let refused =
        sekali().args(["serve", "--listen", &*listen, "--data-dir"]).arg(dir.path().join("data")).output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert_eq!(std::fs::read(&socket).unwrap(), b"somebody's");
}

#[test]
fn operators_have_metrics_to_themselves_and_are_answered_while_all_places_are_taken() {
    let (dir, _) = short_dir();
    let arguments = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--connections-max", "8"];
    let service = Running::serve(&mut sekali(), dir.path(), &arguments);
    let (main, ops) = (service.addr("addr"), service.addr("ops_addr"));
    for (path, at_main, at_ops) in [
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/metrics", 404, 200),
        ("/stats", 200, 404),
        ("/", 200, 404),
    ] {
        assert_eq!(Peer::new(main).get(path).status, at_main, "{path}");
        assert_eq!(Peer::new(ops).get(path).status, at_ops, "{path} for operators");
    }
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    let _busy: Vec<_> = (0..40).map(|_| Peer::sending(main, head)).collect();
    for _ in 0..100 {
        assert_eq!(Peer::new(ops).get("/metrics").status, 200);
    }
}

/// Opens sockets as systemd does, and becomes the program that it is given.
const ACTIVATE: &str = "
import os, socket, sys
count = int(sys.argv[1])
sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
kept = [os.dup(own.fileno()) for own in sockets]
for at, own in enumerate(kept):
    os.dup2(own, 3 + at, inheritable=True)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
";

#[test]
fn sockets_that_systemd_opens_are_served() {
    if !has(Path::new("python3")) {
        return;
    }
    let activated = |count: &str, names: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", ACTIVATE, count, names, env!("CARGO_BIN_EXE_sekali")]);
        command
    };
    let (dir, _) = short_dir();
    // What is configured does not count.
    let mut service =
        Running::serve(&mut activated("2", "web:ops"), dir.path(), &["--listen", "127.0.0.1:1"]);
    assert_eq!(Peer::new(service.addr("addr")).get("/stats").status, 200);
    assert_eq!(Peer::new(service.addr("ops_addr")).get("/metrics").status, 200);
    assert_eq!(service.end(Signal::TERM), Some(0));
    // One that is configured and not passed is listened at: the metrics must not be elsewhere.
    let mut service =
        Running::serve(&mut activated("1", "web"), dir.path(), &["--ops-listen", "127.0.0.1:0"]);
    assert_eq!(Peer::new(service.addr("addr")).get("/metrics").status, 404);
    assert_eq!(Peer::new(service.addr("ops_addr")).get("/metrics").status, 200);
    assert_eq!(service.end(Signal::TERM), Some(0));
    let mut two = activated("2", "a:b");
    let refused = two.args(["serve", "--data-dir"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("several sockets"), "{refused:?}");
}

/// What a service tells systemd, one state a line.
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// Listens at a socket. It is always read, as systemd does: a full queue would hold the service up.
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut message = [0; 100];
            while let Ok(length) = socket.recv(&mut message) {
                let message = String::from_utf8_lossy(&message[..length]).into_owned();
                heard.lock().unwrap().extend(message.lines().map(str::to_owned));
            }
        });
        Self(told)
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until it has said something so often.
    fn said(&self, wanted: &str, count: usize) {
        let heard = || (self.all().iter().filter(|said| *said == wanted).count() >= count).then_some(());
        assert!(until(SOON, heard).is_some(), "{wanted}: {:?}", self.all());
    }
}

#[test]
fn systemd_is_told_when_the_service_is_ready_lives_and_stops() {
    let (dir, _) = short_dir();
    let path = dir.path().join("notify");
    let told = Told::at(&path);
    let mut command = sekali();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut service = Running::serve(&mut command, dir.path(), &["--listen", "127.0.0.1:0"]);
    told.said("READY=1", 1);
    assert_eq!(Peer::new(service.addr("addr")).get("/readyz").status, 200);
    told.said("WATCHDOG=1", 3);
    assert_eq!(service.end(Signal::TERM), Some(0));
    told.said("STOPPING=1", 1);
    assert_eq!(told.all()[0], "READY=1");
}

#[test]
fn systemd_is_told_of_a_reload_and_then_of_its_end_when_all_is_read() {
    let (dir, _) = short_dir();
    let (path, tokens) = (dir.path().join("notify"), dir.path().join("tokens.toml"));
    let make = || {
        let made = sekali()
            .args(["token", "create", "--name", "test", "--allow", "admin", "--tokens-file"])
            .arg(&tokens)
            .output()
            .unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    make();
    let told = Told::at(&path);
    let mut command = sekali();
    command.env("NOTIFY_SOCKET", &path).env("SEKALI_TOKENS_FILE", &tokens);
    let mut service = Running::serve(&mut command, dir.path(), &["--listen", "127.0.0.1:0"]);
    told.said("READY=1", 1);
    let addr = service.addr("addr");
    for turn in 2..6 {
        let token = make();
        service.signal(Signal::HUP);
        told.said("READY=1", turn);
        // What was there before the signal counts once the reload is over.
        let request = format!("GET /stats HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n\r\n");
        assert_eq!(Peer::sending(addr, request).answer().status, 200, "{turn}");
    }
    assert_eq!(service.end(Signal::TERM), Some(0));
    told.said("STOPPING=1", 1);
    let all = told.all();
    let reload = ["RELOADING=1", "MONOTONIC_USEC=", "READY=1"];
    let expected = [&["READY=1"][..], &reload.repeat(4), &["STOPPING=1"]].concat();
    assert_eq!(all.len(), expected.len(), "{all:?}");
    assert!(all.iter().zip(&expected).all(|(said, begin)| said.starts_with(begin)), "{all:?}");
    let times: Vec<u64> = all.iter().filter_map(|said| said.strip_prefix(reload[1])?.parse().ok()).collect();
    assert!(times.len() == 4 && times.is_sorted() && times[0] > 0, "{all:?}");
}
