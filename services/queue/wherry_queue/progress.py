"""Folds workers' progress reports into one figure a job."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry_queue.remaining import UNKNOWN, RateHistory, Rates

_WINDOW_S = 6.0
_FORGOTTEN_S = 60.0
"""A job of which nothing has moved here for so long begins anew: between two tasks it has not lost its rates."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far something that is under way has come: bytes and whole files that are at the destination."""

    size_bytes: int = 0
    files: int = 0


NOTHING_MOVED = Moved()


@dataclass(frozen=True, slots=True)
class Folded:
    """How far a job's running tasks are.

    Attributes:
        moved: by all of them.
        bytes_per_second: of all of them, over the last seconds.
        tasks: how many of them have said how far they are.
        rates: between what they have come to be over the last minutes.
        measured_ms: when a worker last measured, by its clock, in milliseconds since the epoch; None: none has.
    """

    moved: Moved
    bytes_per_second: float
    tasks: int
    rates: Rates = UNKNOWN
    measured_ms: int | None = None


@dataclass(slots=True)
class _JobBoard:
    """What is known of one job.

    Attributes:
        tasks: what has moved of those that run.
        settled: what has moved of those that have ended.
        samples: when so many bytes had been moved in all, over the last seconds.
    """

    tasks: dict[int, Moved] = field(default_factory=dict)
    settled: Moved = NOTHING_MOVED
    samples: collections.deque[tuple[float, int]] = field(default_factory=collections.deque)
    history: RateHistory = field(default_factory=RateHistory)
    measured_ms: int | None = None
    folded_s: float = 0.0

    def fold(self, now_s: float) -> Folded:
        """Returns how far the job is."""
        moving = Moved(sum(m.size_bytes for m in self.tasks.values()), sum(m.files for m in self.tasks.values()))
        size_bytes, files = self.settled.size_bytes + moving.size_bytes, self.settled.files + moving.files
        if now_s - self.folded_s > _WINDOW_S:
            self.samples.clear()  # it has rested meanwhile: that is not how fast it is now
        self.folded_s = now_s
        self.samples.append((now_s, size_bytes))
        while len(self.samples) > 2 and self.samples[0][0] < now_s - _WINDOW_S:
            self.samples.popleft()
        (first_s, first), (last_s, last) = self.samples[0], self.samples[-1]
        rate = max(last - first, 0) / (last_s - first_s) if last_s > first_s else 0.0
        self.history.add(now_s, size_bytes, files)
        return Folded(moving, rate, len(self.tasks), self.history.rates(now_s), self.measured_ms)


class ProgressBoard:
    """What has moved and at which rate, by job, of the tasks that this replica leased."""

    def __init__(self) -> None:
        self._jobs: dict[int, _JobBoard] = {}
        self._changed: set[int] = set()

    def moved(self, job_id: int, task_id: int, moved: Moved, measured_ms: int) -> None:
        """Notes what of a task's attempt is at the destination, and when that was measured."""
        job = self._changed_job(job_id)
        job.tasks[task_id] = moved
        job.measured_ms = max(measured_ms, job.measured_ms or 0)

    def ended(self, job_id: int, task_id: int, done: Moved = NOTHING_MOVED) -> Moved:
        """Notes that a task no longer moves; so much of its attempt is there for good.

        Returns what was counted as moved for it: whoever counts it as done has to take it off there.
        """
        job = self._changed_job(job_id)
        job.settled = Moved(job.settled.size_bytes + done.size_bytes, job.settled.files + done.files)
        return job.tasks.pop(task_id, NOTHING_MOVED)

    def fold(self, now_s: float) -> Mapping[int, Folded]:
        """Returns how far the jobs are that have changed since the last call."""
        folded = {job_id: self._jobs[job_id].fold(now_s) for job_id in self._changed}
        self._changed = {job_id for job_id in self._changed if self._jobs[job_id].tasks}
        forgotten = [
            job_id for job_id, job in self._jobs.items() if not job.tasks and job.folded_s < now_s - _FORGOTTEN_S
        ]
        for job_id in forgotten:
            del self._jobs[job_id]
        return folded

    def _changed_job(self, job_id: int) -> _JobBoard:
        self._changed.add(job_id)
        return self._jobs.setdefault(job_id, _JobBoard())
