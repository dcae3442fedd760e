from __future__ import annotations

import ipaddress
import re
import ssl
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, Gateway, load
from wherry_chassis.identity import grid_subject
from wherry_chassis.tls import MaterialFiles
from wherry_client.configuration import load as load_client
from wherry_deploy.authority import sign_host, sign_web
from wherry_deploy.initialise import InitError, initialise
from wherry_deploy.template import ROLES, Choices, buildout_text

HOSTS = ("user", "site", "queue", "worker", "operator", "gateway")


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
    for name in ("buildout.toml", "client.toml", "ca.pem", "web-ca.pem", "web.pem", "vault.kek", "token-signing.kek"):
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
    assert len(secret) == len(HOSTS) + 1 + 2 + 2
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
def test_every_role_is_given_to_one_certificate_and_each_certificate_has_one(deployment: Path) -> None:
    table = build_table(load(deployment / "buildout.toml").access)
    for role, host in ROLES.items():
        certificate = x509.load_pem_x509_certificate((deployment / "trust" / f"{host}.pem").read_bytes())
        assert table.roles_of(grid_subject(certificate.subject)) == {role}


# --- the public side


def public(folder: Path, host: str = "wherry.example.org", **further: Any) -> Path:
    initialise(folder, Choices(public_host=host, gateway_port=443, **further))
    return folder / "trust"


def context(trust: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=trust / "web-ca.pem")


def shakes_hands(client: ssl.SSLContext, certificate: Path, key: Path, host: str) -> bool:
    """Tells whether a client believes a server with a certificate when it wants a host."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=host)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def test_the_public_certificate_is_for_the_public_host_and_this_machine(tmp_path: Path) -> None:
    trust = public(tmp_path, further_names=("www.example.org",))
    for host in ("wherry.example.org", "localhost", "www.example.org"):
        assert shakes_hands(context(trust), trust / "web.pem", trust / "web.key", host), host
    assert not shakes_hands(context(trust), trust / "web.pem", trust / "web.key", "www.example.com")
    gateway = load(tmp_path / "buildout.toml").gateway
    assert gateway is not None
    assert (gateway.public_url, gateway.listen) == ("https://wherry.example.org", "*:443")
    assert (gateway.public_certificate, gateway.public_key) == (trust / "web.pem", trust / "web.key")


@pytest.mark.parametrize("host", ["bank.example.com", "example.org", "192.0.2.1", "127.0.0.1", "::1"])
def test_the_web_authority_is_believed_for_the_public_names_and_nothing_else(tmp_path: Path, host: str) -> None:
    """Whoever imports it gives its key's holder no other host."""
    trust = public(tmp_path)
    for wanted, believed in ((host, False), ("localhost", True)):
        (tmp_path / "web.pem").write_bytes(signed(trust, [wanted]))
        assert shakes_hands(context(trust), tmp_path / "web.pem", trust / "web.key", wanted) == believed


def signed(trust: Path, hosts: list[str]) -> bytes:
    """Returns a certificate by the web authority for whatever is asked, as whoever has stolen its key would make it."""
    key, ca, ca_key = ((trust / name).read_bytes() for name in ("web.key", "web-ca.pem", "web-ca.key"))
    return sign_web("x", key, ca, ca_key, hosts)


def test_the_deployments_own_authority_has_not_signed_for_the_public_side(deployment: Path) -> None:
    trust = deployment / "trust"
    own = ssl.create_default_context(cafile=trust / "ca.pem")
    assert not shakes_hands(own, trust / "web.pem", trust / "web.key", "localhost")
    assert not shakes_hands(context(trust), trust / "user.pem", trust / "user.key", "localhost")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_public_address_may_be_a_number(tmp_path: Path, host: str) -> None:
    trust = public(tmp_path, host)
    assert shakes_hands(context(trust), trust / "web.pem", trust / "web.key", host)
    gateway = load(tmp_path / "buildout.toml").gateway
    assert gateway is not None
    assert gateway.listen.endswith(f"{host}:443" if "." in host else f"[{host}]:443")


