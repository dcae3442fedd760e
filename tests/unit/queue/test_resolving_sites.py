"""Making up for what could not be asked when a job was accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Connection
from wherry_chassis.errors import InvalidFields
from wherry_chassis.sql import Database
from wherry_queue.jobs import NewTask, copy_tasks, remove_tasks, rename_tasks
from wherry_queue.paths import absolute, as_known
from wherry_queue.resolving import (
    Resolution,
    Settled,
    SiteResolver,
    UnresolvedJob,
    resolution,
    resolved_paths,
)
from wherry_queue.settling import Failure
from wherry_queue.site_directory import ResolvedSite, SitesUnavailable
from wherry_queue.states import Hold, TaskKind
from wherry_testing.waiting import until

pytestmark = pytest.mark.row("J3")

NOW_MS = 1_000_000
HOME = b"/home/u"
parts = st.sampled_from([b"a", b"b", b"home", b"u"])
paths = st.tuples(st.sampled_from([b"", b"/", b"//"]), st.lists(parts, min_size=1, max_size=4)).map(
    lambda path: path[0] + b"/".join(path[1])
)


def site(name: str, end_s: float | None = 2000.0, default_path: bytes = HOME) -> ResolvedSite:
    """A site at which its user is signed in until `end_s`."""
    return ResolvedSite(name, name, default_path, [], end_s)


def job(number: int = 1, user: int = 1, source: str = "sites/a", destination: str = "sites/b") -> UnresolvedJob:
    """A job that waits."""
    return UnresolvedJob(number, user, f"users/u{user}", source, destination)


# --- what becomes of one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source_s", "destination_s", "hold", "sessions"),
    [
        (2000.0, 3000.5, Hold.NOTHING, {"sites/a": 2_000_000, "sites/b": 3_000_500}),
        (None, 3000.0, Hold.SOURCE_SIGN_IN, {"sites/b": 3_000_000}),
        (2000.0, 1000.0, Hold.DESTINATION_SIGN_IN, {"sites/a": 2_000_000}),
        (None, None, Hold.SIGN_IN, {}),
    ],
)
@pytest.mark.row("W4")
def test_it_needs_its_owner_at_both_ends(
    source_s: float | None, destination_s: float | None, hold: Hold, sessions: dict[str, int]
) -> None:
    sites = {"sites/a": site("sites/a", source_s), "sites/b": site("sites/b", destination_s)}
    assert resolution(job(), sites, NOW_MS) == Resolution(hold, sessions)


@pytest.mark.parametrize(("missing", "party"), [("sites/a", 2), ("sites/b", 3)])
def test_a_site_that_its_owner_does_not_see_is_named(missing: str, party: int) -> None:
    sites = {name: site(name) for name in ("sites/a", "sites/b") if name != missing}
    found = resolution(job(), sites, NOW_MS)
    assert isinstance(found, Failure)
    assert (found.reason, found.party, found.retryable) == ("SITE_NOT_FOUND", party, False)
    assert missing in found.message


def made(make: Callable[[], Sequence[NewTask]]) -> Sequence[NewTask] | str:
    """Tasks, or why they are refused."""
    try:
        return make()
    except InvalidFields as error:
        return error.message


@given(st.lists(st.tuples(paths, paths), min_size=1, max_size=4), st.booleans())
def test_a_copy_comes_to_the_same_as_if_its_sites_had_been_known(items: list[tuple[bytes, bytes]], same: bool) -> None:
    known = [(absolute(source, HOME, "x"), absolute(destination, HOME, "x")) for source, destination in items]
    expected = made(lambda: copy_tasks(known, same_site=same))
    as_given = [(as_known(source, "x"), as_known(destination, "x")) for source, destination in items]
    accepted = made(lambda: copy_tasks(as_given, same_site=same))
    if isinstance(accepted, str):
        assert isinstance(expected, str), "what is refused at once would have been refused"
        return
    found = resolved_paths(accepted, HOME, HOME, same_site=same)
    if isinstance(expected, str):
        assert isinstance(found, Failure)
        assert (found.reason, found.message) == ("INVALID_FIELDS", expected)
    else:
        assert found == [(task.source_path, task.destination_path) for task in expected]


def test_a_copy_that_would_remove_its_own_source_fails_once_it_is_known_where_its_paths_begin() -> None:
    accepted = copy_tasks([(b"/d/sub", b"")], same_site=True, deletes=True)
    assert not isinstance(resolved_paths(accepted, b"/d", b"/d", same_site=True), Failure)
    found = resolved_paths(accepted, b"/d", b"/d", same_site=True, deletes=True)
    assert isinstance(found, Failure)
    assert found.message.startswith("job.copy.items[0].source.path: ")


@given(paths, paths)
def test_a_rename_comes_to_the_same_as_if_its_site_had_been_known(source: bytes, destination: bytes) -> None:
    expected = made(lambda: rename_tasks(absolute(source, HOME, "x"), absolute(destination, HOME, "x")))
    accepted = made(lambda: rename_tasks(as_known(source, "x"), as_known(destination, "x")))
    if isinstance(accepted, str):
        assert isinstance(expected, str)
    else:
        found = resolved_paths(accepted, HOME, HOME, same_site=True)
        assert isinstance(found, Failure) is isinstance(expected, str)


def test_what_lies_in_itself_wherever_it_begins_is_refused_at_once() -> None:
    for source, destination in ((b"a", b"a/b"), (b"/a", b"/a/b"), (b"/", b"a"), (b"a", b"a")):
        assert isinstance(made(partial(rename_tasks, source, destination)), str), (source, destination)
    assert not isinstance(made(lambda: rename_tasks(b"/home/u/a", b"a/b")), str), "that depends on where it begins"


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (remove_tasks([b"x", b"/y"]), [(b"/s/x", None), (b"/y", None)]),
        ([NewTask(TaskKind.MAKE_DIRECTORY, b"x")], [(b"/s/x", None)]),
        ([NewTask(TaskKind.COPY_FILES, b"", b"x")], [(b"/s", b"/d/x")]),
        ([NewTask(TaskKind.COPY_FILES, b"/a", b"/b")], [(b"/a", b"/b")]),
    ],
)
def test_each_path_begins_at_its_own_site(tasks: Sequence[NewTask], expected: list[tuple[bytes, bytes | None]]) -> None:
    assert resolved_paths(tasks, b"/s", b"/d", same_site=False) == expected


def test_a_default_path_that_is_unfit_fails_the_job_and_not_those_who_ask() -> None:
    found = resolved_paths(remove_tasks([b"x"]), b"/a/../b", b"/", same_site=True)
    assert isinstance(found, Failure)
    assert found.message.startswith("job.remove.targets[0].path: ")


# --- asking about all -------------------------------------------------------------------------------------------------


class Waiting:
    """Jobs that wait, and what they were settled by."""

    def __init__(self) -> None:
        self.jobs: list[UnresolvedJob] = []
        self.settled: list[tuple[int, frozenset[str]]] = []
        self.reached = 0
        self.read = 0

    def cursor(self, connection: Connection) -> int:
        return self.reached

    def unresolved(self, connection: Connection, behind: int, limit: int) -> Sequence[UnresolvedJob]:
        self.read += 1
        ordered = sorted(self.jobs, key=lambda job: (job.user_id, job.job_id))
        return [job for job in ordered if job.user_id > behind][:limit]

    def settle(
        self, connection: Connection, job: UnresolvedJob, sites: Mapping[str, ResolvedSite], before: int
    ) -> Settled:
        if before != self.reached:
            return Settled.OVERTAKEN
        if job not in self.jobs:
            return Settled.ALREADY
        self.jobs.remove(job)
        self.settled.append((job.job_id, frozenset(sites)))
        return Settled.DONE


class Sites:
    """Answers, unless it is away."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.away = False
        self.away_for: set[str] = set()
        self.news_while_asked = 0

    async def resolve(self, user: str, sites: Sequence[str]) -> dict[str, ResolvedSite]:
        self.asked.append((user, tuple(sites)))
        if self.away or user in self.away_for:
            raise SitesUnavailable
        if self.news_while_asked:
            self.news_while_asked -= 1
            self.waiting.reached += 1
        return {name: site(name) for name in sites}


