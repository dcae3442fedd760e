"""What Envoy itself answers, in the form that all errors have: a `google.rpc.Status` with one ErrorInfo."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from wherry_chassis.status import DOMAIN

from wherry_gateway.envoy.clusters import SERVICES
from wherry_gateway.envoy.extensions import Config, typed

RETRY_AFTER_S = 2
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What a grpc-message carries as it is (gRPC over HTTP2, "Responses")."""
_GRPC = {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}}


@dataclass(frozen=True)
class Reply:
    """An answer of Envoy's own.

    Attributes:
        status: the HTTP status that it is known by.
        code: name of the canonical code.
        message: for people; where it is None, what Envoy's filter says.
        filters: what else has to hold.
        retry_after_s: for the header, where waiting helps.
        answered: the HTTP status that is sent, where it is another one.
    """

    status: int
    code: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    filters: Sequence[Config] = ()
    retry_after_s: int | None = None
    answered: int | None = None


def local_replies() -> Config:
    """Returns the listener's `local_reply_config`; the first that fits is taken."""
    mappers: list[Config] = []
    for reply in _REPLIES:
        mappers += [_grpc(reply), _json(reply)]
    return {"mappers": [*mappers, _malformed()]}


def _header(name: str, present: bool) -> Config:
    matcher: Config = {"name": name, "present_match": True}
    return {"header_filter": {"header": matcher if present else {**matcher, "invert_match": True}}}


def _to(service: str) -> Config:
    # Behind the transcoder the path is that of gRPC, for JSON too.
    return {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": f"/wherry.{service}."}}}}


def _away(status: int, service: str) -> Reply:
    return Reply(
        status,
        "UNAVAILABLE",
        "SERVICE_UNAVAILABLE",
        f"The {service} service is not reachable at the moment; try again shortly.",
        {"service": service},
        [_to(service)],
        RETRY_AFTER_S,
    )


def _because(details: str) -> Config:
    """Matches replies by what Envoy says of their cause; it is not shown to callers."""
    kind = "extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    expression = f"response.code_details.startsWith('{details}')"
    return {"extension_filter": {"name": "cause", "typed_config": typed(kind, expression=expression)}}


_NOT_VALID = "The access token is not valid or has expired; refresh it or sign in again."
_REPLIES = [
    # Without the keys nobody can say what a token is worth: it may be good.
    Reply(
        401,
        "UNAVAILABLE",
        "SERVICE_UNAVAILABLE",
        "Tokens cannot be looked at without the user service, which is not reachable at the moment; try again shortly.",
        {"service": "user"},
        [_because("jwt_authn_access_denied{Jwks_remote")],
        RETRY_AFTER_S,
        answered=503,
    ),
    Reply(
        401,
        "UNAUTHENTICATED",
        "TOKEN_MISSING",
        "Sign in first: the call needs `authorization: Bearer` with an access token.",
        filters=[_header("authorization", present=False)],
    ),
    Reply(
        401,
        "UNAUTHENTICATED",
        "TOKEN_INVALID",
        _NOT_VALID,
    ),
    # Envoy calls a token for another audience forbidden.
    Reply(403, "UNAUTHENTICATED", "TOKEN_INVALID", _NOT_VALID, filters=[_because("jwt_authn")], answered=401),
    Reply(
        403,
        "PERMISSION_DENIED",
        "ORIGIN_REFUSED",
        "The request comes from a page of another site, or does not say from which.",
    ),
    Reply(
        404,
        "UNIMPLEMENTED",
        "METHOD_NOT_FOUND",
        "There is no such method; /openapi.json lists those that there are.",
        filters=[_GRPC],
    ),
    Reply(404, "NOT_FOUND", "METHOD_NOT_FOUND", "There is no such method; /openapi.json lists those that there are."),
    Reply(408, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "The request did not arrive in time."),
    Reply(413, "INVALID_ARGUMENT", "REQUEST_TOO_LARGE", "The request is larger than 4 MiB; send it in parts."),
    Reply(
        429,
        "RESOURCE_EXHAUSTED",
        "SIGN_IN_RATE_LIMITED",
        "Too many people are signing in at this moment; try again shortly.",
        retry_after_s=RETRY_AFTER_S,
    ),
    *(_away(status, service) for service in SERVICES for status in (502, 503)),
    Reply(503, "UNAVAILABLE", "SERVICE_UNAVAILABLE", "Wherry is not reachable at the moment; try again shortly."),
    Reply(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "The answer did not come in time."),
]


def _status(reply: Reply) -> status_pb2.Status:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reply.reason, domain=DOMAIN, metadata=reply.metadata))
    return status_pb2.Status(code=code_pb2.Code.Value(reply.code), message=reply.message, details=[detail])


def _filter(reply: Reply, *further: Config) -> Config:
    code = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": reply.status, "runtime_key": "wherry.none"}}
        }
    }
    filters = [code, *reply.filters, *further]
    return {"and_filter": {"filters": filters}} if len(filters) > 1 else code


def _set(name: str, value: str) -> Config:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _grpc(reply: Reply) -> Config:
    status = _status(reply)
    details = base64.b64encode(status.SerializeToString(deterministic=True)).rstrip(b"=").decode()
    return {
        "filter": _filter(reply, _GRPC),
        # All of it in the headers and nothing behind them: the one form in which gRPC and gRPC-Web read it alike.
        "status_code": 200,
        "body_format_override": {"text_format_source": {"inline_string": ""}, "content_type": "application/grpc"},
        "headers_to_add": [
            _set("grpc-status", str(status.code)),
            _set("grpc-message", quote(reply.message, safe=_PRINTABLE)),
            _set("grpc-status-details-bin", details),
            *_retry_after(reply),
        ],
    }


def _json(reply: Reply) -> Config:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": DOMAIN,
        "metadata": dict(reply.metadata),
    }
    body = {"code": code_pb2.Code.Value(reply.code), "message": reply.message, "details": [info]}
    mapper: Config = {
        "filter": _filter(reply),
        "body_format_override": {
            "text_format_source": {"inline_string": _literal(json.dumps(body))},
            "content_type": "application/json",
        },
    }
    if reply.answered is not None:
        mapper["status_code"] = reply.answered
    if added := _retry_after(reply):
        mapper["headers_to_add"] = added
    return mapper


def _retry_after(reply: Reply) -> list[Config]:
    return [] if reply.retry_after_s is None else [_set("retry-after", str(reply.retry_after_s))]


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _malformed() -> Config:
    """The transcoder's own words about a body or a parameter that it cannot read."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "MALFORMED_REQUEST",
        "domain": DOMAIN,
        "metadata": {},
    }
    code = code_pb2.Code.Value("INVALID_ARGUMENT")
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": 400, "runtime_key": "wherry.none"}}
            }
        },
        "body_format_override": {
            "json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [info]},
            "content_type": "application/json",
        },
    }
