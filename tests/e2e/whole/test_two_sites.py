"""B1: two sites that trust nothing in common, and a copy between them with each side's own credential."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wherry_testing.deployment import Person
from wherry_testing.running_copies import Folders, write_many
from wherry_testing.sites import RealSite, merged_trust

pytestmark = pytest.mark.row("B1")

_Sites = tuple[RealSite, RealSite]


@dataclass(frozen=True)
class SignedIn:
    """A credential of each site, as its sign-in gives it, and a trust directory that knows both sites."""

    at_a: Path
    at_b: Path
    trust: Path


@pytest.fixture(scope="module")
def signed_in(two_sites: _Sites, tmp_path_factory: pytest.TempPathFactory) -> SignedIn:
    folder = tmp_path_factory.mktemp("credentials")
    site_a, site_b = two_sites
    at_a, at_b = site_a.sign_in("alice", folder / "a.pem"), site_b.sign_in("bob", folder / "b.pem")
    return SignedIn(at_a, at_b, merged_trust(folder / "trust", two_sites))


def _authorities(site: RealSite) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(path.read_bytes()) for path in site.trust_dir.glob("*.0")]


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _lists(site: RealSite, user: str, credential: Path, trust: Path) -> bool:
    """Tells whether a site lets a credential list a user's folder."""
    done = subprocess.run(
        ["globus-url-copy", "-list", site.url(user) + "/"],
        capture_output=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "HOME": "/none", "X509_CERT_DIR": str(trust), "X509_USER_PROXY": str(credential)},
        check=False,
    )
    return done.returncode == 0


def test_the_sites_have_no_authority_in_common(two_sites: _Sites) -> None:
    a, b = (_authorities(site) for site in two_sites)
    assert len(a) == len(b) == 2
    assert not {one.subject.public_bytes() for one in a} & {one.subject.public_bytes() for one in b}
    assert not {_key(one) for one in a} & {_key(one) for one in b}


def test_each_site_takes_its_own_credential(two_sites: _Sites, signed_in: SignedIn) -> None:
    site_a, site_b = two_sites
    assert _lists(site_a, "alice", signed_in.at_a, signed_in.trust)
    assert _lists(site_b, "bob", signed_in.at_b, signed_in.trust)


def test_a_credential_of_one_site_is_refused_at_the_other(two_sites: _Sites, signed_in: SignedIn) -> None:
    site_a, site_b = two_sites
    assert not _lists(site_b, "alice", signed_in.at_a, signed_in.trust)
    assert not _lists(site_a, "bob", signed_in.at_b, signed_in.trust)


def test_a_copy_between_them_arrives_with_the_same_checksums_under_another_user(
    alice: Person, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_many(folders.source, 3)
    folders.source_site.own("alice")
    alice.wherry.must("cp", "-r", f"site-a:{folders.source.name}", f"site-b:{folders.destination.name}/data")
    copied = folders.destination / "data"
    assert _checksums(copied) == _checksums(folders.source)
    owner = folders.destination_site.data_dir("bob").stat().st_uid
    assert {path.stat().st_uid for path in copied.iterdir()} == {owner}


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
