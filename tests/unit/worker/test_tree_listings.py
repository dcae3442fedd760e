"""Listings to a depth: in which order, how far, and what becomes of what cannot be listed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_fakes.worker_ports import FakeQueue
from wherry_worker.attempt import Attempt
from wherry_worker.chunking import BATCH_BYTES
from wherry_worker.engine.messages import Entry, EntryBatch, ListDirectory, Message, Pair, Problem, Task
from wherry_worker.engine_process import DeathCause, EngineDied, EngineTaskFailed
from wherry_worker.listing import MOST_IN_A_ROW, list_for_caller
from wherry_worker.telling import found_message
from wherry_worker.walking import WalkFailed
from wherry_worker.work import Found, Lease, LeaseRef, ListOne, WorkClass

pytestmark = pytest.mark.row("J1")

Tree = dict[str, "Tree | Problem | None"]

DENIED = Problem("SOURCE_PERMISSION_DENIED", "Permission denied.", "user")
LOST = Problem("SOURCE_UNREACHABLE", "The site does not answer.", "source_site", retryable=True)
OVER = Problem("SOURCE_SESSION_EXPIRED", "The sign-in has expired.", "user")


class TreeEngine:
    """An engine that lists a tree: a dictionary is a directory, a problem one that cannot be listed, None a file."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.listed: list[str] = []
        self.dead = False
        self.output = ""

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        assert isinstance(task, ListDirectory)
        assert deadline > time.monotonic()
        if self.dead:
            raise EngineDied("cancelled")
        self.listed.append(task.path)
        here: Tree | Problem | None = self._tree
        for part in task.path.split("/"):
            if part:
                assert isinstance(here, dict), f"{task.path} is no directory"
                here = here[part]
        if isinstance(here, Problem):
            raise EngineTaskFailed(here)
        assert isinstance(here, dict), f"{task.path} is no directory"
        yield EntryBatch(tuple(Pair(self._entry(name, here[name])) for name in sorted(here)))

    def _entry(self, name: str, there: Tree | Problem | None) -> Entry:
        if name.startswith("link"):
            return Entry(name, "symlink", target="/")
        return Entry(name, "file" if there is None else "directory")

    async def extend(self, deadline: float) -> None: ...

    async def halt(self) -> None: ...

    async def kill(self, cause: DeathCause) -> None:
        self.dead = True


def attempt_at(work: ListOne) -> Attempt:
    lease = Lease(
        LeaseRef("jobs/1/tasks/2", 1), time.monotonic() + 60, "token", WorkClass.INTERACTIVE, "users/1", "sites/a",
        "sites/a", 1, work,
    )  # fmt: skip
    return Attempt(lease)


async def listed(tree: Tree, depth: int, most: int = 1000) -> tuple[list[Entry], FakeQueue, TreeEngine]:
    work, queue, engine = ListOne("/", depth), FakeQueue(), TreeEngine(tree)
    await list_for_caller(attempt_at(work), engine, work, queue, most)
    return [entry for found in queue.reported for entry in found.entries], queue, engine


TREE: Tree = {"a": {"z": None, "b": {"deep": {"deeper": None}}}, "a.txt": None, "c": {}, "d": {"e": None}}


async def test_entries_of_a_directory_come_together_and_then_what_its_directories_hold() -> None:
    entries, _, _ = await listed(TREE, 32)
    assert [entry.name for entry in entries] == [
        "a", "a.txt", "c", "d", "a/b", "a/z", "a/b/deep", "a/b/deep/deeper", "d/e",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "listed_paths"),
    [(1, ["/"]), (2, ["/", "/a", "/c", "/d"]), (3, ["/", "/a", "/a/b", "/c", "/d"])],
)
async def test_it_goes_as_many_levels_down_as_asked_and_no_further(depth: int, listed_paths: list[str]) -> None:
    entries, queue, engine = await listed(TREE, depth)
    assert engine.listed == listed_paths
    assert {entry.name.count("/") for entry in entries} == set(range(depth))
    assert {found.listed_depth for found in queue.reported} == {depth}


async def test_links_are_told_and_never_listed() -> None:
    entries, _, engine = await listed({"a": {"link-up": {}}, "link": {"below": None}}, 32)
    assert [(entry.name, entry.kind) for entry in entries] == [
        ("a", "directory"), ("link", "symlink"), ("a/link-up", "symlink"),
    ]  # fmt: skip
    assert engine.listed == ["/", "/a"]


async def test_a_directory_that_cannot_be_listed_says_why_and_the_rest_goes_on() -> None:
    """However many there are: they say nothing of the site."""
    closed: Tree = {f"closed-{number}": DENIED for number in range(MOST_IN_A_ROW + 1)}
    entries, _, _ = await listed({"a": {"b": None}, **closed, "d": {"e": None}}, 2)
    names = [entry.name for entry in entries]
    assert names == ["a", *closed, "d", "a/b", *closed, "d/e"]
    assert {entry.name: entry.problem for entry in entries if entry.problem} == dict.fromkeys(closed, DENIED)
    assert all(entry.kind == "directory" for entry in entries if entry.problem)


