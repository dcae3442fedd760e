"""Jobs' states as conditions, against the function that derives them; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from wherry_queue.models import Job
from wherry_queue.states import FINISHED, Hold, JobState, job_state
from wherry_queue.store.job_states import all_open, in_states
from wherry_testing.queue_cases import QueueCase, copy_job

_COUNTERS = {
    "cancelled": (False, True),
    "hold": (0, *map(int, (Hold.PAUSED, Hold.SIGN_IN, Hold.TOO_SHORT, Hold.BANNED, Hold.PAUSED | Hold.TOO_SHORT))),
    "started_ms": (None, 5),
    "tasks_open": (0, 1, 2),
    "tasks_running": (0, 1),
    "tasks_failed": (0, 1),
    "tasks_cancelled": (0, 1),
    "walks_open": (0, 1),
    "files_total": (0, 2),
    "files_done": (0, 1),
    "directories_done": (0, 1),
}
"""Both sides of all that matters; every combination, also those that never are."""


@pytest.mark.row("J2")
async def test_a_condition_on_counters_says_what_the_state_derived_from_them_says(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    template = dict((await queue.job(job_id))._mapping)
    rows: list[dict[str, Any]] = [
        template | dict(zip(_COUNTERS, values, strict=True)) | {"id": place, "uid": f"job{place}"}
        for place, values in enumerate(itertools.product(*_COUNTERS.values()), start=1000)
    ]
    await queue.database.write(lambda c: c.execute(sa.insert(Job), rows))

    async def found(*states: JobState) -> set[int]:
        query = sa.select(Job.id).where(in_states(states), Job.id >= 1000)
        return set(await queue.database.read(lambda c: c.execute(query).scalars().all()))

    expected: dict[JobState, set[int]] = {state: set() for state in JobState}
    for row in rows:
        expected[job_state(SimpleNamespace(**row))].add(row["id"])
    assert all(expected.values()), "a state that no counters mean"
    for state, ids in expected.items():
        assert await found(state) == ids, state
    assert await found(*FINISHED) == set().union(*(expected[state] for state in FINISHED))
    assert await found() == set()


def test_only_states_of_jobs_that_have_not_ended_are_all_open() -> None:
    assert all_open({JobState.RUNNING, JobState.CANCELLING})
    assert not all_open({JobState.RUNNING, JobState.FAILED})
    assert not all_open(set())
