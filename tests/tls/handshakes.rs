//! Which handshakes succeed, and that no other ones hurt the service.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sekali::http::Limits;

use super::authority::Authority;
use super::http::serve_here;
use super::secured::{Client, SOON, Secured, program};
use crate::support::process::Start;
use crate::support::{client, now, seed, tools, until};

#[test]
fn curl_speaks_the_version_of_http_that_was_agreed_upon() {
    let service = Secured::new();
    for (asked, spoken) in [("--http1.1", "1.1"), ("--http2", "2"), ("--no-alpn", "1.1")] {
        let Some(mut curl) = program("curl") else { return };
        curl.args([asked, "-sS", "--fail", "-o", "/dev/null", "-w", "%{http_version}", "--cacert"]);
        let output =
            curl.arg(service.path("ca.pem")).arg(format!("{}/readyz", service.url())).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), spoken, "{asked} {output:?}");
    }
}

#[test]
fn a_client_that_agrees_upon_nothing_shows_what_it_speaks() {
    let service = Secured::new();
    let mut http1 = service.client();
    assert_eq!(http1.get("/readyz").unwrap().0, 200);
    assert_eq!(http1.protocol(), None);
    let mut http2 = service.client();
    http2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert_eq!(http2.exactly::<9>().unwrap()[3], 4, "SETTINGS");
}

#[test]
fn what_was_agreed_upon_counts_and_not_what_is_sent() {
    let service = Secured::new();
    let with = |alpn: &[&str]| Client::new(service.addr, &service.authority, None, alpn);
    let mut client = with(&["http/1.1"]);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().0, 400);
    let mut client = with(&["h2", "http/1.1"]);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert_eq!(client.exactly::<9>().unwrap()[3], 4, "SETTINGS");
    assert_eq!(client.protocol(), Some(&b"h2"[..]));
    assert!(with(&["spdy/3"]).get("/readyz").is_err(), "nothing in common");
}

#[test]
fn versions_before_1_2_are_refused() {
    if program("openssl").is_none() {
        return;
    }
    let service = Secured::new();
    let connects = |version: &str| {
        let mut openssl = program("openssl").unwrap();
        // The level lets OpenSSL offer the old versions at all.
        openssl.args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"]);
        openssl.arg(service.addr.to_string()).arg("-CAfile").arg(service.path("ca.pem"));
        let output = openssl.arg("-verify_return_error").stdin(std::process::Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for version in ["-tls1", "-tls1_1"] {
        let (is_connected, said) = connects(version);
        assert!(!is_connected && said.contains("SSL alert number"), "{version}: {said}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let (is_connected, said) = connects(version);
        assert!(is_connected, "{version}: {said}");
    }
}

#[test]
fn a_scanner_finds_nothing_weak() {
    let python = tools().join("python/bin/python");
    let asked = Command::new(&python).args(["-c", "import sslyze"]).output();
    if !asked.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "sslyze is not installed: make tools");
        eprintln!("NOT RUN: sslyze is not installed: make tools");
        return;
    }
    let service = Secured::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/tls_scan.py");
    let output = Command::new(python).arg(script).env("SEKALI_URL", service.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(service.get("/readyz"), 200);
}

#[test]
fn plain_http_is_told_to_use_https() {
    let service = Secured::new();
    for request in ["GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(service.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nthis port speaks TLS: ask with https://\n"), "{answer}");
    }
    // A request that is still being sent does not keep the client from reading that.
    let long = vec![b'x'; 1 << 20];
    let answer = client::Client::new(service.addr).post("/publish", &long);
    assert_eq!(answer.unwrap().status, 400);
    assert_eq!(service.get("/readyz"), 200);
}

#[test]
fn bytes_that_are_no_handshake_do_not_hurt() {
    let service = Secured::new();
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    for turn in 0..300 {
        let mut bytes: Vec<u8> = (0..random.usize(0..600)).map(|_| random.u8(..)).collect();
        // As many begin as a handshake does, with any length, or that of what follows.
        if turn % 3 > 0 && bytes.len() > 9 {
            bytes[..3].copy_from_slice(&[0x16, 3, random.u8(..4)]);
            if turn % 3 == 2 {
                let (record, hello) = (bytes.len() - 5, bytes.len() - 9);
                bytes[3..5].copy_from_slice(&(record as u16).to_be_bytes());
                bytes[5..9].copy_from_slice(&(0x0100_0000 | hello as u32).to_be_bytes());
            }
        }
        let mut stream = TcpStream::connect(service.addr).unwrap();
        // The service may have ended it meanwhile.
        let _ = stream.write_all(&bytes);
        if random.bool() {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            stream.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
            let ended = stream.read_to_end(&mut Vec::new());
            let is_late = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!is_late, "{bytes:?} is waited for; SEKALI_SEED={seed}");
        }
    }
    assert_eq!(service.get("/readyz"), 200);
    assert!(!service.server.log().contains("panic"), "SEKALI_SEED={seed}\n{}", service.server.log());
}

#[test]
fn a_handshake_that_stands_still_is_ended_and_holds_nobody() {
    let authority = Authority::new("a");
    let limits = Limits { head_seconds: 1, connections_max: 64, ..Limits::default() };
    let addr = serve_here(limits, &authority);
    // The head of a record of 512 bytes, of which nothing comes.
    let begin = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let mut stalled: Vec<TcpStream> = (0..48)
        .map(|_| {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(SOON))).unwrap();
            stream.write_all(begin).unwrap();
            stream
        })
        .collect();
    stalled.push(TcpStream::connect(addr).unwrap());
    assert_eq!(Client::new(addr, &authority, None, &[]).get("/readyz").unwrap().0, 200);
    let begin = now();
    for stream in &mut stalled {
        let _ = stream.read(&mut [0; 64]);
    }
    assert!(now() - begin < Duration::from_secs(SOON), "they are not ended");
}

#[test]
fn tls_may_begin_after_the_head_of_a_balancer() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, at) = (Authority::new("the test's authority"), |name: &str| dir.path().join(name));
    authority.server().write(&at("cert.pem"), &at("key.pem"));
    let mut start = Start::tiny_generations(&at("data"));
    for (name, value) in [
        ("SEKALI_TLS_CERT", at("cert.pem").into_os_string()),
        ("SEKALI_TLS_KEY", at("key.pem").into_os_string()),
        ("SEKALI_TRUSTED_PROXY", "127.0.0.1".into()),
        ("SEKALI_PROXY_PROTOCOL", "true".into()),
        ("SEKALI_INSECURE_NO_AUTH", "true".into()),
        ("SEKALI_ALLOWED_HOST", "127.0.0.1".into()),
        ("SEKALI_LOG", "info,sekali::http=debug".into()),
    ] {
        start.env.push((name.into(), value));
    }
    let (server, addr) = start.spawn_listening().unwrap();
    let head = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 127, 0, 0, 1, 1, 0, 0, 80]];
    let mut client = Client::after(&head.concat(), addr, &authority, None, &[]);
    let ready = until(SOON, || (client.get("/readyz").unwrap().0 == 200).then_some(()));
    assert!(ready.is_some(), "{}", server.log());
    assert!(until(SOON, || server.log().contains("\"peer\":\"192.0.2.7\"").then_some(())).is_some());
    let mut without = Client::new(addr, &authority, None, &[]);
    assert!(without.get("/readyz").is_err(), "a proxy without a head");
}
