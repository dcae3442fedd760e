"""How the fake services know their callers and refuse."""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from wherry_chassis.errors import FieldProblem
from wherry_chassis.status import bad_request, make_status


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str,
    message: str = "",
    *,
    fields: tuple[FieldProblem, ...] = (),
    **metadata: str,
) -> NoReturn:
    """Ends a call as the real services do: with an ErrorInfo, and a BadRequest for fields."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="wherry", metadata=metadata)
    details = [info, bad_request(fields)] if fields else [info]
    context.abort_with_status(make_status(code, message or reason.lower(), details))
    raise AssertionError("abort_with_status returned")


def bearer_of(context: grpc.ServicerContext) -> str:
    """Returns the token that a call came with; empty without."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return str(value).removeprefix("Bearer ")
    return ""


def timestamp(seconds: float) -> Timestamp:
    """Returns a time."""
    made = Timestamp()
    made.FromNanoseconds(int(seconds * 1e9))
    return made
