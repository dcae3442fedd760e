"""Which methods lead where: those for users to their own service, all others to nobody."""

from __future__ import annotations

import pytest
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import KINDS, Answer, Kind
from wherry_testing.gateway_methods import Offered, field_of, hidden, message_of, offered

_PUBLIC = {
    "/wherry.user.v1.UserService/CreateUser",
    "/wherry.user.v1.UserService/VerifyEmail",
    "/wherry.user.v1.UserService/ResendVerification",
    "/wherry.user.v1.SessionService/CreateSession",
    "/wherry.user.v1.SessionService/RefreshSession",
    "/wherry.user.v1.KeyService/GetJwks",
}
"""For anyone. Written down here a second time: a method that becomes public has to be meant."""
_SECRET = "/wherry.site.v1.CredentialService/FetchCredentials"


def _call(edge: Edge, method: Offered, kind: Kind, headers: dict[str, str]) -> Answer:
    match kind:
        case "json":
            return edge.json(method.verb, method.json_path, method.body, headers)
        case "grpc":
            return edge.grpc(method.path, headers=headers)
        case "grpc-web":
            return edge.grpc_web(method.path, headers=headers)


@pytest.mark.row("A1")
@pytest.mark.row("S6")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", hidden())
def test_a_method_that_is_not_for_users_is_unknown_and_reaches_nobody(edge: Edge, path: str, kind: Kind) -> None:
    for headers in ({}, edge.bearer()):
        answer = edge.post(kind, path, headers)
        assert answer.refusal == ("NOT_FOUND" if kind == "json" else "UNIMPLEMENTED", "METHOD_NOT_FOUND")
        assert answer.http_status == {"json": 404, "grpc": 0, "grpc-web": 200}[kind]
    assert edge.reached() == []


@pytest.mark.row("A1")
@pytest.mark.parametrize(
    "path",
    [
        f"/{_SECRET}",
        f"{_SECRET}/",
        f"{_SECRET}?x=1",
        f"/.{_SECRET}",
        f"/x/..{_SECRET}",
        _SECRET.replace("/Fetch", "%2FFetch"),
        _SECRET.replace("wherry.", "wherry%2E"),
        _SECRET.replace("Fetch", "%46etch"),
        _SECRET.lower(),
        f"/v1{_SECRET}",
        f"/v1/..{_SECRET}",
        f"/wherry.queue.v1.JobService/GetJob/..{'/..' + _SECRET}",
    ],
)
@pytest.mark.parametrize("kind", ["json", "grpc-web"])
def test_no_way_of_writing_the_path_leads_to_what_workers_are_given(edge: Edge, path: str, kind: Kind) -> None:
    headers = edge.bearer()
    if kind == "grpc-web":
        headers = {**headers, "content-type": "application/grpc-web+proto", "origin": edge.origin}
    edge.http.ask("POST", path, b"\0\0\0\0\0", headers)
    assert edge.reached() == []


@pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", offered(), ids=lambda method: method.path)
def test_a_method_for_users_reaches_its_own_service(edge: Edge, method: Offered, kind: Kind) -> None:
    answer = _call(edge, method, kind, edge.bearer())
    assert answer.code == "OK", answer
    (call,) = edge.reached()
    assert (call.service, call.method) == (method.service, method.path)
    (content,) = call.messages
    if kind == "json":
        message = message_of(method.request, content)
        assert {name: field_of(message, name) for name in method.fields} == method.fields
    else:
        assert content == b""


@pytest.mark.row("A1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", offered(), ids=lambda method: method.path)
def test_without_a_token_only_what_is_for_anyone_is_reached(edge: Edge, method: Offered, kind: Kind) -> None:
    answer = _call(edge, method, kind, {})
    if method.path in _PUBLIC:
        assert answer.code == "OK", answer
        assert [call.method for call in edge.reached()] == [method.path]
    else:
        assert answer.refusal == ("UNAUTHENTICATED", "TOKEN_MISSING")
        assert edge.reached() == []


@pytest.mark.row("A1")
def test_a_method_cannot_be_asked_for_by_the_wrong_verb(edge: Edge) -> None:
    for verb in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
        answer = edge.json(verb, "/v1/jobs", headers=edge.bearer())
        assert answer.http_status in (400, 404, 405), verb
    assert edge.reached() == []
