"""The audit log: each act of an operator leaves one entry, in the act's own transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import Connection
from wherry_chassis.errors import DomainError
from wherry_queue.limiting import UNLIMITED
from wherry_queue.store import audit, banning, limit_setting, workers
from wherry_queue.store.limit_setting import Subject
from wherry_queue.store.limits import NO_LIMITS, Kind
from wherry_queue.store.workers import WorkerRow
from wherry_testing.queue_cases import QueueCase, copy_job

ACTOR = "/O=Test/CN=operator"
LINK = Subject(Kind.LINK, "sites/a", "sites/b")

ACTS: list[tuple[Callable[[Connection], Any], tuple[str, str, str]]] = [
    (lambda c: limit_setting.set_limit(c, ACTOR, LINK, 3, NO_LIMITS), ("SetLimit", "sites/a to sites/b", "3 tasks")),
    (
        lambda c: limit_setting.set_limit(c, ACTOR, Subject(Kind.SITE_IN, "sites/a"), UNLIMITED, NO_LIMITS),
        ("SetLimit", "sites/a (in)", "unlimited"),
    ),
    (
        lambda c: limit_setting.set_limit(c, ACTOR, Subject(Kind.USER, "users/a"), None, NO_LIMITS),
        ("SetLimit", "users/a", "as in the buildout"),
    ),
    (lambda c: limit_setting.set_weight(c, ACTOR, "users/a", 2.5), ("SetWeight", "users/a", "2.5")),
    (lambda c: banning.create(c, ACTOR, "sites/a", "moved"), ("CreateBan", "sites/a", "moved")),
    (lambda c: banning.create(c, ACTOR, "sites/a", "gone"), ("CreateBan", "sites/a", "gone")),
    (lambda c: banning.delete(c, ACTOR, 1), ("DeleteBan", "sites/a", "was banned for: gone")),
    (lambda c: workers.drain_worker(c, ACTOR, "w1"), ("DrainWorker", "workers/w1", "")),
    (lambda c: workers.drain_replica(c, ACTOR, 1), ("DrainReplica", "replicas/1", "")),
]

IN_VAIN: list[Callable[[Connection], Any]] = [
    lambda c: limit_setting.set_limit(c, ACTOR, Subject(Kind.USER, "users/nobody"), 3, NO_LIMITS),
    lambda c: limit_setting.set_weight(c, ACTOR, "users/nobody", 2.5),
    lambda c: banning.delete(c, ACTOR, 7),
    lambda c: workers.drain_worker(c, ACTOR, "w7"),
    lambda c: workers.drain_replica(c, ACTOR, 7),
]


@pytest.mark.row("B10", missing="metrics, traces, the dashboard; the audit logs of all services in one place")
async def test_each_act_leaves_one_entry_with_who_what_and_when(queue: QueueCase) -> None:
    await queue.submit(copy_job())
    await queue.database.write(workers.write_workers, queue.replica_id, [WorkerRow("w1", "1", 0, 0, 1, 1, 0)])
    for act, _ in ACTS:
        await queue.database.write(act)
    rows = await queue.database.read(audit.entries, None, 50)
    assert [(row.act, row.subject, row.details) for row in rows] == [said for _, said in reversed(ACTS)]
    assert {row.actor for row in rows} == {ACTOR}
    times = [row.at_ms for row in rows]
    assert times == sorted(times, reverse=True)
    assert times[-1] > 1_700_000_000_000


@pytest.mark.parametrize("act", IN_VAIN)
async def test_an_act_that_is_refused_leaves_none(queue: QueueCase, act: Callable[[Connection], Any]) -> None:
    with pytest.raises(DomainError):
        await queue.database.write(act)
    assert await queue.database.read(audit.entries, None, 50) == []


async def test_entries_come_in_pages_newest_first(queue: QueueCase) -> None:
    for number in range(7):
        await queue.database.write(audit.record, ACTOR, "SetWeight", f"users/{number}")
    first = await queue.database.read(audit.entries, None, 3)
    await queue.database.write(audit.record, ACTOR, "SetWeight", "users/late")
    second = await queue.database.read(audit.entries, first[-1].id, 3)
    third = await queue.database.read(audit.entries, second[-1].id, 3)
    assert [row.subject for row in (*first, *second, *third)] == [f"users/{number}" for number in range(6, -1, -1)]
