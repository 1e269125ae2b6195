//! Clients' certificates: none is needed, and none is taken that does not hold.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

use super::authority::{Authority, Pair};
use super::secured::{Client, SOON, Secured};
use crate::support::service::event;
use crate::support::until;

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
