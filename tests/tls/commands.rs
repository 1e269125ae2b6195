//! The commands speak TLS, and say why when they can't.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

use super::authority::Authority;
use super::secured::{SOON, Secured};
use crate::support::service::{Service, event};
use crate::support::until;

impl Secured {
    /// Exit code, and what is said on stderr. The authority is trusted.
    fn says(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let (url, ca) = (self.url(), self.path("ca.pem").display().to_string());
        let output = self.sekali(arguments, &[("SEKALI_URL", &url), ("SEKALI_CA_FILE", &ca)]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn commands_publish_read_follow_and_load_with_a_certificate_of_their_own() {
    let service = Secured::prepared(&[("SEKALI_TLS_CLIENT_CA", "{}/ca.pem")], |authority, dir| {
        authority.client(|_| {}).write(&dir.join("client.pem"), &dir.join("client.key"));
        let events = [event("t", "1", 1), event("t", "2", 2)].join("\n");
        std::fs::write(dir.join("events.ndjson"), events).unwrap();
    });
    let at = |name: &str| service.path(name).display().to_string();
    let variables = [
        ("SEKALI_URL", service.url()),
        ("SEKALI_CA_FILE", at("ca.pem")),
        ("SEKALI_CLIENT_CERT", at("client.pem")),
        ("SEKALI_CLIENT_KEY", at("client.key")),
    ];
    let run = |arguments: &[&str]| {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = service.sekali(arguments, &variables);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["health"]).contains("is ready"));
    run(&["publish", &at("events.ndjson")]);
    assert_eq!(run(&["events"]).lines().count(), 2);
    assert!(run(&["get", "t", "1"]).contains("\"1\""));
    assert!(run(&["stats", "--json"]).contains("\"unique_processed\":2"));

    let mut following = Command::new(env!("CARGO_BIN_EXE_sekali"))
        .args(["events", "--follow"])
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("\"event_id\":\"1\"") && lines.next().is_some());
    assert_eq!(service.client().publish(&event("t", "3", 3)).unwrap().0, 200);
    assert!(lines.next().unwrap().contains("\"event_id\":\"3\""));
    following.kill().unwrap();
    following.wait().unwrap();

    let report = run(&["bench", "--events", "3000", "--connections", "8", "--force", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["verified"], &report["reconnects"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(report["url"], service.url());
}

#[test]
fn commands_trust_what_the_system_trusts() {
    let service = Secured::new();
    let (url, ca) = (service.url(), service.path("ca.pem").display().to_string());
    let run = |variables: &[(&str, &str)]| {
        service.sekali(&["stats"], &[&[("SEKALI_URL", url.as_str())], variables].concat()).status.code()
    };
    // As the system's roots are found on every distribution.
    assert_eq!(run(&[("SSL_CERT_FILE", &ca)]), Some(0));
    assert_eq!(run(&[]), Some(9), "nobody else vouches for it");
}

#[test]
fn why_tls_can_not_be_spoken_is_a_sentence_and_code_9() {
    let service = Secured::new();
    let other = Authority::new("another authority");
    std::fs::write(service.path("other.pem"), &other.pem).unwrap();
    let (other, plain) = (service.path("other.pem").display().to_string(), Service::new());
    let (http, https) = (format!("http://{}", service.addr), format!("https://{}", plain.addr));
    for (arguments, why) in [
        (["--ca-file", &other], "nobody who is trusted has signed its certificate: --ca-file"),
        (["--url", &http], "it speaks TLS: ask https://"),
        (["--url", &https], "it does not speak TLS: ask with http://"),
    ] {
        for (command, code) in [("stats", 9), ("events", 9), ("health", 1)] {
            let (exit, said) = service.says(&[&[command], &arguments[..]].concat());
            assert_eq!(exit, Some(code), "{command} {arguments:?}: {said}");
            assert!(
                said.starts_with("sekali: cannot reach http") || said.starts_with("cannot reach http"),
                "{said}"
            );
            assert!(said.contains(why), "{command} {arguments:?}: {said}");
        }
    }
    let (exit, said) = service.says(&["bench", "--events", "10", "--ca-file", &other]);
    assert!(exit == Some(9) && said.contains("nobody who is trusted"), "{exit:?} {said}");
}

#[test]
fn a_certificate_of_another_host_or_time_is_not_believed() {
    let service = Secured::new();
    let renewed = |names: &[&str], year: i32, why: &str| {
        let pair = service.authority.issue(names, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_after = date_time_ymd(year, 1, 1);
        });
        pair.write(&service.path("cert.pem"), &service.path("key.pem"));
        let mut last = (None, String::new());
        let found = until(SOON, || {
            last = service.says(&["stats"]);
            (last.0 == Some(9) && last.1.contains(why)).then_some(())
        });
        assert!(found.is_some(), "{why}: {last:?}");
    };
    renewed(&["inbox.example.org"], 2120, "its certificate is for another host");
    renewed(&["127.0.0.1"], 2021, "its certificate has expired");
    service.logs("the certificate has expired: clients refuse it");
}

#[test]
fn a_certificate_that_the_service_refuses_is_named() {
    let foreign = Authority::new("another authority").client(|_| {});
    let service = Secured::prepared(&[("SEKALI_TLS_CLIENT_CA", "{}/ca.pem")], |_, dir| {
        foreign.write(&dir.join("client.pem"), &dir.join("client.key"));
    });
    let at = |name: &str| service.path(name).display().to_string();
    let (cert, key) = (at("client.pem"), at("client.key"));
    let (exit, said) = service.says(&["stats", "--client-cert", &cert, "--client-key", &key]);
    assert!(
        exit == Some(9) && said.contains("it refuses the certificate of --client-cert"),
        "{exit:?} {said}"
    );
    for (arguments, why) in [
        (vec!["--client-cert", &cert], "--client-cert and --client-key go together"),
        (vec!["--client-cert", &cert, "--client-key", &at("key.pem")], "can't be used"),
        (vec!["--ca-file", "/nowhere"], "cannot read /nowhere"),
        (vec!["--ca-file", &key], "holds no certificate in PEM"),
    ] {
        let (exit, said) = service.says(&[&["stats"], &arguments[..]].concat());
        assert!(exit == Some(3) && said.contains(why), "{arguments:?}: {exit:?} {said}");
    }
}
