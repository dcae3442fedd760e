"""Trust directories: the names that OpenSSL looks for, and policies that hold a CA to its namespace."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from wherry_worker.trust import Authority, TrustError, signing_policy, subject_hash, write_trust_directory


def name_of(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def certificate(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Certificate:
    return named(name_of(*attributes))


def named(name: x509.Name) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


_TWO_IN_ONE = x509.RelativeDistinguishedName(
    [x509.NameAttribute(NameOID.COMMON_NAME, "b"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a")]
)


@pytest.mark.parametrize(
    "name",
    [
        name_of((NameOID.ORGANIZATION_NAME, "Site"), (NameOID.COMMON_NAME, "CA")),
        name_of((NameOID.ORGANIZATION_NAME, "  Two   Spaces "), (NameOID.COMMON_NAME, "ÄÖ x")),
        name_of((NameOID.DOMAIN_COMPONENT, "Org"), (NameOID.EMAIL_ADDRESS, "A@B.org")),
        name_of((NameOID.COUNTRY_NAME, "GB"), (NameOID.COMMON_NAME, "x" * 64)),
        x509.Name([_TWO_IN_ONE]),
    ],
)
def test_subject_hashes_are_those_of_openssl(name: x509.Name) -> None:
    made = named(name)
    done = subprocess.run(
        ["openssl", "x509", "-hash", "-noout"], input=pem(made), capture_output=True, text=True, check=True
    )
    assert subject_hash(made.subject) == done.stdout.strip()


def test_a_directory_holds_exactly_the_given_authorities(tmp_path: Path) -> None:
    ca = certificate((NameOID.ORGANIZATION_NAME, "Site A"), (NameOID.COMMON_NAME, "Hosts"))
    write_trust_directory(tmp_path / "trust", [Authority(pem(ca), ("/O=Site A/*",))])
    name = subject_hash(ca.subject)
    assert sorted(path.name for path in (tmp_path / "trust").iterdir()) == [f"{name}.0", f"{name}.signing_policy"]
    policy = (tmp_path / "trust" / f"{name}.signing_policy").read_text()
    assert "access_id_CA   X509    '/O=Site A/CN=Hosts'" in policy
    assert "cond_subjects  globus  '\"/O=Site A/*\"'" in policy


@pytest.mark.row("B1")
def test_an_authority_under_a_name_known_with_another_key_is_refused(tmp_path: Path) -> None:
    subject = ((NameOID.ORGANIZATION_NAME, "Site A"), (NameOID.COMMON_NAME, "Hosts"))
    with pytest.raises(TrustError, match="different keys"):
        write_trust_directory(
            tmp_path / "t", [Authority(pem(certificate(*subject))), Authority(pem(certificate(*subject)))]
        )


def test_a_policy_cannot_be_broken_out_of() -> None:
    ca = certificate((NameOID.COMMON_NAME, "CA"))
    for namespace in ("/O=x' '*", '/O=x" "*', "/O=x\npos_rights globus CA:sign"):
        with pytest.raises(TrustError):
            signing_policy(ca, [namespace])
    with pytest.raises(TrustError):
        signing_policy(certificate((NameOID.COMMON_NAME, "C'A")), [])


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrustError):
        write_trust_directory(tmp_path / "t", [Authority("no certificate")])
