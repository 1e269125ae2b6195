//! What a certificate says.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Error};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::clock::Timestamp;
use crate::http::ClientCertificate;

/// The time from which the certificate is no longer valid.
///
/// # Errors
/// It can't be read.
pub(super) fn expires(certificate: &CertificateDer<'_>) -> Result<Timestamp, Error> {
    Certificate::from_der(certificate).map(|certificate| not_after(&certificate))
}

/// What a client's certificate says, which was verified before.
///
/// # Errors
/// It can't be read.
pub(super) fn client_certificate(certificate: &CertificateDer<'_>) -> Result<ClientCertificate, Error> {
    let certificate = Certificate::from_der(certificate)?;
    let names = match certificate.tbs_certificate().get_extension::<SubjectAltName>()? {
        Some((_, names)) => names.0.iter().filter_map(name).collect(),
        None => Vec::new(),
    };
    Ok(ClientCertificate { names, expires: not_after(&certificate) })
}

/// A name of a kind that somebody can be known by.
fn name(name: &GeneralName) -> Option<String> {
    match name {
        // Names of hosts are alike in upper and lower case.
        GeneralName::DnsName(name) => Some(format!("dns:{name}").to_ascii_lowercase()),
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("uri:{uri}")),
        GeneralName::Rfc822Name(address) => Some(format!("email:{address}")),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| format!("ip:{address}")),
        _ => None,
    }
}

/// The address that these bytes are.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn not_after(certificate: &Certificate) -> Timestamp {
    let since_1970 = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_tells_its_names_with_their_kinds_and_when_it_expires() {
        let mut params = CertificateParams::new([
            "A.Example".to_owned(),
            "192.0.2.1".to_owned(),
            "2001:db8::1".to_owned(),
        ])
        .unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a.example/sender".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("b@a.example".try_into().unwrap()));
        params.not_after = date_time_ymd(2030, 1, 2);
        let told = client_certificate(&certificate(&params)).unwrap();
        let names = ["dns:a.example", "ip:192.0.2.1", "ip:2001:db8::1", "uri:spiffe://a.example/sender"];
        assert_eq!(told.names[..4], names);
        assert_eq!(told.names[4..], ["email:b@a.example"]);
        assert_eq!(told.expires.to_string(), "2030-01-02T00:00:00.000000Z");
    }

    #[test]
    fn a_certificate_without_names_has_none_and_what_is_no_certificate_is_an_error() {
        let params = CertificateParams::new([]).unwrap();
        assert_eq!(client_certificate(&certificate(&params)).unwrap().names, [""; 0]);
        assert!(client_certificate(&CertificateDer::from(vec![0x30, 3, 1, 1, 1])).is_err());
    }
}
