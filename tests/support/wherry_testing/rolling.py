"""People who hand in jobs and watch them, each on a thread, while what they speak to is replaced process by process.

    with Submitting([first, second], make_job) as submitting, WatchingAll([first, second]) as watching:
        ...  # replicas end and come back
    assert not [*submitting.faults, *watching.faults]

Each is given a way to every replica, and goes on to the next where one sends it away.
"""

from __future__ import annotations

import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client.jobs import ENDED
from wherry_testing.flow_callers import ReplicaCaller
from wherry_testing.waiting import PATIENCE_S

_AGAIN_S = 0.05
_EVERY_S = 0.3
_TAKEN_WITHIN_S = PATIENCE_S
_WATCH_S = 900.0


class Person(ABC):
    """Somebody who does something again and again until the block's end.

    Attributes:
        faults: in words, what nobody may ever see.
        codes: how calls and streams ended that did not end well; None: a stream's end without an error.
    """

    def __init__(self, callers: Sequence[ReplicaCaller], first: int = 0) -> None:
        self._callers = callers
        self._turn = first
        self._over = threading.Event()
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.faults: list[str] = []
        self.codes: list[grpc.StatusCode | None] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Has it end, and waits until it has."""
        self._over.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join(_TAKEN_WITHIN_S + 10)
        assert not self._thread.is_alive(), "it does not end"

    @abstractmethod
    def once(self) -> None:
        """Does it once."""

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.once()
            except Exception as problem:  # noqa: BLE001  # it is told in the test's own thread
                self.faults.append(f"{type(problem).__name__}: {problem}")
                return

    def _caller(self) -> ReplicaCaller:
        return self._callers[self._turn % len(self._callers)]

    def _stream(self, call: Any, take: Callable[[Any], bool | None]) -> None:
        """Takes a stream's messages to its end; the next stream is another replica's.

        Args:
            take: returns whether this was the last message of all, after which an end is none to be remarked on.
        """
        self._call = call
        if self._over.is_set():
            call.cancel()
        done, code = False, None
        try:
            for message in call:
                done = bool(take(message))
        except grpc.RpcError as error:
            code = error.code()
        if not self._over.is_set() and not done:
            self.codes.append(code)
        self._turn += 1
        self._over.wait(_AGAIN_S)


class Submitting(Person):
    """Hands in a job at each replica in turn; one that was not taken is handed in again, with the same request.

    Attributes:
        accepted: names of the jobs, in their order.
    """

    def __init__(self, callers: Sequence[ReplicaCaller], make: Callable[[int], pb.Job]) -> None:
        super().__init__(callers)
        self._make = make
        self.accepted: list[str] = []

    def once(self) -> None:
        """Hands one in."""
        request_id, job = str(uuid.uuid4()), self._make(len(self.accepted))
        deadline_s = time.monotonic() + _TAKEN_WITHIN_S
        while True:
            try:
                made = self._caller().create(job, request_id)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                self.codes.append(code)
                if code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline_s:
                    raise
                time.sleep(_AGAIN_S)
            else:
                self.accepted.append(made.name)
                break
            finally:
                self._turn += 1
        self._over.wait(_EVERY_S)


class _Watching(Person):
    """Notes what is shown, and what may not be.

    Attributes:
        last: the jobs as they were shown last, by name.
    """

    def __init__(self, callers: Sequence[ReplicaCaller], first: int = 0) -> None:
        super().__init__(callers, first)
        self.last: dict[str, pb.Job] = {}

    def _note(self, job: pb.Job) -> None:
        before = self.last.get(job.name)
        self.last[job.name] = job
        if job.state in ENDED and (job.progress.tasks_open or job.progress.tasks_running):
            self.faults.append(f"ended with work left: {_brief(job)}")
        if before is None:
            return
        if before.state in ENDED and job.state != before.state:
            self.faults.append(f"{_brief(before)} after its end became {_brief(job)}")
        if job.progress.files_done < before.progress.files_done:
            self.faults.append(f"{_brief(before)} went back to {_brief(job)}")


class WatchingAll(_Watching):
    """Watches all of somebody's jobs."""

    def once(self) -> None:
        """Watches until the stream ends."""
        caller = self._caller()
        request = pb.WatchJobsRequest(page_size=1000)
        self._stream(caller.jobs.WatchJobs(request, metadata=caller.metadata, timeout=_WATCH_S), self._take)

    def _take(self, message: pb.WatchJobsResponse) -> None:  # it has no end
        for job in message.jobs:
            self._note(job)


class WatchingOne(_Watching):
    """Watches one job after the other, each to its end.

    Args:
        newest: gives the job to be watched next.

    Attributes:
        ends: names of the jobs whose streams said that this was the last of them.
    """

    def __init__(self, callers: Sequence[ReplicaCaller], newest: Callable[[], str], first: int = 0) -> None:
        super().__init__(callers, first)
        self._newest = newest
        self.ends: list[str] = []

    def once(self) -> None:
        """Watches the newest job, at one replica after the other where it has to be."""
        name = self._newest()
        while name not in self.ends and not self._over.is_set():
            caller = self._caller()
            request = pb.WatchJobRequest(name=name)
            self._stream(caller.jobs.WatchJob(request, metadata=caller.metadata, timeout=_WATCH_S), self._take)

    def _take(self, message: pb.WatchJobResponse) -> bool:
        if message.job.name in self.ends:
            self.faults.append(f"told on after its end: {_brief(message.job)}")
        self._note(message.job)
        if message.last != (message.job.state in ENDED):
            self.faults.append(f"last is {message.last} with {_brief(message.job)}")
        if message.last:
            self.ends.append(message.job.name)
        return message.last


def _brief(job: pb.Job) -> str:
    progress = job.progress
    return (
        f"{job.name} {pb.JobState.Name(job.state)} {progress.files_done}/{progress.files_total} "
        f"open {progress.tasks_open} running {progress.tasks_running}"
    )
