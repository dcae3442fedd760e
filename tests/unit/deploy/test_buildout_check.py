from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from wherry_chassis.buildout import Gateway, load
from wherry_deploy.authority import make_authority, make_key, sign_host
from wherry_deploy.check import Report, check
from wherry_deploy.initialise import initialise
from wherry_deploy.ports import free_ports
from wherry_deploy.template import Choices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    first, second, third, gateway = free_ports(4)
    initialise(tmp_path, Choices(ports=(first, second, third), gateway_port=gateway))
    return tmp_path / "buildout.toml"


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), encoding="utf-8")


def line_of(file: Path, words: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if words in line)


def fault(report: Report, key: str) -> str:
    found = [line for line in report.faults if f": {key}: " in line]
    assert len(found) == 1, report.faults
    return found[0]


def test_a_fresh_deployment_has_no_faults(file: Path) -> None:
    report = check(file)
    assert report.faults == []
    assert report.buildout is not None


def test_all_faults_are_named_at_once_each_with_its_line(file: Path) -> None:
    change(file, 'key = "trust/user.key"', 'key = "trust/nowhere.key"')
    change(file, 'key = "trust/queue.key"', 'key = "trust/site.key"')
    change(file, '# engine_python = "/usr/bin/python3"', 'engine_python = "/bin/false" #')
    report = check(file)
    assert len(report.faults) == 3
    where = f"{file}:{line_of(file, 'nowhere.key')}: service.user.key: "
    assert fault(report, "service.user.key").startswith(where)
    assert "does not belong" in fault(report, "service.queue.key")
    assert "cannot import gfal2" in fault(report, "worker.engine_python")


def test_unknown_keys_and_bad_values_are_faults_with_their_lines(file: Path) -> None:
    change(file, "[worker]", "[worker]\nproceses = 3")
    change(file, "port = 25", "port = 99999")
    report = check(file)
    assert [line.split(": ")[0] for line in report.faults] == [
        f"{file}:{line_of(file, 'proceses')}",
        f"{file}:{line_of(file, '99999')}",
    ]


def _expired(trust: Path) -> None:
    _sign(trust, "site", days=-1)


def _expiring(trust: Path) -> None:
    _sign(trust, "site", days=3)


def _of_another_authority(trust: Path) -> None:
    key = make_key()
    ca = make_authority("other", key)
    site_key = (trust / "site.key").read_bytes()
    (trust / "site.pem").write_bytes(sign_host("wherry", "site", site_key, ca, key, ["localhost"], serves=True))


def _of_another_subject(trust: Path) -> None:
    _sign(trust, "site", deployment="other")


def _without_its_name(trust: Path) -> None:
    _sign(trust, "site", names=["elsewhere.example.org"])


def _no_pem(trust: Path) -> None:
    (trust / "site.pem").write_text("nothing")


def _sign(
    trust: Path, host: str, *, days: int = 30, deployment: str = "wherry", names: list[str] | None = None
) -> None:
    """Issues a certificate that ends in so many days (openssl makes ones that have ended; our code does not)."""
    issue = ["openssl", "x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", f"{host}.pem", "-extfile", "ext"]
    alternative = ",".join(f"DNS:{name}" for name in (names or ["localhost"]))
    (trust / "ext").write_text(f"subjectAltName={alternative}\n")
    request = subprocess.run(
        ["openssl", "req", "-new", "-key", f"{host}.key", "-subj", f"/O=Wherry {deployment}/CN={host}"],
        cwd=trust,
        capture_output=True,
        check=True,
    )
    subprocess.run([*issue, "-days", str(days)], cwd=trust, input=request.stdout, capture_output=True, check=True)


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (_expired, "expired on"),
        (_of_another_authority, "is not signed by"),
        (_of_another_subject, "not named in access.roles.site"),
        (_without_its_name, "does not name localhost"),
        (_no_pem, "no certificate in PEM"),
        (lambda trust: (trust / "site.pem").unlink(), "wherry-buildout init"),
    ],
)
def test_a_certificate_that_others_would_refuse_is_a_fault(
    file: Path, sabotage: Callable[[Path], None], words: str
) -> None:
    sabotage(file.parent / "trust")
    assert words in fault(check(file), "service.site.certificate")


def test_a_certificate_that_ends_soon_is_a_warning(file: Path) -> None:
    _expiring(file.parent / "trust")
    report = check(file)
    assert report.faults == []
    assert any("service.site.certificate: warning: " in line and "expires in" in line for line in report.warnings)


