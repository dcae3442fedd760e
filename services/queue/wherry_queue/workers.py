"""The workers whose streams are open here, and what each of them holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from wherry_queue.sign_ins import Pair
from wherry_queue.states import TaskKind, WorkClass
from wherry_queue.store.leases import LeasedTask

Ref = tuple[int, int]
"""A task's id and a fence."""


@dataclass(slots=True)
class Held:
    """A lease that a worker has.

    Attributes:
        deadline_s: its end on this process's monotonic clock.
    """

    task: LeasedTask
    deadline_s: float

    @property
    def ref(self) -> Ref:
        """Task and fence."""
        return (self.task.task_id, self.task.fence)


@dataclass(frozen=True, slots=True)
class GivenLease:
    """A lease on its way to its worker."""

    task: LeasedTask
    token: str = field(repr=False)
    time_left_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StoppedLease:
    """A lease whose worker shall stop at once."""

    task: LeasedTask
    reason: str


@dataclass(slots=True)
class Outgoing:
    """What goes down a worker's stream next."""

    given: list[GivenLease] = field(default_factory=list)
    renewed: list[GivenLease] = field(default_factory=list)
    stopped: list[StoppedLease] = field(default_factory=list)
    ended_sessions: dict[Pair, None] = field(default_factory=dict)
    drain_grace_s: float | None = None
    end: bool = False

    def __bool__(self) -> bool:
        news = self.given or self.renewed or self.stopped or self.ended_sessions
        return bool(news or self.drain_grace_s is not None or self.end)


class WorkerStream:
    """A worker's open stream.

    Args:
        name: the worker's own name for itself.
        thumbprint: of its certificate; its lease tokens are bound to it.
        operations: the kinds of task that it takes; empty: all.
        version: the worker's.
        opened_s: when the stream was opened, on the dispatcher's clock.
        subject: of its certificate.
    """

    def __init__(
        self,
        name: str,
        thumbprint: str,
        operations: Iterable[TaskKind] = (),
        *,
        version: str = "",
        opened_s: float = 0.0,
        subject: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.opened_s = opened_s
        self.thumbprint = thumbprint
        self.subject = subject
        self.operations = frozenset(operations)
        self.places = dict.fromkeys(WorkClass, 0)
        self.held: dict[int, Held] = {}
        self.stopped: dict[int, tuple[int, str]] = {}
        """What it was told to stop: by task, the fence and the reason."""
        self.draining = False
        self.heard_s = 0.0
        """When it last said something, on the dispatcher's clock."""
        self._outgoing = Outgoing()
        self._news = asyncio.Event()

    def room(self, work_class: WorkClass) -> int:
        """Returns how many more tasks of a class it takes."""
        if self.draining:
            return 0
        taken = sum(held.task.work_class is work_class for held in self.held.values())
        return max(self.places[work_class] - taken, 0)

    def takes(self, kind: TaskKind) -> bool:
        """Tells whether it can do a kind of task."""
        return not self.operations or kind in self.operations

    def give(self, lease: GivenLease, deadline_s: float) -> None:
        """Sends a lease."""
        self.held[lease.task.task_id] = Held(lease.task, deadline_s)
        self.stopped.pop(lease.task.task_id, None)
        self._outgoing.given.append(lease)
        self._news.set()

    def take_back(self) -> list[Ref]:
        """Sends none of the leases that have not been sent yet; returns them. They are still held."""
        unsent, self._outgoing.given = self._outgoing.given, []
        return [(lease.task.task_id, lease.task.fence) for lease in unsent]

    def renew(self, leases: list[GivenLease], deadline_s: float) -> None:
        """Sends renewals."""
        for lease in leases:
            self.held[lease.task.task_id].deadline_s = deadline_s
        self._outgoing.renewed += leases
        self._news.set()

    def stop(self, task: LeasedTask, reason: str) -> None:
        """Sends word to stop."""
        self.stopped[task.task_id] = (task.fence, reason)
        self._outgoing.stopped.append(StoppedLease(task, reason))
        self._news.set()

    def end_sessions(self, ended: Iterable[Pair]) -> None:
        """Sends word of sessions that have ended: what is kept warm for them goes."""
        self._outgoing.ended_sessions |= dict.fromkeys(ended)
        self._news.set()

    def drain(self, grace_s: float) -> None:
        """Has the worker end what it runs within a time, take nothing more, and end itself."""
        self.draining = True
        self._outgoing.drain_grace_s = grace_s
        self._news.set()

    def end(self) -> None:
        """Ends the stream after what is on its way; the worker goes on elsewhere with what it holds."""
        self.draining = True
        self._outgoing.end = True
        self._news.set()

    async def next(self, timeout_s: float) -> Outgoing:
        """Returns what there is to send, empty when nothing came within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return Outgoing()
        self._news.clear()
        outgoing, self._outgoing = self._outgoing, Outgoing()
        return outgoing
