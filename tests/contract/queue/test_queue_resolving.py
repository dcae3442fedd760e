"""Jobs that were accepted while nobody could be asked about their sites, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms
from wherry_queue.jobs import Chunk, JobEnded, NewTask
from wherry_queue.models import EntryFailure, SignIn, Task
from wherry_queue.resolving import Settled, UnresolvedJob
from wherry_queue.site_directory import ResolvedSite
from wherry_queue.states import Hold, JobState, TaskKind
from wherry_queue.store import banning, control, deletion, resolving, retrying, sign_ins, staging
from wherry_queue.store.staging import Roots
from wherry_testing.queue_acts import pack
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

pytestmark = [pytest.mark.row("J3"), pytest.mark.row("D2")]

_HOUR_S = 3600
WALK = NewTask(TaskKind.WALK_COPY, b"/from", b"/to", root=True)


def site(name: str, default_path: bytes = b"/home/user", life_s: float | None = _HOUR_S) -> ResolvedSite:
    """A site that its user sees, and where they are signed in unless `life_s` is None."""
    return ResolvedSite(name, name, default_path, ["gsiftp"], None if life_s is None else time.time() + life_s)


def seen(**life_s: float | None) -> dict[str, ResolvedSite]:
    """Sites a and b, with what is left of the sessions there."""
    return {f"sites/{name}": site(f"sites/{name}", life_s=life_s.get(name, _HOUR_S)) for name in ("a", "b")}


async def accept(queue: QueueCase, user: str = "users/a", **changes: Any) -> tuple[int, str]:
    """Accepts a job whose sites nobody knows."""
    return await queue.submit(copy_job(user, unresolved=True, **changes))


async def waiting(queue: QueueCase, behind: int = 0, limit: int = 100) -> list[UnresolvedJob]:
    return await queue.database.read(resolving.unresolved, behind, limit)


async def settle(queue: QueueCase, sites: dict[str, ResolvedSite] | None = None) -> list[Settled]:
    """Settles all that wait, as one replica does."""
    before = await queue.database.read(resolving.cursor)
    return [
        await queue.database.write(resolving.settle, job, seen() if sites is None else sites, before)
        for job in await waiting(queue)
    ]


async def reason(queue: QueueCase, uid: str) -> str:
    """Why a job waits."""
    found = (await queue.view("users/a", uid)).waiting
    return found.reason if found is not None else ""


async def paths(queue: QueueCase) -> list[tuple[bytes, bytes | None]]:
    """The paths of all tasks, in the order in which they were made."""
    query = sa.select(Task.source_path, Task.destination_path).order_by(Task.id)
    return await queue.database.read(lambda c: [(row.source_path, row.destination_path) for row in c.execute(query)])


async def test_nothing_of_it_is_leased_and_it_says_what_it_waits_for(queue: QueueCase) -> None:
    job_id, uid = await accept(queue, request_id="r1")
    other, _ = await queue.submit(copy_job())
    assert await queue.state(job_id) is JobState.QUEUED
    assert await reason(queue, uid) == "SITES_UNAVAILABLE"
    assert {task.job_id for task in await queue.lease()} == {other}
    assert await waiting(queue) == [
        UnresolvedJob(job_id, (await queue.job(job_id)).user_id, "users/a", "sites/a", "sites/b")
    ]
    assert await queue.submit(copy_job(request_id="r1")) == (job_id, uid), "the same request later is the same job"
    await queue.check_counters()


async def test_it_goes_on_when_its_sites_are_known_and_its_sessions_are_remembered(queue: QueueCase) -> None:
    job_id, uid = await accept(queue)
    assert await settle(queue) == [Settled.DONE]
    assert await waiting(queue) == []
    assert await reason(queue, uid) == "NO_WORKER"
    assert (await queue.lease_one()).job_id == job_id
    ends = await queue.database.read(lambda c: c.execute(sa.select(SignIn.until_ms)).scalars().all())
    assert [round(end_ms / 1000 - time.time(), -2) for end_ms in ends] == [_HOUR_S, _HOUR_S]
    await queue.check_counters()


@pytest.mark.parametrize(
    ("tasks", "operation", "expected"),
    [
        (
            [NewTask(TaskKind.WALK_COPY, b"x", b"/to"), NewTask(TaskKind.WALK_COPY, b"/from", b"y/z")],
            "copy",
            [(b"/home/user/x", b"/to"), (b"/from", b"/home/user/y/z")],
        ),
        ([NewTask(TaskKind.WALK_REMOVE, b"x")], "remove", [(b"/home/user/x", None)]),
        ([NewTask(TaskKind.MAKE_DIRECTORY, b"x")], "make_directory", [(b"/home/user/x", None)]),
        ([NewTask(TaskKind.RENAME, b"x", b"y")], "rename", [(b"/home/user/x", b"/home/user/y")]),
        ([WALK], "copy", [(b"/from", b"/to")]),
    ],
)
async def test_relative_paths_begin_where_the_site_says(
    queue: QueueCase, tasks: list[NewTask], operation: str, expected: list[tuple[bytes, bytes | None]]
) -> None:
    one = "sites/a" if operation in ("remove", "make_directory", "rename") else "sites/b"
    job_id, _ = await accept(queue, tasks=tasks, operation=operation, destination_site=one)
    assert await settle(queue) == [Settled.DONE]
    assert await paths(queue) == expected
    assert [(task.job_id, task.source_path) for task in await queue.lease()] == [(job_id, path) for path, _ in expected]
    await queue.check_counters()


async def test_the_chunks_of_a_copy_of_pairs_get_their_roots_all_at_once(queue: QueueCase) -> None:
    copy_id = await queue.database.write(staging.begin, "users/a")
    for number in range(3):
        await queue.database.write(staging.add, copy_id, [Chunk(b"%d" % number, 2, 20)], 1 << 30)
    new = replace(copy_job(unresolved=True), tasks=())
    await queue.database.write(staging.complete, copy_id, new, Roots(b"", b"below"))
    assert await queue.lease() == []
    await queue.check_counters()
    assert await settle(queue) == [Settled.DONE]
    assert set(await paths(queue)) == {(b"/home/user", b"/home/user/below")}
    assert len(await queue.lease()) == 3
    await queue.check_counters()


@pytest.mark.parametrize(
    ("tasks", "chunks"),
    [
        ([WALK, WALK], 0),
        ([NewTask(TaskKind.WALK_REMOVE, b"/d")], 0),
        ([NewTask(TaskKind.MAKE_DIRECTORY, b"/d")], 0),
        ([NewTask(TaskKind.RENAME, b"/d", b"/e")], 0),
        ([chunk_task(), chunk_task()], 2),
    ],
)
@pytest.mark.parametrize("gone", ["sites/a", "sites/b"])
async def test_it_fails_where_its_owner_does_not_see_a_site(
    queue: QueueCase, tasks: list[NewTask], chunks: int, gone: str
) -> None:
    job_id, _ = await accept(queue, tasks=tasks)
    sites = {name: found for name, found in seen().items() if name != gone}
    assert await settle(queue, sites) == [Settled.DONE]
    job = await queue.job(job_id)
    assert await queue.state(job_id) is JobState.FAILED
    assert (job.failure["reason"], job.failure["party"]) == ("SITE_NOT_FOUND", 2 if gone == "sites/a" else 3)
    assert job.failure["message"] == f"There is no site {gone} that you can see."
    assert (job.files_failed, job.bytes_failed) == (2 * chunks, 20 * chunks)
    rows = await queue.database.read(lambda c: c.execute(sa.select(EntryFailure.path, EntryFailure.failure)).all())
    assert [row.path for row in rows] == [task.source_path for task in tasks]
    assert await queue.lease() == []
    assert await waiting(queue) == []
    await queue.check_counters()


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (NewTask(TaskKind.WALK_COPY, b"/home/user/x", b"x/y"), "job.copy.items[1].destination.path"),
        (NewTask(TaskKind.RENAME, b"/home/user/x", b"x"), "job.rename.destination.path"),
    ],
)
async def test_it_fails_where_its_paths_turn_out_to_lie_in_each_other(
    queue: QueueCase, task: NewTask, field: str
) -> None:
    tasks = [WALK, task] if task.kind is TaskKind.WALK_COPY else [task]
    job_id, _ = await accept(queue, tasks=tasks, destination_site="sites/a")
    assert await settle(queue) == [Settled.DONE]
    job = await queue.job(job_id)
    assert await queue.state(job_id) is JobState.FAILED
    assert job.failure["reason"] == "INVALID_FIELDS"
    assert job.failure["message"].startswith(f"{field}: lies within the source")
    await queue.check_counters()


@pytest.mark.row("W4")
@pytest.mark.parametrize(
    ("life_s", "hold"),
    [
        ({"a": None}, Hold.SOURCE_SIGN_IN),
        ({"b": None}, Hold.DESTINATION_SIGN_IN),
        ({"a": None, "b": -5.0}, Hold.SIGN_IN),
    ],
)
async def test_it_waits_for_a_sign_in_like_any_other(
    queue: QueueCase, life_s: dict[str, float | None], hold: Hold
) -> None:
    job_id, uid = await accept(queue, tasks=[NewTask(TaskKind.WALK_COPY, b"x", b"y")])
    assert await settle(queue, seen(**life_s)) == [Settled.DONE]
    assert (await queue.job(job_id)).hold == hold
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    assert await reason(queue, uid) == "SIGN_IN_REQUIRED"
    assert await queue.lease() == []
    until_ms = await queue.database.read(database_now_ms) + 1000 * _HOUR_S
    await queue.database.write(sign_ins.learn, "users/a", {"sites/a": until_ms, "sites/b": until_ms})
    assert (await queue.lease_one()).source_path == b"/home/user/x"
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_at_one_site_there_is_one_sign_in_to_wait_for(queue: QueueCase) -> None:
    job_id, _ = await accept(queue, destination_site="sites/a")
    await settle(queue, seen(a=None))
    assert (await queue.job(job_id)).hold == Hold.SOURCE_SIGN_IN


@pytest.mark.row("W4")
async def test_a_session_that_ended_meanwhile_and_was_renewed_holds_it_no_longer(queue: QueueCase) -> None:
    job_id, _ = await accept(queue)
    await queue.database.write(sign_ins.learn, "users/a", {"sites/a": 0})
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    assert await settle(queue) == [Settled.DONE]
    assert (await queue.job(job_id)).hold == Hold.NOTHING
    assert len(await queue.lease()) == 1


async def test_an_answer_that_the_feed_may_have_overtaken_changes_nothing(queue: QueueCase) -> None:
    job_id, _ = await accept(queue)
    (job,) = await waiting(queue)
    before = await queue.database.read(resolving.cursor)
    await queue.database.write(sign_ins.apply, [], before + 1)
    assert await queue.database.write(resolving.settle, job, seen(), before) is Settled.OVERTAKEN
    assert (await queue.job(job_id)).hold == Hold.SITES_UNKNOWN
    assert await queue.database.read(lambda c: c.execute(sa.select(SignIn.until_ms)).scalars().all()) == []


async def test_of_several_replicas_one_settles_it(queue: QueueCase) -> None:
    await accept(queue, tasks=[WALK] * 3)
    await accept(queue, tasks=[NewTask(TaskKind.WALK_COPY, b"x", b"y")])
    jobs, before = await waiting(queue), await queue.database.read(resolving.cursor)
    for sites in (seen(), {}):
        came = await asyncio.gather(
            *(queue.database.write(resolving.settle, jobs[number % 2], sites, before) for number in range(12))
        )
        assert Counter(came)[Settled.DONE] == (2 if sites else 0)
    await queue.check_counters()
    assert len(await queue.lease()) == 4


@pytest.mark.row("J7")
async def test_it_can_be_paused_and_is_settled_all_the_same(queue: QueueCase) -> None:
    job_id, uid = await accept(queue, tasks=[NewTask(TaskKind.WALK_COPY, b"x", b"y")])
    await queue.database.write(control.pause, "users/a", uid)
    assert (await queue.state(job_id), await reason(queue, uid)) == (JobState.PAUSED, "PAUSED")
    assert await settle(queue) == [Settled.DONE]
    assert await queue.state(job_id) is JobState.PAUSED
    assert await paths(queue) == [(b"/home/user/x", b"/home/user/y")]
    assert await queue.lease() == []
    await queue.database.write(control.resume, "users/a", uid)
    assert len(await queue.lease()) == 1
    await queue.check_counters()


@pytest.mark.row("J7")
async def test_it_can_be_resumed_before_it_is_settled_and_still_waits(queue: QueueCase) -> None:
    _, uid = await accept(queue)
    await queue.database.write(control.pause, "users/a", uid)
    await queue.database.write(control.resume, "users/a", uid)
    await queue.database.write(control.set_priority, "users/a", uid, 9)
    assert await reason(queue, uid) == "SITES_UNAVAILABLE"
    assert await queue.lease() == []
    await settle(queue)
    assert len(await queue.lease()) == 1
    await queue.check_counters()


@pytest.mark.row("J7")
async def test_it_can_be_cancelled_and_nobody_asks_for_it_any_more(queue: QueueCase) -> None:
    job_id, uid = await accept(queue)
    (job,) = await waiting(queue)
    await queue.database.write(control.cancel, "users/a", uid)
    assert await queue.state(job_id) is JobState.CANCELLED
    assert await waiting(queue) == []
    before = await queue.database.read(resolving.cursor)
    for sites in (seen(), {}):
        assert await queue.database.write(resolving.settle, job, sites, before) is Settled.ALREADY
    assert await queue.state(job_id) is JobState.CANCELLED
    with pytest.raises(JobEnded):
        await queue.database.write(control.resume, "users/a", uid)
    await queue.check_counters()


@pytest.mark.row("J7")
@pytest.mark.parametrize("ended", ["cancelled", "failed"])
async def test_one_that_ended_before_it_was_settled_is_settled_when_it_is_retried(queue: QueueCase, ended: str) -> None:
    job_id, uid = await accept(queue, tasks=[NewTask(TaskKind.WALK_COPY, b"x", b"y")])
    if ended == "cancelled":
        await queue.database.write(control.cancel, "users/a", uid)
    else:
        await settle(queue, {})
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()
    assert await queue.state(job_id) is JobState.QUEUED
    assert await queue.lease() == [], "its paths are not absolute yet"
    assert await settle(queue) == [Settled.DONE]
    assert (await queue.lease_one()).source_path == b"/home/user/x"
    assert (await queue.job(job_id)).failure is None
    await queue.check_counters()


async def test_a_copy_of_pairs_that_failed_is_whole_when_it_is_retried(queue: QueueCase) -> None:
    job_id, uid = await accept(queue, tasks=[chunk_task(), chunk_task()])
    await settle(queue, {})
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    job = await queue.job(job_id)
    assert (job.files_total, job.files_failed, job.tasks_open) == (4, 0, 2)
    await settle(queue)
    for task in await queue.lease():
        await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.parametrize("lifted_first", [True, False])
async def test_a_ban_holds_it_besides(queue: QueueCase, lifted_first: bool) -> None:
    job_id, uid = await accept(queue)
    ban = await queue.database.write(banning.create, "operator", "sites/b", "broken")
    await queue.database.write(banning.settle, 100)
    assert await reason(queue, uid) == "SUSPENDED"
    if lifted_first:
        await queue.database.write(banning.delete, "operator", ban.id)
        await queue.database.write(banning.settle, 100)
        assert await reason(queue, uid) == "SITES_UNAVAILABLE"
        assert await settle(queue) == [Settled.DONE]
    else:
        assert await settle(queue) == [Settled.DONE]
        assert (await queue.job(job_id)).hold == Hold.DESTINATION_BANNED
        assert await queue.lease() == []
        await queue.database.write(banning.delete, "operator", ban.id)
        await queue.database.write(banning.settle, 100)
    assert len(await queue.lease()) == 1
    await queue.check_counters()


@pytest.mark.row("U6", missing="export of one's data")
async def test_it_goes_with_its_owners_account(queue: QueueCase) -> None:
    job_id, _ = await accept(queue)
    (job,) = await waiting(queue)
    await queue.database.write(deletion.forget_user, "users/a")
    assert await queue.state(job_id) is JobState.CANCELLED
    assert await waiting(queue) == []
    assert await queue.database.write(resolving.settle, job, seen(), 0) is Settled.ALREADY
    await queue.check_counters()


@pytest.mark.row("D3")
async def test_its_owner_is_not_active_meanwhile_and_saves_no_time_up(queue: QueueCase) -> None:
    await accept(queue, "users/idle")
    for _ in range(3):
        await queue.submit(copy_job("users/busy", tasks=[chunk_task() for _ in range(10)]))
    await queue.lease(20)
    await queue.check_counters()
    await settle(queue)
    assert [task.user for task in await queue.lease(2)].count("users/idle") == 1
    await queue.check_counters()


async def test_they_are_found_by_their_owners_a_page_at_a_time(queue: QueueCase) -> None:
    for number in range(3):
        for _ in range(2):
            await accept(queue, f"users/u{number}")
    everything = await waiting(queue)
    assert [job.user for job in everything] == [f"users/u{number // 2}" for number in range(6)]
    assert await waiting(queue, limit=3) == everything[:3]
    assert await waiting(queue, behind=everything[0].user_id) == everything[2:]


async def test_looking_for_them_reads_no_job_that_is_not_held(queue: QueueCase) -> None:
    def plan(connection: Connection) -> str:
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            connection.execute(sa.text("set local enable_seqscan = off"))  # these tables are too small for an index
        explain = "explain " if postgresql else "explain query plan "
        said: list[str] = []

        @sa.event.listens_for(connection, "before_cursor_execute", retval=True)
        def explained(_c: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
            cursor.execute(explain + statement, parameters)
            said.extend(str(row) for row in cursor.fetchall())
            return statement, parameters

        resolving.unresolved(connection, 0, 100)
        return "\n".join(said)

    assert "job_held" in await queue.database.write(plan)
