"""Jobs' states as conditions, against the function that derives them; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from wherry_queue.models import Job
from wherry_queue.states import FINISHED, Hold, JobState, job_state
from wherry_queue.store.job_states import all_open, in_states
from wherry_testing.queue_cases import QueueCase, copy_job

_COUNTERS = {
    "cancelled": (False, True),
    "hold": (0, Hold.PAUSED, Hold.SOURCE_SIGN_IN, Hold.TOO_SHORT, Hold.USER_BANNED, Hold.PAUSED | Hold.TOO_SHORT),
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
    await queue.database.write(lambda c: c.execute(sa.update(Job).values(work_class=0)))
    combinations = [dict(zip(_COUNTERS, values, strict=True)) for values in itertools.product(*_COUNTERS.values())]
    rows = [
        template | counters | {"id": place, "uid": f"job{place}", "hold": int(counters["hold"])}
        for place, counters in enumerate(combinations, start=1000)
    ]
    await queue.database.write(lambda c: c.execute(sa.insert(Job), rows))
    expected: dict[JobState, set[int]] = {state: set() for state in JobState}
    for row in rows:
        expected[job_state(SimpleNamespace(**row))].add(row["id"])
    assert all(expected.values()), "a state that no counters mean"
    for state, ids in expected.items():
        query = sa.select(Job.id).where(in_states([state]), Job.id >= 1000)
        assert set(await queue.database.read(lambda c, q=query: c.execute(q).scalars().all())) == ids, state
    both = sa.select(sa.func.count()).where(in_states(FINISHED), Job.id >= 1000)
    assert await queue.database.read(lambda c: c.execute(both).scalar_one()) == sum(len(expected[s]) for s in FINISHED)


def test_only_states_of_jobs_that_have_not_ended_are_all_open() -> None:
    assert all_open({JobState.RUNNING, JobState.CANCELLING})
    assert not all_open({JobState.RUNNING, JobState.FAILED})
    assert not all_open(set())
