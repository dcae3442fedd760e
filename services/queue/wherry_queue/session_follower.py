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

from wherry_queue.sign_ins import ChangeKind, SessionChange, SignInNews

_RETRY_S = 1.0
_SILENCE_S = 30.0
"""The stream has a heartbeat every 10 s: silence for three of them is a dead connection."""

_KINDS = frozenset(int(kind) for kind in ChangeKind)


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


async def follow_sessions(
    channels: ServiceChannels, database: Database, store: FollowedSignIns, on_news: Callable[[SignInNews], None]
) -> None:
    """Follows the feed for ever, from the cursor that is durable, over lost connections.

    Every replica follows, and each change is taken in by the one that is first.

    Args:
        on_news: called after the commit, where jobs were parked or set going again.
    """
    while True:
        cursor: int | None = None
        try:
            cursor = await database.read(store.cursor)
            await _follow_once(channels, database, store, on_news, cursor)
        except DatabaseUnavailable:
            logger().warning("sessions_not_kept", cursor=cursor)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "SILENCE"
            logger().warning("sessions_interrupted", cursor=cursor, reason=reason)
            channels.rotate()
        await asyncio.sleep(_RETRY_S)


async def _follow_once(
    channels: ServiceChannels,
    database: Database,
    store: FollowedSignIns,
    on_news: Callable[[SignInNews], None],
    cursor: int,
) -> None:
    """Follows one stream to its end."""
    stub = site_service_pb2_grpc.SiteDirectoryServiceStub(channels.get())
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
            news = await database.write(_take_in, store, message, cursor)
            cursor = message.cursor
            if news.opened or news.closed:
                logger().info("sign_ins_changed", opened=len(news.opened), closed=len(news.closed))
                on_news(news)
    finally:
        stream.cancel()


def _take_in(
    connection: Connection, store: FollowedSignIns, message: site_service_pb2.WatchSessionsResponse, before: int
) -> SignInNews:
    """Takes in what no other replica has taken in already."""
    reached = store.cursor(connection)
    begun_anew = message.cursor < before
    if begun_anew and reached == before:
        # The site service's database has been restored from a backup: what it has now may never have been seen.
        logger().warning("sessions_begin_anew", cursor=before)
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
