"""Folds workers' progress reports into one figure a job."""

from __future__ import annotations

import collections
from collections.abc import Mapping

_WINDOW_S = 6.0


class ProgressBoard:
    """Bytes moving and their rate, by job, of the tasks that this replica leased."""

    def __init__(self) -> None:
        self._tasks: dict[int, dict[int, int]] = {}
        self._settled: dict[int, int] = {}
        self._samples: dict[int, collections.deque[tuple[float, int]]] = {}
        self._changed: set[int] = set()

    def moved(self, job_id: int, task_id: int, transferred_bytes: int) -> None:
        """Notes how many bytes of a task's attempt are at the destination."""
        self._tasks.setdefault(job_id, {})[task_id] = transferred_bytes
        self._changed.add(job_id)

    def ended(self, job_id: int, task_id: int, bytes_done: int) -> int:
        """Notes that a task no longer moves; `bytes_done` of its attempt are there for good.

        Returns the bytes that were counted as moving for it: whoever counts them as done has to take them off there.
        """
        moving = self._tasks.get(job_id, {}).pop(task_id, 0)
        self._settled[job_id] = self._settled.get(job_id, 0) + bytes_done
        self._changed.add(job_id)
        return moving

    def fold(self, now_s: float) -> Mapping[int, tuple[int, float]]:
        """Returns (bytes moving, bytes per second) of the jobs that have changed since the last call."""
        folded: dict[int, tuple[int, float]] = {}
        for job_id in self._changed:
            moving = sum(self._tasks.get(job_id, {}).values())
            samples = self._samples.setdefault(job_id, collections.deque())
            samples.append((now_s, self._settled.get(job_id, 0) + moving))
            while len(samples) > 2 and samples[0][0] < now_s - _WINDOW_S:
                samples.popleft()
            (first_s, first), (last_s, last) = samples[0], samples[-1]
            rate = max(last - first, 0) / (last_s - first_s) if last_s > first_s else 0.0
            folded[job_id] = (moving, rate)
            if not self._tasks.get(job_id):
                self._tasks.pop(job_id, None)
        self._changed = {job_id for job_id in self._changed if job_id in self._tasks}
        for job_id in [
            job for job, s in self._samples.items() if s[-1][0] < now_s - _WINDOW_S and job not in self._tasks
        ]:
            del self._samples[job_id]
            self._settled.pop(job_id, None)
        return folded
