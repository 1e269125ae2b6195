//! Proxies: which variable counts, and what is reached without one.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::text;
use crate::support::service::Service;

/// Notes the first line of each request, and ends the connection.
fn proxy() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(client).read_line(&mut line);
            let _ = sender.send(line.trim_end().to_owned());
        }
    });
    (url, lines)
}

/// The variables that name proxies, or what needs none.
const VARIABLES: [&str; 8] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

fn sekali(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env_remove("SEKALI_URL").env_remove("SEKALI_LISTEN");
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_service_on_this_machine_is_never_reached_through_a_proxy() {
    let service = Service::new();
    let (url, asked) = proxy();
    let all: Vec<_> = VARIABLES[..6].iter().map(|name| (*name, url.as_str())).collect();
    let port = service.addr.port();
    for target in [
        service.url(),
        format!("http://localhost:{port}"),
        format!("http://inbox.localhost:{port}"),
        format!("http://127.1:{port}"),
    ] {
        for arguments in [&["health"][..], &["stats"], &["events"], &["topics"], &["bench", "--events", "10"]]
        {
            let output = sekali(&[arguments, &["--url", &target]].concat(), &all);
            let said = text(&output.stderr);
            // Not every resolver knows names below localhost, and a service may not answer to them.
            let is_sure = !target.contains("inbox.");
            assert!(output.status.success() || !is_sure, "{arguments:?} {target}: {said}");
        }
    }
    assert!(asked.try_recv().is_err(), "the proxy was asked");
}

#[test]
fn a_proxy_is_used_as_curl_uses_it_and_named_when_it_fails() {
    let (url, asked) = proxy();
    // The name has no address, so without a proxy nothing is reached.
    for (variables, is_used) in [
        (&[("http_proxy", url.as_str())][..], true),
        (&[("ALL_PROXY", url.as_str())], true),
        (&[("all_proxy", url.as_str()), ("http_proxy", "")], true),
        (&[("http_proxy", url.as_str()), ("no_proxy", "other.invalid,box.invalid")], true),
        (&[("HTTP_PROXY", url.as_str())], false),
        (&[("HTTPS_PROXY", url.as_str()), ("https_proxy", url.as_str())], false),
        (&[("http_proxy", url.as_str()), ("NO_PROXY", "*")], false),
        (&[("http_proxy", url.as_str()), ("NO_PROXY", "a.example, .invalid")], false),
        (&[("http_proxy", url.as_str()), ("no_proxy", "inbox.invalid:7")], false),
    ] {
        for arguments in [&["stats"][..], &["health"]] {
            let output = sekali(&[arguments, &["--url", "http://inbox.invalid:7"]].concat(), variables);
            let said = text(&output.stderr);
            assert!(!output.status.success(), "{said}");
            let was_asked = asked.recv_timeout(Duration::from_millis(if is_used { 10_000 } else { 50 }));
            assert_eq!(was_asked.is_ok(), is_used, "{variables:?}: {said}");
            if let Ok(line) = was_asked {
                assert!(line.starts_with("GET http://inbox.invalid:7/"), "{line}");
            }
            assert_eq!(
                said.contains(&format!("through the proxy {url} of ")),
                is_used,
                "{variables:?}: {said}"
            );
            while asked.recv_timeout(Duration::from_millis(10)).is_ok() {}
        }
    }
    let secret = [("http_proxy", "http://user:secret@127.0.0.1:1")];
    let said = text(&sekali(&["stats", "--url", "http://inbox.invalid:7"], &secret).stderr);
    assert!(said.contains("the proxy refuses the connection") && !said.contains("secret"), "{said}");
    let unusable =
        sekali(&["stats", "--url", "http://inbox.invalid:7"], &[("http_proxy", "ftp://p:secret@h")]);
    let said = text(&unusable.stderr);
    assert_eq!(unusable.status.code(), Some(3), "{said}");
    assert!(said.contains("http_proxy") && !said.contains("secret"), "{said}");
}

/// A proxy that takes requests to `origin` to the service at `to`, and refuses all else, as it refuses
/// every tunnel. It gives the head of each request.
fn relay(origin: &'static str, to: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut from = BufReader::new(client.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if from.read_line(&mut head).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = sender.send(head.clone());
                let mut client = client;
                let url = format!(" http://{origin}/");
                if !head.lines().next().unwrap().contains(&url) {
                    let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
                    return;
                }
                let head = head.replacen(&url, " /", 1).replace(origin, &to.to_string());
                let mut service = TcpStream::connect(to).unwrap();
                service.write_all(head.as_bytes()).unwrap();
                let mut back = service.try_clone().unwrap();
                std::thread::spawn(move || copy(&mut from, &mut service));
                let _ = copy(&mut back, &mut client);
            });
        }
    });
    (addr, heads)
}

#[test]
fn a_proxy_gets_requests_for_http_and_tunnels_for_https() {
    let service = Service::new();
    let (proxy, heads) = relay("inbox.invalid:7", service.addr);
    let named = format!("http://us%20er:pass@{proxy}");
    let variables = [("http_proxy", named.as_str()), ("https_proxy", &named)];
    let url = ["--url", "http://inbox.invalid:7"];
    // A body of many buffers, and several requests.
    let long = "x".repeat(1 << 10);
    let events: String = (0..1_500)
        .map(|id| super::event("t", &id.to_string()).replace("{\"n\":1}", &format!("\"{long}\"")) + "\n")
        .collect();
    let file = service.file("events.ndjson", &events);
    for arguments in [&["publish", &file][..], &["stats"], &["events"], &["get", "t", "7"], &["health"]] {
        let output = sekali(&[arguments, &url].concat(), &variables);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_eq!(service.stored(), 1_500);
    for head in heads.try_iter() {
        let line = head.lines().next().unwrap();
        assert!(line.contains(" http://inbox.invalid:7/") && line.ends_with(" HTTP/1.1"), "{line}");
        // Of the user "us er" and the password.
        let head = head.to_ascii_lowercase();
        assert!(head.contains("proxy-authorization: basic dxmgzxi6cgfzcw==\r\n"), "{head}");
        assert!(head.contains("\r\nhost: inbox.invalid:7\r\n"), "{head}");
    }
    for (url, line, told) in [
        ("http://other.invalid:7", "GET http://other.invalid:7/readyz ", "403"),
        ("https://inbox.invalid:7", "CONNECT inbox.invalid:7 ", "the proxy answers 403"),
    ] {
        let output = sekali(&["health", "--url", url], &variables);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(told) && !said.contains("403/403"), "{said}");
        assert!(
            said.contains(&format!("through the proxy http://{proxy}")) && !said.contains("pass"),
            "{said}"
        );
        assert!(heads.try_iter().next().unwrap().starts_with(line));
        let said = text(&sekali(&["stats", "--url", url], &variables).stderr);
        assert!(said.contains("403") && said.contains("through the proxy"), "{said}");
        while heads.try_recv().is_ok() {}
    }
}
