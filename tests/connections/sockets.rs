//! Where a service listens: Unix sockets, an address for operators, sockets that systemd opens.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::peer::{Peer, SOON};
use crate::served::{Running, get, has, sekali, short_dir};
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
    let mut two = activated("2", "a:b");
    let refused = two.args(["serve", "--data-dir"]).arg(dir.path().join("data")).output().unwrap();
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("several sockets"), "{refused:?}");
}

#[test]
fn systemd_is_told_when_the_service_is_ready_lives_and_stops() {
    let (dir, _) = short_dir();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    // Always read, as systemd does: a full queue would hold the service up.
    std::thread::spawn(move || {
        let mut message = [0; 100];
        while let Ok(length) = socket.recv(&mut message) {
            heard.lock().unwrap().push(String::from_utf8_lossy(&message[..length]).trim().to_owned());
        }
    });
    let said = |wanted: &str, count| {
        let heard =
            || (told.lock().unwrap().iter().filter(|said| *said == wanted).count() >= count).then_some(());
        assert!(until(SOON, heard).is_some(), "{wanted}: {:?}", told.lock().unwrap());
    };
    let mut command = sekali();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut service = Running::serve(&mut command, dir.path(), &["--listen", "127.0.0.1:0"]);
    said("READY=1", 1);
    assert_eq!(Peer::new(service.addr("addr")).get("/readyz").status, 200);
    said("WATCHDOG=1", 3);
    assert_eq!(service.end(Signal::TERM), Some(0));
    said("STOPPING=1", 1);
    assert_eq!(told.lock().unwrap()[0], "READY=1");
}
