"""Asks the site service about those whose work waits for a sign-in: no lost word makes anything wait for ever."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy.engine import Connection
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.sign_ins import SignInNews
from wherry_queue.site_directory import SiteDirectory, SitesUnavailable

Pair = tuple[str, str]
"""`users/{user}` and `sites/{site}`."""

_MOST = 5000
"""So many pairs are asked about in one round."""
_SITES = 100
"""So many sites may be named in one question; the contract says so."""
_AT_ONCE = 8
_RETRY_S = 5.0
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
        period_s: how often all are asked about.
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
    ) -> None:
        self._database = database
        self._store = store
        self._directory = directory
        self._on_news = on_news
        self._period_s = period_s
        self._retry_s = retry_s
        self._asked: set[Pair] = set()
        self._wake = asyncio.Event()

    def ask(self, pairs: Iterable[Pair]) -> None:
        """Has the site service asked about pairs that have just been parked."""
        self._asked.update(pairs)
        if self._asked:
            self._wake.set()

    async def run(self) -> None:
        """Asks, for ever."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._period_s
        while True:
            try:
                async with asyncio.timeout_at(due_s):
                    await self._wake.wait()
            except TimeoutError:
                # Not to the second: replicas that were started together need not ask together.
                due_s = loop.time() + self._period_s * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
                await self._add_parked()
            self._wake.clear()
            asked, self._asked = self._asked, set()
            if asked and (left := await self.check(asked)):
                self._asked |= left
                due_s = min(due_s, loop.time() + self._retry_s)

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

    async def _add_parked(self) -> None:
        try:
            self._asked.update(await self._database.read(self._store.parked, _MOST))
        except DatabaseUnavailable:
            logger().warning("parked_sign_ins_unread")

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
