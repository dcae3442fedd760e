"""Requests from pages: whose, and what a page of somebody else can make a browser do."""

from __future__ import annotations

import pytest
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import Answer

_CANCEL = "/wherry.queue.v1.JobService/CancelJob"
_FOREIGN = ["https://evil.example", "null", "http://localhost:{port}", "https://localhost:1", "https://localhost"]
WAYS = ["json", "grpc-web"]
_PERMISSION_DENIED = "7"


def _cancel(edge: Edge, way: str, headers: dict[str, str]) -> Answer:
    if way == "json":
        return edge.json("POST", "/v1/jobs/x:cancel", {}, headers)
    return edge.http.grpc_web(_CANCEL, headers=headers)


def _cookie(edge: Edge) -> dict[str, str]:
    return {"cookie": f"__Host-wherry-access={edge.tokens.token()}"}


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("origin", _FOREIGN)
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_page_of_another_origin_is_refused(edge: Edge, way: str, origin: str, signed_in: bool) -> None:
    headers = {"origin": origin.format(port=edge.port)} | (_cookie(edge) if signed_in else {})
    answer = _cancel(edge, way, headers)
    assert answer.refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED")
    assert answer.http_status == (403 if way == "json" else 200)
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
def test_a_cookie_without_an_origin_is_refused(edge: Edge, way: str) -> None:
    assert _cancel(edge, way, _cookie(edge)).refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED")
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
def test_any_cookie_will_do_to_ask_for_an_origin(edge: Edge, way: str) -> None:
    """The refresh cookie is one too, and signing in is open to anyone."""
    headers = {"cookie": "__Secure-wherry-refresh=abc"}
    if way == "json":
        answer = edge.json("POST", "/v1/sessions:refresh", {}, headers)
    else:
        answer = edge.http.grpc_web("/wherry.user.v1.SessionService/RefreshSession", headers=headers)
    assert answer.refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED")
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
def test_the_gateways_own_page_passes_with_its_cookie(edge: Edge, way: str) -> None:
    answer = _cancel(edge, way, {**_cookie(edge), "origin": edge.origin})
    assert answer.code == "OK", answer
    assert [call.method for call in edge.reached()] == [_CANCEL]


@pytest.mark.parametrize("way", WAYS)
def test_a_bearer_token_needs_no_origin(edge: Edge, way: str) -> None:
    assert _cancel(edge, way, edge.bearer()).code == "OK"
    assert [call.method for call in edge.reached()] == [_CANCEL]


def test_a_script_with_neither_cookie_nor_origin_may_sign_in(edge: Edge) -> None:
    assert edge.json("POST", "/v1/sessions", {}).code == "OK"
    assert [call.method for call in edge.reached()] == ["/wherry.user.v1.SessionService/CreateSession"]


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_page_cannot_send_a_form_of_another_type_instead(edge: Edge) -> None:
    """What a page may send anywhere without asking first, in the types that a browser lets it."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = {**_cookie(edge), "origin": "https://evil.example", "content-type": kind}
        answer = edge.http.ask("POST", "/v1/jobs/x:cancel", b"{}", headers)
        assert answer.refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED"), kind
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc+proto", "application/grpc; x=y", "application/GRPC"]
)
def test_native_grpc_with_a_cookie_from_elsewhere_gets_nowhere(edge: Edge, kind: str) -> None:
    headers = {**_cookie(edge), "origin": "https://evil.example", "content-type": kind}
    answer = edge.http.ask("POST", _CANCEL, bytes(5), headers)
    said = (answer.http_status, answer.header("grpc-status"))
    assert said in ((200, _PERMISSION_DENIED), (403, None)), said
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
def test_native_grpc_over_http2_with_a_cookie_from_elsewhere_is_refused(edge: Edge) -> None:
    answer = edge.grpc(_CANCEL, headers={**_cookie(edge), "origin": "https://evil.example"})
    assert answer.refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED")
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_page_that_asks_whether_it_may_send_grpc_is_not_told_that_it_may(edge: Edge) -> None:
    """A browser asks before it sends such a type."""
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = edge.http.ask("OPTIONS", _CANCEL, headers={**asked, "access-control-request-headers": "content-type"})
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("access-control-allow-headers") is None
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["http", "HTTP", "ftp", "httpss"])
@pytest.mark.parametrize("header", ["origin", "referer"])
def test_the_gateways_own_host_by_another_scheme_is_another_origin(
    edge: Edge, way: str, scheme: str, header: str
) -> None:
    """Whoever sits on the network writes pages that come over HTTP."""
    answer = _cancel(edge, way, {**_cookie(edge), header: f"{scheme}://localhost:{edge.port}"})
    assert answer.refusal == ("PERMISSION_DENIED", "ORIGIN_REFUSED")
    assert edge.reached() == []


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("way", WAYS)
def test_a_page_of_the_gateways_own_may_be_told_by_its_address_alone(edge: Edge, way: str) -> None:
    assert _cancel(edge, way, {**_cookie(edge), "referer": f"{edge.origin}/jobs"}).code == "OK"
    assert [call.method for call in edge.reached()] == [_CANCEL]


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/x:watch", "/v1/keys", "/openapi.json"])
def test_no_answer_may_be_read_by_pages_of_others(edge: Edge, path: str) -> None:
    answer = edge.json("GET", path, headers={**_cookie(edge), "origin": "https://evil.example"})
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("cross-origin-resource-policy") == "same-origin"
