"""JSON to gRPC and back, by the contracts' http annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wherry_gateway.descriptors import user_facing
from wherry_gateway.envoy.extensions import Config, typed

DESCRIPTORS = "contracts.binpb"
"""The descriptor set, in Envoy's working directory."""
_KIND = "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
REQUEST_BYTES = 4 << 20
"""As the services' own limit of a message."""
_RESPONSE_BYTES = 64 << 20


def transcoder() -> Config:
    """Returns the transcoder for all services for users; its streams are lines of JSON."""
    return {
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": _config(_services(), stream_newline_delimited=True),
    }


def event_stream_transcoder() -> Config:
    """Returns what a route that was asked for `text/event-stream` says instead."""
    return _config(_services(), stream_sse_style_delimited=True)


def key_transcoder() -> Config:
    """Returns the transcoder through which Envoy asks for the public keys itself."""
    return {
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": _config(["wherry.user.v1.KeyService"]),
    }


def _services() -> list[str]:
    return list(dict.fromkeys(method.service for method in user_facing()))


def _config(services: Sequence[str], **printing: Any) -> Config:
    return typed(
        _KIND,
        proto_descriptor=DESCRIPTORS,
        services=list(services),
        convert_grpc_status=True,
        case_insensitive_enum_parsing=True,
        # A misspelt parameter is an error and not silently nothing.
        request_validation_options={"reject_unknown_query_parameters": True},
        max_request_body_size=REQUEST_BYTES,
        max_response_body_size=_RESPONSE_BYTES,
        print_options={"always_print_primitive_fields": True, **printing},
    )
