"""Envoy's configuration, as it is rendered: the committed renderings, and what has to stand in any."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wherry_chassis.buildout import Buildout, BuildoutError, load
from wherry_chassis.server import MIN_PING_INTERVAL_S
from wherry_gateway.envoy.bootstrap import BOOTSTRAP, bootstrap, render
from wherry_testing.gateway_methods import hidden, offered

_FOLDER = Path(__file__).resolve().parents[3] / "gateway" / "envoy"
_NAMES = ("laptop", "two-replicas")
_HSTS = "strict-transport-security"


def _buildout(name: str = "laptop", **gateway: Any) -> Buildout:
    buildout = load(_FOLDER / f"{name}.toml")
    assert buildout.gateway is not None
    return buildout.model_copy(update={"gateway": buildout.gateway.model_copy(update=gateway)})


def _rendered(buildout: Buildout) -> dict[str, Any]:
    assert buildout.gateway is not None
    return bootstrap(buildout, buildout.gateway)


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every mapping in a configuration."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


@pytest.mark.parametrize("name", _NAMES)
def test_the_committed_renderings_are_what_is_rendered(name: str) -> None:
    file = _FOLDER / f"{name}.yaml"
    made = render(load(_FOLDER / f"{name}.toml"))[BOOTSTRAP].decode()
    committed = file.read_text(encoding="utf-8") if file.exists() else ""
    if made == committed:
        return
    changes = difflib.unified_diff(committed.splitlines(), made.splitlines(), "committed", "rendered", lineterm="", n=1)
    anew = [
        f"wherry-gateway render --buildout gateway/envoy/{it}.toml /tmp/{it}"
        f" && cp /tmp/{it}/{BOOTSTRAP} gateway/envoy/{it}.yaml"
        for it in _NAMES
    ]
    pytest.fail(
        "\n".join([*list(changes)[:40], "", "If that is meant, write them anew and read what has changed:", *anew])
    )


@pytest.mark.row("A1")
@pytest.mark.parametrize("name", _NAMES)
def test_no_rendering_names_a_method_or_service_that_is_not_for_users(name: str) -> None:
    text = render(_buildout(name))[BOOTSTRAP].decode()
    services = {path.split("/")[1] for path in hidden()} - {method.path.split("/")[1] for method in offered()}
    assert services
    assert [it for it in (*hidden(), *services) if it in text] == []


@pytest.mark.row("A1")
@pytest.mark.parametrize("name", _NAMES)
def test_each_method_for_users_is_routed_to_its_service_and_asks_for_a_token_unless_it_is_for_anyone(name: str) -> None:
    found = _rendered(_buildout(name))
    routed: dict[str, set[str]] = {}
    for it in _walk(found):
        if "cluster" in it.get("route", {}) and "path" in it.get("match", {}):
            routed.setdefault(it["match"]["path"], set()).add(it["route"]["cluster"])
    assert routed == {method.path: {method.service} for method in offered()}
    asking = {it["match"]["path"] for it in _walk(found) if "requires" in it and "path" in it["match"]}
    open_to_anyone = {method.path for method in offered()} - asking
    methods = {"VerifyEmail", "ResendVerification", "CreateSession", "RefreshSession", "GetJwks"}
    # The second deployment has closed registration.
    methods |= {"CreateUser"} if name == "laptop" else set()
    assert {path.rpartition("/")[2] for path in open_to_anyone} == methods


def test_no_secret_and_no_database_stands_in_what_envoy_reads() -> None:
    for name in _NAMES:
        for file, content in render(_buildout(name)).items():
            if file.endswith(".yaml"):
                text = content.decode()
                for word in ("PRIVATE KEY", "secrets/", ".kek", "sqlite", "_DATABASE"):
                    assert word not in text, f"{word} in {file}"


def test_certificates_are_named_in_files_that_envoy_watches_and_not_in_the_bootstrap() -> None:
    files = render(_buildout())
    assert b"/etc/wherry/trust" not in files[BOOTSTRAP]
    assert {"public_certificate.yaml", "mesh_certificate.yaml", "mesh_ca.yaml"} <= files.keys()
    public = yaml.safe_load(files["public_certificate.yaml"])["resources"][0]["tls_certificate"]
    assert public["certificate_chain"] == {"filename": "/etc/wherry/trust/web.pem"}
    assert public["private_key"] == {"filename": "/etc/wherry/trust/web.key"}
    mesh = yaml.safe_load(files["mesh_ca.yaml"])["resources"][0]
    assert mesh["validation_context"] == {"trusted_ca": {"filename": "/etc/wherry/trust/ca.pem"}}


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize(
    ("url", "bound"),
    [
        ("https://localhost:7400", False),
        ("https://wherry.localhost", False),
        ("https://127.0.0.1:7400", False),
        ("https://[::1]:7400", False),
        ("https://wherry.example.org", True),
        ("https://wherry.example.org:8443", True),
        ("https://localhost.example.org", True),
    ],
)
def test_a_public_name_is_bound_to_https_and_this_machine_is_not(url: str, bound: bool) -> None:
    added = [it["key"] for it in _walk(_rendered(_buildout(public_url=url))) if "key" in it]
    assert "content-security-policy" in added
    assert (_HSTS in added) is bound


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("localhost:1", {"address": "127.0.0.1", "port_value": 1}),
        ("192.0.2.1:2", {"address": "192.0.2.1", "port_value": 2}),
        ("[2001:db8::1]:3", {"address": "2001:db8::1", "port_value": 3}),
        ("*:4", {"address": "::", "port_value": 4, "ipv4_compat": True}),
        ("[::]:5", {"address": "::", "port_value": 5, "ipv4_compat": True}),
        ("0.0.0.0:6", {"address": "0.0.0.0", "port_value": 6}),
    ],
)
def test_envoy_is_given_an_address_that_it_can_bind(listen: str, address: dict[str, Any]) -> None:
    edge = _rendered(_buildout(listen=listen))["static_resources"]["listeners"][0]
    assert edge["address"]["socket_address"] == address


def test_every_replica_is_reached_and_held_to_its_name() -> None:
    clusters = {it["name"]: it for it in _rendered(_buildout("two-replicas"))["static_resources"]["clusters"]}
    for service in ("user", "site", "queue"):
        hosts = [f"{service}-{index}.wherry.example.org" for index in (1, 2)]
        addresses = [it["address"] for it in _walk(clusters[service]["load_assignment"]) if "port_value" in it]
        assert addresses == hosts
        tls = clusters[service]["transport_socket"]["typed_config"]["common_tls_context"]
        names = tls["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
        assert names == [{"san_type": "DNS", "matcher": {"exact": host}} for host in hosts]


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
def test_services_bear_that_the_gateway_asks_whether_they_live() -> None:
    """A server of gRPC cuts the connection of who asks more often than it likes, with all streams on it."""
    clusters = _rendered(_buildout())["static_resources"]["clusters"]
    intervals = [it["connection_keepalive"]["interval"] for it in _walk(clusters) if "connection_keepalive" in it]
    assert len(intervals) == 3
    assert all(float(it.removesuffix("s")) > MIN_PING_INTERVAL_S for it in intervals)


def test_streams_have_no_time_out_but_that_of_silence() -> None:
    routes = [it for it in _walk(_rendered(_buildout(stream_idle_s=77.5))) if "timeout" in it and "cluster" in it]
    unlimited = [it for it in routes if it["timeout"] == "0s"]
    assert unlimited
    assert all(it["idle_timeout"] == "77.500s" or it["idle_timeout"] == "77.5s" for it in unlimited)
    assert all("idle_timeout" not in it for it in routes if it["timeout"] != "0s")


@pytest.mark.parametrize("name", _NAMES)
def test_a_request_whose_body_never_comes_to_its_end_is_ended(name: str) -> None:
    """That it lasts a minute is too long for a test to wait for."""
    listeners = {it["name"]: it for it in _rendered(_buildout(name))["static_resources"]["listeners"]}
    (limit,) = [it["request_timeout"] for it in _walk(listeners["edge"]) if "request_timeout" in it]
    assert 0 < float(limit.removesuffix("s")) <= 60


def test_the_access_log_holds_neither_queries_nor_headers_of_the_caller() -> None:
    (log,) = [it for it in _walk(_rendered(_buildout())) if "json_format" in it and "path" in it["json_format"]]
    shown = " ".join(log["json_format"].values())
    assert "%PATH(NQ:" in shown
    for word in ("AUTHORIZATION", "COOKIE", "REQ(:PATH)", "ORIGINAL-PATH", "QUERY"):
        assert word not in shown.upper()


def test_a_deployment_without_a_gateway_has_nothing_to_render() -> None:
    with pytest.raises(BuildoutError, match=r"\[gateway\] is missing"):
        render(_buildout().model_copy(update={"gateway": None}))
