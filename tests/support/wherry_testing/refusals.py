"""Asserts that a call is refused, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Returns the reason in an error's ErrorInfo; empty if it carries none."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read there, as the library says
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "wherry"
            return str(info.reason)
    return ""


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Returns the fields that an error blames."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read there, as the library says
    for detail in status.details if status else ():
        problems = error_details_pb2.BadRequest()
        if detail.Unpack(problems):
            return [violation.field for violation in problems.field_violations]
    return []


class Refusal:
    """How a call was refused, once it was."""

    error: grpc.aio.AioRpcError


@contextlib.contextmanager
def refused(code: str, reason: str) -> Iterator[Refusal]:
    """Fails unless the block raises an RPC error of this code (as `NOT_FOUND`) and reason."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    found = (caught.value.code().name, reason_of(caught.value))
    assert found == (code, reason), f"refused as {found}: {caught.value.details()}"
    refusal.error = caught.value
