from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import grpc
import pytest
from wherry_chassis.identity import UserClaims
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.tls import ServiceChannels

_CLAIMS = UserClaims("users/alice", "session-1", 0)


def test_whoever_watches_a_session_hears_of_its_end_and_of_its_users() -> None:
    revocations, heard = Revocations(), []
    with revocations.watch(_CLAIMS, lambda: heard.append("ended")):
        revocations.add("session-2", time.time() + 60)
        assert heard == []
        revocations.add("session-1", time.time() + 60)
        revocations.add("users/alice", time.time() + 60)
    assert heard == ["ended", "ended"]


def test_nobody_hears_of_anything_after_having_left() -> None:
    revocations, heard = Revocations(), []
    with revocations.watch(_CLAIMS, lambda: heard.append("first")):
        pass
    with revocations.watch(_CLAIMS, lambda: heard.append("second")):
        revocations.add("session-1", time.time() + 60)
    assert heard == ["second"]


def test_revocations_are_kept_while_they_matter_and_dropped_afterwards() -> None:
    revocations = Revocations()
    revocations.add("session-1", time.time() + 600)
    for number in range(5000):
        revocations.add(f"old-{number}", time.time() - 1)
    assert revocations.is_revoked(_CLAIMS)
    assert not revocations.is_revoked(UserClaims("users/bob", "old-0", 0))


class FailingStream:
    """A stream whose reading fails when the test says so."""

    def __init__(self) -> None:
        self.failure: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def read(self) -> object:
        return await self.failure

    def cancel(self) -> None:
        pass


class OneStream:
    """Channels that give one stream."""

    def __init__(self, stream: FailingStream) -> None:
        self._stream = stream

    def get(self) -> OneStream:
        return self

    def rotate(self, failed: object) -> None:
        pass

    def unary_stream(self, *args: object, **kwargs: object) -> Callable[[object], FailingStream]:
        return lambda _request: self._stream

    def unary_unary(self, *args: object, **kwargs: object) -> None:
        """Stubs ask for all methods of their service."""


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
async def test_following_ends_even_if_the_stream_fails_in_the_moment_of_its_cancellation(ticks: int) -> None:
    stream = FailingStream()
    task = asyncio.create_task(follow(cast("ServiceChannels", OneStream(stream)), Revocations()))
    await asyncio.sleep(0)
    stream.failure.set_exception(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
    )
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert task in done
    assert task.cancelled()
