"""Asks the site service whether users are signed in.

About those whose work waits for a sign-in, so that no lost word makes anything wait for ever; and about those of whom a
worker says that they are not, since its word alone parks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy.engine import Connection
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.sign_ins import Pair, SignInNews
from wherry_queue.site_directory import SiteDirectory, SitesUnavailable

_MOST = 5000
"""So many pairs are asked about in one round."""
_SITES = 100
"""So many sites may be named in one question; the contract says so."""
_AT_ONCE = 8
_RETRY_S = 5.0
_REST_S = 1.0
"""However often workers doubt a sign-in, it is not asked about twice within this time."""
_TRIES = 3


class ParkedSignIns(Protocol):
    """Keeps what is known of sign-ins, and what waits for them."""

    def cursor(self, connection: Connection) -> int:
        """As `FollowedSignIns.cursor` says."""
        ...

    def parked(self, connection: Connection, limit: int) -> Sequence[Pair]:
        """Returns up to `limit` pairs for whose sign-ins something waits; where there are more, not always the same."""
        ...

    def learn(self, connection: Connection, user: str, sessions: Mapping[str, int]) -> SignInNews:
        """Takes in when a user's sessions end, by site, milliseconds since the epoch; 0: there is none."""
        ...


class SignInChecker:
    """Asks about pairs at once where it is told to, and about all that wait once a minute.

    Args:
        on_news: called after the commit, where jobs were parked or set going again.
        period_s: how often all that wait are asked about.
        retry_s: when those are asked about again of whom nothing could be learnt.
        rest_s: the least time between two questions about a pair to `ask` for.
    """

    def __init__(
        self,
        database: Database,
        store: ParkedSignIns,
        directory: SiteDirectory,
        on_news: Callable[[SignInNews], None],
        *,
        period_s: float = 60.0,
        retry_s: float = _RETRY_S,
        rest_s: float = _REST_S,
    ) -> None:
        self._database = database
        self._store = store
        self._directory = directory
        self._on_news = on_news
        self._period_s = period_s
        self._retry_s = retry_s
        self._rest_s = rest_s
        self._asked: set[Pair] = set()
        self._not_before_s: dict[Pair, float] = {}
        self._wake = asyncio.Event()

    def ask(self, pairs: Iterable[Pair]) -> None:
        """Has the site service asked about pairs whose sign-ins are in doubt: at once, or after their rest."""
        self._asked.update(pairs)
        if self._asked:
            self._wake.set()

    async def run(self) -> None:
        """Asks, for ever. Doubts do not wait until all that wait have been asked about."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check_doubted())
            group.create_task(self._check_parked())

    async def _check_doubted(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = min((self._not_before_s.get(pair, 0.0) for pair in self._asked), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_s):
                    await self._wake.wait()
            self._wake.clear()
            began_s = loop.time()
            due = {pair for pair in self._asked if self._not_before_s.get(pair, 0.0) <= began_s}
            self._asked -= due
            left = await self.check(due)
            self._asked |= left
            now_s = loop.time()
            rests = {pair: now_s + (self._retry_s if pair in left else self._rest_s) for pair in due}
            self._not_before_s = {p: end_s for p, end_s in self._not_before_s.items() if end_s > now_s} | rests

    async def _check_parked(self) -> None:
        left: set[Pair] = set()
        while True:
            # Not to the second: replicas that were started together need not ask together.
            part = random.uniform(0.8, 1.2)  # noqa: S311  # no secret
            await asyncio.sleep(self._retry_s if left else self._period_s * part)
            left = await self.check(await self._parked())

    async def check(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Asks about pairs and takes the answers in; returns those about which nothing could be learnt now."""
        places = asyncio.Semaphore(_AT_ONCE)
        away = False

        async def one(user: str, sites: Sequence[str]) -> set[Pair]:
            nonlocal away
            async with places:
                if not away and await self._learn(user, sites):
                    return set()
                away = True  # the others need not find out one by one
                return {(user, site) for site in sites}

        by_user = [
            (user, [site for _, site in group])
            for user, group in itertools.groupby(sorted(set(pairs)), key=lambda pair: pair[0])
        ]
        questions = [
            one(user, sites[begin : begin + _SITES])
            for user, sites in by_user
            for begin in range(0, len(sites), _SITES)
        ]
        return set().union(*await asyncio.gather(*questions))

    async def _parked(self) -> Sequence[Pair]:
        try:
            return await self._database.read(self._store.parked, _MOST)
        except DatabaseUnavailable:
            logger().warning("parked_sign_ins_unread")
            return ()

    async def _learn(self, user: str, sites: Sequence[str]) -> bool:
        """Asks about one user; tells whether it got an answer and took it in."""
        try:
            for _ in range(_TRIES):
                before = await self._database.read(self._store.cursor)
                found = await self._directory.resolve(user, sites)
                ends = {name: site.session_expires_s for name, site in found.items()}
                sessions = {site: round((ends.get(site) or 0) * 1000) for site in sites}
                news = await self._database.write(self._take_in, user, sessions, before)
                if news is not None:
                    if news.opened or news.closed:
                        self._on_news(news)
                    return True
        except (SitesUnavailable, DatabaseUnavailable) as error:
            logger().warning("sign_ins_not_checked", reason=error.reason)
        return False

    def _take_in(
        self, connection: Connection, user: str, sessions: Mapping[str, int], before: int
    ) -> SignInNews | None:
        if self._store.cursor(connection) != before:
            return None  # the feed has told something meanwhile, which may be newer than this answer
        return self._store.learn(connection, user, sessions)
