"""Asking about those whose work waits for a sign-in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from wherry_chassis.sql import Database
from wherry_queue.sign_in_checking import SignInChecker
from wherry_queue.sign_ins import Pair, SignInNews
from wherry_queue.site_directory import ResolvedSite, SitesUnavailable
from wherry_testing.waiting import until

A, B = ("users/alice", "sites/a"), ("users/bob", "sites/b")
END_S = 1_700_000_000.25
W4 = pytest.mark.row("W4")


class Waiting:
    """What waits, and what was learnt."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.learnt: list[tuple[str, dict[str, int]]] = []
        self.reached = 0

    def cursor(self, connection: Connection) -> int:
        return self.reached

    def parked(self, connection: Connection, limit: int) -> Sequence[Pair]:
        return self.pairs[:limit]

    def learn(self, connection: Connection, user: str, sessions: Mapping[str, int]) -> SignInNews:
        self.learnt.append((user, dict(sessions)))
        return SignInNews(opened=[7]) if any(sessions.values()) else SignInNews()


class Sites:
    """Answers, unless it is away; for `sites/slow` never."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.signed_in = {A}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.away = 0
        self.news_while_asked = 0

    async def resolve(self, user: str, sites: Sequence[str]) -> dict[str, ResolvedSite]:
        self.asked.append((user, tuple(sites)))
        if "sites/slow" in sites:
            await asyncio.Event().wait()
        if self.away:
            self.away -= 1
            raise SitesUnavailable
        if self.news_while_asked:
            self.news_while_asked -= 1
            self.waiting.reached += 1
        return {
            name: ResolvedSite(name, "", b"/", [], END_S if (user, name) in self.signed_in else None) for name in sites
        }


class Set:
    """A checker with all around it."""

    def __init__(self, database: Database) -> None:
        self.waiting = Waiting()
        self.sites = Sites(self.waiting)
        self.news: list[SignInNews] = []
        self.database = database

    def checker(self, period_s: float = 3600, retry_s: float = 0.01, rest_s: float = 0.01) -> SignInChecker:
        return SignInChecker(
            self.database, self.waiting, self.sites, self.news.append, period_s=period_s, retry_s=retry_s, rest_s=rest_s
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Set]:
    database = Database(f"sqlite:///{tmp_path}/queue.db", threads=2)
    yield Set(database)
    database.close()


@contextlib.asynccontextmanager
async def running(checker: SignInChecker) -> AsyncIterator[None]:
    task = asyncio.create_task(checker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@W4
async def test_pairs_that_are_in_doubt_are_asked_about_at_once(world: Set) -> None:
    checker = world.checker()
    async with running(checker):
        checker.ask([A, B, ("users/alice", "sites/c")])
        await until(lambda: len(world.waiting.learnt) == 2)
    assert sorted(world.waiting.learnt) == [
        ("users/alice", {"sites/a": 1_700_000_000_250, "sites/c": 0}),
        ("users/bob", {"sites/b": 0}),
    ]
    assert world.news == [SignInNews(opened=[7])], "no news where nothing has changed"


@W4
async def test_a_pair_that_is_doubted_again_and_again_is_asked_about_seldom_and_another_at_once(world: Set) -> None:
    checker = world.checker(rest_s=0.3)
    began_s = asyncio.get_running_loop().time()
    async with running(checker):
        while asyncio.get_running_loop().time() < began_s + 1:
            checker.ask([A])
            await asyncio.sleep(0.001)
        asked = world.sites.asked.count(("users/alice", ("sites/a",)))
        assert 2 <= asked <= 4
        checker.ask([A, B])
        await until(lambda: ("users/bob", {"sites/b": 0}) in world.waiting.learnt)
        before = len(world.sites.asked)
        await until(lambda: len(world.sites.asked) == before + 1)
    assert world.sites.asked[-1] == ("users/alice", ("sites/a",)), "what was doubted after the last answer is asked"


@W4
async def test_doubts_do_not_wait_for_all_that_wait_to_be_asked_about(world: Set) -> None:
    world.waiting.pairs = [(f"users/u{number}", "sites/slow") for number in range(50)]
    checker = world.checker(period_s=0.01)
    async with running(checker):
        await until(lambda: world.sites.asked)
        checker.ask([B])
        await until(lambda: world.waiting.learnt == [("users/bob", {"sites/b": 0})])


@W4
async def test_all_that_wait_are_asked_about_again_and_again(world: Set) -> None:
    world.waiting.pairs = [A, B]
    async with running(world.checker(period_s=0.01)):
        await until(lambda: world.waiting.learnt.count(("users/bob", {"sites/b": 0})) >= 3)
        world.sites.signed_in.add(B)
        await until(lambda: ("users/bob", {"sites/b": 1_700_000_000_250}) in world.waiting.learnt)


@W4
async def test_while_the_site_service_is_away_it_is_asked_again_and_not_for_each(world: Set) -> None:
    world.sites.away = 3
    checker = world.checker()
    async with running(checker):
        checker.ask([A, *((f"users/u{number}", "sites/a") for number in range(100))])
        await until(lambda: len(world.waiting.learnt) == 101)
    assert len(world.sites.asked) <= 101 + 3 * 8


@W4
async def test_an_answer_that_the_feed_may_have_overtaken_is_asked_for_again(world: Set) -> None:
    world.sites.news_while_asked = 1
    assert await world.checker().check([A]) == set()
    assert len(world.sites.asked) == 2
    assert len(world.waiting.learnt) == 1
    world.sites.news_while_asked = 100
    assert await world.checker().check([A]) == {A}
    assert len(world.waiting.learnt) == 1


async def test_no_question_names_more_sites_than_the_contract_allows(world: Set) -> None:
    assert await world.checker().check([("users/alice", f"sites/s{number}") for number in range(250)]) == set()
    assert sorted(len(sites) for _, sites in world.sites.asked) == [50, 100, 100]
