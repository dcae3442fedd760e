"""The CAs of a site, and what they may sign."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from wherry_fakes.site_sign_in import FakeCa, shared_key
from wherry_site.authorities import Authority, parse_authorities, parse_authority, signing_fault

S3 = pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")
S5 = pytest.mark.row("S5", missing="VOMS")
NOW = dt.datetime.now(dt.UTC)
CA = FakeCa("Site")
LIFE = dt.timedelta(hours=1)


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


@S3
def test_a_ca_without_namespaces_speaks_for_its_own_organisation() -> None:
    assert parse_authority(CA.pem, [], NOW).namespaces == ("/O=Site/*",)
    assert parse_authority(CA.pem, ["/O=Site/OU=Users/*"], NOW).namespaces == ("/O=Site/OU=Users/*",)


@S3
def test_only_the_certificate_is_kept() -> None:
    assert parse_authority(f"Some text before\n{CA.pem}\nand behind\n", [], NOW).pem == CA.pem


@S3
def test_what_is_no_cas_certificate_is_refused_in_words() -> None:
    key = CA.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    weak = FakeCa("Weak", key=rsa.generate_private_key(65537, 1024))
    cases = {
        "": "not a certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----": "not a certificate",
        CA.pem + FakeCa("Other").pem: "more than one",
        key + CA.pem: "private key",
        pem_of(CA.issue("alice", shared_key("alice"), LIFE)): "not the certificate of a CA",
        pem_of(CA.sign(CA.name, CA.key, -LIFE, ca=True)): "expired",
        weak.pem: "too weak",
    }
    for pem, words in cases.items():
        with pytest.raises(ValueError, match=words):
            parse_authority(pem, [], NOW)


@S3
def test_all_faults_are_found_at_once_each_with_its_place() -> None:
    _, problems = parse_authorities([("x", []), (CA.pem, ["/O=Site/*", "/*", "*"]), (CA.pem, [])], NOW)
    assert [problem.field for problem in problems] == [
        "site.certificate_authorities[0].certificate_pem",
        "site.certificate_authorities[1].namespaces[1]",
        "site.certificate_authorities[1].namespaces[2]",
        "site.certificate_authorities[2].certificate_pem",
    ]
    assert [problem.field for problem in parse_authorities([], NOW)[1]] == ["site.certificate_authorities"]


@S3
@pytest.mark.parametrize(
    "namespace",
    ["/O=A'", '/O=A"/*', "/O=A\n/*", "/O=A\\/*", "/O=*/CN=x", "/=x/*", "O=A/*", "/O=A/**", "", "/", "/O=/*\x00"],
)
def test_a_namespace_cannot_break_out_of_a_signing_policy(namespace: str) -> None:
    assert parse_authorities([(CA.pem, [namespace])], NOW)[1]


@S5
def test_a_certificate_counts_only_if_one_of_the_sites_cas_gave_it_within_its_namespace() -> None:
    person = CA.issue("alice", shared_key("alice"), LIFE)
    ours = Authority(CA.pem, ("/O=Site/OU=Users/*",))
    assert signing_fault(person, [], [ours]) is None
    assert signing_fault(person, [], [Authority(FakeCa("Other").pem, ("/O=Site/*",)), ours]) is None
    assert "none of the site's CAs" in (signing_fault(person, [], [Authority(FakeCa("Other").pem, ("/*",))]) or "")
    assert "may not sign" in (signing_fault(person, [], [dataclasses.replace(ours, namespaces=("/O=Other/*",))]) or "")
    exact = dataclasses.replace(ours, namespaces=("/O=Site/OU=Users/CN=alic",))
    assert "may not sign" in (signing_fault(person, [], [exact]) or "")
    namesake = FakeCa("Site", key=shared_key("an impostor"))
    assert signing_fault(namesake.issue("alice", shared_key("alice"), LIFE), [], [ours])


@S5
def test_a_chain_leads_to_the_sites_ca_link_by_link() -> None:
    root, middle = FakeCa("Root"), FakeCa("Middle")
    link = root.sign(middle.name, middle.key, LIFE, ca=True)
    person = middle.issue("alice", shared_key("alice"), LIFE)
    authority = Authority(root.pem, ("/O=Middle/*",))
    assert signing_fault(person, [link], [authority]) is None
    assert signing_fault(person, [], [authority])
    assert "broken" in (signing_fault(person, [root.certificate], [authority]) or "")
    no_ca = root.sign(middle.name, middle.key, LIFE)
    assert "broken" in (signing_fault(person, [no_ca], [authority]) or "")
