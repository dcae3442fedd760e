"""A queue and a site service in memory, as a worker sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from wherry_worker.access import SiteAccess
from wherry_worker.attempt import Attempt
from wherry_worker.ports import LeaseStream, Opened, QueueUnavailable, SettlementRefused, StreamEvent
from wherry_worker.running import Runner
from wherry_worker.stopping import as_stopped
from wherry_worker.work import Found, LeaseRef, Outcome, Settlement, TaskProgress


class FakeStream:
    """One stream: the test puts events in, and reads what the worker said."""

    def __init__(self, held: Sequence[LeaseRef]) -> None:
        self.held = list(held)
        self.said: list[tuple[str, object]] = []
        self.heard = asyncio.Event()
        self._events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        self.broken = False

    def send(self, event: StreamEvent) -> None:
        self._events.put_nowait(event)

    def break_off(self) -> None:
        self.broken = True
        self._events.put_nowait(None)

    def _note(self, what: str, detail: object) -> None:
        if self.broken:
            raise QueueUnavailable("broken")
        self.said.append((what, detail))
        self.heard.set()

    async def capacity(self, interactive: int, bulk: int) -> None:
        self._note("capacity", (interactive, bulk))

    async def progress(self, tasks: Sequence[TaskProgress]) -> None:
        self._note("progress", list(tasks))

    async def drain(self) -> None:
        self._note("drain", None)

    async def events(self) -> AsyncIterator[StreamEvent]:
        while (event := await self._events.get()) is not None:
            yield event
        raise QueueUnavailable("broken off")


class FakeQueue:
    """Replicas that share everything; `down` makes calls fail, `refusals` names tasks whose settlement is refused.

    `unanswered` counts the settlements that failed so.
    """

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.settled: list[Settlement] = []
        self.batches: list[int] = []
        self.reported: list[Found] = []
        self.down = False
        self.lost_answers = 0
        self.refusals: set[str] = set()
        self.unanswered = 0
        self.opened = Opened(heartbeat_s=10, ttl_s=30)

    @asynccontextmanager
    async def stream(self, held: Sequence[LeaseRef]) -> AsyncIterator[LeaseStream]:
        if self.down:
            raise QueueUnavailable("down")
        stream = FakeStream(held)
        stream.send(StreamEvent(opened=self.opened))
        self.streams.append(stream)
        yield stream

    async def settle(self, settlements: Sequence[Settlement]) -> set[LeaseRef]:
        await asyncio.sleep(0)
        if self.down:
            self.unanswered += 1
            raise QueueUnavailable("down")
        if any(item.ref.task in self.refusals for item in settlements):
            raise SettlementRefused("unfit")
        self.batches.append(len(settlements))
        known = {item.ref for item in self.settled}
        self.settled += [item for item in settlements if item.ref not in known]
        if self.lost_answers:
            self.lost_answers -= 1
            raise QueueUnavailable("the answer was lost")
        return {item.ref for item in settlements}

    async def report(self, ref: LeaseRef, batches: Sequence[Found]) -> None:
        del ref
        if self.down:
            raise QueueUnavailable("down")
        self.reported += batches


class FakeSites:
    """A site service that gives what the test put in, or raises it."""

    def __init__(self, *accesses: SiteAccess) -> None:
        self.accesses = {access.site: access for access in accesses}
        self.error: Exception | None = None
        self.asked: list[tuple[str, list[str]]] = []

    async def fetch(self, token: str, have: Sequence[SiteAccess]) -> list[SiteAccess]:
        self.asked.append((token, [access.credential_id for access in have]))
        if self.error is not None:
            raise self.error
        return list(self.accesses.values())


class HeldRunner(Runner):
    """Runs attempts until the test lets them end, or they are stopped."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.ended_sessions: list[tuple[str, str]] = []
        self.all_ended = 0
        self._ends: dict[str, asyncio.Event] = {}
        self.started = asyncio.Condition()

    async def run(self, attempt: Attempt) -> Settlement:
        task = attempt.lease.ref.task
        self.attempts[task] = attempt
        self._ends[task] = end = asyncio.Event()
        waits = [asyncio.create_task(end.wait()), asyncio.create_task(attempt.stopped())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if attempt.stop_reason is not None:
            return as_stopped(Settlement(attempt.lease.ref, Outcome.CANCELLED), attempt.stop_reason)
        return Settlement(attempt.lease.ref, Outcome.COMPLETED)

    async def end_sessions(self, user: str, site: str) -> None:
        self.ended_sessions.append((user, site))

    async def end_all_sessions(self) -> None:
        self.all_ended += 1

    def end(self, task: str) -> None:
        self._ends[task].set()
