"""One attempt at a task: its deadline, how far it is, what it noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from wherry_worker.access import SiteAccess
from wherry_worker.engine.messages import Message, Task
from wherry_worker.engines import EngineHandle
from wherry_worker.work import LOG_MAX_BYTES, Lease, TaskProgress


class Attempt:
    """A lease at work. The leasing side moves its deadline and stops it, the running side works through it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.token = lease.token
        self._lease_deadline = lease.deadline
        self._bound = float("inf")
        #: The access whose credential ends first.
        self.bound_by: SiteAccess | None = None
        #: Why it shall stop, once it shall: one of stopping.py's, or another of a CancelledLease's.
        self.stop_reason: str | None = None
        #: Sites at which its user's session has ended since it began: what it holds of theirs is not kept for others.
        self.ended_sites: set[str] = set()
        #: Whether it shall start no further file.
        self.pausing = False
        self.transferred_bytes = 0
        self.files_done = 0
        self.changed_at = time.time()
        self._engine: EngineHandle | None = None
        self._notes: list[str] = []
        self._stopped = asyncio.Event()

    @property
    def deadline(self) -> float:
        """When it has to stop, on the monotonic clock: by the lease's end or the credential's, whichever is sooner."""
        return min(self._lease_deadline, self._bound)

    async def bound(self, deadline: float, access: SiteAccess | None) -> None:
        """Sets when it has to stop for its credentials, which the lease's renewals do not move.

        `access` is the one whose credential ends first.
        """
        self._bound, self.bound_by = deadline, access
        if self._engine is not None:
            await self._engine.extend(self.deadline)

    @property
    def credential_over(self) -> SiteAccess | None:
        """The access by which its time is over; None where it is not, or where the lease's end came first."""
        over = self._bound <= time.monotonic() and self._bound <= self._lease_deadline
        return self.bound_by if over else None

    async def run(self, engine: EngineHandle, task: Task) -> AsyncGenerator[Message, None]:
        """Runs a task in the engine within this attempt's deadline, as EngineProcess.run does."""
        self._engine = engine
        try:
            async with aclosing(engine.run(task, self.deadline)) as messages:
                if self.stop_reason is not None:
                    await engine.kill("cancelled")
                async for message in messages:
                    yield message
        finally:
            self._engine = None

    async def first(self, engine: EngineHandle, task: Task) -> Message | None:
        """Runs a task that has one answer, or none."""
        answer: Message | None = None
        async with aclosing(self.run(engine, task)) as messages:
            async for message in messages:
                answer = message
        return answer

    async def clean_up(self, engine: EngineHandle, task: Task, within_s: float) -> Message | None:
        """Runs a task that tidies up, in a time of its own and not stopped by what stopped the attempt."""
        answer: Message | None = None
        async with aclosing(engine.run(task, time.monotonic() + within_s)) as messages:
            async for message in messages:
                answer = message
        return answer

    async def extend(self, deadline: float, token: str) -> None:
        """The lease goes on."""
        self._lease_deadline, self.token = deadline, token
        if self._engine is not None:
            await self._engine.extend(self.deadline)

    async def pause(self) -> None:
        """Has it finish the files that are moving and start no other; what works on no files ends as it would."""
        if not self.pausing:
            self.pausing = True
            self.note("pausing")
        if self._engine is not None:
            await self._engine.halt()

    async def stop(self, reason: str) -> None:
        """Ends what is running at once; the running side then cleans up and settles."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self._stopped.set()
            self.note(f"stopped: {reason}")
        if self._engine is not None:
            await self._engine.kill("cancelled")

    async def stopped(self) -> None:
        """Returns once the attempt shall stop."""
        await self._stopped.wait()

    def advance(self, transferred_bytes: int, files_done: int) -> None:
        """Notes how far it is."""
        self.transferred_bytes, self.files_done = transferred_bytes, files_done
        self.changed_at = time.time()

    def progress(self) -> TaskProgress:
        """Returns how far it is."""
        return TaskProgress(self.lease.ref, self.changed_at, self.transferred_bytes, self.files_done)

    def note(self, text: str) -> None:
        """Adds a line to the attempt's log; never a secret."""
        self._notes.append(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}")

    @property
    def log(self) -> str:
        """The notes, head and tail kept where they are too long."""
        text = "\n".join(self._notes)
        raw = text.encode("utf-8", "replace")
        if len(raw) <= LOG_MAX_BYTES:
            return raw.decode()
        half = LOG_MAX_BYTES // 2 - 20
        return raw[:half].decode(errors="ignore") + "\n[cut]\n" + raw[-half:].decode(errors="ignore")
