"""A browser's cookies become what services understand, and nothing from outside passes for the gateway's own word."""

from __future__ import annotations

import pytest
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import KINDS, Kind, ended
from wherry_testing.recording_upstream import Reached

_LIST_SESSIONS = "/wherry.user.v1.SessionService/ListSessions"
_GET_JOB = "/wherry.queue.v1.JobService/GetJob"
_CREATE_SESSION = "/wherry.user.v1.SessionService/CreateSession"
_ACCESS, _REFRESH = "__Host-wherry-access", "__Secure-wherry-refresh"


def _only(edge: Edge) -> Reached:
    (call,) = edge.reached()
    return call


def _ask(edge: Edge, kind: Kind, headers: dict[str, str]) -> Reached:
    answer = edge.json("GET", "/v1/jobs/x", headers=headers) if kind == "json" else edge.post(kind, _GET_JOB, headers)
    assert answer.code == "OK", answer
    return _only(edge)


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", ["json", "grpc-web"])
def test_the_access_cookie_becomes_a_bearer_token(edge: Edge, kind: Kind) -> None:
    token = edge.tokens.token()
    call = _ask(edge, kind, {"cookie": f"theme=dark; {_ACCESS}={token}; other=1"})
    assert call.header("authorization") == [f"Bearer {token}"]
    assert call.header("x-wherry-cookies") == ["1"]
    assert call.header("x-wherry-refresh-token") == []
    assert call.header("cookie") == []


@pytest.mark.row("U3")
def test_cookies_may_come_in_several_headers_as_http2_allows(edge: Edge) -> None:
    token = edge.tokens.token()
    cookies = (("cookie", "theme=dark"), ("cookie", f"{_ACCESS}={token}"), ("cookie", "other=1"))
    call = edge.native.stream(_GET_JOB, b"", (*cookies, ("origin", edge.origin)))
    assert ended(call, list(call)).code == "OK"
    assert _only(edge).header("authorization") == [f"Bearer {token}"]
    assert _only(edge).header("cookie") == []


@pytest.mark.row("U3")
def test_the_refresh_cookie_becomes_a_header_beside_it(edge: Edge) -> None:
    token = edge.tokens.token()
    edge.grpc_web(_LIST_SESSIONS, headers={"cookie": f"{_REFRESH}=r-1; {_ACCESS}={token}"})
    call = _only(edge)
    assert call.header("authorization") == [f"Bearer {token}"]
    assert call.header("x-wherry-refresh-token") == ["r-1"]
    assert call.header("x-wherry-cookies") == ["1"]
    assert call.header("cookie") == []


@pytest.mark.row("U3")
def test_a_browser_whose_access_cookie_has_lapsed_can_refresh(edge: Edge) -> None:
    answer = edge.grpc_web("/wherry.user.v1.SessionService/RefreshSession", headers={"cookie": f"{_REFRESH}=r-1"})
    assert answer.code == "OK", answer
    call = _only(edge)
    assert call.header("x-wherry-refresh-token") == ["r-1"]
    assert call.header("authorization") == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", ["json", "grpc-web"])
def test_the_refresh_cookie_is_for_the_session_service_alone(edge: Edge, kind: Kind) -> None:
    token = edge.tokens.token()
    call = _ask(edge, kind, {"cookie": f"{_ACCESS}={token}; {_REFRESH}=r-1"})
    assert (call.service, call.header("authorization")) == ("queue", [f"Bearer {token}"])
    assert call.header("x-wherry-refresh-token") == []
    assert not [name for name, value in call.headers if "r-1" in str(value)]


@pytest.mark.row("U3")
@pytest.mark.parametrize(
    ("method", "service"),
    [
        ("/wherry.queue.v1.JobService/ListJobs", "queue"),
        ("/wherry.site.v1.SiteService/ListSites", "site"),
        ("/wherry.user.v1.UserService/GetUser", "user"),
        ("/wherry.queue.v1.JobService/ListJobs?/wherry.user.v1.SessionService/", "queue"),
    ],
)
def test_no_other_service_sees_the_refresh_cookie(edge: Edge, method: str, service: str) -> None:
    edge.grpc_web(method, headers={"cookie": f"{_REFRESH}=r-1; {_ACCESS}={edge.tokens.token()}"})
    call = _only(edge)
    assert call.service == service
    assert not [name for name, value in call.headers if "r-1" in str(value)]


@pytest.mark.row("U3")
@pytest.mark.parametrize("cookie", ["theme=dark", f"{_REFRESH}=r-1", f"{_ACCESS}=; theme=dark"])
def test_only_an_access_cookie_is_said_to_have_come_by_cookie(edge: Edge, cookie: str) -> None:
    edge.grpc_web("/wherry.user.v1.SessionService/RefreshSession", headers={"cookie": cookie})
    call = _only(edge)
    assert call.header("x-wherry-cookies") == []
    assert call.header("authorization") == []


