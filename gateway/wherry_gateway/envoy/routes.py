"""Which path leads where. JSON is routed twice: as it comes, for the filters that look at it, and as the gRPC that the
transcoder has made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wherry_chassis.buildout import Gateway

from wherry_gateway.descriptors import UserMethod
from wherry_gateway.envoy.clusters import ASSETS
from wherry_gateway.envoy.extensions import Config, seconds, typed
from wherry_gateway.envoy.transcoding import REQUEST_BYTES, event_stream_transcoder

_UNARY_S = 60.0
_NATIVE = {"name": "content-type", "string_match": {"safe_regex": {"regex": r"application/grpc(\+proto)?"}}}
_ANY_GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_WEB = {"name": "content-type", "string_match": {"prefix": "application/grpc-web"}}
_NOWHERE: Config = {"direct_response": {"status": 404}}
_BUFFER = "envoy.filters.http.buffer"
_LUA = "envoy.filters.http.lua"
_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"

# The transcoder calls lines of JSON `application/json`, which many lines are not. An error before the first one is.
_LINES = """\
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") == "200" and headers:get("content-type") == "application/json" then
    headers:replace("content-type", "application/x-ndjson")
  end
end
"""


def virtual_host(methods: Sequence[UserMethod], gateway: Gateway) -> Config:
    """Returns the one virtual host; the first route that fits is taken."""
    routes = [_health()]
    for method in methods:
        routes += _grpc(method, gateway)
    # What else looks like gRPC is answered as gRPC, and goes nowhere.
    routes.append(_route({"prefix": "/", "headers": [_ANY_GRPC]}, _NOWHERE))
    routes += [_route({"prefix": prefix}, _NOWHERE, whole=True) for prefix in ("/wherry.", "/grpc.")]
    routes += [*_json(methods), _page()]
    unbuffered = {_BUFFER: typed("extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True)}
    return {
        "name": "wherry",
        "domains": ["*"],
        "retry_policy": _retry_policy(),
        "typed_per_filter_config": unbuffered,
        "routes": routes,
    }


def cluster_of(service: str) -> str:
    """Returns the cluster of a contract's service, `wherry.queue.v1.JobService`."""
    return service.split(".")[1]


def _retry_policy() -> Config:
    """Only what has not reached a replica is sent again: no call is made twice."""
    predicate = typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": predicate}],
        "host_selection_retry_max_attempts": 3,
    }


def _health() -> Config:
    return {"match": {"path": "/healthz"}, "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}}}


def _grpc(method: UserMethod, gateway: Gateway) -> list[Config]:
    streaming = method.client_streaming or method.server_streaming
    action: Config = {
        "cluster": cluster_of(method.service),
        "timeout": "0s" if streaming else seconds(_UNARY_S),
        "max_stream_duration": {"grpc_timeout_header_max": "0s"},
    }
    if streaming:
        action["idle_timeout"] = seconds(gateway.stream_idle_s)
    native = _route({"path": method.path, "headers": [_NATIVE]}, {"route": action})
    if method.server_streaming:  # what came as JSON ends here too
        native["typed_per_filter_config"][_LUA] = typed(
            "extensions.filters.http.lua.v3.LuaPerRoute", source_code={"inline_string": _LINES}
        )
    return [native, _route({"path": method.path, "headers": [_WEB]}, {"route": action}, whole=True)]


def _json(methods: Iterable[UserMethod]) -> list[Config]:
    """Requests under /v1/. What becomes gRPC is routed again; the rest is told that there is no such method."""
    events = {"name": "accept", "string_match": {"contains": "text/event-stream"}}
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    found = []
    if any(method.server_streaming for method in methods):
        route = _route({"prefix": "/v1/", "headers": [get, events]}, _NOWHERE, whole=True)
        route["typed_per_filter_config"][_TRANSCODER] = event_stream_transcoder()
        found.append(route)
    return [*found, _route({"prefix": "/v1/"}, _NOWHERE, whole=True)]


def _page() -> Config:
    return {"match": {"prefix": "/"}, "route": {"cluster": ASSETS, "timeout": "15s"}}


def _route(match: Config, action: Config, *, whole: bool = False) -> Config:
    """Returns a route.

    Args:
        match, action: as Envoy has them.
        whole: whether the request is read to its end before anything is answered: clients lose answers that come
            while they still send (curl 7.88 does).
    """
    filters: Config = {}
    if whole:
        size = {"max_request_bytes": REQUEST_BYTES}
        filters[_BUFFER] = typed("extensions.filters.http.buffer.v3.BufferPerRoute", buffer=size)
    return {"match": match, **action, "typed_per_filter_config": filters}
