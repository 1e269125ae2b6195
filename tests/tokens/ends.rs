//! Tokens that end while something goes on, and tokens files that are wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::{Guarded, id, token_command};
use crate::support::client::Client;
use crate::support::service::event;
use crate::support::{now, until};

/// Long after whatever ends has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// What ends does so within a second; a machine with more to do than it can may take longer.
const ENDED_WITHIN: Duration = Duration::from_secs(3);

/// A request that is under way: its connection, of which the head of the answer was read if there
/// is one.
fn open(guarded: &Guarded, token: &str, request: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(guarded.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = guarded.addr();
    write!(stream, "{request}Host: {host}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// Reads until an answer's head is over; its status.
fn head(stream: &mut BufReader<TcpStream>) -> u16 {
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    let mut line = String::from("-");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    status.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_goes_on_with_a_revoked_token_ends_and_others_go_on() {
    let (guarded, admin) = Guarded::new();
    assert_eq!(guarded.publish(&admin, "/publish", &event("a", "1", 1)).0, 200);
    let (revoked, stays) = (guarded.token(&["read:*", "publish:*"]), guarded.token(&["read:*"]));
    let tail = "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n";
    let upload =
        "POST /publish HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
    let mut tails: Vec<_> = [&revoked, &stays].map(|token| open(&guarded, token, tail)).into();
    for tail in &mut tails {
        assert_eq!(head(tail), 200);
    }
    let mut upload = open(&guarded, &revoked, upload);
    let line = event("a", "2", 1);
    write!(upload.get_mut(), "{:x}\r\n{line}\n\r\n", line.len() + 1).unwrap();
    let stored = until(20, || (guarded.get(&admin, "/stats").1["unique_processed"] == 2).then_some(()));
    assert!(stored.is_some(), "the upload is under way");

    let begun = now();
    assert!(token_command(&guarded.tokens_file, &["revoke", id(&revoked)]).status.success());
    let mut rest = Vec::new();
    // It is cut short, without its proper end.
    let _ = tails[0].read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(head(&mut upload), 401);
    assert!(begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    assert_eq!(guarded.get(&revoked, "/stats").0, 401);

    assert_eq!(guarded.publish(&admin, "/publish", &event("a", "3", 1)).0, 200);
    let mut seen = String::new();
    while !seen.contains("\"3\"") {
        seen.clear();
        assert_ne!(tails[1].read_line(&mut seen).unwrap(), 0, "the other tail ended");
    }
}

#[test]
fn an_export_whose_token_is_revoked_is_cut_short() {
    let (guarded, admin) = Guarded::new();
    // More than the system holds for a reader that does not read.
    let (events, payload) = (20, format!("\"{}\"", "x".repeat(1_000_000)));
    for id in 0..events {
        assert_eq!(guarded.publish(&admin, "/publish", &event("a", &id.to_string(), &payload)).0, 200);
    }
    let token = guarded.token(&["read:*"]);
    let mut export = open(&guarded, &token, "GET /events HTTP/1.1\r\nAccept: application/x-ndjson\r\n");
    assert_eq!(head(&mut export), 200);
    let begun = now();
    assert!(token_command(&guarded.tokens_file, &["revoke", id(&token)]).status.success());
    let refused = until(20, || (guarded.get(&token, "/stats").0 == 401).then_some(()));
    assert!(refused.is_some() && begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    let mut exported = Vec::new();
    let _ = export.read_to_end(&mut exported);
    let is_cut = exported.len() < events * 1_000_000 && !exported.ends_with(b"0\r\n\r\n");
    assert!(is_cut, "{} bytes", exported.len());
}

#[test]
fn a_wait_for_a_consumers_events_ends_when_its_token_is_revoked() {
    let (guarded, admin) = Guarded::new();
    let plan = br#"{"topics":["a"]}"#;
    assert_eq!(guarded.send(Some(&admin), "PUT", "/consumers/c", "application/json", plan).status, 201);
    let token = guarded.token(&["consume:*"]);
    let mut waiting = open(&guarded, &token, "GET /consumers/c/events?wait=60s HTTP/1.1\r\n");
    let leases = || guarded.get(&admin, "/consumers/c").1["leases"].as_array().unwrap().len();
    assert!(until(20, || (leases() == 1).then_some(())).is_some(), "nobody waits");
    let begun = now();
    assert!(token_command(&guarded.tokens_file, &["revoke", id(&token)]).status.success());
    assert_eq!(head(&mut waiting), 401);
    assert!(begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    assert!(until(20, || (leases() == 0).then_some(())).is_some(), "its lease ends with it");
}

#[test]
fn an_expired_token_ends_by_itself() {
    let (guarded, _) = Guarded::new();
    let token = guarded.token_as(&["--allow", "read:*", "--expires", "3s"]);
    let mut tail = open(&guarded, &token, "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n");
    assert_eq!(head(&mut tail), 200);
    let _ = tail.read_to_end(&mut Vec::new());
    assert_eq!(guarded.get(&token, "/stats").0, 401);
}

#[test]
fn a_wrong_tokens_file_changes_nothing_and_is_told() {
    let (guarded, admin) = Guarded::new();
    let good = std::fs::read(&guarded.tokens_file).unwrap();
    let figure = |value: &str| {
        let figures = guarded.ask(Some(&admin), "GET", "/metrics").body;
        let line = format!("\nsekali_tokens_file_read {value}\n");
        String::from_utf8_lossy(&figures).contains(&line).then_some(())
    };
    for wrong in [&b"[[token]]\nid = 1\n"[..], b"\xff", b"[[token"] {
        std::fs::write(&guarded.tokens_file, wrong).unwrap();
        assert!(until(10, || figure("0")).is_some(), "a wrong file is told");
        assert_eq!(guarded.get(&admin, "/stats").0, 200);
        std::fs::write(&guarded.tokens_file, &good).unwrap();
        assert!(until(10, || figure("1")).is_some(), "a good file is read again");
    }
    std::fs::remove_file(&guarded.tokens_file).unwrap();
    assert!(until(10, || figure("0")).is_some(), "a file that is gone is told");
    assert_eq!(guarded.get(&admin, "/stats").0, 200);
    assert!(guarded.service.server.log().contains("sekali::audit"));
}

#[test]
fn a_token_in_the_place_of_something_else_is_not_told_by_the_log_or_a_command() {
    let (guarded, admin) = Guarded::new();
    let planted = sekali::auth::token::Token::generate().unwrap();
    let (planted, good) = (planted.reveal(), std::fs::read_to_string(&guarded.tokens_file).unwrap());
    let figure = |value: &str| {
        let figures = guarded.ask(Some(&admin), "GET", "/metrics").body;
        let line = format!("\nsekali_tokens_file_read {value}\n");
        String::from_utf8_lossy(&figures).contains(&line).then_some(())
    };
    for wrong in [
        format!("[[token]]\nid = \"{planted}\"\n"),
        format!("[[token]]\ntoken = \"{planted}\"\n"),
        format!("[[token]]\n{planted} = \"admin\"\n"),
        format!("[[token]]\n{planted}\n"),
        good.replace("sha256 = \"", &format!("sha256 = \"{planted}")),
        good.replace("[\"admin\"]", &format!("[\"{planted}\"]")),
        good.replace("id = \"", &format!("id = \"{planted}")),
    ] {
        assert_ne!(wrong, good);
        std::fs::write(&guarded.tokens_file, &wrong).unwrap();
        assert!(until(10, || figure("0")).is_some(), "a wrong file is told");
        let listed = token_command(&guarded.tokens_file, &["list"]);
        let told = String::from_utf8_lossy(&listed.stderr).into_owned();
        assert_eq!(listed.status.code(), Some(3), "{told}");
        std::fs::write(&guarded.tokens_file, &good).unwrap();
        assert!(until(10, || figure("1")).is_some(), "a good file is read again");
        let log = guarded.service.server.log();
        assert!(log.contains("the tokens file is wrong"), "{log}");
        for text in [told, log] {
            assert!(!text.contains(&planted[20..]), "{wrong}: {text}");
        }
    }
}

#[test]
fn whoever_fails_again_and_again_waits_and_others_do_not() {
    let (guarded, admin) = Guarded::new();
    let unknown = sekali::auth::token::Token::generate().unwrap();
    let took = || {
        let begun = now();
        assert_eq!(guarded.get(unknown.reveal(), "/stats").0, 401);
        begun.elapsed()
    };
    let slowed = (0..100).find(|_| took() >= Duration::from_secs(1));
    assert!(slowed.is_some_and(|failures| failures >= 10), "{slowed:?}");
    assert_eq!(guarded.get(&admin, "/stats").0, 200);
    let log = guarded.service.server.log();
    assert!(log.contains("\"reason\":\"unknown\"") && !log.contains(unknown.reveal()), "{log}");
}

#[test]
fn a_body_is_asked_for_only_if_its_sender_may_send_it() {
    let (guarded, admin) = Guarded::new();
    let reader = guarded.token(&["read:*"]);
    let begin = |token: &str| {
        let (addr, length) = (guarded.addr(), 1 << 20);
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let fields = format!("Expect: 100-continue\r\nContent-Type: application/json\r\n{token}");
        write!(stream, "POST /publish HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n{fields}\r\n")
            .unwrap();
        BufReader::new(stream)
    };
    let held = || {
        let figures = String::from_utf8(guarded.ask(Some(&admin), "GET", "/metrics").body).unwrap();
        figures.lines().any(|line| line == "sekali_http_body_bytes 0").then_some(())
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (token, status) in [(String::new(), 401), (bearer("sekali_"), 401), (bearer(&reader), 403)] {
        let mut stream = begin(&token);
        assert_eq!(head(&mut stream), status, "no 100 before it");
        assert!(until(5, held).is_some(), "{status}: room is held for a body that is not taken");
    }
    assert_eq!(head(&mut begin(&bearer(&admin))), 100);
}

#[test]
fn a_link_that_is_turned_exchanges_the_tokens_as_kubernetes_does() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let version = |number: &str, token: &mut String| {
        std::fs::create_dir_all(secret.join(number)).unwrap();
        let file = secret.join(number).join("tokens.toml");
        *token = super::made(&file, &["--name", number, "--allow", "admin"]);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
    };
    let [mut first, mut second] = [String::new(), String::new()];
    version("1", &mut first);
    symlink("1", secret.join("..data")).unwrap();
    symlink("..data/tokens.toml", secret.join("tokens.toml")).unwrap();
    let service = crate::support::service::Service::started(|mut start| {
        start.env.push(("SEKALI_TOKENS_FILE".into(), secret.join("tokens.toml").into()));
        start
    });
    let status = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        Client::new(service.addr).send("GET", "/stats", &headers, b"").unwrap().status
    };
    assert_eq!(status(&first), 200);
    version("2", &mut second);
    symlink("2", secret.join("..data_tmp")).unwrap();
    std::fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    assert!(until(10, || (status(&second) == 200).then_some(())).is_some(), "the new tokens are not known");
    assert_eq!(status(&first), 401);
}
