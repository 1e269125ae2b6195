"""Scans the TLS of the service at SEKALI_URL with sslyze, and fails if it finds anything weak."""

import os
from urllib.parse import urlsplit

from sslyze import ScanCommand as Scan
from sslyze import Scanner, ServerNetworkLocation, ServerScanRequest

url = urlsplit(os.environ["SEKALI_URL"])
OLD = [Scan.SSL_2_0_CIPHER_SUITES, Scan.SSL_3_0_CIPHER_SUITES, Scan.TLS_1_0_CIPHER_SUITES, Scan.TLS_1_1_CIPHER_SUITES]
NEW = [Scan.TLS_1_2_CIPHER_SUITES, Scan.TLS_1_3_CIPHER_SUITES]
OTHERS = [
    Scan.TLS_COMPRESSION,
    Scan.TLS_1_3_EARLY_DATA,
    Scan.TLS_FALLBACK_SCSV,
    Scan.TLS_EXTENDED_MASTER_SECRET,
    Scan.OPENSSL_CCS_INJECTION,
    Scan.HEARTBLEED,
    Scan.ROBOT,
    Scan.SESSION_RENEGOTIATION,
    Scan.ELLIPTIC_CURVES,
]

scanner = Scanner()
location = ServerNetworkLocation(url.hostname, url.port)
scanner.queue_scans([ServerScanRequest(location, scan_commands={*OLD, *NEW, *OTHERS})])
(done,) = scanner.get_results()
assert done.scan_result, done


def found(scan):
    attempt = getattr(done.scan_result, scan.value)
    assert attempt.result, (scan, attempt.error_reason, attempt.error_trace)
    return attempt.result


for scan in OLD:
    assert not found(scan).accepted_cipher_suites, scan
for scan in NEW:
    names = [accepted.cipher_suite.name for accepted in found(scan).accepted_cipher_suites]
    assert names and all("GCM" in name or "CHACHA20_POLY1305" in name for name in names), names
    assert all(name.startswith(("TLS_ECDHE_", "TLS_AES_", "TLS_CHACHA20_")) for name in names), names
assert not found(Scan.TLS_COMPRESSION).supports_compression
assert not found(Scan.TLS_1_3_EARLY_DATA).supports_early_data
assert found(Scan.TLS_EXTENDED_MASTER_SECRET).supports_ems_extension
assert not found(Scan.OPENSSL_CCS_INJECTION).is_vulnerable_to_ccs_injection
assert not found(Scan.HEARTBLEED).is_vulnerable_to_heartbleed
assert found(Scan.ROBOT).robot_result.name.startswith("NOT_VULNERABLE"), found(Scan.ROBOT)
assert not found(Scan.SESSION_RENEGOTIATION).is_vulnerable_to_client_renegotiation_dos
assert found(Scan.TLS_FALLBACK_SCSV).supports_fallback_scsv
curves = {curve.name for curve in found(Scan.ELLIPTIC_CURVES).supported_curves}
assert curves and curves <= {"X25519", "secp256r1", "secp384r1"}, curves
