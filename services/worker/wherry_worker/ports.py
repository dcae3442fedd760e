"""What the worker's decisions need of the world; queue_client.py and site_client.py have the real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from wherry_worker.access import SiteAccess
from wherry_worker.work import EndedSession, Found, Lease, LeaseRef, Renewal, Settlement, TaskProgress


class QueueUnavailable(Exception):
    """No replica of the queue answered; trying again later may work."""


class SettlementRefused(Exception):
    """The queue finds a fault in the settlements themselves; sending them again is of no use."""


class LeaseLost(Exception):
    """The queue says that the lease is no longer this worker's."""


class SiteUnavailable(Exception):
    """The site service did not answer; trying again later may work."""


class SiteSessionExpired(Exception):
    """The user is no longer signed in at a site."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.site = site


class CredentialRefused(Exception):
    """The site service refuses the lease's token; `reason` is the contract's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sites(Protocol):
    """Where credentials come from."""

    async def fetch(self, token: str, have: Sequence[SiteAccess]) -> list[SiteAccess]:
        """Returns the access to each site of the lease, source first.

        Raises SiteUnavailable, SiteSessionExpired, CredentialRefused.
        """
        ...


class Reports(Protocol):
    """Takes what walks and listings find."""

    async def report(self, ref: LeaseRef, batches: Sequence[Found]) -> None:
        """Returns when all batches are durable. Raises QueueUnavailable, LeaseLost."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream stands; `lost` are leases that are no longer this worker's."""

    heartbeat_s: float
    ttl_s: float
    lost: Sequence[LeaseRef] = ()


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What came down the stream in one message; a heartbeat is an empty one."""

    opened: Opened | None = None
    leases: Sequence[Lease] = ()
    renewed: Sequence[Renewal] = ()
    cancelled: Sequence[tuple[LeaseRef, str]] = ()
    drain_grace_s: float | None = None
    ended_sessions: Sequence[EndedSession] = ()


class LeaseStream(Protocol):
    """An open stream of leases. All raise QueueUnavailable when it breaks."""

    async def capacity(self, interactive: int, bulk: int) -> None:
        """Says how many tasks of each class are held at once."""
        ...

    async def progress(self, tasks: Sequence[TaskProgress]) -> None:
        """Says how far tasks are."""
        ...

    async def drain(self) -> None:
        """Says that nothing more is wanted."""
        ...

    def events(self) -> AsyncIterator[StreamEvent]:
        """Yields what comes down."""
        ...


class Queue(Reports, Protocol):
    """The queue, as a worker sees it: one replica at a time, and after each loss the next."""

    def stream(self, held: Sequence[LeaseRef]) -> AbstractAsyncContextManager[LeaseStream]:
        """Opens a stream, naming what is held from an earlier one."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> set[LeaseRef]:
        """Returns the leases whose settlement was acknowledged, accepted or stale.

        Raises QueueUnavailable, SettlementRefused.
        """
        ...
