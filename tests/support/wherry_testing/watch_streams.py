"""Streams of JobService's watches without a server: on a replica's feed, with its database and its bulletin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.identity import Caller, Peer, UserClaims, set_caller
from wherry_chassis.sql import Database
from wherry_queue.bulletin import Bulletin
from wherry_queue.servicer.watching import JobShowing, WatchServicer
from wherry_queue.store.waiting import Circumstances
from wherry_queue.watch_feed import WatchFeed
from wherry_testing.waiting import PATIENCE_S, until


class Stream:
    """A stream, and what it has said so far.

    Attributes:
        messages: what it has said.
        jobs: the last that was said of each job, by name.
        ended: what has ended it.
        flows: cleared, its caller takes nothing more.
    """

    def __init__(self, user: str, messages: AsyncIterator[Any]) -> None:
        self.messages: list[Any] = []
        self.jobs: dict[str, pb.Job] = {}
        self.ended: BaseException | None = None
        self.flows = asyncio.Event()
        self.flows.set()
        self.running = asyncio.create_task(self._run(user, messages))

    async def says(self, condition: Callable[[pb.Job], object], within_s: float = PATIENCE_S) -> pb.Job:
        """Waits until the condition holds for a job, as it was said last."""

        def found() -> list[pb.Job]:
            if self.ended is not None:
                raise self.ended
            return [job for job in self.jobs.values() if condition(job)]

        await until(found, within_s)
        return found()[0]

    def words_on(self, name: str) -> int:
        """How often it has told of a job."""
        return sum(name in (job.name for job in _jobs(message)) for message in self.messages)

    async def _run(self, user: str, messages: AsyncIterator[Any]) -> None:
        set_caller(Caller(Peer("", "", frozenset()), UserClaims(user, "session", 0), ""))
        try:
            async for message in messages:
                self.messages.append(message)
                self.jobs |= {job.name: job for job in _jobs(message)}
                await self.flows.wait()
        except Exception as error:  # noqa: BLE001  # the tests look at it
            self.ended = error
        finally:
            await messages.aclose()  # type: ignore[attr-defined]  # it is a generator, as servicers' methods are


class _Streams(WatchServicer):
    """The watching part of JobService alone; its other methods stay unimplemented."""

    @classmethod
    def over(cls, database: Database, feed: WatchFeed[pb.Job], heartbeat_s: float) -> Self:
        """Returns one."""
        return cls(database, feed, heartbeat_s=heartbeat_s)


class WatchedReplica:
    """A replica that is watched.

    Attributes:
        statements: all that its feed and its streams have asked the database, since last cleared.
    """

    def __init__(self, database: Database, heartbeat_s: float = 20) -> None:
        self.database = database
        self.bulletin = Bulletin(database)
        self.has_workers = True
        self.feed = WatchFeed(database, self.bulletin, JobShowing(), self._here)
        self.servicer = _Streams.over(database, self.feed, heartbeat_s)
        self.statements: list[str] = []
        self._streams: list[Stream] = []
        event.listen(database.engine, "before_cursor_execute", self._note)

    def watch(self, user: str = "users/a", page_size: int = 0) -> Stream:
        """Watches all of a user's jobs."""
        return self._stream(user, self.servicer.WatchJobs(pb.WatchJobsRequest(page_size=page_size), None))

    def watch_job(self, uid: str, user: str = "users/a") -> Stream:
        """Watches one job."""
        return self._stream(user, self.servicer.WatchJob(pb.WatchJobRequest(name=f"jobs/{uid}"), None))

    async def leave(self, *streams: Stream) -> None:
        """Ends streams as callers do who go; all, if none is named."""
        going = list(streams or self._streams)
        for stream in going:
            self._streams.remove(stream)
            stream.running.cancel()
        await asyncio.gather(*(stream.running for stream in going), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[WatchedReplica]:
        """Runs its feed and its bulletin within the block."""
        work = [asyncio.create_task(self.bulletin.run()), asyncio.create_task(self.feed.run())]
        try:
            yield self
            assert not any(task.done() for task in work)
        finally:
            await self.leave()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await self.bulletin.close()

    def _stream(self, user: str, messages: AsyncIterator[Any]) -> Stream:
        self._streams.append(Stream(user, messages))
        return self._streams[-1]

    def _here(self) -> Circumstances:
        return Circumstances(has_workers=self.has_workers)

    def _note(self, connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)


def _jobs(message: Any) -> list[pb.Job]:
    return list(message.jobs) if isinstance(message, pb.WatchJobsResponse) else [message.job]
