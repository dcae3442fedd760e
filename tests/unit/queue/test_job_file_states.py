"""How the files of a chunk stand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_queue.job_files import FileState, kinds_in, states_in
from wherry_queue.states import TaskState

pytestmark = pytest.mark.row("J3")


@dataclass
class Chunk:
    """What is kept of a chunk."""

    state: int
    entry_count: int
    settled: bytes | None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TaskState.READY, FileState.WAITING),
        (TaskState.BLOCKED, FileState.WAITING),
        (TaskState.DELAYED, FileState.WAITING),
        (TaskState.RUNNING, FileState.RUNNING),
        (TaskState.FAILED, FileState.FAILED),
        (TaskState.CANCELLED, FileState.CANCELLED),
        (TaskState.PLANNED, FileState.PLANNED),
    ],
)
def test_what_is_not_settled_stands_as_its_chunk_does(state: TaskState, expected: FileState) -> None:
    chunk = Chunk(state, 3, b"\x02")
    assert list(states_in(chunk, ())) == [expected, FileState.DONE, expected]
    assert list(states_in(Chunk(state, 2, None), ())) == [expected] * 2


def test_a_settled_file_is_done_unless_it_has_failed() -> None:
    assert list(states_in(Chunk(TaskState.FAILED, 2, b"\x03"), {1})) == [FileState.DONE, FileState.FAILED]


@given(st.sampled_from(TaskState), st.integers(0, 20), st.binary(max_size=3), st.sets(st.integers(-1, 22), max_size=8))
def test_the_kinds_of_states_in_a_chunk_are_those_of_its_files(
    state: TaskState, count: int, settled: bytes, failed: set[int]
) -> None:
    chunk = Chunk(state, count, settled)
    assert kinds_in(chunk, failed) == set(states_in(chunk, failed))
