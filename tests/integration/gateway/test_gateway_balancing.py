"""Replicas that drain, die and come back, and services of which none is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wherry.queue.v1 import job_service_pb2
from wherry_testing.gateway import SERVICES, Edge
from wherry_testing.gateway_callers import KINDS, Answer
from wherry_testing.pki import TestPki
from wherry_testing.sites import free_ports

_GET_JOB = "/wherry.queue.v1.JobService/GetJob"
_LIST_SITES = "/wherry.site.v1.SiteService/ListSites"
_BACK_WITHIN_S = 8.0
_ASKING: dict[str, dict[str, Callable[[Edge], Answer]]] = {
    "user": {
        "json": lambda edge: edge.json("POST", "/v1/sessions", {}),
        "grpc": lambda edge: edge.grpc("/wherry.user.v1.SessionService/CreateSession"),
        "grpc-web": lambda edge: edge.grpc_web("/wherry.user.v1.SessionService/CreateSession"),
    },
    "site": {
        "json": lambda edge: edge.json("GET", "/v1/sites", headers=edge.bearer()),
        "grpc": lambda edge: edge.grpc(_LIST_SITES, headers=edge.bearer()),
        "grpc-web": lambda edge: edge.grpc_web(_LIST_SITES, headers=edge.bearer()),
    },
    "queue": {
        "json": lambda edge: edge.json("GET", "/v1/jobs:watch", headers=edge.bearer()),
        "grpc": lambda edge: edge.grpc(_GET_JOB, headers=edge.bearer()),
        "grpc-web": lambda edge: edge.grpc_web(_GET_JOB, headers=edge.bearer()),
    },
}


@pytest.fixture(scope="module")
def double_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("double"), replicas=2) as edge:
        yield edge


@pytest.fixture
def doubled(double_edge: Edge) -> Iterator[Edge]:
    """Two replicas of each service, all well; also afterwards."""
    double_edge.forget()
    yield double_edge
    for upstream in double_edge.all_upstreams():
        upstream.serving = True
        if not upstream.running:
            upstream.start()
    double_edge.wait_healthy(**dict.fromkeys(SERVICES, 2))


def _asked(edge: Edge) -> int:
    """Asks for a site; returns the replica that answered."""
    edge.forget()
    answer = edge.grpc(_LIST_SITES, headers=edge.bearer())
    assert answer.code == "OK", answer
    (call,) = edge.reached()
    return call.replica


def test_calls_go_to_all_replicas(doubled: Edge) -> None:
    doubled.wait(lambda: len({_asked(doubled) for _ in range(10)}) == 2)


def test_no_call_fails_when_a_replica_says_that_it_ends(doubled: Edge) -> None:
    doubled.upstreams["site"][0].serving = False
    doubled.wait(lambda: {_asked(doubled) for _ in range(10)} == {1})
    doubled.upstreams["site"][0].serving = True
    doubled.wait(lambda: 0 in {_asked(doubled) for _ in range(10)})


def test_no_call_fails_when_a_replica_is_stopped_between_calls(doubled: Edge) -> None:
    doubled.wait(lambda: len({_asked(doubled) for _ in range(10)}) == 2)  # there are connections to both
    doubled.upstreams["site"][1].stop()
    assert {_asked(doubled) for _ in range(30)} == {0}
    doubled.upstreams["site"][1].start()
    doubled.wait(lambda: 1 in {_asked(doubled) for _ in range(10)})


@pytest.mark.parametrize("service", SERVICES)
def test_with_no_replica_left_callers_are_told_which_service_is_away(doubled: Edge, service: str) -> None:
    for upstream in doubled.upstreams[service]:
        upstream.stop()
    other = "queue" if service == "site" else "site"
    for kind in (*KINDS, *KINDS):  # while Envoy still thinks that it is there, too
        answer = _ASKING[service][kind](doubled)
        assert answer.refusal == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
        assert dict(answer.info.metadata) == {"service": service}
        assert int(answer.header("retry-after") or 0) > 0
        assert answer.http_status == {"json": 503, "grpc": 0, "grpc-web": 200}[kind]
        assert service in answer.message
        assert _ASKING[other][kind](doubled).code == "OK"


def test_a_service_that_only_says_that_it_does_not_serve_is_away(doubled: Edge) -> None:
    for upstream in doubled.upstreams["site"]:
        upstream.serving = False
    doubled.wait(lambda: _ASKING["site"]["json"](doubled).code != "OK")
    doubled.forget()
    assert _ASKING["site"]["json"](doubled).refusal == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
    assert doubled.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_service_that_is_back_is_used_within_seconds(doubled: Edge) -> None:
    for upstream in doubled.upstreams["site"]:
        upstream.stop()
    doubled.wait_healthy(site=0)
    assert _ASKING["site"]["grpc"](doubled).code == "UNAVAILABLE"
    for upstream in doubled.upstreams["site"]:
        upstream.start()
    doubled.wait(lambda: _ASKING["site"]["grpc"](doubled).code == "OK", _BACK_WITHIN_S)


class _Replicas:
    """Job services in processes of their own, which can be killed."""

    def __init__(self, pki: TestPki) -> None:
        files = pki.files("queue")
        self.addresses: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        for name, port in zip(("first", "second"), free_ports(2), strict=True):
            arguments = [name, *(str(it) for it in (files.certificate, files.key, files.ca)), str(port)]
            module = [sys.executable, "-m", "wherry_testing.recording_upstream"]
            self._running.append(subprocess.Popen([*module, *arguments]))
            self.addresses.append(f"127.0.0.1:{port}")

    def kill(self, index: int) -> None:
        self._running[index].kill()
        self._running[index].wait()

    def close(self) -> None:
        for index in range(len(self._running)):
            self.kill(index)


@pytest.fixture
def killable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Edge, _Replicas]]:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    pki = TestPki(tmp_path / "mesh")
    replicas = _Replicas(pki)
    try:
        with Edge(tmp_path, queue=replicas.addresses, pki=pki) as edge:
            yield edge, replicas
    finally:
        replicas.close()


def test_no_call_fails_when_a_replica_is_killed_between_calls(killable: tuple[Edge, _Replicas]) -> None:
    edge, replicas = killable

    def answerer() -> str:
        answer = edge.grpc(_GET_JOB, headers=edge.bearer())
        assert answer.code == "OK", answer
        return job_service_pb2.Job.FromString(answer.messages[0]).name

    edge.wait(lambda: {answerer() for _ in range(10)} == {"first", "second"})
    assert edge.connections(replicas.addresses[0])
    replicas.kill(0)
    # What is under way then is lost; it cannot be known whether it was done, so it is not sent again. Each of the
    # gateway's threads has a connection of its own.
    edge.wait(lambda: not edge.connections(replicas.addresses[0]))
    assert {answerer() for _ in range(50)} == {"second"}
    replicas.kill(1)
    answer = edge.json("GET", "/v1/jobs/x", headers=edge.bearer())
    assert answer.refusal == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
