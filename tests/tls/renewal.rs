//! The files of TLS are read again when they change, and only what can be used is.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::secured::{SOON, Secured};
use crate::support::service::event;
use crate::support::until;

const FAILURES: &str = "sekali_tls_reload_failures_total";
const EXPIRY: &str = "sekali_tls_certificate_expiry_timestamp_seconds";

impl Secured {
    /// The certificate that a new connection is shown, in DER.
    fn shown(&self) -> Vec<u8> {
        let mut client = self.client();
        assert_eq!(client.get("/readyz").unwrap().0, 200);
        client.shown().to_vec()
    }
}

#[test]
fn a_renewal_reaches_new_connections_and_ends_no_open_one() {
    let service = Secured::new();
    let mut clients: Vec<_> = (0..64).map(|_| service.client()).collect();
    for turn in 0..3 {
        let pair = service.authority.server();
        pair.write(&service.path("cert.pem"), &service.path("key.pem"));
        let mut sent = 0;
        let is_renewed = until(SOON, || {
            for (number, client) in clients.iter_mut().enumerate() {
                let (status, _) = client.publish(&event("t", &format!("{turn} {number} {sent}"), 1)).unwrap();
                assert_eq!(status, 200);
            }
            sent += 1;
            (service.shown() == pair.der().to_vec()).then_some(())
        });
        assert!(is_renewed.is_some(), "the new certificate is not in use");
    }
    assert_eq!(service.metric(FAILURES), 0.0);
    service.audits("the files of TLS were read again and are in use");
}

#[test]
fn a_pair_that_does_not_fit_is_not_used_and_told_once() {
    let service = Secured::new();
    let (first, expiry) = (service.shown(), service.metric(EXPIRY));
    assert_eq!(expiry, 4_733_510_400.0, "2120-01-01");
    let next = service.authority.server();
    std::fs::write(service.path("cert.pem"), &next.cert).unwrap();
    assert!(until(SOON, || (service.metric(FAILURES) == 1.0).then_some(())).is_some());
    assert_eq!(service.shown(), first);
    std::fs::write(service.path("cert.pem"), "no PEM").unwrap();
    assert!(until(SOON, || (service.metric(FAILURES) == 2.0).then_some(())).is_some());
    assert_eq!(service.shown(), first);
    next.write(&service.path("cert.pem"), &service.path("key.pem"));
    assert!(until(SOON, || (service.shown() == next.der().to_vec()).then_some(())).is_some());
    assert_eq!(service.metric(FAILURES), 2.0);
    let log = service.server.log();
    assert_eq!(log.matches("those before stay in use").count(), 2, "{log}");
    assert!(log.contains("is not the key of the certificate"), "{log}");
    service.audits("those before stay in use");
}

#[test]
fn a_link_that_is_turned_is_a_renewal() {
    let service = Secured::prepared(
        &[("SEKALI_TLS_CERT", "{}/secret/cert.pem"), ("SEKALI_TLS_KEY", "{}/secret/key.pem")],
        |authority, dir| {
            std::fs::create_dir_all(dir.join("secret/1")).unwrap();
            authority.server().write(&dir.join("secret/1/cert.pem"), &dir.join("secret/1/key.pem"));
            symlink("1", dir.join("secret/..data")).unwrap();
            for name in ["cert.pem", "key.pem"] {
                symlink(format!("..data/{name}"), dir.join("secret").join(name)).unwrap();
            }
        },
    );
    let pair = service.authority.server();
    std::fs::create_dir(service.path("secret/2")).unwrap();
    pair.write(&service.path("secret/2/cert.pem"), &service.path("secret/2/key.pem"));
    symlink("2", service.path("secret/..data_tmp")).unwrap();
    std::fs::rename(service.path("secret/..data_tmp"), service.path("secret/..data")).unwrap();
    assert!(until(SOON, || (service.shown() == pair.der().to_vec()).then_some(())).is_some());
}

#[test]
fn a_renewal_by_certbot_is_in_use_although_its_links_are_made_again_one_by_one() {
    let archived = |version: u32, dir: &std::path::Path, pair: &crate::support::authority::Pair| {
        std::fs::create_dir_all(dir.join("archive/x")).unwrap();
        std::fs::create_dir_all(dir.join("live/x")).unwrap();
        let at = |name: &str| dir.join(format!("archive/x/{name}{version}.pem"));
        pair.write(&at("fullchain"), &at("privkey"));
        for name in ["fullchain", "privkey"] {
            let link = dir.join(format!("live/x/{name}.pem"));
            let _ = std::fs::remove_file(&link);
            symlink(format!("../../archive/x/{name}{version}.pem"), link).unwrap();
        }
    };
    let variables =
        [("SEKALI_TLS_CERT", "{}/live/x/fullchain.pem"), ("SEKALI_TLS_KEY", "{}/live/x/privkey.pem")];
    let service = Secured::prepared(&variables, |authority, dir| archived(1, dir, &authority.server()));
    let pair = service.authority.server();
    archived(2, service.dir.path(), &pair);
    assert!(until(SOON, || (service.shown() == pair.der().to_vec()).then_some(())).is_some());
}

#[test]
fn sighup_has_the_files_read_again() {
    let service = Secured::new();
    let status = Command::new("kill").args(["-HUP", &service.server.pid().to_string()]).status().unwrap();
    assert!(status.success());
    service.logs("the files of TLS were read again");
    assert_eq!(service.get("/readyz"), 200);
}

#[test]
fn a_start_with_files_of_no_use_says_which_and_why() {
    let service = Secured::new();
    let at = |name: &str| service.path(name).display().to_string();
    let other = service.authority.server();
    other.write(&service.path("other.pem"), &service.path("other.key"));
    std::fs::write(at("junk.pem"), "junk").unwrap();
    let encrypted = other.key.replace(" PRIVATE", " ENCRYPTED PRIVATE");
    std::fs::write(at("encrypted.key"), encrypted).unwrap();
    let (cert, key) = (&at("cert.pem"), &at("key.pem"));
    for (arguments, said) in [
        (vec!["--tls-cert", cert], "but tls_key names no file: set both, or neither".to_owned()),
        (vec!["--tls-key", key], "but tls_cert names no file: set both, or neither".to_owned()),
        (vec!["--tls-client-ca", cert], "but tls_cert names no file".to_owned()),
        (vec!["--tls-cert", "/nowhere", "--tls-key", key], "cannot read tls_cert /nowhere: ".to_owned()),
        (vec!["--tls-cert", cert, "--tls-key", "/nowhere"], "cannot read tls_key /nowhere: ".to_owned()),
        (
            vec!["--tls-cert", &at("junk.pem"), "--tls-key", key],
            format!("tls_cert {} holds no certificate in PEM", at("junk.pem")),
        ),
        (
            vec!["--tls-cert", cert, "--tls-key", &at("encrypted.key")],
            format!("tls_key {} holds no unencrypted private key in PEM", at("encrypted.key")),
        ),
        (
            vec!["--tls-cert", cert, "--tls-key", &at("other.key")],
            format!("tls_key {} is not the key of the certificate in tls_cert {cert}", at("other.key")),
        ),
        (
            vec!["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", &at("junk.pem")],
            format!("tls_client_ca {} holds no certificate in PEM", at("junk.pem")),
        ),
    ] {
        let data = at("unused");
        let arguments = [&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data], &arguments[..]].concat();
        let output = service.sekali(&arguments, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?} {stderr}");
        assert!(stderr.contains(&said), "{said}\n{stderr}");
        assert!(!service.path("unused").exists(), "nothing is opened before");
    }
}
