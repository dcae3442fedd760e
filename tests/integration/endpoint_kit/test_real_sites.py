"""Two sites set up by the kit: signing in, and who may reach what."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from wherry_testing.sites import RealSite, SiteFailed, merged_trust

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")

_Sites = tuple[RealSite, RealSite]


def _openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def _gridftp_client(credential: Path, trust: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["globus-url-copy", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "X509_CERT_DIR": str(trust),
            "X509_USER_PROXY": str(credential),
        },
    )


@pytest.fixture(scope="module")
def credentials(two_sites: _Sites, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``alice@site-a`` and so on: every account of both sites, signed in with ``myproxy-logon``."""
    folder = tmp_path_factory.mktemp("credentials")
    return {
        f"{user}@{site.name}": site.sign_in(user, folder / f"{user}-{site.name}.pem")
        for site in two_sites
        for user in site.accounts
    }


@pytest.mark.parametrize("which", [0, 1])
def test_the_right_password_gives_a_short_lived_certificate_of_that_site(
    two_sites: _Sites, credentials: dict[str, Path], which: int
) -> None:
    site = two_sites[which]
    credential = credentials[f"alice@{site.name}"]
    subject = _openssl("x509", "-noout", "-subject", "-nameopt", "compat", "-in", str(credential))
    assert subject.endswith(f"/O={site.name}/OU=Users/CN=alice")
    assert f"/O={site.name}/CN=Users CA localhost-" in _openssl(
        "x509", "-noout", "-issuer", "-nameopt", "compat", "-in", str(credential)
    )
    _openssl("x509", "-noout", "-checkend", str(11 * 3600), "-in", str(credential))
    with pytest.raises(subprocess.CalledProcessError):
        _openssl("x509", "-noout", "-checkend", str(13 * 3600), "-in", str(credential))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("password", ["not the password", "alice of site-", "alice of site-x"])
def test_a_wrong_password_is_refused(two_sites: _Sites, tmp_path: Path, which: int, password: str) -> None:
    with pytest.raises(SiteFailed, match="invalid password"):
        two_sites[which].sign_in("alice", tmp_path / "credential", password=password)
    assert not (tmp_path / "credential").exists()


@pytest.mark.row("B1")
def test_a_password_of_one_site_is_worth_nothing_at_the_other(two_sites: _Sites, tmp_path: Path) -> None:
    site_a, site_b = two_sites
    with pytest.raises(SiteFailed, match="invalid password"):
        site_b.sign_in("alice", tmp_path / "credential", password=site_a.accounts["alice"])


def test_an_unknown_account_is_refused(two_sites: _Sites, tmp_path: Path) -> None:
    with pytest.raises(SiteFailed, match=r"invalid (username|password)"):
        two_sites[0].sign_in("mallory", tmp_path / "credential", password="anything at all")


def test_a_lifetime_above_the_sites_maximum_is_cut(two_sites: _Sites, tmp_path: Path) -> None:
    credential = two_sites[0].sign_in("alice", tmp_path / "credential", hours=1000)
    with pytest.raises(subprocess.CalledProcessError):
        _openssl("x509", "-noout", "-checkend", str(73 * 3600), "-in", str(credential))


