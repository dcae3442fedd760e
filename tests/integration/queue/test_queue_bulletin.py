"""What replicas tell each other through their PostgreSQL, and what becomes of it when that is away."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from wherry_chassis.sql import Database
from wherry_queue.bulletin import Bulletin, Topic
from wherry_testing.postgres import PostgresServer
from wherry_testing.waiting import until

pytestmark = pytest.mark.timeout(180)


class Replica:
    """A bulletin, and what its subscribers were told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bulletin = Bulletin(database)
        self.heard: list[tuple[Topic, list[Any]]] = []
        self.gaps = 0
        for topic in Topic:
            self.bulletin.subscribe(topic, functools.partial(self._hears, topic))
        self.bulletin.on_gap(self._gap)

    def _hears(self, topic: Topic, items: Sequence[Any]) -> None:
        self.heard.append((topic, list(items)))

    def _gap(self) -> None:
        self.gaps += 1

    def items(self, topic: Topic) -> list[Any]:
        return [item for heard, items in self.heard if heard is topic for item in items]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        running = asyncio.create_task(self.bulletin.run())
        try:
            await until(lambda: self.gaps)
            yield self
            assert not running.done()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await self.bulletin.close()


@pytest.fixture
def replica(postgres_url: str) -> Iterator[Callable[[], Replica]]:
    """Makes replicas that share a database."""
    databases: list[Database] = []

    def make() -> Replica:
        databases.append(Database(postgres_url, threads=2))
        return Replica(databases[-1])

    yield make
    for database in databases:
        database.close()


