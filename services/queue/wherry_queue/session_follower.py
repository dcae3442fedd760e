"""Follows what becomes of users' sign-ins at sites, as the site service tells it over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
from sqlalchemy.engine import Connection
from wherry.site.v1 import site_service_pb2, site_service_pb2_grpc
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels

from wherry_queue.sign_ins import ChangeKind, Pair, SessionChange, SignInNews

_RETRY_S = 1.0
_SILENCE_S = 30.0
"""The stream has a heartbeat every 10 s: silence for three of them is a dead connection."""

_KINDS = frozenset(int(kind) for kind in ChangeKind)
_ENDS = frozenset({int(ChangeKind.EXPIRED), int(ChangeKind.SIGNED_OUT)})


class FollowedSignIns(Protocol):
    """Keeps what the feed has told, and how far it has been followed; all replicas together."""

    def cursor(self, connection: Connection) -> int:
        """Returns how far the feed has been followed; 0: not at all.

        Within a transaction nobody else takes news in after this, until its end.
        """
        ...

    def apply(self, connection: Connection, changes: Sequence[SessionChange], cursor: int) -> SignInNews:
        """Takes changes in, in their order, and notes the cursor that is then reached (which may be a lower one)."""
        ...


class SessionFollower:
    """Follows the feed for ever, over lost connections.

    Every replica follows. Each change is taken in by the one that is first; but each replica hears of all of them,
    since it tells its own workers of the sessions that have ended. So it goes on behind what it has heard of itself,
    and begins where all together have come to.

    Args:
        on_news: called after the commit, where jobs were parked or set going again.
        on_ended: called with the sessions that have ended, taken in by whomever; sometimes more than once.
    """

    def __init__(
        self,
        channels: ServiceChannels,
        database: Database,
        store: FollowedSignIns,
        on_news: Callable[[SignInNews], None],
        on_ended: Callable[[Sequence[Pair]], None],
    ) -> None:
        self._channels = channels
        self._database = database
        self._store = store
        self._on_news = on_news
        self._on_ended = on_ended
        self._heard: int | None = None

    async def run(self) -> None:
        """Follows."""
        while True:
            channel = self._channels.get()
            try:
                if self._heard is None:
                    self._heard = await self._database.read(self._store.cursor)
                await self._follow(channel, self._heard)
            except DatabaseUnavailable:
                logger().warning("sessions_not_kept", cursor=self._heard)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "SILENCE"
                logger().warning("sessions_interrupted", cursor=self._heard, reason=reason)
                self._channels.rotate(channel)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, channel: grpc.aio.Channel, cursor: int) -> None:
        """Follows one stream to its end."""
        stub = site_service_pb2_grpc.SiteDirectoryServiceStub(channel)
        stream = stub.WatchSessions(site_service_pb2.WatchSessionsRequest(cursor=cursor))
        try:
            while True:
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes just as the call fails.
                async with asyncio.timeout(_SILENCE_S):
                    message = await stream.read()
                if message is grpc.aio.EOF:
                    return
                assert isinstance(message, site_service_pb2.WatchSessionsResponse)
                if not message.changes and message.cursor == cursor:
                    continue
                # Before it is taken in: for this the database need not be there.
                if ended := [(change.user, change.site) for change in message.changes if change.kind in _ENDS]:
                    self._on_ended(ended)
                news = await self._database.write(_take_in, self._store, message, cursor)
                self._heard = cursor = message.cursor
                if news.opened or news.closed:
                    logger().info("sign_ins_changed", opened=len(news.opened), closed=len(news.closed))
                    self._on_news(news)
        finally:
            stream.cancel()


def _take_in(
    connection: Connection, store: FollowedSignIns, message: site_service_pb2.WatchSessionsResponse, before: int
) -> SignInNews:
    """Takes in what no other replica has taken in already.

    Args:
        before: what this replica had heard of; all together have come at least as far, unless the feed has begun anew.
    """
    reached = store.cursor(connection)
    if message.cursor < before <= reached:
        # The site service's database has been restored from a backup, and nobody else has noted that yet: what it has
        # now may never have been seen.
        logger().warning("sessions_begin_anew", cursor=reached)
        reached = 0
    elif reached >= message.cursor:
        return SignInNews()
    # A kind that a newer site service has, and this one does not know, is left to the checking of what waits.
    fresh = [_change(change) for change in message.changes if change.cursor > reached and change.kind in _KINDS]
    return store.apply(connection, fresh, message.cursor)


def _change(message: site_service_pb2.SessionChange) -> SessionChange:
    return SessionChange(
        message.user, message.site, ChangeKind(int(message.kind)), message.expire_time.ToMilliseconds()
    )
