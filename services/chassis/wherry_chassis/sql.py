"""The database under a service, by SQLAlchemy URL: SQLite embedded, PostgreSQL for more than one machine.

Work is a plain function of a connection; it runs in a transaction, on a thread. On SQLite one thread writes, and
commits whatever has queued up meanwhile together (group commit): each commit costs an fsync, so sharing it is what
makes `synchronous=FULL` affordable. On PostgreSQL each work has a connection of the pool.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from wherry_chassis.errors import DatabaseUnavailable

T = TypeVar("T")
Work = Callable[[Connection], T]

_GROUP = 256
"""At most so many works share a commit, to bound how long the first of them waits."""
_RETRIED_SQLSTATES = {"40001", "40P01"}
"""Serialization failure and deadlock: the transaction did nothing and may simply run again."""


class Database:
    """A service's database.

    Args:
        url: an SQLAlchemy URL; `sqlite:///file` or `postgresql+psycopg://…`.
        threads: how many transactions run at once (readers only, on SQLite).
    """

    def __init__(self, url: str, *, threads: int = 8) -> None:
        self.url = make_url(url)
        self.dialect = self.url.get_backend_name()
        self.engine = make_engine(url, pool_size=threads)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="sql")
        self._writer = _SqliteWriter(self.engine) if self.dialect == "sqlite" else None

    async def write(self, work: Work[T]) -> T:
        """Runs `work` in a transaction of its own, committed when this returns; nothing stays if it raises.

        Raises:
            DatabaseUnavailable: the database cannot be reached; whether it had committed is then not known.
        """
        try:
            if self._writer is not None:
                return await asyncio.wrap_future(self._writer.submit(work))
            return await self._run(work)
        except (OperationalError, InterfaceError) as error:
            raise DatabaseUnavailable from error

    async def read(self, work: Work[T]) -> T:
        """Runs `work` that changes nothing; on SQLite beside the writer."""
        try:
            return await self._run(work)
        except (OperationalError, InterfaceError) as error:
            raise DatabaseUnavailable from error

    async def _run(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, work)

    def _transaction(self, work: Work[T]) -> T:
        for attempt in range(5):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _RETRIED_SQLSTATES or attempt == 4:
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # spreads rivals, no secret
        raise AssertionError("unreachable")

    async def ping(self) -> bool:
        """Tells whether the database answers."""
        try:
            await self.read(lambda connection: connection.execute(sa.text("select 1")).scalar())
        except (DatabaseUnavailable, SQLAlchemyError):
            return False
        return True

    def close(self) -> None:
        """Ends the threads and the connections; what was submitted is finished first."""
        if self._writer is not None:
            self._writer.close()
        self._threads.shutdown()
        self.engine.dispose()


def make_engine(url: str, *, pool_size: int = 8) -> Engine:
    """Returns an engine with the settings that every service uses."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(url, Path(parsed.database or ""), pool_size)
    return sa.create_engine(url, pool_size=pool_size, max_overflow=2, pool_pre_ping=True)


def _sqlite_engine(url: str, file: Path, pool_size: int) -> Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url, pool_size=pool_size + 1, poolclass=sa.QueuePool, connect_args={"timeout": 30, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        # The driver's own transaction handling begins too late for DDL and reads; ours is explicit.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"pragma {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: upgrading a read lock can fail half-way.
        writing = connection.get_execution_options().get("wherry_writes", False)
        connection.exec_driver_sql("begin immediate" if writing else "begin")

    return engine


@dataclass(slots=True)
class _Queued:
    work: Work[Any]
    future: concurrent.futures.Future[Any]


class _SqliteWriter:
    """The one thread that writes to an SQLite file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(wherry_writes=True)
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._queue.put(_Queued(work, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            group, ends = [first], False
            with contextlib.suppress(queue.Empty):
                while len(group) < _GROUP:
                    queued = self._queue.get_nowait()
                    if queued is None:
                        ends = True
                        break
                    group.append(queued)
            self._commit(group)
            if ends:
                return

    def _commit(self, group: list[_Queued]) -> None:
        """Runs the works in one transaction, each in a savepoint, and answers only after the commit."""
        results: list[tuple[_Queued, Any]] = []
        failed: list[tuple[_Queued, BaseException]] = []
        try:
            with self._engine.connect() as connection, connection.begin():
                for queued in group:
                    if not queued.future.set_running_or_notify_cancel():
                        continue
                    try:
                        with connection.begin_nested():
                            results.append((queued, queued.work(connection)))
                    except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
                        failed.append((queued, error))
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            told = {id(queued) for queued, _ in failed}
            failed += [(q, error) for q in group if id(q) not in told and not q.future.cancelled()]
            results = []
        for queued, result in results:
            queued.future.set_result(result)
        for queued, problem in failed:
            queued.future.set_exception(problem)


def database_now_ms(connection: Connection) -> int:
    """Returns the database's clock in milliseconds since the epoch: leases are measured by nothing else.

    SQLite has the process's clock, and there is one process.
    """
    if connection.dialect.name == "sqlite":
        return time.time_ns() // 1_000_000
    return int(
        connection.execute(sa.text("select (extract(epoch from clock_timestamp()) * 1000)::bigint")).scalar_one()
    )
