"""Fair share in the real store, counted and not timed: whose tasks start before whose; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_queue.fairness import WORK_PER_PRIORITY, rank, work
from wherry_queue.jobs import NewTask
from wherry_queue.models import Job, Lane, Link, Site, Task, User
from wherry_queue.states import Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import leases, limits, replicas
from wherry_queue.store.limits import NO_LIMITS, Kind
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

_FILES = 100
"""In each chunk, as workers make them; all tasks here cost the same."""


def fill(connection: Connection, tasks: Sequence[tuple[str, int]]) -> None:
    """Makes a job for each user with so many chunks, all at once, as if submitted one after another by idle users."""
    site_id = connection.execute(sa.insert(Site).values(name="sites/x").returning(Site.id)).scalar_one()
    link = sa.insert(Link).values(source_id=site_id, destination_id=site_id).returning(Link.id)
    link_id = connection.execute(link).scalar_one()
    users = _insert(connection, User, [{"name": name, "active_bulk": 1} for name, _ in tasks])
    counts = [count for _, count in tasks]
    common = {"link_id": link_id, "work_class": WorkClass.BULK, "priority": 5}
    jobs = _insert(
        connection,
        Job,
        [
            common
            | {
                "uid": f"u{user_id}", "user_id": user_id, "operation": "copy", "specification": b"", "recursive": True,
                "tasks_open": count, "phase_open": count, "files_total": count * _FILES,
                "bytes_total": count * _FILES * 10, "created_ms": 1,
            }
            for user_id, count in zip(users, counts, strict=True)
        ],
    )  # fmt: skip
    lanes = _insert(
        connection,
        Lane,
        [
            common | {"job_id": job_id, "user_id": user_id, "pending": count, "rank": rank(0.0, 5)}
            for job_id, user_id, count in zip(jobs, users, counts, strict=True)
        ],
    )
    chunk = {
        "kind": TaskKind.COPY_FILES, "state": TaskState.READY, "source_path": b"/from", "destination_path": b"/to",
        "entry_count": _FILES, "total_bytes": _FILES * 10,
    }  # fmt: skip
    connection.execute(
        sa.insert(Task),
        [
            chunk | {"job_id": job_id, "lane_id": lane_id}
            for job_id, lane_id, count in zip(jobs, lanes, counts, strict=True)
            for _ in range(count)
        ],
    )


def _insert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> Sequence[int]:
    return connection.execute(sa.insert(table).returning(table.id, sort_by_parameter_order=True), rows).scalars().all()


async def serve(queue: QueueCase, want: int, *, replica_ids: Sequence[int], turn: int) -> list[str]:
    """Leases as the replica does whose turn it is; returns whose tasks they are."""
    replica_id = replica_ids[turn % len(replica_ids)]
    taken = await queue.database.write(leases.lease, replica_id, WorkClass.BULK, want)
    return [task.user for task in taken]


@pytest.mark.row("D3")
@pytest.mark.row("B11", missing="the simulation of a million users")
async def test_a_user_of_a_million_files_holds_up_none_of_a_thousand_others(queue: QueueCase) -> None:
    small, places, want = 1000, 200, 100
    await queue.database.write(fill, [("users/big", 10_000), *[(f"users/{n}", 10) for n in range(small)]])
    replica_ids = [await queue.database.write(replicas.renew_replica, None, 600_000) for _ in range(2)]
    # The big one came first, and has had every place for a while.
    is_big = sa.select(User.id).where(User.name == "users/big").scalar_subquery()
    waiting = sa.update(Lane).where(Lane.user_id != is_big)
    await queue.database.write(lambda c: c.execute(waiting.values(hold=1)).rowcount)
    assert set(await serve(queue, places, replica_ids=replica_ids, turn=0)) == {"users/big"}
    vtime = work(_FILES, _FILES * 10) * places
    begin = sa.update(User).where(User.id != is_big).values(vtime=vtime)
    await queue.database.write(lambda c: c.execute(begin).rowcount)
    await queue.database.write(lambda c: c.execute(waiting.values(hold=0)).rowcount)
    order: list[str] = []
    turn = 0
    started: Counter[str] = Counter()
    while sum(count for user, count in started.items() if user != "users/big") < 10 * small:
        turn += 1
        some = await serve(queue, want, replica_ids=replica_ids, turn=turn)
        assert len(some) == want, "places were left empty"
        order += some
        started.update(some)
    bound = (small + 1) * 10 + places
    last = {user: place for place, user in enumerate(order)}
    for user, place in last.items():
        if user != "users/big":
            assert place + 1 - 10 <= bound, f"{place + 1 - 10} tasks of others came before the last of {user}"
    assert started["users/big"] <= 10 + want
    # One who comes late to what is left waits for a turn, not for the big one's end.
    await queue.submit(copy_job("users/late", tasks=[chunk_task(_FILES) for _ in range(10)]))
    late = (await serve(queue, 15, replica_ids=replica_ids, turn=0)) + await serve(
        queue, 15, replica_ids=replica_ids, turn=1
    )
    assert late.count("users/late") == 10
    assert max(place for place, user in enumerate(late) if user == "users/late") <= 2 * 10


@pytest.mark.row("D3")
async def test_who_worked_alone_before_need_not_wait_for_a_newcomer_to_do_as_much(queue: QueueCase) -> None:
    await queue.submit(copy_job("users/old", tasks=[chunk_task() for _ in range(100)]))
    for task in await queue.lease(100):
        await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    # Nobody has anything to do; then comes somebody new with much, and the old one with little.
    await queue.submit(copy_job("users/new", tasks=[chunk_task() for _ in range(100)]))
    await queue.submit(copy_job("users/old", tasks=[chunk_task() for _ in range(5)]))
    served = [task.user for task in await queue.lease(12)]
    assert served.count("users/old") == 5
    await queue.check_counters()


async def _limited_link(queue: QueueCase, source: str, destination: str, cap: int) -> None:
    at_source = sa.select(Site.id).where(Site.name == source).scalar_subquery()
    at_destination = sa.select(Site.id).where(Site.name == destination).scalar_subquery()
    query = sa.select(Link.id).where(Link.source_id == at_source, Link.destination_id == at_destination)
    link_id = await queue.database.read(lambda c: c.execute(query).scalar_one())
    await queue.database.write(limits.set_cap, Kind.LINK, link_id, cap, NO_LIMITS)


@pytest.mark.row("D3")
async def test_a_newcomer_does_not_get_the_turns_that_somebody_behind_a_limit_had_to_pass(queue: QueueCase) -> None:
    rounds = int(WORK_PER_PRIORITY)
    await queue.submit(copy_job("users/limited", tasks=[chunk_task() for _ in range(50)]))
    await _limited_link(queue, "sites/a", "sites/b", 1)
    assert len(await queue.lease(10)) == 1
    elsewhere = {"source_site": "sites/c", "destination_site": "sites/d"}
    await queue.submit(copy_job("users/old", tasks=[chunk_task() for _ in range(6 * rounds)], **elsewhere))
    for _ in range(4):
        assert {task.user for task in await queue.lease(rounds)} == {"users/old"}
    await queue.submit(copy_job("users/new", tasks=[chunk_task() for _ in range(6 * rounds)], **elsewhere))
    served = [task.user for task in await queue.lease(3 * rounds)]
    assert served.count("users/old") >= rounds // 2, "the newcomer has everything to himself"
    # Nor has the one behind the limit, once it is lifted.
    await _limited_link(queue, "sites/a", "sites/b", -1)
    served = [task.user for task in await queue.lease(90)]
    assert min(served.count(user) for user in ("users/old", "users/new")) >= 10
    assert served.count("users/limited") > 10
    await queue.check_counters()


@pytest.mark.row("D3")
async def test_ones_own_small_job_does_not_wait_behind_ones_own_large_one(queue: QueueCase) -> None:
    large, _ = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(200)]))
    await queue.lease(50)
    small, _ = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(5)]))
    served = [task.job_id for _ in range(12) for task in await queue.lease(1)]
    assert served.count(small) == 5
    assert set(served) == {large, small}


@pytest.mark.row("J1")
async def test_ones_more_urgent_job_goes_first_and_takes_no_turn_from_others(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(20)], priority=0))
    urgent, _ = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(20)], priority=9))
    await queue.submit(copy_job("users/b", tasks=[chunk_task() for _ in range(20)], priority=0))
    served = await queue.lease(20)
    assert Counter(task.user for task in served) == {"users/a": 10, "users/b": 10}
    assert {task.job_id for task in served if task.user == "users/a"} == {urgent}


@pytest.mark.row("J1")
async def test_a_job_of_the_lowest_priority_comes_to_its_turn_in_the_end(queue: QueueCase) -> None:
    patient, _ = await queue.submit(copy_job(tasks=[chunk_task()], priority=0))
    cost = work(1000, 0)
    passed = 0.0
    for _ in range(100):
        # The user goes on submitting what is more urgent, before anything else is leased.
        await queue.submit(copy_job(tasks=[chunk_task(1000, 0)], priority=9))
        task = await queue.lease_one()
        if task.job_id == patient:
            break
        passed += cost
        await queue.settle(task, Outcome.CANCELLED)
    else:
        pytest.fail("it never came to its turn")
    assert passed <= 9 * WORK_PER_PRIORITY + cost


@pytest.mark.row("D3")
async def test_listings_are_leased_while_bulk_work_fills_every_other_place(queue: QueueCase) -> None:
    await queue.submit(copy_job("users/big", tasks=[chunk_task() for _ in range(300)]))
    assert len(await queue.lease(100)) == 100
    for user in ("users/big", "users/small"):
        listing = copy_job(
            user, operation="list", tasks=[NewTask(TaskKind.LIST, b"/d")], work_class=WorkClass.INTERACTIVE,
            destination_site="sites/a",
        )  # fmt: skip
        await queue.submit(listing)
    site_ids = await queue.database.read(lambda c: c.execute(sa.select(Site.id)).scalars().all())
    for site_id in site_ids:
        await queue.database.write(limits.set_cap, Kind.SITE_OUT, site_id, 1, NO_LIMITS)
    assert await queue.lease(10) == []
    served = await queue.lease(10, WorkClass.INTERACTIVE)
    assert Counter(task.user for task in served) == {"users/big": 1, "users/small": 1}
    await queue.check_counters()
