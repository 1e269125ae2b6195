//! Behind the proxies that people use: nginx, which adds headers, and HAProxy, which sends PROXY
//! heads.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use sekali::http::Limits;

use super::peer::{Peer, calm, serve};
use super::quotas::{flood, is_refused, status};
use super::served::{Running, has, sekali, short_dir};
use crate::support::{tools, until};

/// A program that `make tools` takes out of its package.
fn program(name: &str) -> Option<PathBuf> {
    let path = tools().join("proxies/usr/sbin").join(name);
    has(&path).then_some(path)
}

/// An address that is free now.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts a proxy with this configuration, and waits until it takes connections.
fn start(program: &Path, dir: &Path, configuration: &str, addr: SocketAddr, arguments: &[&str]) -> Running {
    let file = dir.join("proxy.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", tools().join("proxies/usr/lib/x86_64-linux-gnu"));
    let running = Running::start(command.args(arguments).arg(&file));
    let up = until(20, || std::net::TcpStream::connect(addr).ok());
    assert!(up.is_some(), "{running:?}");
    running
}

/// A service that trusts proxies of this machine, and takes a request a second from each client.
fn behind_a_proxy(dir: &Path, more: &[&str]) -> Running {
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1"];
    arguments.extend(["--peer-requests-per-second", "1", "--insecure-no-auth"]);
    arguments.extend(more);
    Running::serve(&mut sekali(), dir, &arguments)
}

#[test]
fn clients_of_nginx_are_told_apart_whatever_they_send() {
    let Some(nginx) = program("nginx") else { return };
    let (dir, _) = short_dir();
    let service = behind_a_proxy(dir.path(), &[]);
    let (addr, own) = (free_addr(), dir.path().display());
    let configuration = format!(
        "daemon off; master_process off; pid {own}/pid; error_log stderr; events {{}}
        http {{
            access_log off; client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c;
            uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;
            server {{
                listen {addr};
                location / {{
                    proxy_pass http://{};
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header Forwarded \"\";
                }}
            }}
        }}",
        service.addr("addr")
    );
    let _nginx = start(&nginx, dir.path(), &configuration, addr, &["-e", "stderr", "-c"]);
    let lies = |number: usize| {
        format!("X-Forwarded-For: 198.51.100.{number}\r\nForwarded: for=198.51.100.{number}\r\n")
    };
    assert!(is_refused(&flood(addr, 5, lies)));
    assert_eq!(status(addr, 6, "X-Forwarded-For: 127.0.0.5"), 200);
    service.line("\"peer\":\"127.0.0.5\"");
    service.line("\"peer\":\"127.0.0.6\"");
}

#[test]
fn clients_of_haproxy_are_told_apart_by_proxy_heads() {
    let Some(haproxy) = program("haproxy") else { return };
    let (dir, _) = short_dir();
    let service = behind_a_proxy(dir.path(), &["--proxy-protocol", "--ops-listen", "127.0.0.1:0"]);
    let addr = free_addr();
    let configuration = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
        listen all\n bind {addr}\n server sekali {} send-proxy-v2\n",
        service.addr("addr")
    );
    let _haproxy = start(&haproxy, dir.path(), &configuration, addr, &["-db", "-f"]);
    assert!(is_refused(&flood(addr, 5, |_| "X-Forwarded-For: 198.51.100.1\r\n".to_owned())));
    assert_eq!(status(addr, 6, "X-Forwarded-For: 127.0.0.5"), 200);
    service.line("\"peer\":\"127.0.0.6\"");
    assert_eq!(Peer::new(service.addr("ops_addr")).get("/healthz").status, 200, "operators send no heads");
}

/// A PROXY head of version 2 for a client at 192.0.2.`host`.
fn head(command: u8, host: u8) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, 0x11, 0, 12, 192, 0, 2, host, 10, 0, 0, 7, 1, 0, 0, 80]].concat()
}

#[test]
fn a_client_of_a_balancer_that_keeps_most_connections_busy_gives_one_up_to_another_client() {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let addr = serve(Limits { connections_max: 6, trusted_proxies, has_proxy_heads: true, ..calm() });
    let body_to_come = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    let sending = |host, request: &[u8]| Peer::sending(addr, [&head(0x21, host)[..], request].concat());
    let greedy: Vec<_> = (0..6).map(|_| sending(1, body_to_come)).collect();
    let request = b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let served = until(20, || (sending(2, request).answer().status == 200).then_some(()));
    assert!(served.is_some(), "the other client is told the state of the service alone");
    assert!(until(20, || greedy.iter().any(Peer::is_ended).then_some(())).is_some());
    assert!(greedy.iter().filter(|peer| !peer.is_ended()).count() >= 3, "half of them stay");
}

#[test]
fn a_proxy_begins_with_a_head_and_others_say_nothing_at_all() {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let limits =
        Limits { trusted_proxies, has_proxy_heads: true, peer_requests_per_second: Some(1), ..calm() };
    let addr = serve(limits);
    let request = "GET /stats HTTP/1.1\r\nHost: 10.0.0.7\r\n\r\n";
    for (command, host) in [(0x21, 1), (0x21, 2)] {
        let mut peer = Peer::sending(addr, [&head(command, host)[..], request.as_bytes()].concat());
        assert_eq!(peer.answer().status, 200, "client {host}");
    }
    let own = "GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut local = Peer::sending(addr, [&head(0x20, 3)[..], own.as_bytes()].concat());
    assert_eq!(local.answer().status, 200, "a check of the balancer's own");
    // Byte by byte.
    let mut slow = Peer::new(addr);
    for byte in [&head(0x21, 4)[..], own.as_bytes()].concat() {
        slow.send([byte]);
    }
    assert_eq!(slow.answer().status, 200);
    // The rate of the client counts, on whichever connection.
    let pipelined = [&head(0x21, 5)[..], own.repeat(30).as_bytes()].concat();
    let mut many = Peer::sending(addr, pipelined);
    many.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_refused(&String::from_utf8(many.rest()).unwrap()));
    assert!(Peer::sending(addr, own).rest().is_empty(), "a proxy without a head");
    for end in [1, 11, 12, 15, 16, 27] {
        let mut cut = Peer::sending(addr, &head(0x21, 6)[..end]);
        cut.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(cut.rest().is_empty(), "cut after {end} bytes");
    }
    let mut foreign = Peer::from(9, addr);
    let _ = std::io::Write::write_all(&mut foreign.0, &[&head(0x21, 7)[..], own.as_bytes()].concat());
    assert!(foreign.rest().is_empty(), "whoever is no proxy");
}
