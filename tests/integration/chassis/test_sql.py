"""The database under a service: group commit on SQLite, retries on PostgreSQL, and what callers are told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.sql import Database, database_now_ms
from wherry_testing.postgres import PostgresServer

_SCHEMA = ("create table item (id bigint primary key, word varchar(100) not null)",)
_DEADLINE_S = 30


def _insert(connection: Connection, number: int, word: str = "x") -> int:
    connection.execute(sa.text("insert into item values (:id, :word)"), {"id": number, "word": word})
    return number


def _ids(connection: Connection) -> list[int]:
    return [int(row[0]) for row in connection.execute(sa.text("select id from item order by id"))]


def _create(connection: Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(sa.text(statement))


@pytest.fixture
async def sqlite(tmp_path: Path) -> Any:
    database = Database(f"sqlite:///{tmp_path}/deep/down/test.db")
    await database.write(_create)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/test.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    database = Database(url)
    await database.write(_create)
    yield database
    database.close()


class _Held:
    """Holds the writing thread until a test lets go, so that what is submitted meanwhile becomes one group."""

    def __init__(self, database: Database) -> None:
        self._free = threading.Event()
        self._begun = threading.Event()
        self._task = asyncio.ensure_future(database.write(self._wait))

    def _wait(self, _: Connection) -> None:
        self._begun.set()
        assert self._free.wait(_DEADLINE_S)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, _DEADLINE_S)

    async def release(self) -> None:
        self._free.set()
        await self._task


async def _grouped(database: Database, *works: Callable[[Connection], Any]) -> list[Any]:
    """Submits works so that they share a commit; returns results and exceptions."""
    held = _Held(database)
    await held.begun()
    waiting = [asyncio.ensure_future(database.write(work)) for work in works]
    await asyncio.sleep(0)  # each has run as far as its submission
    await held.release()
    return await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.row("O1", missing="MariaDB, each service")
async def test_what_is_written_is_there_and_what_raises_leaves_nothing(database: Database) -> None:
    assert await database.write(_insert, 1, word="kept") == 1

    def half(connection: Connection) -> None:
        _insert(connection, 2)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        await database.write(half)
    assert await database.read(_ids) == [1]


@pytest.mark.row("O1", missing="MariaDB, each service")
async def test_many_at_once_all_come_through(database: Database) -> None:
    def add(connection: Connection) -> None:
        connection.execute(sa.text("update item set word = 'y' where id = 0"))
        count = connection.execute(sa.text("select count(*) from item")).scalar_one()
        assert count >= 1

    await database.write(_insert, 0)
    numbers = range(1, 301)
    answers = await asyncio.gather(
        *(database.write(_insert, number) for number in numbers),
        *(database.write(add) for _ in range(20)),
        *(database.read(_ids) for _ in range(20)),
    )
    assert answers[:300] == list(numbers)
    assert await database.read(_ids) == [0, *numbers]


async def test_an_error_of_the_statement_is_no_outage_and_shows_no_parameters(database: Database) -> None:
    await database.write(_insert, 1)
    with pytest.raises(IntegrityError) as integrity:
        await database.write(_insert, 1, word="hunter2")
    assert "hunter2" not in str(integrity.value)
    for run in (database.read, database.write):
        with pytest.raises((OperationalError, ProgrammingError), match="nowhere"):
            await run(lambda connection: connection.execute(sa.text("select * from nowhere")))


async def test_the_clock_is_the_databases(database: Database) -> None:
    now_ms = await database.read(database_now_ms)
    assert abs(now_ms - time.time() * 1000) < 5000


async def test_a_database_that_answers_says_so_and_closing_can_be_repeated(database: Database) -> None:
    assert await database.ping()
    database.close()
    database.close()


async def test_works_that_wait_together_share_one_commit(sqlite: Database) -> None:
    commits = 0

    @sa.event.listens_for(sqlite.engine, "commit")
    def count(_: Connection) -> None:
        nonlocal commits
        commits += 1

    answers = await _grouped(sqlite, *(lambda c, n=number: _insert(c, n) for number in range(50)))
    assert answers == list(range(50))
    assert commits == 2  # of the one that held them up, and of the group


@pytest.mark.row("O1", missing="MariaDB, each service")
async def test_works_that_fail_do_not_take_others_along(sqlite: Database) -> None:
    def half(connection: Connection) -> None:
        _insert(connection, 3)
        raise LookupError("half-way")

    answers = await _grouped(
        sqlite,
        lambda c: _insert(c, 1),
        half,
        lambda c: _insert(c, 2),
        lambda c: _insert(c, 1),
        lambda c: _insert(c, 4),
    )
    assert [answers[0], answers[2], answers[4]] == [1, 2, 4]
    assert isinstance(answers[1], LookupError)
    assert isinstance(answers[3], IntegrityError)
    assert await sqlite.read(_ids) == [1, 2, 4]


async def test_a_constraint_that_speaks_at_the_commit_fails_only_the_work_that_broke_it(sqlite: Database) -> None:
    await sqlite.write(
        lambda c: c.execute(
            sa.text("create table part (item bigint references item (id) deferrable initially deferred)")
        )
    )

    def orphan(connection: Connection) -> None:
        connection.execute(sa.text("insert into part values (99)"))

    answers = await _grouped(sqlite, lambda c: _insert(c, 1), orphan, lambda c: _insert(c, 2))
    assert isinstance(answers[1], IntegrityError)
    assert (answers[0], answers[2]) == (1, 2)
    assert await sqlite.read(_ids) == [1, 2]


async def test_an_error_that_ends_the_whole_transaction_fails_the_whole_group_and_keeps_nothing_of_it(
    sqlite: Database,
) -> None:
    def break_it(connection: Connection) -> None:
        # As SQLite itself does on a full disk: the transaction is gone, savepoints and all.
        driver: Any = connection.connection.driver_connection
        driver.execute("rollback")
        raise LookupError("disk full")

    answers = await _grouped(sqlite, lambda c: _insert(c, 1), break_it, lambda c: _insert(c, 2))
    assert all(isinstance(answer, Exception) for answer in answers)
    assert await sqlite.read(_ids) == []
    assert await sqlite.write(_insert, 3) == 3


async def test_a_transaction_that_cannot_begin_answers_everybody(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("begin immediate", {}, sqlite3.OperationalError("database is locked"))

    sa.event.listen(sqlite.engine, "begin", refuse, insert=True)
    async with asyncio.timeout(_DEADLINE_S):
        answers = await asyncio.gather(*(sqlite.write(_insert, n) for n in range(20)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 20
    sa.event.remove(sqlite.engine, "begin", refuse)
    assert await sqlite.write(_insert, 1) == 1


async def test_a_caller_who_gave_up_before_its_turn_changes_nothing_and_harms_nobody(sqlite: Database) -> None:
    held = _Held(sqlite)
    await held.begun()
    gone = asyncio.ensure_future(sqlite.write(_insert, 1))
    stays = asyncio.ensure_future(sqlite.write(_insert, 2))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await held.release()
    assert await stays == 2
    assert await sqlite.read(_ids) == [2]


async def test_readers_do_not_wait_for_the_writer(sqlite: Database) -> None:
    await sqlite.write(_insert, 1)
    held = _Held(sqlite)
    await held.begun()
    async with asyncio.timeout(_DEADLINE_S / 2):
        assert await sqlite.read(_ids) == [1]
    await held.release()


async def test_closing_finishes_what_was_submitted_and_takes_nothing_more(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/test.db")
    await database.write(_create)
    waiting = [asyncio.ensure_future(database.write(_insert, number)) for number in range(600)]
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    assert await asyncio.gather(*waiting) == list(range(600))
    with pytest.raises(RuntimeError, match="closed"):
        await database.write(_insert, 1000)


async def test_a_locked_file_is_an_outage_whose_words_go_to_the_log_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/test.db")
    await database.write(_create)
    sa.event.listen(database.engine, "checkout", lambda driver, *_: driver.execute("pragma busy_timeout=0"))
    with sqlite3.connect(tmp_path / "test.db", isolation_level=None) as other:
        other.execute("begin exclusive")
        with structlog.testing.capture_logs() as logs, pytest.raises(DatabaseUnavailable) as caught:
            await database.write(_insert, 1)
        other.execute("rollback")
    other.close()
    assert "locked" not in str(caught.value)
    assert [line["error"] for line in logs if line["event"] == "database_unavailable"] == ["database is locked"]
    database.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may stop."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.mark.row("O1", missing="MariaDB, each service")
async def test_deadlocked_transactions_are_run_again_until_both_have_done_their_work(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.write(_create)
    await database.write(_insert, 1)
    await database.write(_insert, 2)
    meeting = threading.Barrier(2, timeout=_DEADLINE_S)
    tries: list[int] = []

    def both(connection: Connection, first: int, second: int) -> None:
        alone = tries.count(first) > 0
        tries.append(first)
        lock = sa.text("update item set word = word || :by where id = :id")
        connection.execute(sa.text("set local deadlock_timeout = '50ms'"))
        connection.execute(lock, {"by": str(first), "id": first})
        if not alone:
            meeting.wait()
        connection.execute(lock, {"by": str(first), "id": second})

    async with asyncio.timeout(_DEADLINE_S):
        await asyncio.gather(database.write(both, 1, 2), database.write(both, 2, 1))
    assert len(tries) > 2, "one of them was sent back; and, where it was quick to come again, perhaps once more"
    words = await database.read(lambda c: c.execute(sa.text("select word from item order by id")).scalars().all())
    assert [sorted(word) for word in words] == [["1", "2", "x"], ["1", "2", "x"]]
    database.close()


async def test_serialization_failures_are_run_again_a_few_times_and_then_told(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.write(_create)
    await database.write(_insert, 1)
    tries = 0

    def collide(connection: Connection, times: int) -> int:
        nonlocal tries
        tries += 1
        connection.execute(sa.text("set transaction isolation level serializable"))
        word = connection.execute(sa.text("select word from item where id = 1")).scalar_one()
        if tries <= times:
            with database.engine.begin() as other:
                other.execute(sa.text("update item set word = word || 'y' where id = 1"))
        connection.execute(sa.text("update item set word = :word where id = 1"), {"word": f"{word}z"})
        return tries

    assert await database.write(collide, 2) == 3
    tries = 0
    with pytest.raises(DatabaseUnavailable):
        await database.write(collide, 1000)
    assert tries == 5
    database.close()


@pytest.mark.row("O1", missing="MariaDB, each service")
async def test_a_server_that_stops_is_an_outage_and_one_that_comes_back_is_used_again(
    own_server: PostgresServer,
) -> None:
    database = Database(own_server.fresh())
    await database.write(_create)
    own_server.stop()
    assert not await database.ping()
    with pytest.raises(DatabaseUnavailable):
        await database.write(_insert, 1)
    own_server.start()
    assert await database.ping()
    assert await database.write(_insert, 2) == 2
    database.close()
