"""A replica's feed, and the streams that live on it; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import sqlalchemy as sa
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.sql import Database
from wherry_queue.bulletin import Topic
from wherry_queue.jobs import JobNotFound
from wherry_queue.models import Job, Lane, Task
from wherry_queue.servicer.watching import JobShowing
from wherry_queue.store import control, watching
from wherry_queue.store.waiting import Circumstances
from wherry_queue.watch_feed import ReplicaEnding
from wherry_testing.postgres import PostgresServer
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job
from wherry_testing.waiting import until
from wherry_testing.watch_streams import Stream, WatchedReplica

pytestmark = pytest.mark.timeout(180)

NEVER_S = 3600.0


@pytest.fixture
def feed_database(queue: QueueCase) -> Iterator[Database]:
    """Another replica's way to the same database; on SQLite it is the same process's."""
    database = Database(queue.database.url.render_as_string(hide_password=False), threads=4)
    yield database
    database.close()


@pytest.fixture
async def replica(feed_database: Database) -> AsyncIterator[WatchedReplica]:
    async with WatchedReplica(feed_database).running() as running:
        yield running


async def begin(queue: QueueCase, replica: WatchedReplica, user: str = "users/a") -> tuple[int, str]:
    """Makes a job of one chunk, and says so."""
    job_id, uid = await queue.submit(copy_job(user, tasks=[chunk_task()]))
    replica.bulletin.say(Topic.BEGUN, [(user, job_id)])
    return job_id, uid


async def cancel(queue: QueueCase, replica: WatchedReplica, job: tuple[int, str], user: str = "users/a") -> None:
    await queue.database.write(control.cancel, user, job[1])
    replica.bulletin.say(Topic.JOBS, [job[0]])


def name_of(job: tuple[int, str]) -> str:
    return f"jobs/{job[1]}"


def cancelled(job: tuple[int, str]) -> Callable[[pb.Job], bool]:
    return lambda told: told.name == name_of(job) and told.state == pb.JOB_STATE_CANCELLED


async def begun(*streams: Stream) -> None:
    """Waits until the streams have said what they begin with."""
    await until(lambda: all(stream.messages or stream.ended for stream in streams), within_s=30)
    assert not any(stream.ended for stream in streams)


@pytest.mark.row("J5")
@pytest.mark.parametrize("watchers", [30, 300])
async def test_what_it_costs_to_watch_does_not_grow_with_those_who_do(
    queue: QueueCase, replica: WatchedReplica, watchers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    jobs = [await begin(queue, replica, f"users/{n % 10}") for n in range(50)]
    of_users = [replica.watch(f"users/{n % 10}") for n in range(watchers // 2)]
    of_jobs = [replica.watch_job(jobs[n % 50][1], f"users/{n % 10}") for n in range(watchers // 2)]
    await begun(*of_users, *of_jobs)
    replica.statements.clear()
    for n, (_, uid) in enumerate(jobs):
        await queue.database.write(control.cancel, f"users/{n % 10}", uid)
    replica.bulletin.say(Topic.JOBS, [job_id for job_id, _ in jobs])
    for n, job in enumerate(jobs):
        for stream in (*of_users[n % 10 :: 10], *of_jobs[n::50]):
            await stream.says(cancelled(job))
    assert all(stream.messages[-1].last for stream in of_jobs)
    assert 3 <= len(replica.statements) <= 60, "each change is read once for all, many changes together"


@pytest.mark.row("J5")
async def test_watchers_hear_of_what_they_watch_and_of_nothing_else(queue: QueueCase, replica: WatchedReplica) -> None:
    before = await begin(queue, replica)
    everything, others, one = replica.watch(), replica.watch("users/b"), replica.watch_job(before[1])
    await begun(everything, others, one)
    new = await begin(queue, replica)
    await everything.says(lambda told: told.name == name_of(new))
    await cancel(queue, replica, new)
    await everything.says(cancelled(new))
    await cancel(queue, replica, before)
    await everything.says(cancelled(before))
    await one.says(cancelled(before))
    await one.running
    assert set(one.jobs) == {name_of(before)}
    assert not others.jobs
    assert everything.words_on(name_of(before)) == 2, "once at the beginning, and once when it was cancelled"


@pytest.mark.row("J5")
async def test_what_nobody_says_is_seen_by_looking(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.2)
    open_one, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    everything, one = replica.watch(), replica.watch_job(uid)
    await begun(everything, one)
    short = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.database.write(control.cancel, "users/a", short[1])
    await everything.says(cancelled(short))
    await queue.database.write(control.cancel, "users/a", uid)
    for stream in (everything, one):
        await stream.says(cancelled((open_one, uid)))


@pytest.mark.parametrize("queue", ["postgresql"], indirect=True)  # alone there is nobody whose words could be lost
async def test_after_a_gap_everything_is_looked_at_at_once(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    everything = replica.watch()
    await begun(everything)
    unsaid = await queue.submit(copy_job(tasks=[chunk_task()]))
    query = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'"
    assert await queue.database.read(lambda c: list(c.execute(sa.text(query))))
    await everything.says(lambda told: told.name == name_of(unsaid))


async def test_a_slow_watcher_hears_in_the_end_how_each_job_is_and_not_what_happened_meanwhile(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._ASKED_AT_ONCE", 3)
    replica.feed._list.brief._room_bytes = 1  # a message is not kept beyond the next one
    quick, slow = replica.watch(), replica.watch()
    await begun(quick, slow)
    slow.flows.clear()
    jobs = [await begin(queue, replica) for _ in range(8)]
    await until(lambda: len(quick.jobs) == 8)
    said = len(slow.messages)
    for job in jobs:
        await cancel(queue, replica, job)
    for job in jobs:
        await quick.says(cancelled(job))
    assert len(slow.messages) <= said + 1
    slow.flows.set()
    for job in jobs:
        await slow.says(cancelled(job))


async def test_what_ended_and_was_forgotten_before_a_slow_watcher_came_to_it_is_read_again(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.1)
    monkeypatch.setattr("wherry_queue.store.watching.LOOKED_BACK", 0)
    quick, slow = replica.watch(), replica.watch()
    await begun(quick, slow)
    slow.flows.clear()
    jobs = [await begin(queue, replica) for _ in range(3)]
    await until(lambda: len(slow.messages) == 2)  # it holds on to this one
    for job in jobs:
        await cancel(queue, replica, job)
        await quick.says(cancelled(job))
    await begin(queue, replica)
    await until(lambda: not {job_id for job_id, _ in jobs} & replica.feed._list.known.keys())
    slow.flows.set()
    for job in jobs:
        await slow.says(cancelled(job))


@pytest.mark.row("J5")
async def test_nobody_is_sent_back_to_what_was_before_their_own_first_look(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    other = replica.watch()
    job_id, uid = await begin(queue, replica)
    await other.says(lambda told: told.name == f"jobs/{uid}")
    with replica.feed.watching_jobs_of("users/a") as watcher:
        await replica.feed.begin("users/a", 0)
        await queue.lease_one()
        replica.bulletin.say(Topic.JOBS, [job_id])
        await other.says(lambda told: told.progress.tasks_running == 1)
        await queue.database.write(control.cancel, "users/a", uid)  # which the feed has not heard of yet
        (view,) = await queue.database.read(watching.jobs, "users/a", [job_id], Circumstances())
        read_alone = JobShowing().message(view)
        assert read_alone.state == pb.JOB_STATE_CANCELLING
        replica.feed.begins_with(watcher, job_id, read_alone)
        replica.feed.caught_up(watcher)
        told = await watcher.wait(1)
        assert told == {job_id}
        assert list(replica.feed.shown(watcher, told)) == [], "the feed knows only what was before"
        told = await watcher.wait(10)
        assert told == {job_id}, "it is read again for the newcomer"
        assert list(replica.feed.shown(watcher, told)) == [], "which knows it already"
        await other.says(lambda told: told.state == pb.JOB_STATE_CANCELLING)


async def test_what_happens_while_a_watcher_takes_its_first_look_is_not_missed(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    job = await queue.submit(copy_job(tasks=[chunk_task()]))
    look = watching.look

    def slowed(connection: sa.Connection, users: list[str], since_id: int, *rest: object) -> watching.Look:
        found = look(connection, users, since_id)
        asyncio.run_coroutine_threadsafe(cancel(queue, replica, job), loop).result(10)
        return found

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(watching, "look", slowed)
    stream = replica.watch()
    await stream.says(cancelled(job))


async def test_a_job_that_begins_anew_is_told_of_though_it_had_been_forgotten(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    monkeypatch.setattr("wherry_queue.store.watching.LOOKED_BACK", 0)
    old = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.database.write(control.cancel, "users/a", old[1])
    new = await begin(queue, replica)
    stream = replica.watch(page_size=1)
    await begun(stream)
    assert set(stream.jobs) == {name_of(new)}
    replica.bulletin.say(Topic.BEGUN, [("users/a", old[0]), ("users/b", new[0])])
    await stream.says(cancelled(old))
    assert stream.words_on(name_of(new)) == 1


async def test_why_jobs_wait_is_told_when_workers_come_and_go(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.1)
    _, uid = await begin(queue, replica)
    streams = [replica.watch(), replica.watch_job(uid)]
    for stream in streams:
        await stream.says(lambda told: told.waiting_reason.reason == "IN_LINE")
    replica.has_workers = False
    for stream in streams:
        await stream.says(lambda told: told.waiting_reason.reason == "NO_WORKER")


async def test_the_place_in_line_is_told_as_it_changes(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.1)
    monkeypatch.setattr("wherry_queue.watch_feed._WAITING_PER_LOOK", 1)
    first, second, third = [await begin(queue, replica) for _ in range(3)]
    stream = replica.watch()
    await stream.says(lambda told: (told.name, told.waiting_reason.position) == (name_of(third), 3))
    await queue.database.write(control.cancel, "users/a", first[1])
    await stream.says(lambda told: (told.name, told.waiting_reason.position) == (name_of(third), 2))
    await stream.says(lambda told: (told.name, told.waiting_reason.position) == (name_of(second), 1))


@pytest.mark.row("J5")
async def test_many_jobs_are_shown_in_brief_and_one_is_shown_whole(queue: QueueCase, replica: WatchedReplica) -> None:
    asked = pb.Job(copy=pb.CopyOperation(items=[pb.CopyItem() for _ in range(12)]))
    whole = asked.SerializeToString()
    del asked.copy.items[10:]
    brief = asked.SerializeToString()
    long = await queue.submit(copy_job(specification=whole, summary=brief, item_count=12, tasks=[chunk_task()]))
    everything, one = replica.watch(), replica.watch_job(long[1])
    await begun(everything, one)
    for _ in range(2):
        assert [
            (len(s.jobs[name_of(long)].copy.items), s.jobs[name_of(long)].item_count) for s in (everything, one)
        ] == [
            (10, 12),
            (12, 12),
        ]
        await cancel(queue, replica, long)
        for stream in (everything, one):
            await stream.says(cancelled(long))


async def test_a_job_whose_row_is_deleted_ends_its_watch_and_no_other(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.1)
    job_id, uid = await begin(queue, replica)
    everything, one = replica.watch(), replica.watch_job(uid)
    await begun(everything, one)

    def delete(connection: sa.Connection) -> None:
        for statement in (
            sa.delete(Task).where(Task.job_id == job_id),
            sa.delete(Lane).where(Lane.job_id == job_id),
            sa.delete(Job).where(Job.id == job_id),
        ):
            connection.execute(statement)

    await queue.database.write(delete)
    await until(lambda: one.ended)
    assert isinstance(one.ended, JobNotFound)
    new = await begin(queue, replica)
    await everything.says(lambda told: told.name == name_of(new))


async def test_nothing_is_left_of_those_who_have_gone(
    queue: QueueCase, replica: WatchedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.1)
    jobs = [await begin(queue, replica) for _ in range(3)]
    streams = [replica.watch(), replica.watch(), replica.watch("users/b"), *(replica.watch_job(uid) for _, uid in jobs)]
    await begun(*streams)
    await cancel(queue, replica, jobs[0])
    await replica.leave()
    feed, watched = replica.feed, replica.feed._list
    await until(lambda: feed._look_due_s == math.inf and feed._round_due_s == math.inf)
    assert not any(
        (watched.dirty, watched.known, watched.single, watched.users, watched.owed, feed._begun, feed._learning)
    )
    for shelf in (watched.brief, watched.whole):
        assert not shelf._shown
        assert not shelf._whole
        assert shelf._room_bytes == 32 << 20
    replica.statements.clear()
    for _ in range(3):
        await begin(queue, replica)
    assert not replica.statements, "where nobody watches, nobody looks"


async def test_quiet_watches_of_single_jobs_are_read_together_for_their_signs_of_life(
    queue: QueueCase, feed_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", NEVER_S)
    async with WatchedReplica(feed_database, heartbeat_s=1).running() as replica:
        jobs = [await begin(queue, replica) for _ in range(20)]
        streams = [replica.watch_job(uid) for _, uid in jobs for _ in range(10)]
        await begun(*streams)
        replica.statements.clear()
        await until(lambda: all(len(stream.messages) >= 3 for stream in streams), within_s=30)
        assert len(replica.statements) <= 200
        assert {message.job.state for message in streams[0].messages} == {pb.JOB_STATE_QUEUED}


async def test_when_the_replica_ends_all_are_told_so(queue: QueueCase, replica: WatchedReplica) -> None:
    _, uid = await begin(queue, replica)
    streams = [replica.watch(), replica.watch_job(uid)]
    await begun(*streams)
    replica.feed.close()
    await until(lambda: all(stream.ended for stream in streams), within_s=2)
    assert all(isinstance(stream.ended, ReplicaEnding) for stream in streams)


async def test_watches_outlast_a_short_absence_of_the_database_and_say_of_a_long_one_that_it_is(
    fresh_postgres: object, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 0.2)
    monkeypatch.setattr("wherry_queue.watch_feed._RETRY_S", 0.1)
    database = Database(postgres_server.fresh("wherry_queue"), threads=4)
    queue = await QueueCase(database).begin()
    try:
        async with WatchedReplica(database).running() as replica:
            stream = replica.watch()
            await begun(stream)
            await down(postgres_server, lambda: replica.feed._failing_since_s)
            job = await begin(queue, replica)
            await stream.says(lambda told: told.name == name_of(job))
            monkeypatch.setattr("wherry_queue.watch_feed._BLIND_S", 0.1)
            await down(postgres_server, lambda: stream.ended)
            assert isinstance(stream.ended, DatabaseUnavailable)
            again = replica.watch()
            await begun(again)
    finally:
        database.close()


async def down(server: PostgresServer, seen: Callable[[], object]) -> None:
    """Has the server away until that is seen."""
    server.stop()
    try:
        await until(seen)
    finally:
        server.start()
