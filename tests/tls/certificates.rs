//! Clients' certificates: none is needed, and none is taken that does not hold.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

use crate::authority::{Authority, Pair};
use crate::secured::{Client, SOON, Secured};
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