@pytest.mark.parametrize(
    ("path", "key"), [("trust/worker.key", "worker.key"), ("secrets/vault.kek", "service.site.key_encryption_key")]
)
def test_secrets_that_others_can_read_are_a_fault(file: Path, path: str, key: str) -> None:
    (file.parent / path).chmod(0o644)
    assert "chmod 600" in fault(check(file), key)


@pytest.mark.parametrize("content", [b"", b"short", b"QUJD\n"])
def test_a_wrapping_key_that_is_none_is_a_fault(file: Path, content: bytes) -> None:
    (file.parent / "secrets" / "token-signing.kek").write_bytes(content)
    assert "32 bytes in base64" in fault(check(file), "tokens.signing_key_encryption_key")


def test_a_secret_whose_variable_is_not_set_is_a_fault(file: Path) -> None:
    change(file, 'database = "sqlite:///data/queue.db"', 'database = "env:WHERRY_TEST_NO_SUCH_VARIABLE"')
    assert "WHERRY_TEST_NO_SUCH_VARIABLE" in fault(check(file), "service.queue.database")


def test_a_port_that_is_taken_is_a_fault(file: Path) -> None:
    report = check(file)
    assert report.buildout is not None
    address = report.buildout.service.queue.listen[0]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        assert address in fault(check(file), "service.queue.listen")


def test_more_than_one_replica_of_the_queue_on_sqlite_is_refused(file: Path) -> None:
    one, two = free_ports(2)
    report = check(file)
    assert report.buildout is not None
    change(file, f'["{report.buildout.service.queue.listen[0]}"]', f'["localhost:{one}", "localhost:{two}"]')
    assert "PostgreSQL" in fault(check(file), "service.queue.database")


def test_more_than_one_replica_on_sqlite_is_refused_by_reference_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = free_ports(2)
    report = check(file)
    assert report.buildout is not None
    monkeypatch.setenv("WHERRY_TEST_DB", f"sqlite:///{file.parent}/q.db")
    change(file, "sqlite:///data/queue.db", "env:WHERRY_TEST_DB")
    change(file, f'["{report.buildout.service.queue.listen[0]}"]', f'["localhost:{one}", "localhost:{two}"]')
    assert "PostgreSQL" in fault(check(file), "service.queue.listen")


def test_two_services_in_one_database_are_refused(file: Path) -> None:
    change(file, "sqlite:///data/site.db", "sqlite:///data/user.db")
    assert "service.user.database" in fault(check(file), "service.site.database")


def test_a_database_that_does_not_answer_is_a_fault_without_its_password(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("WHERRY_TEST_DB", f"postgresql+psycopg://u:hunter2@127.0.0.1:{port}/nothing")
    change(file, 'database = "sqlite:///data/queue.db"', 'database = "env:WHERRY_TEST_DB"')
    said = fault(check(file), "service.queue.database")
    assert "does not answer" in said
    assert "hunter2" not in said


def test_a_driver_that_there_is_not_is_a_fault(file: Path) -> None:
    change(file, "sqlite:///data/site.db", "oracle+nothing://host/x")
    assert "no such driver" in fault(check(file), "service.site.database")


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ('"wherry.site.v1.SiteService/CreateSit" = ["user"]', "CreateSit", "unknown RPC"),
        ('"wherry.site.v1.SiteService/CreateSite" = ["usr"]', "CreateSite", "unknown role usr"),
    ],
)
def test_a_line_of_the_access_table_that_means_nothing_is_a_fault(file: Path, line: str, key: str, words: str) -> None:
    change(file, "[access.rpc]", f"[access.rpc]\n{line}")
    report = check(file)
    (said,) = report.faults
    assert said.startswith(f"{file}:{line_of(file, line)}: access.rpc.wherry.site.v1.SiteService/{key}")
    assert words in said


def test_a_role_that_there_is_not_is_a_fault(file: Path) -> None:
    change(file, "operator = [", "overlord = [")
    assert "unknown role" in fault(check(file), "access.roles.overlord")


def test_a_certificate_that_has_no_role_is_a_fault(file: Path) -> None:
    change(file, '\nworker = ["/O=Wherry wherry/CN=worker"]', '\nworker = ["/O=Wherry wherry/CN=other"]')
    assert "access.roles.worker" in fault(check(file), "worker.certificate")


