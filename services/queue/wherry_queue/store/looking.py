"""Looks for what may start: the tasks at the heads of candidates, without those too long for their users' sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.fairness import Waiting, work
from wherry_queue.models import Lane, Task
from wherry_queue.sign_ins import fits
from wherry_queue.states import UNMOVING, TaskState, WorkClass
from wherry_queue.store.candidates import Candidate, candidates
from wherry_queue.store.limits import Defaults
from wherry_queue.store.putting_off import Unfit, put_off

_LOOKS = 8
_WIDEST = 64
"""So often, and at so many users and lanes at once, it is looked for tasks that fit into their users' sessions."""


@dataclass(slots=True)
class Refused:
    """What tasks that were put off leave to be written.

    Attributes:
        users: how many lanes, by user, have nothing more to lease.
        jobs: whose tasks they were.
    """

    users: Counter[int] = field(default_factory=Counter)
    jobs: set[int] = field(default_factory=set)


def look(
    connection: Connection, work_class: WorkClass, want: int, defaults: Defaults, now_ms: int
) -> tuple[list[Candidate], dict[int, list[Waiting]], Refused]:
    """Returns candidates, locked, and what may start of them; what its user's sign-ins are too short for is put off.

    Where that leaves too little it looks at others, more of them each time: a user of many tasks that all are too
    long must not keep everybody else waiting.
    """
    refused, vain = Refused(), set[int]()
    for turn in range(_LOOKS):
        lanes = candidates(connection, work_class, max(want, min(want << turn, _WIDEST)), defaults, vain)
        waiting, unfit = _heads(connection, lanes, want, now_ms) if lanes else ({}, [])
        if unfit:
            put_off(connection, unfit, now_ms)
            by_id = {lane.id: lane for lane in lanes}
            for one in unfit:
                lane = by_id[one.lane_id]
                lane.pending -= 1
                refused.jobs.add(lane.job_id)
                refused.users[lane.user_id] += lane.pending == 0
        if not unfit or sum(map(len, waiting.values())) >= want:
            break
        vain.update(one.lane_id for one in unfit if one.lane_id not in waiting)
    return lanes, waiting, refused


def _heads(
    connection: Connection, lanes: Sequence[Candidate], want: int, now_ms: int
) -> tuple[dict[int, list[Waiting]], list[Unfit]]:
    """Returns the first ready tasks of each lane: those that may start, and those that do not fit."""
    found: dict[int, list[Waiting]] = {}
    by_id = {lane.id: lane for lane in lanes}
    unfit: list[Unfit] = []
    for row in _ready_tasks(connection, lanes, want):
        lane = by_id[row.lane_id]
        size_bytes = 0 if row.kind in UNMOVING else row.total_bytes
        # What a walk found to be there already is counted with it, and is nothing that it has to move.
        rest_bytes = max(size_bytes - row.bytes_done - row.bytes_failed, 0)
        ends = [until_ms for until_ms in (lane.source_until_ms, lane.destination_until_ms) if until_ms is not None]
        until_ms = min(ends, default=None)
        if until_ms is None or fits(rest_bytes, lane.bytes_per_second, until_ms, now_ms, row.refused_until_ms):
            found.setdefault(row.lane_id, []).append(Waiting(row.id, work(row.entry_count, size_bytes)))
        else:
            unfit.append(Unfit(row.id, row.lane_id, until_ms))
    return found, unfit


def _ready_tasks(connection: Connection, lanes: Sequence[Candidate], want: int) -> Iterable[Any]:
    columns = (
        Task.id, Task.lane_id, Task.kind, Task.entry_count, Task.total_bytes, Task.bytes_done, Task.bytes_failed,
        Task.refused_until_ms,
    )  # fmt: skip
    if connection.dialect.name == "postgresql":
        some = sa.select(Lane.id, Lane.head).where(Lane.id.in_([lane.id for lane in lanes])).subquery()
        heads = (
            sa.select(*columns)
            .where(Task.lane_id == some.c.id, Task.state == TaskState.READY, Task.id >= some.c.head)
            .order_by(Task.id)
            .limit(want)
            # Not locked, nor passed over where somebody has locked them: that they stay ready is their lane's lock, and
            # the head moves on over all that is not found here.
            .lateral()
        )
        return connection.execute(sa.select(heads).select_from(some.join(heads, sa.true()))).all()
    of_lane = (
        sa.select(*columns)
        .where(Task.lane_id == sa.bindparam("lane"), Task.state == TaskState.READY, Task.id >= sa.bindparam("head"))
        .order_by(Task.id)
        .limit(want)
    )
    return [row for lane in lanes for row in connection.execute(of_lane, {"lane": lane.id, "head": lane.head})]


def correct_empty(connection: Connection, lanes: Sequence[Candidate], waiting: Mapping[int, Sequence[Waiting]]) -> None:
    """Looks again from the beginning at a lane that counts tasks and shows none, so that nothing can be stranded."""
    suspect = [lane.id for lane in lanes if not waiting.get(lane.id) and lane.head > 0]
    if suspect:
        connection.execute(sa.update(Lane).where(Lane.id.in_(suspect)).values(head=0))
