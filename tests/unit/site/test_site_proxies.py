"""RFC 3820 proxy certificates, held against OpenSSL's reading of the standard."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from wherry_fakes.site_sign_in import FakeCa, shared_key
from wherry_site.proxies import proxy_pem, sign_proxy

S6 = pytest.mark.row("S6")
CA = FakeCa("Proxies")
PERSONS_KEY = shared_key("a person")
HOUR = dt.timedelta(hours=1)


def issue(
    life: dt.timedelta = 12 * HOUR, asked: dt.timedelta = HOUR
) -> tuple[x509.Certificate, x509.Certificate, dt.datetime]:
    person = CA.issue("alice", PERSONS_KEY, life)
    now = dt.datetime.now(dt.UTC)
    return person, sign_proxy(person, PERSONS_KEY, shared_key("a proxy"), now=now, life=asked), now


@S6
def test_openssl_accepts_the_proxy_as_one(tmp_path: Path) -> None:
    person, proxy, _ = issue()
    (tmp_path / "ca.pem").write_text(CA.pem)
    (tmp_path / "person.pem").write_bytes(person.public_bytes(Encoding.PEM))
    (tmp_path / "proxy.pem").write_bytes(proxy.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-CAfile", "ca.pem", "-untrusted", "person.pem"]
    allowed = subprocess.run(
        [*command, "-allow_proxy_certs", "proxy.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert allowed.returncode == 0, allowed.stderr
    plain = subprocess.run([*command, "proxy.pem"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "proxy certificates not allowed" in plain.stderr, "it is a proxy, and says so where nobody can miss it"


@S6
def test_the_subject_is_the_persons_with_one_name_more_that_is_never_the_same() -> None:
    person, proxy, _ = issue()
    _, other, _ = issue()
    assert proxy.issuer == person.subject
    assert list(proxy.subject)[:-1] == list(person.subject)
    assert proxy.subject != other.subject
    assert proxy.serial_number != other.serial_number


@S6
@pytest.mark.parametrize(
    ("session", "asked", "given"),
    [
        (12 * HOUR, HOUR, HOUR),
        (12 * HOUR, 10 * HOUR, HOUR),
        (12 * HOUR, HOUR / 6, HOUR / 6),
        (HOUR / 2, HOUR, HOUR / 2),
    ],
)
def test_a_proxy_lives_as_long_as_needed_an_hour_at_most_and_never_longer_than_its_person(
    session: dt.timedelta, asked: dt.timedelta, given: dt.timedelta
) -> None:
    person, proxy, now = issue(session, asked)
    assert abs(proxy.not_valid_after_utc - now - given) < dt.timedelta(seconds=2)
    assert proxy.not_valid_after_utc <= person.not_valid_after_utc
    assert person.not_valid_before_utc <= proxy.not_valid_before_utc < now


@S6
def test_no_proxy_is_made_of_an_expired_certificate() -> None:
    with pytest.raises(ValueError, match="expired"):
        issue(-HOUR)


@S6
def test_the_file_has_the_proxys_key_and_never_the_persons() -> None:
    person, proxy, _ = issue()
    pem = proxy_pem(proxy, shared_key("a proxy"), [person])
    assert [c.subject for c in x509.load_pem_x509_certificates(pem)] == [proxy.subject, person.subject]
    assert pem.count(b"PRIVATE KEY-----") == 2
    assert pem.index(b"CERTIFICATE") < pem.index(b"PRIVATE KEY"), "Globus reads the proxy first, then its key"
