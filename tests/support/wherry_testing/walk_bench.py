"""A worker's runner over two folders, without services."""

from __future__ import annotations

import time
from pathlib import Path

from wherry_fakes.worker_access import folder_access, folder_pool
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_worker.attempt import Attempt
from wherry_worker.chunking import ChunkLimits
from wherry_worker.engines import EnginePool
from wherry_worker.running import TaskRunner
from wherry_worker.work import (
    Lease,
    LeaseRef,
    ListOne,
    MakeOneDirectory,
    RemoveOneDirectory,
    RenameOne,
    Settlement,
    WalkRemove,
    Work,
    WorkClass,
)


class Bench:
    """A runner over two folders, and what the queue got of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.destination = tmp_path / "a", tmp_path / "b"
        self.source.mkdir()
        self.destination.mkdir()
        self.queue = FakeQueue()
        self.pool: EnginePool = folder_pool(tmp_path)
        self.sites = FakeSites(folder_access("sites/a", self.source), folder_access("sites/b", self.destination))
        self.runner = TaskRunner(self.sites, self.queue, self.pool, {"folder": "folder"}, ChunkLimits(items=2))

    async def run(self, work: Work, attempt: int = 1, **changes: str) -> Settlement:
        return await self.run_with(self.runner, work, attempt, **changes)

    async def run_with(self, runner: TaskRunner, work: Work, attempt: int = 1, **changes: str) -> Settlement:
        return await runner.run(self.attempt(work, attempt, **changes))

    def attempt(self, work: Work, attempt: int = 1, **changes: str) -> Attempt:
        one_site = isinstance(work, WalkRemove | ListOne | MakeOneDirectory | RenameOne | RemoveOneDirectory)
        lease = Lease(
            ref=LeaseRef("jobs/1/tasks/2", 1),
            deadline=time.monotonic() + 30,
            token="the token",
            work_class=WorkClass.BULK,
            user="users/1",
            source_site="sites/a",
            destination_site=changes.get("destination_site", "sites/a" if one_site else "sites/b"),
            attempt=attempt,
            work=work,
        )
        return Attempt(lease)
