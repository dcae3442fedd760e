from __future__ import annotations

import ipaddress
import re
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, load
from wherry_chassis.identity import grid_subject
from wherry_chassis.tls import MaterialFiles
from wherry_client.configuration import load as load_client
from wherry_deploy.authority import sign_host
from wherry_deploy.initialise import InitError, initialise
from wherry_deploy.template import ROLES, Choices, buildout_text

HOSTS = ("user", "site", "queue", "worker", "operator", "client")


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    initialise(tmp_path / "here", Choices(name="Test lab"))
    return tmp_path / "here"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_makes_a_deployment_that_loads(deployment: Path) -> None:
    buildout = load(deployment / "buildout.toml")
    assert buildout.deployment.name == "Test lab"
    assert buildout.service.queue.addresses == ["localhost:50053"]


def test_init_says_all_that_it_made_and_nothing_the_second_time(tmp_path: Path) -> None:
    said = initialise(tmp_path, Choices())
    for name in ("buildout.toml", "client.toml", "ca.pem", "vault.kek", "token-signing.kek"):
        assert any(name in line for line in said), name
    before = snapshot(tmp_path)
    assert initialise(tmp_path, Choices(name="another", ports=(1, 2, 3))) == []
    assert snapshot(tmp_path) == before


def test_init_makes_only_what_is_missing(deployment: Path) -> None:
    before = snapshot(deployment)
    (deployment / "trust" / "worker.pem").unlink()
    (deployment / "trust" / "worker.key").unlink()
    assert len(initialise(deployment, Choices(name="another"))) == 2
    after = snapshot(deployment)
    assert {name for name in after if after[name] != before[name]} == {"trust/worker.pem", "trust/worker.key"}
    worker = x509.load_pem_x509_certificate(after["trust/worker.pem"])
    assert grid_subject(worker.subject) == "/O=Wherry Test lab/CN=worker"


def test_keys_and_secrets_are_for_their_owner_alone(deployment: Path) -> None:
    for folder in ("trust", "secrets", "data"):
        assert mode(deployment / folder) == 0o700
    secret = [*(deployment / "trust").glob("*.key"), *(deployment / "secrets").iterdir()]
    assert len(secret) == len(HOSTS) + 1 + 2
    assert {mode(path) for path in secret} == {0o600}


@pytest.mark.parametrize("host", HOSTS)
def test_each_host_has_a_certificate_of_the_authority_for_this_machine(deployment: Path, host: str) -> None:
    trust = deployment / "trust"
    MaterialFiles(trust / f"{host}.pem", trust / f"{host}.key", trust / "ca.pem")
    certificate = x509.load_pem_x509_certificate((trust / f"{host}.pem").read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((trust / "ca.pem").read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    addresses = {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    assert addresses <= set(names.get_values_for_type(x509.IPAddress))
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == (host in ("user", "site", "queue"))


@pytest.mark.row("A1")
def test_every_role_is_given_to_one_certificate_and_the_client_has_no_other(deployment: Path) -> None:
    table = build_table(load(deployment / "buildout.toml").access)
    for role, host in ROLES.items():
        certificate = x509.load_pem_x509_certificate((deployment / "trust" / f"{host}.pem").read_bytes())
        assert table.roles_of(grid_subject(certificate.subject)) == {role}


def test_the_clients_configuration_is_one_that_the_client_reads(deployment: Path) -> None:
    found = load_client(deployment / "client.toml")
    assert (found.services.user, found.services.queue) == ("localhost:50051", "localhost:50053")
    assert found.tls.certificate == deployment / "trust" / "client.pem"


def test_the_clients_configuration_follows_a_buildout_file_that_is_there(deployment: Path) -> None:
    file = deployment / "buildout.toml"
    file.write_text(file.read_text().replace("localhost:50052", "127.0.0.1:4711"))
    (deployment / "client.toml").unlink()
    initialise(deployment, Choices())
    assert load_client(deployment / "client.toml").services.site == "127.0.0.1:4711"


def test_the_template_shows_every_key_there_is() -> None:
    text = buildout_text(Choices())
    shown = {line.lstrip("# ").partition("=")[0].strip() for line in text.splitlines() if "=" in line}
    for section, field in Buildout.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        if section != "service":
            assert {key for key in keys if key not in ("rpc", "roles")} <= shown, section
    assert {"listen", "address", "certificate", "key", "database", "key_encryption_key", "myproxy_timeout_s"} <= shown


def test_the_templates_comments_show_the_true_defaults(tmp_path: Path) -> None:
    """Uncommented, the file means the same."""
    lines = buildout_text(Choices()).splitlines()
    optional = ("address", "link_tasks", "username", "password", "ca =", "verify_url", '"wherry')
    plain = [
        line.removeprefix("# ") if re.match(r"# [a-z_]+ = ", line) and not line[2:].startswith(optional) else line
        for line in lines
    ]
    (tmp_path / "a.toml").write_text("\n".join(lines))
    (tmp_path / "b.toml").write_text("\n".join(plain))
    assert len(tomllib.loads("\n".join(plain))["lease"]) > 3
    assert load(tmp_path / "a.toml") == load(tmp_path / "b.toml")


def test_a_lost_key_is_not_made_anew_for_a_certificate_that_is_there(deployment: Path) -> None:
    (deployment / "trust" / "site.key").unlink()
    with pytest.raises(InitError, match=r"site\.key is missing"):
        initialise(deployment, Choices())


def test_without_the_authoritys_key_no_certificate_is_made_and_the_message_says_what_to_do(deployment: Path) -> None:
    (deployment / "trust" / "site.pem").unlink()
    (deployment / "trust" / "ca.key").unlink()
    with pytest.raises(InitError, match=r"without .*ca\.key none can be made"):
        initialise(deployment, Choices())


def test_a_certificate_is_made_for_a_key_that_is_there(deployment: Path) -> None:
    key = (deployment / "trust" / "queue.key").read_bytes()
    (deployment / "trust" / "queue.pem").unlink()
    initialise(deployment, Choices())
    assert (deployment / "trust" / "queue.key").read_bytes() == key
    MaterialFiles(*(deployment / "trust" / name for name in ("queue.pem", "queue.key", "ca.pem")))


def test_a_folder_for_secrets_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    (tmp_path / "secrets").chmod(0o755)
    with pytest.raises(InitError, match="chmod 700"):
        initialise(tmp_path, Choices())


@pytest.mark.parametrize("name", ["", "/CN=root", "a\nb", "x" * 52, " lead"])
def test_a_name_that_could_not_stand_in_a_certificate_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InitError, match="name"):
        initialise(tmp_path, Choices(name=name))
    assert not (tmp_path / "trust").exists()


def test_a_certificate_is_not_signed_with_a_key_that_is_not_the_authoritys(deployment: Path) -> None:
    trust = deployment / "trust"
    key, ca, other = ((trust / name).read_bytes() for name in ("site.key", "ca.pem", "user.key"))
    with pytest.raises(ValueError, match="does not belong"):
        sign_host("x", "site", key, ca, other, ["localhost"], serves=True)
