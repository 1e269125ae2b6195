//! Proxies: which variable counts, and what is reached without one.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
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
    for target in
        [service.url(), format!("http://localhost:{port}"), format!("http://inbox.localhost:{port}")]
    {
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
