"""The database under a service, by SQLAlchemy URL: SQLite embedded, PostgreSQL for more than one machine.

Work is a plain function of a connection; it runs in a transaction, on a thread. On SQLite one thread writes, and
commits whatever has queued up meanwhile together (group commit): each commit costs an fsync, so sharing it is what
makes `synchronous=FULL` affordable. On PostgreSQL each work has a connection of the pool.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger

T = TypeVar("T")
P = ParamSpec("P")
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

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work(connection, …)` in a transaction of its own, committed when this returns.

        Nothing stays if it raises.

        Raises:
            DatabaseUnavailable: the database cannot be reached; whether it had committed is then not known.
        """
        bound = functools.partial(_call, work, args, kwargs)
        with _translated():
            if self._writer is not None:
                return await asyncio.wrap_future(self._writer.submit(bound))
            return await self._run(bound)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work(connection, …)` that changes nothing; on SQLite beside the writer."""
        with _translated():
            return await self._run(functools.partial(_call, work, args, kwargs))

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
            await self._run(lambda connection: connection.execute(sa.text("select 1")).scalar())
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Ends the threads and the connections; what was submitted is finished first."""
        if self._writer is not None:
            self._writer.close()
        self._threads.shutdown()
        self.engine.dispose()


def _call(work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection) -> T:
    return work(connection, *args, **kwargs)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns what says that the database cannot be used into DatabaseUnavailable; the driver's words go to the log."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise  # SQLite's driver calls a faulty statement operational too: that is ours, and an incident
        logger().error("database_unavailable", error=str(error.orig))
        raise DatabaseUnavailable from error


def make_engine(url: str, *, pool_size: int = 8) -> Engine:
    """Returns an engine with the settings that every service uses. Its errors never show a statement's parameters."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(url, Path(parsed.database or ""), pool_size)
    return sa.create_engine(url, pool_size=pool_size, max_overflow=2, pool_pre_ping=True, hide_parameters=True)


def _sqlite_engine(url: str, file: Path, pool_size: int) -> Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        pool_size=pool_size + 1,
        poolclass=sa.QueuePool,
        connect_args={"timeout": 30, "check_same_thread": False},
        hide_parameters=True,
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
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._closing:  # nothing is queued behind the end, where nobody would ever take it
            if self._closed:
                raise RuntimeError("the database is closed")
            self._queue.put(_Queued(work, future))
        return future

    def close(self) -> None:
        with self._closing:
            if not self._closed:
                self._closed = True
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
            # From here on nobody can cancel them, so that each can be answered.
            self._commit([queued for queued in group if queued.future.set_running_or_notify_cancel()])
            if ends:
                return

    def _commit(self, group: list[_Queued]) -> None:
        """Runs the works in one transaction, each in a savepoint, and answers only after the commit."""
        if not group:
            return
        results: list[tuple[_Queued, Any]] = []
        failed: list[tuple[_Queued, BaseException]] = []
        try:
            with self._engine.connect() as connection, connection.begin():
                for queued in group:
                    try:
                        with connection.begin_nested():
                            results.append((queued, queued.work(connection)))
                    except BaseException as error:  # handed to whoever waits for it
                        if not _in_transaction(connection):
                            raise  # a full disk, say, ends the whole transaction, and with it what went before
                        failed.append((queued, error))
        except IntegrityError as error:
            if len(group) > 1:  # a deferred constraint speaks only at the commit: find out whose it is
                for queued in group:
                    self._commit([queued])
                return
            results, failed = [], [(group[0], error)]
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            told = {id(queued) for queued, _ in failed}
            failed += [(queued, error) for queued in group if id(queued) not in told]
            results = []
        for queued, result in results:
            queued.future.set_result(result)
        for queued, problem in failed:
            queued.future.set_exception(problem)


def _in_transaction(connection: Connection) -> bool:
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))


def database_now_ms(connection: Connection) -> int:
    """Returns the database's clock in milliseconds since the epoch: leases are measured by nothing else.

    SQLite has the process's clock, and there is one process.
    """
    if connection.dialect.name == "sqlite":
        return time.time_ns() // 1_000_000
    return int(
        connection.execute(sa.text("select (extract(epoch from clock_timestamp()) * 1000)::bigint")).scalar_one()
    )
