"""What a failed call says."""

from __future__ import annotations

from typing import cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

#: The call may do better later, or at another replica.
PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


def error_info(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    """Returns (reason, metadata) of the error's ErrorInfo; empty where it has none."""
    try:
        # An AioRpcError has what from_call reads of a Call, which the stubs do not know.
        status = rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:
        return "", {}
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}
