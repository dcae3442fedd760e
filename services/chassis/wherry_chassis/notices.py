"""Short notices between the replicas of a service, by PostgreSQL's LISTEN and NOTIFY.

A notice only hurries: it is lost when nobody listens, when the server restarts, or when the connection breaks. Whoever
waits for one therefore looks at the rows as well, slowly, and at once when told that notices may have been lost.

Each direction has a connection of its own, outside the pool. A pooler in transaction mode in front of the server does
not pass notices on; the database's URL has to lead to the server itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

MAX_NOTICE_BYTES = 7999
"""PostgreSQL's bound to a payload."""

_QUIET_S = 10.0
"""A listening connection on which nothing comes for so long is asked whether it lives."""
_ANSWER_S = 5.0
_LEAST_BACK_OFF_S = 0.1
_MOST_BACK_OFF_S = 5.0
_CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A connection to a machine that has gone ends within seconds; by default it would take hours."""


class Notices:
    """A channel of notices to all replicas, this one among them. On SQLite there are no others, and it does nothing.

    Args:
        channel: its name; replicas that share a database and this name hear each other.
        on_notice: called with each notice that comes.
        on_gap: called whenever notices may have been missed: each time listening has begun.
    """

    def __init__(
        self, database: Database, channel: str, *, on_notice: Callable[[str], None], on_gap: Callable[[], None]
    ) -> None:
        self.reaches_others = database.dialect == "postgresql"
        self._database = database
        self._channel = channel
        self._on_notice = on_notice
        self._on_gap = on_gap
        self._sending: psycopg.AsyncConnection[Any] | None = None

    async def listen(self) -> None:
        """Listens for ever, over lost connections."""
        back_off_s = _LEAST_BACK_OFF_S
        while self.reaches_others:
            began_s = asyncio.get_running_loop().time()
            try:
                await self._listen_once()
            except (psycopg.Error, TimeoutError) as error:
                logger().warning("notices_interrupted", channel=self._channel, error=type(error).__name__)
            if asyncio.get_running_loop().time() - began_s > _MOST_BACK_OFF_S:
                back_off_s = _LEAST_BACK_OFF_S
            await asyncio.sleep(back_off_s * random.uniform(0.5, 1))  # noqa: S311  # spreads replicas, no secret
            back_off_s = min(2 * back_off_s, _MOST_BACK_OFF_S)

    async def send(self, notices: Sequence[str]) -> None:
        """Sends notices of up to MAX_NOTICE_BYTES each, in a transaction of their own; not for concurrent callers.

        Raises:
            DatabaseUnavailable: they may or may not have been sent.
        """
        if not self.reaches_others or not notices:
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                if self._sending is None:
                    self._sending = await self._connect()
                statement = "select pg_notify(%s, notice) from unnest(%s::text[]) as notice"
                await self._sending.execute(statement, [self._channel, list(notices)])
        except (psycopg.Error, TimeoutError) as error:
            await self.close()
            logger().warning("notices_unsent", channel=self._channel, error=type(error).__name__)
            raise DatabaseUnavailable from error

    async def close(self) -> None:
        """Closes the connection that sends; the next notice makes another one."""
        connection, self._sending = self._sending, None
        if connection is not None:
            await connection.close()

    async def _listen_once(self) -> None:
        """Listens on one connection until it breaks."""
        async with await self._connect() as connection:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
            self._on_gap()
            while True:
                async for notice in connection.notifies(timeout=_QUIET_S):
                    self._on_notice(notice.payload)
                async with asyncio.timeout(_ANSWER_S):
                    await connection.execute("select 1")  # what comes meanwhile is kept for the next round

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        # The driver's parameters are those that the pool's connections are made with.
        _, parameters = self._database.engine.dialect.create_connect_args(self._database.url)
        return await psycopg.AsyncConnection.connect(**(_CONNECTING | dict(parameters)), autocommit=True)
