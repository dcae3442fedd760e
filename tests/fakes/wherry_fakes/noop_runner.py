"""Runs leases by doing nothing, so that what leasing, dispatching and settling cost can be measured by themselves."""

from __future__ import annotations

from wherry_worker.attempt import Attempt
from wherry_worker.bitmap import Bitmap
from wherry_worker.ports import Reports
from wherry_worker.work import (
    CopyChunk,
    Found,
    ListOne,
    Outcome,
    RemoveChunk,
    Settlement,
    WalkCopy,
    WalkRemove,
)


class NoopRunner:
    """Says of every task that it is done; walks and listings find nothing."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def run(self, attempt: Attempt) -> Settlement:
        """Settles an attempt as completed."""
        lease = attempt.lease
        match lease.work:
            case CopyChunk() | RemoveChunk():
                done = Bitmap(lease.work.done, len(lease.work.items))
                fresh = [index for index in range(len(lease.work.items)) if index not in done]
                for index in fresh:
                    done.add(index)
                size = sum(lease.work.items[index].size_bytes for index in fresh)
                return Settlement(
                    lease.ref, Outcome.COMPLETED, done=bytes(done), files_done=len(fresh), bytes_done=size
                )
            case WalkCopy() | WalkRemove() | ListOne():
                await self._reports.report(lease.ref, [Found("", "", directories_done=1)])
        return Settlement(lease.ref, Outcome.COMPLETED)

    async def end_sessions(self, user: str, site: str) -> None:
        """Keeps nothing warm."""

    async def end_all_sessions(self) -> None:
        """Keeps nothing warm."""
