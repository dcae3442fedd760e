"""Folds workers' progress reports into one figure a job."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass

_WINDOW_S = 6.0


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
    """

    moved: Moved
    bytes_per_second: float
    tasks: int


class ProgressBoard:
    """What has moved and at which rate, by job, of the tasks that this replica leased."""

    def __init__(self) -> None:
        self._tasks: dict[int, dict[int, Moved]] = {}
        self._settled: dict[int, int] = {}
        self._samples: dict[int, collections.deque[tuple[float, int]]] = {}
        self._changed: set[int] = set()

    def moved(self, job_id: int, task_id: int, moved: Moved) -> None:
        """Notes what of a task's attempt is at the destination."""
        self._tasks.setdefault(job_id, {})[task_id] = moved
        self._changed.add(job_id)

    def ended(self, job_id: int, task_id: int, bytes_done: int) -> Moved:
        """Notes that a task no longer moves; `bytes_done` of its attempt are there for good.

        Returns what was counted as moved for it: whoever counts it as done has to take it off there.
        """
        moved = self._tasks.get(job_id, {}).pop(task_id, NOTHING_MOVED)
        self._settled[job_id] = self._settled.get(job_id, 0) + bytes_done
        self._changed.add(job_id)
        return moved

    def fold(self, now_s: float) -> Mapping[int, Folded]:
        """Returns how far the jobs are that have changed since the last call."""
        folded: dict[int, Folded] = {}
        for job_id in self._changed:
            tasks = self._tasks.get(job_id, {})
            moved = Moved(sum(m.size_bytes for m in tasks.values()), sum(m.files for m in tasks.values()))
            samples = self._samples.setdefault(job_id, collections.deque())
            samples.append((now_s, self._settled.get(job_id, 0) + moved.size_bytes))
            while len(samples) > 2 and samples[0][0] < now_s - _WINDOW_S:
                samples.popleft()
            (first_s, first), (last_s, last) = samples[0], samples[-1]
            rate = max(last - first, 0) / (last_s - first_s) if last_s > first_s else 0.0
            folded[job_id] = Folded(moved, rate, len(tasks))
            if not tasks:
                self._tasks.pop(job_id, None)
        self._changed = {job_id for job_id in self._changed if job_id in self._tasks}
        for job_id in [
            job for job, s in self._samples.items() if s[-1][0] < now_s - _WINDOW_S and job not in self._tasks
        ]:
            del self._samples[job_id]
            self._settled.pop(job_id, None)
        return folded
