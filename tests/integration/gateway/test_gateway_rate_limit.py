"""Signing in and the like: one bucket for all ways of doing so."""

from __future__ import annotations

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
    "JSON with a query": lambda edge: edge.json("POST", "/v1/sessions?x=1", {}),
    "JSON, slashes": lambda edge: edge.json("POST", "//v1//sessions", {}),
    "JSON, detour": lambda edge: edge.json("POST", "/v1/x/../sessions", {}),
    "JSON, encoded": lambda edge: edge.json("POST", "/v1/%73essions", {}),
    "JSON, as gRPC by override": lambda edge: edge.json(
        "POST", "/v1/sessions", {}, {"x-http-method-override": "GET", "x-envoy-original-path": "/v1/keys"}
    ),
    "gRPC-Web": lambda edge: edge.grpc_web(_SESSION),
    "gRPC-Web with a query": lambda edge: edge.grpc_web(f"{_SESSION}?x=1"),
    "gRPC": lambda edge: edge.grpc(_SESSION),
    "registration": lambda edge: edge.json("POST", "/v1/users", {}),
    "registration, gRPC": lambda edge: edge.grpc("/wherry.user.v1.UserService/CreateUser"),
    "verification mail": lambda edge: edge.json("POST", "/v1/users:resendVerification", {}),
}


@pytest.fixture(scope="module")
def slow_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("slow"), settings={"sign_ins_per_s": _PER_S}) as edge:
        yield edge


def _emptied(edge: Edge) -> None:
    """Takes what the bucket holds."""
    for _ in range(_BURST + 3):
        answer = edge.json("POST", "/v1/sessions", {})
    assert answer.refusal == _REFUSED


@pytest.mark.row("U3")
@pytest.mark.parametrize("way", _DEAR)
def test_who_signs_in_when_the_bucket_is_empty_is_told_to_wait(slow_edge: Edge, way: str) -> None:
    _emptied(slow_edge)
    slow_edge.forget()
    answers = [_DEAR[way](slow_edge) for _ in range(4)]
    told = [answer for answer in answers if answer.code == "RESOURCE_EXHAUSTED"]
    passed = [call for call in slow_edge.reached() if call.service == "user"]
    reached = len(passed)
    unknown = [answer for answer in answers if answer.http_status in (400, 404)]
    if unknown:  # that way of writing it leads nowhere at all
        assert reached == 0
        return
    assert reached <= 1  # the bucket fills meanwhile
    assert len(told) >= 3
    for answer in told:
        assert answer.refusal == _REFUSED
        assert int(answer.header("retry-after") or 0) > 0
        assert answer.http_status in (429, 200, 0)
        assert [name for name, _ in answer.headers if "ratelimit" in name] == []


@pytest.mark.row("U3")
def test_everything_else_goes_on_meanwhile(slow_edge: Edge) -> None:
    _emptied(slow_edge)
    for _ in range(20):
        assert slow_edge.json("GET", "/v1/jobs", headers=slow_edge.bearer()).code == "OK"
        assert slow_edge.json("POST", "/v1/sessions:refresh", {}).code == "OK"
        assert slow_edge.grpc("/wherry.site.v1.SiteService/ListSites", headers=slow_edge.bearer()).code == "OK"
    assert slow_edge.json("POST", "/v1/sessions", {}).code in ("OK", "RESOURCE_EXHAUSTED")


@pytest.mark.row("U3")
def test_after_a_while_one_can_sign_in_again(slow_edge: Edge) -> None:
    _emptied(slow_edge)
    slow_edge.wait(lambda: slow_edge.json("POST", "/v1/sessions", {}).code == "OK", 5)
