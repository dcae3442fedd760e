"""Access tokens at the edge: which are believed, what the others are told, and keys that change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import KINDS, Answer, Kind

_GET_JOB = "/wherry.queue.v1.JobService/GetJob"
_LIST_SITES = "/wherry.site.v1.SiteService/ListSites"
_KEYS_WITHIN_S = 12.0


def _ask(edge: Edge, kind: Kind, headers: dict[str, str]) -> Answer:
    return edge.json("GET", "/v1/jobs/x", headers=headers) if kind == "json" else edge.post(kind, _GET_JOB, headers)


def _part(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unsigned(makers: TokenMaker) -> str:
    return f"{_part({'alg': 'none', 'kid': makers.kid, 'typ': 'JWT'})}.{_part(makers.claims())}."


def _signed_by_the_public_key(makers: TokenMaker, form: Callable[[TokenMaker], bytes]) -> str:
    """What a verifier believes that takes the algorithm from the token and the key for whatever that needs."""
    text = f"{_part({'alg': 'HS256', 'kid': makers.kid, 'typ': 'JWT'})}.{_part(makers.claims())}"
    return f"{text}.{_part(hmac.digest(form(makers), text.encode(), hashlib.sha256))}"


def _raw(makers: TokenMaker) -> bytes:
    return makers.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _pem(makers: TokenMaker) -> bytes:
    return makers.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _altered(makers: TokenMaker) -> str:
    head, _, signature = makers.token().split(".")
    return f"{head}.{_part(makers.claims(sub='bob'))}.{signature}"


_HOUR_S = 3600
_BAD: dict[str, Callable[[TokenMaker], str]] = {
    "of another key": lambda makers: TokenMaker(makers.kid).token(),
    "of an unknown key": lambda _: TokenMaker("key-unknown").token(),
    "with other claims than were signed": _altered,
    "expired": lambda makers: makers.token(exp=int(time.time()) - _HOUR_S),
    "not valid yet": lambda makers: makers.token(nbf=int(time.time()) + _HOUR_S),
    "without an end": lambda makers: makers.token(without="exp"),
    "for another audience": lambda makers: makers.token(aud="elsewhere"),
    "for no audience": lambda makers: makers.token(without="aud"),
    "of another issuer": lambda makers: makers.token(iss="elsewhere"),
    "of no issuer": lambda makers: makers.token(without="iss"),
    "not signed": _unsigned,
    "signed with the public key, raw": lambda makers: _signed_by_the_public_key(makers, _raw),
    "signed with the public key, PEM": lambda makers: _signed_by_the_public_key(makers, _pem),
    "no token": lambda _: "abc",
    "with one part": lambda makers: makers.token().split(".")[0],
    "empty": lambda _: "",
}


@pytest.mark.row("D15")
@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", _BAD)
def test_a_bad_token_is_refused_at_the_edge(edge: Edge, kind: Kind, bad: str) -> None:
    answer = _ask(edge, kind, {"authorization": f"Bearer {_BAD[bad](edge.tokens)}"})
    assert answer.code == "UNAUTHENTICATED"
    # An empty one is none at all to some clients, which send no blank at a header's end.
    assert answer.info.reason in ({"TOKEN_INVALID", "TOKEN_MISSING"} if bad == "empty" else {"TOKEN_INVALID"})
    assert answer.http_status == {"json": 401, "grpc": 0, "grpc-web": 200}[kind]
    assert edge.reached() == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_token_one_is_told_to_sign_in(edge: Edge, kind: Kind) -> None:
    answer = _ask(edge, kind, {})
    assert answer.refusal == ("UNAUTHENTICATED", "TOKEN_MISSING")
    if kind == "json":
        assert (answer.http_status, answer.header("content-type")) == (401, "application/json")
        assert (answer.header("www-authenticate") or "").startswith("Bearer")
    assert edge.reached() == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_token_passes_and_is_shown_to_the_service(edge: Edge, kind: Kind) -> None:
    token = edge.tokens.token()
    assert _ask(edge, kind, edge.bearer(token)).code == "OK"
    (call,) = edge.reached()
    assert call.header("authorization") == [f"Bearer {token}"]


@pytest.mark.row("U3")
@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_letters(edge: Edge, scheme: str) -> None:
    answer = _ask(edge, "json", {"authorization": f"{scheme} {edge.tokens.token()}"})
    assert answer.code == "OK", answer


@pytest.mark.row("U3")
@pytest.mark.parametrize("header", ["Basic YWxpY2U6aHVudGVyMg==", "{token}", "Token {token}", "Bearer"])
def test_what_is_no_bearer_token_is_none(edge: Edge, header: str) -> None:
    answer = _ask(edge, "json", {"authorization": header.format(token=edge.tokens.token())})
    assert answer.code == "UNAUTHENTICATED"
    assert edge.reached() == []


@pytest.mark.row("D15")
@pytest.mark.parametrize("name", ["access_token", "authorization", "token", "bearer"])
def test_a_token_in_the_address_is_not_looked_at(edge: Edge, name: str) -> None:
    answer = edge.json("GET", f"/v1/jobs/x?{name}={edge.tokens.token()}")
    assert answer.refusal == ("UNAUTHENTICATED", "TOKEN_MISSING")
    assert edge.reached() == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", KINDS)
def test_signing_in_again_with_an_expired_token_works(edge: Edge, kind: Kind) -> None:
    stale = edge.bearer(edge.tokens.token(exp=int(time.time()) - _HOUR_S))
    if kind == "json":
        answer = edge.json("POST", "/v1/sessions:refresh", {}, stale)
    else:
        answer = edge.post(kind, "/wherry.user.v1.SessionService/RefreshSession", stale)
    assert answer.code == "OK", answer


@pytest.mark.row("D15")
def test_no_token_stands_in_the_gateways_log(edge: Edge) -> None:
    token, marker = edge.tokens.token(), "marked-for-the-log"
    edge.json("GET", f"/v1/jobs/{marker}?access_token={token}", headers=edge.bearer(token))
    edge.grpc(_GET_JOB, headers=edge.bearer(token))
    edge.json("GET", "/v1/sites", headers={"cookie": f"__Host-wherry-access={token}"})
    edge.wait(lambda: marker in edge.log)
    assert token.rpartition(".")[2] not in edge.log


@pytest.fixture
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("rotating")) as edge:
        yield edge


@pytest.mark.row("O6", missing="mesh, vault and receipt keys")
def test_a_new_signing_key_is_believed_within_seconds_and_one_that_is_withdrawn_no_more(rotating: Edge) -> None:
    old, new = rotating.tokens, TokenMaker("key-2")
    assert rotating.grpc(_LIST_SITES, headers=rotating.bearer(old.token())).code == "OK"
    assert rotating.grpc(_LIST_SITES, headers=rotating.bearer(new.token())).refusal[1] == "TOKEN_INVALID"
    rotating.published = [new]
    rotating.wait(lambda: rotating.grpc(_LIST_SITES, headers=rotating.bearer(new.token())).code == "OK", _KEYS_WITHIN_S)
    assert rotating.grpc(_LIST_SITES, headers=rotating.bearer(old.token())).refusal[1] == "TOKEN_INVALID"


def test_tokens_of_the_tests_are_like_those_of_the_user_service(edge: Edge) -> None:
    """The algorithm of the bad tokens above is the only thing that is bad about them."""
    header = jwt.get_unverified_header(edge.tokens.token())
    assert (header["alg"], header["kid"]) == ("EdDSA", edge.tokens.kid)


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.parametrize("kind", KINDS)
def test_without_keys_a_token_is_not_called_bad_but_the_user_service_away(kind: Kind, keyless_edge: Edge) -> None:
    answer = _ask(keyless_edge, kind, keyless_edge.bearer())
    assert answer.refusal == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
    assert answer.info.metadata == {"service": "user"}
    assert answer.http_status in {"json": (503,), "grpc-web": (200,), "grpc": (0,)}[kind]
    assert answer.header("retry-after")


@pytest.fixture(scope="module")
def keyless_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("keyless"), keyless=True) as edge:
        yield edge
