"""What may happen to a queue in a stateful test, and the things that it happens with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from hypothesis import strategies as st
from wherry_queue.jobs import Found
from wherry_queue.models import Base
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import Hold, TaskKind
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limits import Defaults
from wherry_testing.queue_cases import files

T = TypeVar("T", bound=Callable[..., Any])

USERS = ("users/a", "users/b")
SITES = ("sites/a", "sites/b")
LINKS = (("sites/a", "sites/b"), ("sites/b", "sites/a"), ("sites/a", "sites/a"))
THUMBPRINTS = ("w1", "w2")
DEFAULTS = Defaults(link=4)
HOUR_MS = 3_600_000
SHORT_MS = 40_000
"""Less than is needed to begin anything, and longer than an example takes."""
FILES = 3
"""In each chunk; of 10 bytes each."""
BATCHES = (b"a", b"b", b"c")
"""The cursors of a walk: so many batches does each directory give."""
DIRECTORY_BLOCKED = "DESTINATION_NOT_A_DIRECTORY"
LARGE = 10_000_000_000
"""Bytes: where it is slow, a chunk of such files does not end within any session here."""
BANS = (Hold.USER_BANNED, Hold.SOURCE_BANNED, Hold.DESTINATION_BANNED)


SUBMISSION: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from(USERS),
    "link": st.sampled_from(LINKS),
    "kind": st.sampled_from(
        ["walk", "sync", "sync", "dry run", "chunks", "chunks", "removal", "modes", "directory", "listing"]
    ),
    "count": st.integers(1, 4),
    "priority": st.sampled_from([0, 5, 9]),
    "unresolved": st.sampled_from([False, False, False, True]),
}


@dataclass
class Holding:
    """A lease as its worker has it, who may have lost it without knowing."""

    task: LeasedTask
    thumbprint: str
    replica: int
    cursor: bytes

    @property
    def ref(self) -> tuple[int, int]:
        """The task and its fence."""
        return self.task.task_id, self.task.fence


def _in_the_way(task: LeasedTask) -> FailedEntry:
    """Returns what a walk leaves out, since something stands in its place: a file, or a directory."""
    reason = "DESTINATION_EXISTS" if task.job_id % 4 == 1 else DIRECTORY_BLOCKED
    return FailedEntry(0, task.source_path + b"/left-out", 10, Failure(reason, "something is in the way"))


def _link(task: LeasedTask) -> FailedEntry:
    """Returns what a walk skips."""
    return FailedEntry(0, task.source_path + b"/link", 0, Failure("SYMLINK_SKIPPED", "links are left out"))


def file_size(task: LeasedTask) -> int:
    """Returns the size of each file of a chunk."""
    return task.total_bytes // max(task.entry_count, 1)


def batch(holding: Holding, after: bytes) -> Found:
    """Returns what a walk's directory has behind a cursor: the same for whoever lists it, whenever."""
    task = holding.task
    place = 0 if not after else BATCHES.index(after) + 1
    top = task.source_path.count(b"/") == 1
    copying = task.kind is TaskKind.WALK_COPY
    left_out = task.job_id % 2 and place == 1 and copying and not task.source_path.endswith(b"/left-out")
    unchanged = place if copying and task.job_id % 3 else 0
    # Reported whether it was asked for or not: a queue that has not asked must not care.
    extraneous = copying and place == 1 and top
    return Found(
        task.task_id,
        task.fence,
        after,
        BATCHES[place],
        holding.thumbprint,
        chunks=[files(FILES)] * ((task.job_id + place) % 3),
        directories=[b"sub"] if top and place == 0 and not task.extraneous else [],
        failures=[_in_the_way(task)] if left_out else [],
        remove_directory=not copying and place == len(BATCHES) - 1,
        directories_done=1 if copying else 0,
        skipped=[_link(task)] if copying and place == 2 else [],
        files_unchanged=unchanged,
        bytes_unchanged=unchanged * 7,
        extraneous_chunks=[files(FILES)] if extraneous else [],
        extraneous_directories=[b"old"] if extraneous else [],
    )


_ACTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {}
OFTEN: list[str] = []


def act(weight: int, **values: st.SearchStrategy[Any]) -> Callable[[T], T]:
    """Makes a method something that may happen, so much more often than others.

    They are not rules of their own: of many, hypothesis leaves out most in each example, and without somebody who
    leases there is nothing to see.
    """

    def note(method: T) -> T:
        _ACTS[method.__name__] = values
        OFTEN.extend([method.__name__] * weight)
        return method

    return note


def call_of(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(_ACTS[name]))


def pack(some: Sequence[tuple[bytes, bytes, int]]) -> bytes:
    return b"%d files" % len(some)


def clear(connection: Any) -> None:
    tables = reversed(Base.metadata.sorted_tables)
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in tables)
        connection.execute(sa.text(f"truncate {names} restart identity"))
        return
    for table in tables:
        connection.execute(sa.delete(table))
