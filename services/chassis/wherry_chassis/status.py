"""The one table from domain errors to gRPC status, and the details that every error carries."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from wherry_chassis.errors import DomainError, FieldProblem, Kind

DOMAIN = "wherry"
"""The `domain` of every ErrorInfo."""

_MESSAGE_BYTES = 800
_METADATA_BYTES = 200
_FIELD_BYTES = 80
_FIELDS = 12
"""Bounds: a status travels in trailers, and what is above 8 KiB of them never reaches the caller."""

GRPC_CODES: dict[Kind, grpc.StatusCode] = {kind: grpc.StatusCode[kind.value] for kind in Kind}


def error_status(error: DomainError) -> status_pb2.Status:
    """Returns what a caller gets for a domain error: code, message, ErrorInfo, and BadRequest for unfit fields."""
    metadata = {key: _clipped(value, _METADATA_BYTES) for key, value in error.metadata.items()}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if error.field_problems:
        details.append(bad_request(error.field_problems))
    return _status(GRPC_CODES[error.kind], error.message, details)


def incident_status(incident: str) -> status_pb2.Status:
    """Returns what a caller gets for an error that nobody foresaw; what it was stays in the log under `incident`."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": incident})
    text = f"Something went wrong on our side. The operator finds it in the log as incident {incident}."
    return _status(grpc.StatusCode.INTERNAL, text, [info])


def bad_request(problems: Sequence[FieldProblem]) -> error_details_pb2.BadRequest:
    """Returns the standard detail that names unfit fields, the first of them where there are very many."""
    violation = error_details_pb2.BadRequest.FieldViolation
    return error_details_pb2.BadRequest(
        field_violations=[
            violation(field=_clipped(p.field, _FIELD_BYTES), description=_clipped(p.problem, _FIELD_BYTES))
            for p in problems[:_FIELDS]
        ]
    )


def make_status(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> grpc.Status:
    """Returns a status with details for `context.abort_with_status`."""
    return grpc_status(_status(code, message, details))


def grpc_status(status: status_pb2.Status) -> grpc.Status:
    """Returns a status for `context.abort_with_status`."""
    made: grpc.Status = rpc_status.to_status(status)
    return made


def _status(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(
        code=code_pb2.Code.Value(code.name), message=_clipped(message, _MESSAGE_BYTES), details=packed
    )


def _clipped(text: str, size_bytes: int) -> str:
    """Shortens a text to a size in trailers, where a byte that is no ASCII takes three."""
    taken = 0
    for index, character in enumerate(text):
        taken += 1 if character.isascii() else 3 * len(character.encode(errors="replace"))
        if taken > size_bytes:
            return f"{text[:index]}…"
    return text