async def test_a_site_that_answers_no_more_ends_the_listing() -> None:
    tree: Tree = {f"{number:02}": LOST for number in range(20)}
    work, queue, engine = ListOne("/", 2), FakeQueue(), TreeEngine(tree)
    with pytest.raises(EngineTaskFailed) as failed:
        await list_for_caller(attempt_at(work), engine, work, queue)
    assert failed.value.problem == LOST
    assert len(engine.listed) == 1 + MOST_IN_A_ROW
    told = [entry.name for found in queue.reported for entry in found.entries]
    assert told[:20] == list(tree)


async def test_one_lost_answer_does_not_end_it() -> None:
    tree: Tree = {"a": LOST, "b": {}, "c": LOST, "d": LOST, "e": {"f": None}}
    entries, _, _ = await listed(tree, 2)
    assert [entry.name for entry in entries if entry.problem == LOST] == ["a", "c", "d"]
    assert entries[-1].name == "e/f"


async def test_an_expired_sign_in_ends_it_at_once() -> None:
    work, queue, engine = ListOne("/", 2), FakeQueue(), TreeEngine({"a": OVER, "b": {}})
    with pytest.raises(EngineTaskFailed):
        await list_for_caller(attempt_at(work), engine, work, queue)
    assert engine.listed == ["/", "/a"]


async def test_a_root_that_cannot_be_listed_fails_as_ever() -> None:
    work = ListOne("/gone", 5)
    with pytest.raises(EngineTaskFailed) as failed:
        await list_for_caller(attempt_at(work), TreeEngine({"gone": DENIED}), work, FakeQueue())
    assert failed.value.problem == DENIED


async def test_too_many_entries_end_it_and_what_was_found_stays_told() -> None:
    tree: Tree = {"a": dict.fromkeys(("b", "c", "d")), "e": {}}
    work, queue = ListOne("/", 2), FakeQueue()
    with pytest.raises(WalkFailed) as failed:
        await list_for_caller(attempt_at(work), TreeEngine(tree), work, queue, 4)
    assert failed.value.problem.reason == "LISTING_TOO_LONG"
    assert "depth" in failed.value.problem.help
    assert [entry.name for found in queue.reported for entry in found.entries] == ["a", "e", "a/b", "a/c"]
    whole, _, _ = await listed(tree, 2, 5)
    assert len(whole) == 5


async def test_a_directory_alone_may_have_any_number_of_entries() -> None:
    entries, _, _ = await listed(dict.fromkeys("abcdef"), 1, 3)
    assert len(entries) == 6


async def test_a_stop_comes_before_the_next_directory() -> None:
    work, engine = ListOne("/", 2), TreeEngine({"a": {}, "b": {}})
    attempt = attempt_at(work)

    class Stopping(FakeQueue):
        async def report(self, ref: LeaseRef, batches: object) -> None:
            await attempt.stop("CALLER_GONE")

    with pytest.raises(EngineDied):
        await list_for_caller(attempt, engine, work, Stopping())
    assert engine.listed == ["/"]


async def test_names_that_stand_for_other_places_are_told_and_not_gone_into() -> None:
    class Sly(TreeEngine):
        def _entry(self, name: str, there: Tree | Problem | None) -> Entry:
            return Entry("../b" if name == "x" else "..", "directory")

    work, queue, engine = ListOne("/", 3), FakeQueue(), Sly({"x": {}, "y": {}})
    await list_for_caller(attempt_at(work), engine, work, queue)
    assert engine.listed == ["/"]
    assert [entry.kind for found in queue.reported for entry in found.entries] == ["unlistable", "unlistable"]


def _trees() -> st.SearchStrategy[Tree]:
    names = st.sampled_from(["a", "b", "a.b", "é", "\udcff", "Z", "-"])
    files: st.SearchStrategy[Tree] = st.dictionaries(names, st.none(), max_size=3)
    return st.recursive(files, lambda below: st.dictionaries(names, st.none() | below, max_size=4), max_leaves=20)


def _expected(tree: Tree, depth: int, below: str = "") -> Iterator[str]:
    for name in sorted(tree):
        yield below + name
    for name in sorted(tree):
        there = tree[name]
        if isinstance(there, dict) and depth > 1:
            yield from _expected(there, depth - 1, f"{below}{name}/")


@given(_trees(), st.integers(1, 5))
async def test_any_tree_is_told_whole_and_in_order_in_batches_that_join(tree: Tree, depth: int) -> None:
    entries, queue, _ = await listed(tree, depth)
    assert [entry.name for entry in entries] == list(_expected(tree, depth))
    _joined(queue.reported)


async def test_batches_of_long_names_fit_into_a_message() -> None:
    long = "\udcff" * 250
    tree: Tree = {}
    for _ in range(10):
        tree = {long: tree}
    tree[long] = {long: {long: {f"{number:04}{long[:240]}": None for number in range(1500)}}}
    _, queue, _ = await listed(tree, 32, 10_000)
    ref = LeaseRef("jobs/1/tasks/2", 1)
    assert all(found_message(ref, found).ByteSize() < 1 << 20 for found in queue.reported)
    assert any(found_message(ref, found).ByteSize() > BATCH_BYTES // 2 for found in queue.reported)
    _joined(queue.reported)


def _joined(batches: list[Found]) -> None:
    """The queue drops what does not go on behind what is durable."""
    cursor = ""
    for found in batches:
        assert found.after == cursor
        assert found.cursor > cursor
        cursor = found.cursor
