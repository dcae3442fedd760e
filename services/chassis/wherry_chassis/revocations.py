"""Which sessions and users have ended, followed from the user service so that sign-out is real within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import grpc
from wherry.user.v1 import user_service_pb2, user_service_pb2_grpc

from wherry_chassis.deletions import Deletions, Forget
from wherry_chassis.identity import UserClaims
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

_RETRY_S = 1.0
_SILENCE_S = 30.0
"""The stream has a heartbeat every 10 s: silence for three of them is a dead connection."""


class Revocations:
    """The set of what has ended, and the open streams that end with it."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    def add(self, subject: str, until_s: float) -> None:
        """Revokes a session id or a user's resource name until a time (seconds since the epoch)."""
        now_s = time.time()
        if len(self._until_s) % 1000 == 999:
            self._until_s = {key: end for key, end in self._until_s.items() if end > now_s}
        self._until_s[subject] = until_s
        for end in list(self._watchers.get(subject, ())):
            end()

    def is_revoked(self, claims: UserClaims) -> bool:
        """Tells whether a token's session or user has ended."""
        return claims.session_id in self._until_s or claims.user in self._until_s

    @contextlib.contextmanager
    def watch(self, claims: UserClaims, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` if the session or the user is revoked within the block."""
        subjects = (claims.session_id, claims.user)
        for subject in subjects:
            self._watchers.setdefault(subject, set()).add(end)
        try:
            yield
        finally:
            for subject in subjects:
                watchers = self._watchers[subject]
                watchers.discard(end)
                if not watchers:
                    del self._watchers[subject]


async def follow(channels: ServiceChannels, revocations: Revocations, forget: Forget | None = None) -> None:
    """Follows the user service's revocations for ever, from the last cursor seen, over lost connections.

    Args:
        channels: to the user service.
        revocations: gets what has ended.
        forget: does this service's part for users whose accounts were deleted; where given, what it has done is
            confirmed to the user service, and what is not confirmed comes again after a restart.
    """
    if forget is None:
        await _watch(channels, revocations, lambda _cursor, _user: None)
        return
    deletions = Deletions(channels, forget)
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(channels, revocations, deletions.add))
        group.create_task(deletions.run())


async def _watch(channels: ServiceChannels, revocations: Revocations, deleted: Callable[[int, str], None]) -> None:
    # The cursor is kept in memory only: whoever starts anew is told of all that is kept, which is not much.
    cursor = 0
    while True:
        channel = channels.get()
        stub = user_service_pb2_grpc.RevocationServiceStub(channel)
        stream = stub.WatchRevocations(user_service_pb2.WatchRevocationsRequest(cursor=cursor))
        try:
            while True:
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes just as the call fails.
                async with asyncio.timeout(_SILENCE_S):
                    message = await stream.read()
                if message is grpc.aio.EOF:
                    break
                assert isinstance(message, user_service_pb2.WatchRevocationsResponse)
                for item in message.revocations:
                    revocations.add(item.session_id or item.user, item.expire_time.ToMilliseconds() / 1000)
                    if item.user:
                        deleted(item.cursor, item.user)
                # Not the greater of the two: it goes back where the user service was restored from a backup.
                cursor = message.cursor
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "SILENCE"
            logger().warning("revocations_interrupted", cursor=cursor, reason=reason)
            channels.rotate(channel)
        finally:
            stream.cancel()
        await asyncio.sleep(_RETRY_S)
