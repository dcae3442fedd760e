"""Callers who do not give up: each call is repeated, at the next replica, until somebody answers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from wherry_testing.refusals import reason_of

Answer = TypeVar("Answer")
CALL_S = 10.0
_WAIT_S = 0.1
_PATIENCE_S = 120.0
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,  # what a cut connection may look like
    }
)


class Refused(Exception):
    """The service's answer was no.

    Attributes:
        reason: as in its contract.
        doubtful: whether an earlier try may have been taken without being answered.
    """

    def __init__(self, reason: str, error: grpc.aio.AioRpcError, *, doubtful: bool) -> None:
        super().__init__(f"{reason}: {error.details()}")
        self.reason = reason
        self.doubtful = doubtful


class Unanswered(Exception):
    """Nobody has answered for so long that something must be wrong; the message holds the last error."""


class Asker:
    """Asks the replicas of the queue.

    Attributes:
        repeats: how many calls had to be asked again.
    """

    def __init__(self, channel: Callable[[int], grpc.aio.Channel], replicas: int, fault: Callable[[str], None]) -> None:
        self._channel = channel
        self._replicas = replicas
        self._fault = fault
        self._next = 0
        self.repeats = 0

    def channel(self) -> grpc.aio.Channel:
        """Returns the channel to the replica whose turn it is."""
        self._next += 1
        return self._channel(self._next % self._replicas)

    async def ask(self, call: Callable[[grpc.aio.Channel], Awaitable[Answer]]) -> Answer:
        """Returns the answer. Raises Refused, Unanswered."""
        deadline_s = time.monotonic() + _PATIENCE_S
        doubtful = False
        while True:
            try:
                return await call(self.channel())
            except grpc.aio.AioRpcError as error:
                reason = reason_of(error)
                again = error.code() in _AGAIN or is_broken_connection(error)
                if not again and reason:
                    raise Refused(reason, error, doubtful=doubtful) from error
                if not again:
                    self._fault(f"a call ended with {error.code().name}: {error.details()}")
                if time.monotonic() > deadline_s:
                    raise Unanswered(f"{error.code().name}: {error.details()}") from error
                doubtful = True
                self.repeats += 1
                await asyncio.sleep(_WAIT_S)


def is_broken_connection(error: Any) -> bool:
    """Tells whether gRPC calls a connection that was cut in the middle by another name than UNAVAILABLE."""
    text = str(error.details())
    return error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and (
        "RST_STREAM" in text or "Stream removed" in text or "stream closed" in text.lower()
    )
