from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from wherry_endpoint.config import load_config
from wherry_endpoint.errors import EndpointError
from wherry_endpoint.install import install_site
from wherry_endpoint.layout import Layout
from wherry_endpoint.show import describe_site

pytestmark = pytest.mark.row("I1", missing="registration, XRootD, systemd")

_PASSWORDS = {"alice": "in wonderland", "bob": "the builder"}


def _write(folder: Path, *, name: str = "site-a", host: str = "localhost", more: str = "") -> Path:
    path = folder / "endpoint.toml"
    path.write_text(
        f'[site]\nname = "{name}"\nhost = "{host}"\nfolder = "state"\n{more}'
        '[authority]\nkey_bits = 2048\n[sandbox]\nenabled = true\naccounts = ["alice", "bob"]\n',
        encoding="utf-8",
    )
    return path


def _install(path: Path, passwords: dict[str, str] | None = None, dry_run: bool = False) -> list[str]:
    config = load_config(path)
    return install_site(config, Layout.of(config), passwords or {}, dry_run)


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout


def _snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path.relative_to(folder)): (
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's configuration file; the site is installed and must not be changed by a test."""
    path = _write(tmp_path_factory.mktemp("site"))
    assert _install(path, _PASSWORDS)
    return path


@pytest.fixture
def fresh(installed: Path, tmp_path: Path) -> Path:
    """The configuration file of a site to change; its keys are copies, because making some takes a second."""
    shutil.copytree(installed.parent / "state", tmp_path / "state")
    path = _write(tmp_path)
    _install(path)
    return path


def test_a_second_install_changes_nothing(installed: Path) -> None:
    before = _snapshot(installed.parent)
    assert _install(installed) == []
    assert _install(installed, _PASSWORDS) == []
    assert _snapshot(installed.parent) == before


def test_a_dry_run_writes_nothing_and_tells_the_plan(tmp_path: Path) -> None:
    plan = _install(_write(tmp_path), _PASSWORDS, dry_run=True)
    assert not (tmp_path / "state").exists()
    assert any("ca_key.pem" in line for line in plan)
    assert any("hostcert.pem" in line for line in plan)


def test_keys_and_hashes_are_for_their_owner_only(installed: Path) -> None:
    state = installed.parent / "state"
    secret = {"authorities/hosts/ca_key.pem", "authorities/users/ca_key.pem", "host/hostkey.pem", "private/passwords"}
    found = {
        str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()
    }
    assert found == secret - {"private/passwords"}
    for name in secret:
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
    for name in ("authorities", "authorities/users", "authorities/users/issued", "private", "data/alice"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o700, name


def test_passwords_are_kept_as_salted_sha512_only(installed: Path) -> None:
    lines = (installed.parent / "state/private/passwords").read_text(encoding="ascii").splitlines()
    assert [line.split(":")[0] for line in lines] == ["alice", "bob"]
    assert all(re.fullmatch(r"[a-z]+:\$6\$[^$:]{8,16}\$[A-Za-z0-9./]{86}", line) for line in lines)
    everything = b"".join(path.read_bytes() for path in installed.parent.rglob("*") if path.is_file())
    assert not any(password.encode() in everything for password in _PASSWORDS.values())


@pytest.mark.row("B1")
def test_the_trust_directory_holds_the_sites_own_two_authorities_and_nothing_else(installed: Path) -> None:
    state = installed.parent / "state"
    stems = {
        _openssl("x509", "-noout", "-hash", "-in", str(state / f"authorities/{kind}/ca_crt.pem")).strip(): kind
        for kind in ("hosts", "users")
    }
    wanted = {f"{stem}{suffix}" for stem in stems for suffix in (".0", ".signing_policy")}
    assert {path.name for path in (state / "certificates").iterdir()} == wanted
    for stem, kind in stems.items():
        policy = (state / f"certificates/{stem}.signing_policy").read_text(encoding="utf-8")
        assert f"'\"/O=site-a/OU={kind.capitalize()}/*\"'" in policy
        assert re.search(rf"access_id_CA +X509 +'/O=site-a/CN={kind.capitalize()} CA localhost-[0-9a-f]{{12}}'", policy)


@pytest.mark.row("B1")
def test_two_installs_of_one_configuration_share_no_authority(tmp_path: Path, installed: Path) -> None:
    other = _write(tmp_path)
    _install(other, _PASSWORDS)
    sites = [describe_site(config, Layout.of(config)) for config in map(load_config, (installed, other))]
    for kind in ("hosts_ca", "users_ca"):
        assert sites[0][kind]["subject"] != sites[1][kind]["subject"]
        assert sites[0][kind]["pem"] != sites[1][kind]["pem"]


def test_the_host_certificate_names_the_host_and_its_addresses(installed: Path) -> None:
    state = installed.parent / "state"
    text = _openssl("x509", "-noout", "-text", "-in", str(state / "host/hostcert.pem"))
    assert "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1" in text
    assert "sha256WithRSAEncryption" in text
    assert "TLS Web Server Authentication" in text
    _openssl(
        *("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(state / "authorities/hosts/ca_crt.pem")),
        str(state / "host/hostcert.pem"),
    )


def test_the_authorities_are_self_signed_with_sha256_and_sign_nothing_below_them(installed: Path) -> None:
    for kind in ("hosts", "users"):
        text = _openssl(
            "x509", "-noout", "-text", "-in", str(installed.parent / f"state/authorities/{kind}/ca_crt.pem")
        )
        assert "sha256WithRSAEncryption" in text
        assert "CA:TRUE, pathlen:0" in text
        assert "Certificate Sign, CRL Sign" in text
        assert "Public-Key: (2048 bit)" in text


def test_a_new_name_for_the_host_replaces_its_certificate_and_nothing_else(fresh: Path, tmp_path: Path) -> None:
    before = _snapshot(tmp_path / "state")
    _write(tmp_path, more='alternative_names = ["storage.example.org", "192.0.2.7"]\n')
    _install(fresh)
    after = _snapshot(tmp_path / "state")
    changed = {name for name in after if name in before and after[name][2] != before[name][2]}
    assert changed == {"host/hostcert.pem", "host/names.cnf"}
    text = _openssl("x509", "-noout", "-text", "-in", str(tmp_path / "state/host/hostcert.pem"))
    assert "DNS:storage.example.org, IP Address:192.0.2.7" in text


@pytest.mark.row("I2", missing="upgrade, CRL publishing, uninstall, doctor")
def test_a_host_certificate_near_its_end_is_renewed_with_the_same_key(fresh: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    text = fresh.read_text(encoding="utf-8")
    fresh.write_text(text.replace("key_bits = 2048", "key_bits = 2048\nhost_days = 20"), encoding="utf-8")
    (state / "host/hostcert.pem").unlink()
    _install(fresh)
    key, first = (state / "host/hostkey.pem").read_bytes(), (state / "host/hostcert.pem").read_bytes()
    fresh.write_text(text, encoding="utf-8")
    assert _install(fresh) == [f"write {state / 'host/hostcert.pem'}"]
    assert (state / "host/hostcert.pem").read_bytes() != first
    assert (state / "host/hostkey.pem").read_bytes() == key
    assert _install(fresh) == []


@pytest.mark.row("B1")
def test_wrong_modes_and_foreign_authorities_are_put_right(fresh: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "authorities/users/ca_key.pem").chmod(0o644)
    (state / "certificates/12345678.0").write_text("another authority", encoding="ascii")
    assert sorted(_install(fresh)) == [
        f"remove {state / 'certificates/12345678.0'}",
        f"set the mode of {state / 'authorities/users/ca_key.pem'} to 0600",
    ]
    assert not (state / "certificates/12345678.0").exists()
    assert stat.S_IMODE((state / "authorities/users/ca_key.pem").stat().st_mode) == 0o600


def test_a_changed_password_replaces_only_that_accounts_hash(fresh: Path, tmp_path: Path) -> None:
    passwords = tmp_path / "state/private/passwords"
    before = passwords.read_text(encoding="ascii").splitlines()
    assert _install(fresh, {"alice": "through the glass"}) == [f"write {passwords}"]
    after = passwords.read_text(encoding="ascii").splitlines()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_an_account_without_a_password_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"none for bob.*--passwords"):
        _install(_write(tmp_path), {"alice": "in wonderland"})


def test_a_password_for_an_unknown_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"carol: not in sandbox\.accounts"):
        _install(_write(tmp_path), {**_PASSWORDS, "carol": "x"})


def test_a_lost_authority_key_is_never_replaced_silently(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "state/authorities/users/ca_key.pem").unlink()
    with pytest.raises(EndpointError, match=r"ca_key\.pem is missing.*backup"):
        _install(fresh)


def test_a_site_cannot_be_renamed_over_its_authorities(fresh: Path, tmp_path: Path) -> None:
    _write(tmp_path, name="site-b")
    with pytest.raises(EndpointError, match=r"site\.name: is 'site-b', but the authority .* is /O=site-a/"):
        _install(fresh)


def test_a_production_site_gets_its_pam_service_and_unit_as_text_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.toml"
    path.write_text(
        '[site]\nname = "site-a"\nhost = "localhost"\nfolder = "state"\n[authority]\nkey_bits = 2048\n',
        encoding="utf-8",
    )
    _install(path)
    unit = (tmp_path / "state/systemd/wherry-endpoint-site-a.service").read_text(encoding="utf-8")
    assert f"-m wherry_endpoint serve --config {path}\n" in unit
    assert "auth" in (tmp_path / "state/conf/pam-service").read_text(encoding="utf-8")
    assert not (tmp_path / "state/private/passwords").exists()
    assert not (tmp_path / "state/data").exists()


def test_what_is_shown_holds_all_that_registering_needs_and_no_secret(installed: Path) -> None:
    config = load_config(installed)
    site = describe_site(config, Layout.of(config))
    assert site["myproxy"] == {"host": "localhost", "port": 7512}
    assert site["endpoint"] == {"scheme": "gsiftp", "host": "localhost", "port": 2811, "root_path": "/data"}
    assert site["default_path"] == "/{user}"
    for kind in ("hosts_ca", "users_ca"):
        assert site[kind]["pem"].startswith("-----BEGIN CERTIFICATE-----")
        assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", site[kind]["sha256_fingerprint"])
    assert "PRIVATE" not in str(site)
