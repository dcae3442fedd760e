"""Certificates: new ones are taken without a restart, broken ones are not, and services are believed by theirs."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import HttpCaller
from wherry_testing.pki import HostFiles, TestPki

_LIST_SITES = "/wherry.site.v1.SiteService/ListSites"
_PARTIAL = "mesh, vault and receipt keys of the services"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("certified")) as edge:
        yield edge


def _shown(edge: Edge, version: ssl.TLSVersion | None = None) -> int:
    """Shakes hands; returns the serial number of the certificate that is shown."""
    context = ssl.create_default_context(cafile=str(edge.web.ca))
    if version is not None:
        context.maximum_version = version
    with (
        socket.create_connection(("localhost", edge.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def _serial(certificate: Path | bytes) -> int:
    pem = certificate.read_bytes() if isinstance(certificate, Path) else certificate
    return x509.load_pem_x509_certificate(pem).serial_number


def _replace(pki: TestPki, name: str, new: HostFiles, *, only_certificate: bool = False) -> None:
    """Puts a certificate and its key in the place of another, as one should: by renaming."""
    if not only_certificate:
        new.key.replace(pki.folder / f"{name}.key")
    new.certificate.replace(pki.folder / f"{name}.pem")


@pytest.mark.row("O6", missing=_PARTIAL)
def test_a_new_public_certificate_is_shown_without_a_restart_and_old_connections_live_on(certified: Edge) -> None:
    old, pid = _shown(certified), certified.pid
    caller = HttpCaller("localhost", certified.port, certified.web.ca)
    try:
        assert caller.json("GET", "/v1/sites", headers=certified.bearer()).code == "OK"
        connected = caller.connected_from()
        new = certified.web.issue("next", roles=())
        serial = _serial(new.certificate)
        _replace(certified.web, "localhost", new)
        certified.wait(lambda: _shown(certified) == serial)
        assert serial != old
        assert caller.json("GET", "/v1/sites", headers=certified.bearer()).code == "OK"
        assert caller.connected_from() == connected
    finally:
        caller.close()
    os.kill(pid, 0)
    assert certified.pid == pid


@pytest.mark.row("O6", missing=_PARTIAL)
def test_a_certificate_without_its_key_is_not_taken(certified: Edge) -> None:
    old = _shown(certified)
    failed = "sds.public_certificate.key_rotation_failed|sds.public_certificate.update_rejected"
    before = sum(certified.stats(failed).values())
    broken = certified.web.issue("broken", roles=())
    _replace(certified.web, "localhost", broken, only_certificate=True)
    certified.wait(lambda: sum(certified.stats(failed).values()) > before)
    assert _shown(certified) == old
    whole = certified.web.issue("whole", roles=())
    serial = _serial(whole.certificate)
    _replace(certified.web, "localhost", whole)
    certified.wait(lambda: _shown(certified) == serial)


@pytest.mark.row("O6", missing=_PARTIAL)
def test_a_new_host_certificate_is_shown_to_services_without_a_restart(certified: Edge) -> None:
    (site,) = certified.upstreams["site"]
    certified.forget()
    assert certified.grpc(_LIST_SITES, headers=certified.bearer()).code == "OK"
    old = _serial(certified.reached()[-1].peer)
    new = certified.pki.issue("gateway-2", roles=("gateway",))
    serial = _serial(new.certificate)
    updated = "sds.mesh_certificate.update_success|sds.mesh_certificate.key_rotation"
    _replace(certified.pki, "gateway", new)
    assert certified.grpc(_LIST_SITES, headers=certified.bearer()).code == "OK"
    assert _serial(certified.reached()[-1].peer) == old, "the open connection lives on"

    def shown_anew() -> bool:
        site.stop()
        site.start()
        certified.wait(lambda: certified.grpc(_LIST_SITES, headers=certified.bearer()).code == "OK")
        return _serial(certified.reached()[-1].peer) == serial

    certified.wait(shown_anew)
    assert certified.stats(updated)


@pytest.mark.row("O6", missing=_PARTIAL)
@pytest.mark.row("A1")
def test_a_service_is_believed_by_its_authority_and_its_name_alone(certified: Edge, tmp_path: Path) -> None:
    (site,) = certified.upstreams["site"]
    own = certified.pki.files("site")
    other = TestPki(tmp_path / "other", name="Other CA")
    stranger = other.issue("site")

    def shows(files: HostFiles) -> None:
        site.stop()
        # It goes on to believe the mesh's authority: it is the gateway that is asked here.
        site.files = HostFiles(files.certificate, files.key, own.ca, files.subject, files.thumbprint)
        site.start()

    def answers() -> bool:
        return certified.grpc(_LIST_SITES, headers=certified.bearer()).code == "OK"

    elsewhere = certified.pki.issue("site-elsewhere", addresses=("192.0.2.77",), hosts=("elsewhere.example",))
    for files in (stranger, elsewhere):
        certified.forget()
        shows(files)
        certified.wait_healthy(site=0)
        assert not answers()
        assert certified.reached() == []
    # Both authorities from now on: how an authority is replaced.
    both = tmp_path / "both.pem"
    both.write_bytes(own.ca.read_bytes() + other.ca.read_bytes())
    shows(stranger)
    both.replace(own.ca)
    certified.wait(answers)
    shows(own)
    certified.wait(answers)


def test_old_versions_of_tls_are_refused(certified: Edge) -> None:
    assert _shown(certified, ssl.TLSVersion.TLSv1_2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certified.web.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 "):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("localhost", certified.port), timeout=5) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_both_versions_of_http_are_offered(certified: Edge) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")):
        context = ssl.create_default_context(cafile=str(certified.web.ca))
        context.set_alpn_protocols(offered)
        with (
            socket.create_connection(("localhost", certified.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() == chosen


def test_nothing_that_envoy_was_given_is_a_key_or_open_to_others(certified: Edge) -> None:
    assert certified.state.stat().st_mode & 0o077 == 0
    for file in certified.state.iterdir():
        if file.is_file():
            assert b"PRIVATE KEY" not in file.read_bytes()
        assert file.is_file() or file.stat().st_mode & 0o077 == 0, file


def test_the_administrators_socket_can_be_asked_and_not_told(certified: Edge) -> None:
    assert certified.admin("GET", "/ready") == 200
    for method, path in (("POST", "/quitquitquit"), ("POST", "/logging?level=trace"), ("GET", "/config_dump")):
        assert certified.admin(method, path) in (403, 404), path
