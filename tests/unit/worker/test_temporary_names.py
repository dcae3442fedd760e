"""The names under which unfinished files stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_worker.engine.temporary import (
    MOST_AGAIN,
    TemporaryName,
    aside_name,
    is_stale,
    is_temporary,
    parse,
    tag_of,
    temporary_name,
)

TAG = tag_of("jobs/0f3a/tasks/7")
INDEXES = st.integers(0, 999)
AGAIN = st.integers(0, 3 * MOST_AGAIN)


@pytest.mark.row("D2")
@given(INDEXES, AGAIN, st.integers(1, 1 << 62))
def test_however_often_a_file_is_begun_anew_its_temporary_is_known_for_one(index: int, again: int, fence: int) -> None:
    name = temporary_name(TAG, fence, index, again)
    assert is_temporary(name)
    assert is_stale(name, TAG, fence)
    assert not is_stale(name, TAG, fence - 1)
    assert len(name) < 255


@pytest.mark.row("B9")
@given(INDEXES, AGAIN, st.integers(1, 1 << 62))
def test_a_temporary_says_of_which_file_it_is_and_of_which_beginning(index: int, again: int, fence: int) -> None:
    assert parse(temporary_name(TAG, fence, index, again)) == TemporaryName(TAG, fence, index, again, aside=False)


@pytest.mark.row("B9")
def test_what_an_engine_before_has_begun_is_before_and_what_this_one_begins_is_not() -> None:
    def is_before(again: int, fence: int, engines_before: int) -> bool:
        name = parse(temporary_name(TAG, 3, 5, again))
        return name is not None and name.is_before(TAG, fence, engines_before)

    assert is_before(again=7, fence=4, engines_before=0)
    assert is_before(again=MOST_AGAIN - 1, fence=3, engines_before=1)
    assert not is_before(again=MOST_AGAIN, fence=3, engines_before=1)
    assert not is_before(again=0, fence=3, engines_before=0)
    assert not is_before(again=0, fence=2, engines_before=5)


@given(INDEXES, AGAIN, INDEXES, AGAIN)
def test_no_two_beginnings_have_a_name_in_common(index: int, again: int, other: int, other_again: int) -> None:
    same = temporary_name(TAG, 1, index, again) == temporary_name(TAG, 1, other, other_again)
    assert same == ((index, again) == (other, other_again))


def test_one_engine_never_comes_to_the_names_of_the_next() -> None:
    """Each file of a chunk may have those behind it begun anew, and three losses may lie between two that end."""
    assert MOST_AGAIN > 1000 * 4


def test_what_was_set_aside_is_never_stale() -> None:
    assert is_temporary(aside_name(TAG, 1, 5))
    assert not is_stale(aside_name(TAG, 1, 5), TAG, 9)


@pytest.mark.parametrize(
    "name", [".wherry-", ".wherry-notes", ".wherry-a-b-c", ".wherry-job.1-1-0.txt", "wherry-a-1-1"]
)
def test_a_name_that_only_begins_so_is_somebodys_own(name: str) -> None:
    assert not is_temporary(name)