@pytest.mark.row("U3")
@pytest.mark.parametrize("kind", ["json", "grpc-web"])
def test_a_token_of_the_callers_own_goes_before_the_cookie(edge: Edge, kind: Kind) -> None:
    mine, cookie = edge.tokens.token(), edge.tokens.token(sub="bob")
    call = _ask(edge, kind, {**edge.bearer(mine), "cookie": f"{_ACCESS}={cookie}; {_REFRESH}=r-1"})
    assert call.header("authorization") == [f"Bearer {mine}"]
    assert call.header("x-wherry-refresh-token") == []
    assert call.header("cookie") == []


@pytest.mark.row("D15")
@pytest.mark.parametrize("kind", ["json", "grpc-web"])
def test_a_bad_cookie_is_a_bad_token(edge: Edge, kind: Kind) -> None:
    headers = {"cookie": f"{_ACCESS}={edge.tokens.token(exp=1)}", "origin": edge.origin}
    answer = (
        edge.json("GET", "/v1/jobs/x", headers=headers) if kind == "json" else edge.grpc_web(_GET_JOB, headers=headers)
    )
    assert answer.refusal == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert edge.reached() == []


@pytest.mark.row("D15")
@pytest.mark.parametrize(
    "cookie",
    [
        "wherry-access={token}",
        "x{access}={token}",
        "{access}x={token}",
        "a={access}={token}",
        "{access}",
        "{access}=",
        ";;=;{access}",
        'a="{access}={token}"',
    ],
)
def test_what_only_looks_like_the_cookie_is_not_it(edge: Edge, cookie: str) -> None:
    text = cookie.format(access=_ACCESS, token=edge.tokens.token())
    answer = edge.json("GET", "/v1/jobs/x", headers={"cookie": text})
    assert answer.code == "UNAUTHENTICATED", text
    assert edge.reached() == []


@pytest.mark.row("A1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "header",
    [
        "x-wherry-cookies",
        "x-wherry-refresh-token",
        "x-wherry-anything",
        "X-Wherry-Refresh-Token",
        "x-envoy-original-path",
    ],
)
def test_nobody_outside_says_what_only_the_gateway_may_say(edge: Edge, kind: Kind, header: str) -> None:
    name = header.lower() if kind == "grpc" else header
    call = _ask(edge, kind, {**edge.bearer(), name: "forged"})
    assert "forged" not in [value for _, value in call.headers]


@pytest.mark.row("A1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "header",
    [
        "x-forwarded-client-cert",
        "x-envoy-internal",
        "x-envoy-decorator-operation",
        "x-envoy-retry-on",
        "x-envoy-max-retries",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-external-address",
    ],
)
def test_nobody_outside_speaks_for_a_certificate_or_for_envoy(edge: Edge, kind: Kind, header: str) -> None:
    call = _ask(edge, kind, {**edge.bearer(), header: "forged"})
    assert "forged" not in [value for _, value in call.headers]


@pytest.mark.row("A1")
def test_a_header_with_an_underscore_is_not_taken_for_one_with_a_hyphen(edge: Edge) -> None:
    answer = edge.json("GET", "/v1/jobs/x", headers={**edge.bearer(), "x_wherry_cookies": "1"})
    assert answer.http_status in (200, 400)
    for call in edge.reached():
        assert not [name for name, _ in call.headers if name.startswith("x-wherry") or "_" in name]


@pytest.mark.row("A1")
@pytest.mark.parametrize("kind", KINDS)
def test_where_a_call_comes_from_is_said_last_whatever_the_caller_says_before(edge: Edge, kind: Kind) -> None:
    honest = _ask(edge, kind, edge.bearer()).header("x-forwarded-for")
    edge.forget()
    forged = _ask(edge, kind, {**edge.bearer(), "x-forwarded-for": "203.0.113.9, 203.0.113.10"}).header(
        "x-forwarded-for"
    )
    assert ",".join(honest).split(",")[-1].strip() == ",".join(forged).split(",")[-1].strip()
    assert not ",".join(forged).split(",")[-1].strip().startswith("203.0.113.")


@pytest.mark.row("A1")
@pytest.mark.parametrize("kind", ["grpc", "grpc-web"])
def test_only_json_says_that_it_was_json(edge: Edge, kind: Kind) -> None:
    assert _ask(edge, kind, edge.bearer()).header("x-envoy-original-path") == []
    edge.forget()
    assert _ask(edge, "json", edge.bearer()).header("x-envoy-original-path") == ["/v1/jobs/x"]


@pytest.mark.row("U3")
def test_several_cookies_of_a_sign_in_reach_the_browser_as_several(edge: Edge) -> None:
    def answer(messages: list[bytes], context: object) -> list[bytes]:
        context.send_initial_metadata((("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; Path=/x")))  # type: ignore[attr-defined]  # gRPC's
        return [b""]

    edge.answer(_CREATE_SESSION, answer)
    for answered in (edge.grpc_web(_CREATE_SESSION), edge.json("POST", "/v1/sessions", {})):
        assert [value for name, value in answered.headers if name == "set-cookie"] == ["a=1; Path=/", "b=2; Path=/x"]
        assert answered.header("cache-control") == "no-store"