@pytest.mark.parametrize("host", ["", "a b", "https://x", "host:443", "-x"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InitError, match="public host"):
        initialise(tmp_path, Choices(host=host, public_host=host))


def test_a_changed_public_host_needs_another_web_authority_and_is_told_so(tmp_path: Path) -> None:
    trust = public(tmp_path)
    file = tmp_path / "buildout.toml"
    file.write_text(file.read_text().replace("https://wherry.example.org", "https://data.example.com"))
    for name in ("web.pem", "web.key"):
        (trust / name).unlink()
    with pytest.raises(InitError, match=r"web-ca\.pem may not sign for data\.example\.com"):
        initialise(tmp_path, Choices())
    for name in ("web-ca.pem", "web-ca.key"):
        (trust / name).unlink()
    initialise(tmp_path, Choices())
    assert shakes_hands(context(trust), trust / "web.pem", trust / "web.key", "data.example.com")


def test_a_lost_key_of_the_public_certificate_is_told(deployment: Path) -> None:
    (deployment / "trust" / "web.key").unlink()
    with pytest.raises(InitError, match=r"web\.key is missing"):
        initialise(deployment, Choices())


def test_without_the_web_authoritys_key_no_public_certificate_is_made(deployment: Path) -> None:
    (deployment / "trust" / "web.pem").unlink()
    (deployment / "trust" / "web-ca.key").unlink()
    with pytest.raises(InitError, match=r"without .*web-ca\.key none can be made"):
        initialise(deployment, Choices())


def test_a_public_certificate_from_elsewhere_needs_no_authority_of_ours(deployment: Path) -> None:
    file = deployment / "buildout.toml"
    file.write_text(file.read_text().replace('"trust/web.pem"', '"/etc/elsewhere/fullchain.pem"'))
    for path in (*(deployment / "trust").glob("web*"), deployment / "client.toml"):
        path.unlink()
    initialise(deployment, Choices())
    assert list((deployment / "trust").glob("web*")) == []
    assert load_client(deployment / "client.toml").ca is None


def test_a_deployment_without_a_gateway_stays_without_one(deployment: Path) -> None:
    file = deployment / "buildout.toml"
    text = file.read_text()
    file.write_text(text[: text.index("[gateway]")] + text[text.index("[lease]") :])
    for path in (*(deployment / "trust").glob("web*"), deployment / "client.toml"):
        path.unlink()
    assert initialise(deployment, Choices()) == []


def test_the_clients_configuration_is_one_that_the_client_reads(deployment: Path) -> None:
    found = load_client(deployment / "client.toml")
    assert (found.gateway, found.ca) == ("localhost:8443", deployment / "trust" / "web-ca.pem")


def test_the_clients_configuration_follows_a_buildout_file_that_is_there(deployment: Path) -> None:
    file = deployment / "buildout.toml"
    file.write_text(file.read_text().replace("https://localhost:8443", "https://localhost:4711"))
    (deployment / "client.toml").unlink()
    initialise(deployment, Choices())
    assert load_client(deployment / "client.toml").gateway == "localhost:4711"


def test_the_template_shows_every_key_there_is() -> None:
    text = buildout_text(Choices())
    shown = {line.lstrip("# ").partition("=")[0].strip() for line in text.splitlines() if "=" in line}
    for section, field in Buildout.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        if section != "service":
            assert {key for key in keys if key not in ("rpc", "roles")} <= shown, section
    assert {"listen", "address", "certificate", "key", "database", "key_encryption_key", "myproxy_timeout_s"} <= shown
    assert set(Gateway.model_fields) | {"heartbeat_s"} <= shown


def test_the_templates_comments_show_the_true_defaults(tmp_path: Path) -> None:
    """Uncommented, the file means the same."""
    lines = buildout_text(Choices()).splitlines()
    limits = ("link_tasks", "site_out_tasks", "site_in_tasks", "user_tasks")
    optional = ("address", *limits, "username", "password", "ca =", "verify_url", "envoy", '"wherry')
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