def test_a_listener_on_all_addresses_needs_an_address_for_others(file: Path) -> None:
    report = check(file)
    assert report.buildout is not None
    listen = report.buildout.service.user.listen[0]
    change(file, f'["{listen}"]', f'["0.0.0.0:{listen.rpartition(":")[2]}"]')
    assert "say in `address`" in fault(check(file), "service.user.listen")


def test_a_login_at_the_mail_server_has_a_name_and_a_password(file: Path) -> None:
    change(file, '# username = "wherry"', 'username = "wherry"')
    assert "is missing" in fault(check(file), "mail.password")


def test_a_mail_server_that_does_not_answer_is_a_warning(file: Path) -> None:
    (port,) = free_ports(1)
    change(file, "port = 25", f"port = {port}")
    report = check(file)
    assert report.faults == []
    assert any("mail.host: warning: " in line for line in report.warnings)


# --- the gateway


def gateway_of(file: Path) -> Gateway:
    buildout = check(file).buildout
    assert buildout is not None
    assert buildout.gateway is not None
    return buildout.gateway


@pytest.mark.parametrize(
    ("before", "after", "key", "words"),
    [
        ('"trust/web.pem"', '"trust/nowhere.pem"', "gateway.public_certificate", "cannot be read"),
        ('"trust/web.key"', '"trust/nowhere.key"', "gateway.public_key", "cannot be read"),
        ('"trust/web.key"', '"trust/user.key"', "gateway.public_key", "does not belong"),
        ('"trust/gateway.pem"', '"trust/nowhere.pem"', "gateway.certificate", "cannot be read"),
        ('"trust/gateway.key"', '"trust/user.key"', "gateway.key", "does not belong"),
        ('\ngateway = ["/O=Wherry wherry/CN=gateway"]', "", "gateway.certificate", "access.roles.gateway"),
        ("https://localhost:", "https://www.example.org:", "gateway.public_certificate", "does not name www.example"),
        ('# envoy = "/usr/bin/envoy"', 'envoy = "/no/such/envoy"', "gateway.envoy", "/no/such/envoy is no program"),
        ('# envoy = "/usr/bin/envoy"', 'envoy = "/bin/false"', "gateway.envoy", "is no Envoy that runs here"),
        ('"data/gateway"', f'"{"x" * 100}"', "gateway.state", "too long"),
    ],
)
def test_what_would_keep_the_gateway_from_running_is_a_fault(
    file: Path, before: str, after: str, key: str, words: str
) -> None:
    change(file, before, after)
    assert words in fault(check(file), key)


def test_the_gateways_port_has_to_be_free_and_its_own(file: Path) -> None:
    listen = gateway_of(file).listen
    with socket.create_server(("127.0.0.1", int(listen.rpartition(":")[2]))):
        assert listen in fault(check(file), "gateway.listen")
    buildout = load(file)
    taken = buildout.service.user.listen[0]
    change(file, f'listen = "{listen}"', f'listen = "{taken}"')
    assert "service.user" in fault(check(file), "gateway.listen")


@pytest.mark.parametrize(("host", "listened_on"), [("*", True), ("127.0.0.1", True), ("ip6-localhost", False)])
def test_the_gateway_listens_on_addresses_and_not_on_names(file: Path, host: str, listened_on: bool) -> None:
    listen = gateway_of(file).listen
    change(file, f'listen = "{listen}"', f'listen = "{host}:{listen.rpartition(":")[2]}"')
    report = check(file)
    assert (report.faults == []) == listened_on
    if not listened_on:
        assert "addresses, not names" in fault(report, "gateway.listen")


@pytest.mark.parametrize(("days", "fatal"), [(-1, True), (3, False)])
def test_a_public_certificate_that_ends_is_told_and_before_that_warned_of(file: Path, days: int, fatal: bool) -> None:
    _sign(file.parent / "trust", "web", days=days)
    report = check(file)
    if fatal:
        assert "expired on" in fault(report, "gateway.public_certificate")
    else:
        assert report.faults == []
        assert any("gateway.public_certificate: warning: " in line for line in report.warnings)


def test_a_public_key_that_others_can_read_is_a_fault(file: Path) -> None:
    (file.parent / "trust" / "web.key").chmod(0o644)
    assert "chmod 600" in fault(check(file), "gateway.public_key")


def test_a_deployment_may_be_without_a_gateway(file: Path) -> None:
    text = file.read_text()
    file.write_text(text[: text.index("[gateway]")] + text[text.index("[lease]") :])
    assert check(file).faults == []