class World:
    """A resolver with all around it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.waiting = Waiting()
        self.sites = Sites(self.waiting)
        self.told: list[int] = []

    def resolver(self, **changes: Any) -> SiteResolver:
        return SiteResolver(self.database, self.waiting, self.sites, self.told.extend, **changes)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(f"sqlite:///{tmp_path}/queue.db", threads=2)
    yield World(database)
    database.close()


async def test_a_user_is_asked_about_once_for_all_of_their_jobs(world: World) -> None:
    world.waiting.jobs = [job(1), job(2, source="sites/c"), job(3, user=2)]
    assert await world.resolver().look()
    assert sorted(world.sites.asked) == [
        ("users/u1", ("sites/a", "sites/b", "sites/c")),
        ("users/u2", ("sites/a", "sites/b")),
    ]
    assert sorted(world.told) == [1, 2, 3]


async def test_nobody_is_asked_while_nothing_waits(world: World) -> None:
    task = asyncio.create_task(world.resolver(period_s=0.001).run())
    await until(lambda: world.waiting.read > 5)
    assert world.sites.asked == []
    world.waiting.jobs = [job()]
    await until(lambda: world.told == [1])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_while_the_site_service_is_away_it_is_not_asked_for_each(world: World) -> None:
    world.waiting.jobs = [job(number, user=number) for number in range(1, 301)]
    world.sites.away = True
    resolver = world.resolver()
    assert not await resolver.look()
    assert 1 <= len(world.sites.asked) <= 8
    assert world.told == []
    world.sites.away = False
    assert await resolver.look()
    assert sorted(world.told) == list(range(1, 301))


async def test_one_user_about_whom_there_is_no_answer_holds_nobody_else_up(world: World) -> None:
    world.waiting.jobs = [job(number, user=number) for number in range(1, 31)]
    world.sites.away_for = {"users/u1"}
    resolver = world.resolver()
    for _ in range(40):
        assert not await resolver.look()
    assert world.waiting.jobs == [job(1, user=1)]
    world.sites.away_for.clear()
    assert await resolver.look()
    assert world.waiting.jobs == []


async def test_more_than_a_page_of_jobs_is_settled_in_one_look(world: World) -> None:
    world.waiting.jobs = [job(number, user=number % 3 + 1) for number in range(1, 1301)]
    assert await world.resolver().look()
    assert len(world.told) == 1300


async def test_no_question_names_more_sites_than_the_contract_allows(world: World) -> None:
    world.waiting.jobs = [job(number, source=f"sites/s{number:03}", destination="sites/z") for number in range(1, 250)]
    assert await world.resolver().look()
    assert sorted(len(sites) for _, sites in world.sites.asked) == [50, 100, 100]
    assert {len(sites) for _, sites in world.waiting.settled} == {250}


async def test_an_answer_that_the_feed_may_have_overtaken_is_asked_for_again(world: World) -> None:
    world.waiting.jobs = [job(1), job(2)]
    world.sites.news_while_asked = 1
    assert await world.resolver().look()
    assert len(world.sites.asked) == 2
    assert sorted(world.told) == [1, 2]
    world.waiting.jobs = [job(3)]
    world.sites.news_while_asked = 100
    assert not await world.resolver().look()
    assert sorted(world.told) == [1, 2]


async def test_what_another_replica_has_settled_is_not_told_again(world: World) -> None:
    world.waiting.jobs = [job(1)]
    first, second = world.resolver(), world.resolver()
    await asyncio.gather(first.look(), second.look())
    assert world.told == [1]