def cut(url: str, what: str = "%") -> None:
    """Ends all connections to a database whose last statement was of a kind."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        query = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and query like :what"
        )
        assert list(connection.execute(sa.text(query), {"what": what}))
    engine.dispose()


def notify(connection: sa.Connection, text: str) -> None:
    connection.execute(sa.select(sa.func.pg_notify("wherry_queue", text)))


@contextlib.asynccontextmanager
async def overheard(url: str) -> AsyncIterator[list[str]]:
    """Gives the notices as they travel."""
    notices: list[str] = []
    _, parameters = sa.create_engine(url).dialect.create_connect_args(sa.make_url(url))
    async with await psycopg.AsyncConnection.connect(**parameters, autocommit=True) as connection:
        await connection.execute("listen wherry_queue")

        async def listen() -> None:
            while True:
                notices.extend([notice.payload async for notice in connection.notifies(timeout=60, stop_after=1)])

        listening = asyncio.create_task(listen())
        try:
            yield notices
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


@pytest.mark.row("W1")
async def test_what_one_replica_says_all_hear_once(replica: Callable[[], Replica]) -> None:
    async with replica().running() as one, replica().running() as two:
        one.bulletin.say(Topic.BEGUN, [("users/jürgen@example.org", 7)])
        assert one.heard == [(Topic.BEGUN, [("users/jürgen@example.org", 7)])], "at once where it is said"
        one.bulletin.say(Topic.READY)
        one.bulletin.say(Topic.JOBS, [1, 2])
        await until(lambda: len(two.heard) == 3)
        assert sorted(two.heard) == sorted(one.heard)
        two.bulletin.say(Topic.JOBS, [3])
        await until(lambda: one.items(Topic.JOBS) == [1, 2, 3])
        assert len(one.heard) == 4, "its own words come back to nobody"


async def test_what_is_said_together_travels_together_in_notices_that_are_short_enough(
    replica: Callable[[], Replica], postgres_url: str
) -> None:
    async with replica().running() as one, replica().running() as two, overheard(postgres_url) as notices:
        for job_id in range(300):
            one.bulletin.say(Topic.JOBS, [job_id, job_id % 7])
        await until(lambda: set(two.items(Topic.JOBS)) == set(range(300)))
        await until(lambda: notices)
        assert len(notices) == 1
        many = set(range(10**9, 10**9 + 5000))
        one.bulletin.say(Topic.HELD, many)
        await until(lambda: set(two.items(Topic.HELD)) == many)
        await until(lambda: sum(len(json.loads(notice)[2]) for notice in notices[1:]) == len(many))
        assert max(len(notice) for notice in notices) < 8000
        assert len(notices) <= 9


async def test_nothing_is_said_of_no_jobs(replica: Callable[[], Replica], postgres_url: str) -> None:
    async with replica().running() as one, overheard(postgres_url) as notices:
        one.bulletin.say(Topic.JOBS, [])
        one.bulletin.say(Topic.READY)
        await until(lambda: notices)
        assert one.heard == [(Topic.READY, [])]
        assert [json.loads(notice)[1] for notice in notices] == ["ready"]


@pytest.mark.row("W1")
async def test_a_lost_connection_is_made_again_and_those_who_wait_are_told_that_they_may_have_missed_something(
    replica: Callable[[], Replica], postgres_url: str
) -> None:
    async with replica().running() as one, replica().running() as two:
        one.bulletin.say(Topic.JOBS, [1])
        await until(lambda: two.items(Topic.JOBS) == [1])
        gaps = two.gaps
        cut(postgres_url)  # the connections that send, and those that listen
        one.bulletin.say(Topic.JOBS, [2])
        await until(lambda: one.gaps == 2 and two.gaps > gaps)
        one.bulletin.say(Topic.JOBS, [3])
        await until(lambda: 3 in two.items(Topic.JOBS))


@pytest.mark.row("W1")
async def test_what_could_not_be_sent_is_sent_again(replica: Callable[[], Replica], postgres_url: str) -> None:
    async with replica().running() as one, replica().running() as two:
        one.bulletin.say(Topic.HELD, [1])
        await until(lambda: two.items(Topic.HELD) == [1])
        cut(postgres_url, "select pg_notify%")  # those who listen go on to
        one.bulletin.say(Topic.HELD, [2])
        one.bulletin.say(Topic.READY)
        await until(lambda: two.items(Topic.HELD) == [1, 2] and (Topic.READY, []) in two.heard)
        assert two.gaps == 1


async def test_what_is_said_while_the_server_is_away_is_told_when_it_is_back(
    replica: Callable[[], Replica], postgres_server: PostgresServer
) -> None:
    async with replica().running() as one, replica().running() as two:
        gaps = two.gaps
        postgres_server.stop()
        try:
            one.bulletin.say(Topic.HELD, [1])
            one.bulletin.say(Topic.HELD, [2, 1])
        finally:
            postgres_server.start()  # in this thread: with a thread that ends, the server would
        await until(lambda: two.gaps > gaps, within_s=20)
        one.bulletin.say(Topic.HELD, [3])
        await until(lambda: 3 in two.items(Topic.HELD), within_s=20)


async def test_more_than_can_be_kept_unsaid_becomes_the_word_that_something_was_lost(
    replica: Callable[[], Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.bulletin._MOST_UNSENT", 10)
    silent = replica()
    async with replica().running() as other:
        gaps = other.gaps
        for job_id in range(50):
            silent.bulletin.say(Topic.JOBS, [job_id])  # it cannot send yet
        async with silent.running():
            await until(lambda: other.gaps > gaps)
        assert len(other.items(Topic.JOBS)) <= 10


async def test_the_last_words_of_a_replica_are_heard(replica: Callable[[], Replica]) -> None:
    async with replica().running() as other:
        async with replica().running() as ending:
            ending.bulletin.say(Topic.READY)
        await until(lambda: (Topic.READY, []) in other.heard)


async def test_what_is_not_understood_disturbs_nobody(replica: Callable[[], Replica]) -> None:
    async with replica().running() as one, replica().running() as two:
        for text in ("", "nonsense", "[1,2,3]", '["x","a topic of a later version",[1]]', '["x","jobs",7]', '["x"]'):
            await one.database.write(notify, text)
        one.bulletin.say(Topic.JOBS, [1])
        await until(lambda: two.items(Topic.JOBS) == [1])
