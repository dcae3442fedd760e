"""Somebody who watches their jobs through all of it, and notes what nobody may ever see."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc
from wherry_testing.bare_deployment import eventually
from wherry_testing.chaos.asking import is_broken_connection
from wherry_testing.chaos.jobs import ENDED

_WAIT_S = 0.2
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Watcher:
    """Follows `WatchJobs` of one user, at another replica whenever the stream breaks.

    Attributes:
        last: the jobs as they were last shown, by name.
        reconnects: how often the stream had to be opened again.
        reopened: names of jobs that were asked to be retried: they may go on after their end.
    """

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        metadata: Sequence[tuple[str, str]],
        reopened: set[str],
        fault: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._reopened = reopened
        self._fault = fault
        self.last: dict[str, pb.Job] = {}
        self.reconnects = -1

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            self.reconnects += 1
            stub: Any = job_service_pb2_grpc.JobServiceStub(self._channel())
            try:
                async for message in stub.WatchJobs(pb.WatchJobsRequest(page_size=1000), metadata=self._metadata):
                    for job in message.jobs:
                        self._note(job)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSING and not is_broken_connection(error):
                    self._fault(f"a watch ended with {error.code().name}: {error.details()}")
            await asyncio.sleep(_WAIT_S)

    async def shows(self, name: str, state: pb.JobState.ValueType, within_s: float) -> bool:
        """Tells whether a job is shown in a state, or comes to be in time."""

        def shown() -> bool:
            return name in self.last and self.last[name].state == state

        with contextlib.suppress(AssertionError):
            await eventually(shown, f"{name} is shown", within_s)
        return shown()

    def _note(self, job: pb.Job) -> None:
        before = self.last.get(job.name)
        self.last[job.name] = job
        if job.state in ENDED and (job.progress.tasks_open or job.progress.tasks_running):
            self._fault(f"{job.name} was shown as ended with work left: {_brief(job)}")
        if before is None:
            return
        if before.state in ENDED and job.state not in ENDED and job.name not in self._reopened:
            self._fault(f"{job.name} was shown as ended, and then not: {_brief(before)}, then {_brief(job)}")
        if job.progress.files_done < before.progress.files_done:
            self._fault(f"files of {job.name} were done, and then not: {_brief(before)}, then {_brief(job)}")


def _brief(job: pb.Job) -> str:
    progress = job.progress
    return (
        f"{pb.JobState.Name(job.state)} {progress.files_done}/{progress.files_total} "
        f"open {progress.tasks_open} running {progress.tasks_running}"
    )
