"""Signing in and the like: one bucket for all ways of doing so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import Answer

_SESSION = "/wherry.user.v1.SessionService/CreateSession"
_REFUSED = ("RESOURCE_EXHAUSTED", "SIGN_IN_RATE_LIMITED")
_PER_S = 1
_BURST = 2 * _PER_S
_DEAR: dict[str, Callable[[Edge], Answer]] = {
    "JSON": lambda edge: edge.json("POST", "/v1/sessions", {}),
    "JSON with an empty query": lambda edge: edge.json("POST", "/v1/sessions?", {}),
    "JSON, slashes": lambda edge: edge.json("POST", "//v1//sessions", {}),
    "JSON, a slash behind": lambda edge: edge.json("POST", "/v1/sessions/", {}, edge.bearer()),
    "JSON, slashes behind": lambda edge: edge.json("POST", "/v1/sessions//", {}, edge.bearer()),
    "JSON, a slash and a query": lambda edge: edge.json("POST", "/v1/sessions/?", {}, edge.bearer()),
    "JSON, a dot behind": lambda edge: edge.json("POST", "/v1/sessions/.", {}, edge.bearer()),
    "JSON, detour": lambda edge: edge.json("POST", "/v1/x/../sessions", {}),
    "JSON, encoded": lambda edge: edge.json("POST", "/v1/%73essions", {}),
    "JSON, as gRPC by override": lambda edge: edge.json(
        "POST", "/v1/sessions", {}, {"x-http-method-override": "GET", "x-envoy-original-path": "/v1/keys"}
    ),
    "gRPC-Web": lambda edge: edge.grpc_web(_SESSION),
    "gRPC-Web with a query": lambda edge: edge.grpc_web(f"{_SESSION}?x=1"),
    "gRPC-Web, slashes": lambda edge: edge.grpc_web(_SESSION.replace("/", "//")),
    "gRPC": lambda edge: edge.grpc(_SESSION),
    "gRPC with a query": lambda edge: edge.grpc(f"{_SESSION}?x=1"),
    "registration": lambda edge: edge.json("POST", "/v1/users", {}),
    "registration, a slash behind": lambda edge: edge.json("POST", "/v1/users/", {}, edge.bearer()),
    "registration, gRPC": lambda edge: edge.grpc("/wherry.user.v1.UserService/CreateUser"),
    "verification mail": lambda edge: edge.json("POST", "/v1/users:resendVerification", {}),
}
"""Ways that lead to a dear method; for some of them a token has to be there."""
_NOWHERE = {
    "an unknown parameter": ("/v1/sessions?x=1", "INVALID_ARGUMENT"),
    "a slash, encoded": ("/v1/sessions%2f", "INVALID_ARGUMENT"),
    "a parameter of the path": ("/v1/sessions;x", "NOT_FOUND"),
    "capitals": ("/v1/Sessions", "NOT_FOUND"),
    "a question mark, encoded": ("/v1/sessions/%3f", "NOT_FOUND"),
    "a slash behind a verb": ("/v1/users:resendVerification/", "NOT_FOUND"),
}
"""Ways that lead to no method, though a token is there."""


@pytest.fixture(scope="module")
def slow_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("slow"), settings={"sign_ins_per_s": _PER_S}) as edge:
        yield edge


def _emptied(edge: Edge) -> None:
    """Takes what the bucket holds."""
    for _ in range(_BURST + 3):
        answer = edge.json("POST", "/v1/sessions", {})
    assert answer.refusal == _REFUSED


def _filled_since(started_s: float) -> int:
    """Returns how many calls the bucket, empty then, may have let through since, at most."""
    return 1 + int((time.monotonic() - started_s) * _PER_S)


@pytest.mark.row("U3")
@pytest.mark.parametrize("way", _DEAR)
def test_each_of_these_ways_leads_to_the_user_service(edge: Edge, way: str) -> None:
    """Or else it would prove nothing that it is refused below."""
    assert _DEAR[way](edge).code == "OK"
    assert [call.service for call in edge.reached()] == ["user"]


@pytest.mark.row("U3")
@pytest.mark.parametrize("way", _NOWHERE)
def test_other_ways_of_writing_it_lead_nowhere(edge: Edge, way: str) -> None:
    path, code = _NOWHERE[way]
    assert edge.json("POST", path, {}, edge.bearer()).code == code
    assert edge.reached() == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("way", _DEAR)
def test_who_signs_in_when_the_bucket_is_empty_is_told_to_wait(slow_edge: Edge, way: str) -> None:
    _emptied(slow_edge)
    slow_edge.forget()
    started_s = time.monotonic()
    answers = [_DEAR[way](slow_edge) for _ in range(4)]
    most = _filled_since(started_s)
    assert len([call for call in slow_edge.reached() if call.service == "user"]) <= most
    told = [answer for answer in answers if answer.code != "OK"]
    assert len(told) >= max(1, len(answers) - most)
    for answer in told:
        assert answer.refusal == _REFUSED
        assert int(answer.header("retry-after") or 0) > 0
        assert answer.http_status in (429, 200, 0)
        assert [name for name, _ in answer.headers if "ratelimit" in name] == []


@pytest.mark.row("U3")
def test_everything_else_goes_on_meanwhile(slow_edge: Edge) -> None:
    _emptied(slow_edge)
    started_s = time.monotonic()
    codes = []
    for _ in range(20):
        codes.append(slow_edge.json("POST", "/v1/sessions", {}).code)
        assert slow_edge.json("GET", "/v1/jobs", headers=slow_edge.bearer()).code == "OK"
        assert slow_edge.json("POST", "/v1/sessions:refresh", {}).code == "OK"
        assert slow_edge.grpc("/wherry.site.v1.SiteService/ListSites", headers=slow_edge.bearer()).code == "OK"
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert codes.count("OK") <= _filled_since(started_s)
    assert "RESOURCE_EXHAUSTED" in codes


@pytest.mark.row("U3")
def test_after_a_while_one_can_sign_in_again(slow_edge: Edge) -> None:
    _emptied(slow_edge)
    slow_edge.wait(lambda: slow_edge.json("POST", "/v1/sessions", {}).code == "OK", 5)