@pytest.mark.row("B1")
def test_the_two_sites_share_no_authority(two_sites: _Sites) -> None:
    keys = []
    for site in two_sites:
        files = sorted(site.trust_dir.glob("*.0"))
        assert len(files) == 2
        keys.append({_openssl("x509", "-noout", "-pubkey", "-in", str(path)) for path in files})
        assert {path.read_text(encoding="ascii") for path in files} == {site.host_ca_pem, site.user_ca_pem}
    assert not keys[0] & keys[1]
    names = [{path.name for path in site.trust_dir.iterdir()} for site in two_sites]
    assert not names[0] & names[1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_user_lists_and_writes_the_own_folder(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path: Path, which: int
) -> None:
    site = two_sites[which]
    credential = credentials[f"alice@{site.name}"]
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    copied = _gridftp_client(credential, site.trust_dir, f"file://{source}", site.url("alice", "a file"))
    assert copied.returncode == 0, copied.stderr
    landed = site.data_dir("alice") / "a file"
    assert landed.read_bytes() == source.read_bytes()
    assert landed.stat().st_uid == site.data_dir("alice").stat().st_uid
    listed = _gridftp_client(credential, site.trust_dir, "-list", site.url("alice") + "/")
    assert "a file" in listed.stdout


@pytest.mark.row("B1")
def test_a_certificate_of_one_site_is_refused_by_the_other(two_sites: _Sites, credentials: dict[str, Path]) -> None:
    for site, other in (two_sites, two_sites[::-1]):
        foreign = _gridftp_client(credentials[f"alice@{other.name}"], site.trust_dir, "-list", site.url("alice") + "/")
        assert foreign.returncode != 0
        assert "530" in foreign.stderr
        own = _gridftp_client(credentials[f"alice@{site.name}"], site.trust_dir, "-list", site.url("alice") + "/")
        assert own.returncode == 0, own.stderr


@pytest.mark.row("B1")
def test_a_client_that_trusts_only_one_site_does_not_talk_to_the_other(
    two_sites: _Sites, credentials: dict[str, Path]
) -> None:
    site_a, site_b = two_sites
    done = _gridftp_client(credentials["alice@site-b"], site_a.trust_dir, "-list", site_b.url("alice") + "/")
    assert done.returncode != 0
    assert "alice" not in done.stdout.partition("\n")[2]


def test_a_user_cannot_see_or_touch_anothers_folder(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path: Path
) -> None:
    site = two_sites[0]
    (site.data_dir("bob") / "private").write_text("of bob", encoding="utf-8")
    site.own("bob")
    alice = credentials["alice@site-a"]
    assert "private" not in _gridftp_client(alice, site.trust_dir, "-list", site.url("bob") + "/").stdout
    got = tmp_path / "got"
    assert _gridftp_client(alice, site.trust_dir, site.url("bob", "private"), f"file://{got}").returncode != 0
    assert not got.exists() or got.read_bytes() == b""
    source = tmp_path / "source"
    source.write_text("from alice", encoding="utf-8")
    assert _gridftp_client(alice, site.trust_dir, f"file://{source}", site.url("bob", "planted")).returncode != 0
    assert not (site.data_dir("bob") / "planted").exists()


@pytest.mark.parametrize(
    "name", ["authorities/users/ca_key.pem", "host/hostkey.pem", "private/passwords", "endpoint.toml"]
)
def test_no_user_can_fetch_the_sites_secrets_through_the_door(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path: Path, name: str
) -> None:
    site = two_sites[0]
    path = site.state / name
    got = tmp_path / "got"
    url = f"gsiftp://localhost:{site.gridftp_port}{path}"
    assert _gridftp_client(credentials["alice@site-a"], site.trust_dir, url, f"file://{got}").returncode != 0
    assert not got.exists() or got.read_bytes() == b""


def test_the_machine_behind_the_site_is_not_shown(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = two_sites[0]
    outside = tmp_path_factory.mktemp("outside")
    outside.chmod(0o755)
    (outside / "of-the-machine").write_text("x", encoding="utf-8")
    listed = _gridftp_client(
        credentials["alice@site-a"], site.trust_dir, "-list", f"gsiftp://localhost:{site.gridftp_port}{outside}/"
    )
    assert "of-the-machine" not in listed.stdout


def test_the_issued_credential_is_for_its_owner_only(credentials: dict[str, Path]) -> None:
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in credentials.values())


def test_the_log_tells_who_signed_in_and_never_the_password(two_sites: _Sites, credentials: dict[str, Path]) -> None:
    for site in two_sites:
        text = site.log_text()
        assert f"[{site.name} myproxy] PAM authentication succeeded for alice" in text
        assert not any(password in text for password in site.accounts.values())


# Runs in an interpreter of its own: gfal2 takes the trust directory from the environment of its process.
# It leaves without tearing itself down, in which Debian's gfal2 sometimes crashes when all is done.
_THIRD_PARTY_COPY = """
import os
import sys
import gfal2

source, destination, source_base, destination_base, source_credential, destination_credential = sys.argv[1:]
context = gfal2.creat_context()
context.set_opt_boolean("GRIDFTP PLUGIN", "DCAU", False)
for base, credential in ((source_base, source_credential), (destination_base, destination_credential)):
    context.cred_set(base, context.cred_new("X509_CERT", credential))
    context.cred_set(base, context.cred_new("X509_KEY", credential))
parameters = context.transfer_parameters()
parameters.local_transfers = False
parameters.strict_copy = True
parameters.overwrite = False
parameters.timeout = 60
context.filecopy(parameters, source, destination)
sums = [context.checksum(url, "ADLER32") for url in (source, destination)]
print(context.stat(destination).st_size, *sums, flush=True)
os._exit(0)
"""


def _third_party_copy(
    source: str, destination: str, credentials: tuple[Path, Path], trust: Path
) -> subprocess.CompletedProcess[str]:
    bases = [re.match(r"gsiftp://[^/]+/", url) for url in (source, destination)]
    return subprocess.run(
        [
            *("/usr/bin/python3", "-c", _THIRD_PARTY_COPY, source, destination),
            *(base.group(0) for base in bases if base is not None),
            *map(str, credentials),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "X509_CERT_DIR": str(trust)},
    )


@pytest.mark.row("B1")
@pytest.mark.row("T2", missing="davs, root, relaying")
def test_gfal2_copies_between_the_sites_with_a_credential_of_each(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path: Path
) -> None:
    site_a, site_b = two_sites
    name = "odd name #1 %41 'q\" é"
    content = os.urandom(3_000_000)
    (site_a.data_dir("alice") / name).write_bytes(content)
    site_a.own("alice")
    trust = merged_trust(tmp_path / "trust", two_sites)
    done = _third_party_copy(
        site_a.url("alice", name),
        site_b.url("bob", name),
        (credentials["alice@site-a"], credentials["bob@site-b"]),
        trust,
    )
    assert done.returncode == 0, done.stderr
    size, source_sum, destination_sum = done.stdout.split()
    assert (int(size), source_sum) == (len(content), destination_sum)
    assert (site_b.data_dir("bob") / name).read_bytes() == content


@pytest.mark.row("B1")
def test_without_the_other_sites_credential_nothing_is_copied(
    two_sites: _Sites, credentials: dict[str, Path], tmp_path: Path
) -> None:
    site_a, site_b = two_sites
    (site_a.data_dir("alice") / "kept").write_bytes(b"x" * 1000)
    site_a.own("alice")
    trust = merged_trust(tmp_path / "trust", two_sites)
    own_only = (credentials["alice@site-a"], credentials["alice@site-a"])
    done = _third_party_copy(site_a.url("alice", "kept"), site_b.url("alice", "kept"), own_only, trust)
    assert done.returncode != 0
    assert not (site_b.data_dir("alice") / "kept").exists()


def test_both_servers_show_the_host_certificate_of_their_site(two_sites: _Sites) -> None:
    for site in two_sites:
        shown = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"localhost:{site.myproxy_port}", "-tls1_2"),
                *("-CAfile", str(site.state / "authorities/hosts/ca_crt.pem"), "-verify_return_error"),
                *("-verify_hostname", "localhost"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "Verification: OK" in shown.stdout, shown.stderr


def test_gridftp_listens_where_the_site_says(two_sites: _Sites) -> None:
    for site in two_sites:
        assert site.description["endpoint"]["port"] == site.gridftp_port
        with socket.create_connection(("localhost", site.gridftp_port), 10) as plain:
            assert plain.recv(3) == b"220"
