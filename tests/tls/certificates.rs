//! Clients' certificates: none is needed, and none is taken that does not hold.

use std::io::ErrorKind;
use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use sekali::clock::{Clock, SystemClock};

use super::authority::{Authority, Pair};
use super::secured::{Client, SOON, Secured};
use crate::support::service::event;
use crate::support::{now, until};

/// Something ends within a second; a machine with more to do than it can may take longer.
const ENDED_WITHIN: Duration = Duration::from_secs(3);

/// A service that asks clients for their certificates, and what it knows as revoked.
fn service(revoked: impl FnOnce(&Authority) -> String) -> Secured {
    let variables = [("SEKALI_TLS_CLIENT_CA", "{}/ca.pem"), ("SEKALI_TLS_CLIENT_CRL", "{}/revoked.pem")];
    Secured::prepared(&variables, |authority, dir| {
        std::fs::write(dir.join("revoked.pem"), revoked(authority)).unwrap();
    })
}

impl Secured {
    /// Whether a client with this certificate is served.
    fn takes(&self, pair: &Pair) -> bool {
        let mut client = Client::new(self.addr, &self.authority, Some(pair), &[]);
        client.get("/readyz").is_ok_and(|(status, _)| status == 200)
    }
}

#[test]
fn a_client_is_served_without_a_certificate_and_with_a_valid_one() {
    let service = service(|authority| authority.revoke(&[]));
    assert_eq!(service.get("/readyz"), 200);
    assert!(service.takes(&service.authority.client(|_| {})));
}

#[test]
fn a_certificate_that_does_not_hold_ends_the_handshake() {
    let service = service(|authority| authority.revoke(&[]));
    let expired = service.authority.client(|params| params.not_after = date_time_ymd(2021, 1, 1));
    let early = service.authority.client(|params| params.not_before = date_time_ymd(2110, 1, 1));
    let foreign = Authority::new("the test's authority").client(|_| {});
    let purpose = service.authority.issue(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth, |_| {});
    for (pair, why) in [
        (expired, "expired"),
        (early, "not valid yet"),
        (foreign, "of another authority"),
        (purpose, "for servers"),
    ] {
        assert!(!service.takes(&pair), "{why}");
    }
    assert_eq!(service.get("/readyz"), 200);
    assert_eq!(service.metric("sekali_auth_failures_total{reason=\"certificate\"}"), 4.0);
    service.audits("not let in: invalid peer certificate: ");
    service.audits("\"peer\":\"127.0.0.1\"");
}

/// A client that reads a tail, and one that sends an upload, each with this certificate.
fn busy(service: &Secured, pair: &Pair) -> [Client; 2] {
    let addr = service.addr;
    let head = |head: &str| {
        let mut client = Client::new(addr, &service.authority, Some(pair), &[]);
        client.send(format!("{head}Host: {addr}\r\n\r\n")).unwrap();
        client
    };
    let mut tail = head("GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n");
    assert_eq!(&tail.exactly::<12>().unwrap(), b"HTTP/1.1 200");
    let lines =
        "POST /publish HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
    [tail, head(lines)]
}

/// Waits until a connection ends, properly or not.
fn ends(client: &mut Client) {
    let rest = client.rest();
    let went_on = rest.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!went_on, "the connection goes on");
}

#[test]
fn open_connections_of_a_certificate_that_is_revoked_end_and_others_go_on() {
    let service = service(|authority| authority.revoke(&[]));
    let [kept, lost] = [service.authority.client(|_| {}), service.authority.client(|_| {})];
    let ([mut tail, _upload], mut lost_clients) = (busy(&service, &kept), busy(&service, &lost));
    let mut idle = Client::new(service.addr, &service.authority, Some(&lost), &[]);
    assert_eq!(idle.get("/readyz").unwrap().0, 200);
    let begun = now();
    std::fs::write(service.path("revoked.pem"), service.authority.revoke(&[&lost])).unwrap();
    for client in &mut lost_clients {
        ends(client);
    }
    ends(&mut idle);
    assert!(begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    service.audits("a connection is ended: invalid peer certificate: Revoked");
    let mut other = service.client();
    assert_eq!(other.publish(&event("a", "1", 1)).unwrap().0, 200);
    let mut seen = String::new();
    while !seen.contains("event_id") {
        seen.push(char::from(tail.exactly::<1>().unwrap()[0]));
    }
}

#[test]
fn open_connections_of_a_certificate_that_expires_end_by_themselves() {
    let service = service(|authority| authority.revoke(&[]));
    let soon = SystemClock.now().0 / 1_000_000 + 4;
    let expiring = service.authority.client(|params| {
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(soon.unsigned_abs());
    });
    for client in &mut busy(&service, &expiring) {
        ends(client);
    }
    let late = SystemClock.now().0 / 1_000_000 - soon;
    assert!((0..5).contains(&late), "{late} s after it expired");
    service.audits("a connection is ended: the certificate has expired");
    assert!(until(SOON, || (!service.takes(&expiring)).then_some(())).is_some(), "it is still taken");
}

#[test]
fn a_certificate_that_is_revoked_meanwhile_is_refused_from_then_on() {
    let service = service(|authority| authority.revoke(&[]));
    let [kept, lost] = [service.authority.client(|_| {}), service.authority.client(|_| {})];
    assert!(service.takes(&kept) && service.takes(&lost));
    std::fs::write(service.path("revoked.pem"), service.authority.revoke(&[&lost])).unwrap();
    assert!(until(SOON, || (!service.takes(&lost)).then_some(())).is_some(), "it is still taken");
    assert!(service.takes(&kept));
}

#[test]
fn a_certificate_is_known_by_its_name_and_may_do_what_the_tokens_file_says() {
    const TOKENS: &str = "[[certificate]]\nname = \"sender\"\nsan = [\"uri:spiffe://example.org/sender\"]\n\
                          allow = [\"publish:orders.*\"]\n";
    let variables = [("SEKALI_TLS_CLIENT_CA", "{}/ca.pem"), ("SEKALI_TOKENS_FILE", "{}/tokens.toml")];
    let service =
        Secured::prepared(&variables, |_, dir| std::fs::write(dir.join("tokens.toml"), TOKENS).unwrap());
    let sender = service.authority.client(|_| {});
    let stranger = service.authority.issue(&["other.example"], ExtendedKeyUsagePurpose::ClientAuth, |_| {});
    let publish = |pair: Option<&Pair>, topic: &str| {
        let mut client = Client::new(service.addr, &service.authority, pair, &[]);
        client.publish(&event(topic, "1", 1)).unwrap().0
    };
    assert_eq!(publish(Some(&sender), "orders.paid"), 200);
    assert_eq!(publish(Some(&sender), "users"), 403);
    assert_eq!(publish(Some(&stranger), "orders.paid"), 401);
    assert_eq!(publish(None, "orders.paid"), 401);

    let mut kept = Client::new(service.addr, &service.authority, Some(&sender), &[]);
    assert_eq!(kept.publish(&event("orders.paid", "2", 1)).unwrap().0, 200);
    std::fs::write(service.path("tokens.toml"), "").unwrap();
    let refused = || (kept.publish(&event("orders.paid", "3", 1)).unwrap().0 == 401).then_some(());
    assert!(until(SOON, refused).is_some(), "a connection that is open keeps what was taken back");
}
