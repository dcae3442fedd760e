"""The queue at a moment, as operators see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry_queue.states import WorkClass


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The work of a class.

    Attributes:
        tasks_ready: tasks that a worker could take; those of held lanes are not.
        tasks_delayed: tasks that rest before their next attempt.
        active_users: people with tasks that are ready.
        places: of the workers that take something.
    """

    work_class: WorkClass
    tasks_ready: int
    tasks_running: int
    tasks_delayed: int
    active_users: int
    places: int


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """The bulk work of a link.

    Attributes:
        limit: how many tasks may run at once; None: no limit.
    """

    source_site: str
    destination_site: str
    tasks_ready: int
    tasks_running: int
    bytes_per_second: float
    limit: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it.

    Attributes:
        classes: one of each, in the order of `WorkClass`.
        links: those with work, most of it first.
        jobs_open: bulk jobs that have not ended; the next two are of these.
        oldest_waiting_ms: when the oldest of the runnable jobs was made of which nothing has run yet.
    """

    classes: Sequence[ClassFigures]
    links: Sequence[LinkFigures]
    jobs_open: int
    jobs_waiting_for_sign_in: int
    jobs_paused: int
    oldest_waiting_ms: int | None
