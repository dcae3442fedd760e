"""Users' paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_chassis.errors import InvalidFields
from wherry_queue.jobs import copy_tasks, remove_tasks, rename_tasks
from wherry_queue.paths import absolute, as_known, join, within

NAMES = st.binary(min_size=1, max_size=20).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b".."))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b"/home/u"),
        (b"a b", b"/home/u/a b"),
        (b"/x//y/", b"/x/y"),
        (b"-rf", b"/home/u/-rf"),
        (b"\xff\xfe", b"/home/u/\xff\xfe"),
        (b"a%20#?", b"/home/u/a%20#?"),
    ],
)
@pytest.mark.row("D7")
def test_paths_become_absolute_and_keep_every_byte(path: bytes, expected: bytes) -> None:
    assert absolute(path, b"/home/u", "path") == expected


@pytest.mark.parametrize("path", [b"..", b"a/../b", b"./a", b"/a/.", b"a\0b"])
def test_what_depends_on_links_or_ends_a_string_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidFields) as refused:
        absolute(path, b"/", "job.x.path")
    assert refused.value.field_problems[0].field == "job.x.path"
    with pytest.raises(InvalidFields):
        as_known(path, "job.x.path")


@pytest.mark.row("D7")
@given(st.booleans(), st.lists(NAMES, max_size=6), st.sampled_from([b"/", b"/home/u"]))
def test_a_path_whose_beginning_is_told_later_becomes_what_it_would_have_been(
    rooted: bool, names: list[bytes], default_path: bytes
) -> None:
    path = (b"/" if rooted else b"") + b"/".join(names) + b"/" * bool(names)
    known = as_known(path, "path")
    assert known.startswith(b"/") is rooted
    assert absolute(known, default_path, "path") == absolute(path, default_path, "path")


@pytest.mark.row("D7")
@given(st.lists(NAMES, max_size=6))
def test_a_path_that_is_absolute_stays_as_it_is(names: list[bytes]) -> None:
    path = b"/" + b"/".join(names)
    assert absolute(path, b"/other", "path") == path


@given(NAMES, NAMES)
def test_a_joined_path_lies_within_its_directory(directory: bytes, name: bytes) -> None:
    assert within(join(b"/" + directory, name), b"/" + directory)
    assert not within(b"/" + directory + name, b"/" + directory)
    assert join(b"", name) == name


def test_a_directory_is_not_copied_or_moved_into_itself() -> None:
    with pytest.raises(InvalidFields):
        copy_tasks([(b"/a", b"/a/b")], same_site=True)
    with pytest.raises(InvalidFields):
        rename_tasks(b"/a", b"/a/b")
    assert copy_tasks([(b"/a", b"/a/b")], same_site=False)


@pytest.mark.row("J8")
@pytest.mark.parametrize(
    ("items", "same_site", "field"),
    [
        ([(b"/a", b"/x"), (b"/b", b"/x")], False, "items[1].destination"),
        ([(b"/a", b"/x"), (b"/b", b"/x/y/z")], False, "items[1].destination"),
        ([(b"/b", b"/x/y"), (b"/a", b"/x")], False, "items[0].destination"),
        ([(b"a", b"x"), (b"b", b"x/y")], False, "items[1].destination"),
        ([(b"/a", b"/x"), (b"/b", b"/")], False, "items[0].destination"),
        ([(b"/x/sub", b"/x")], True, "items[0].source"),
        ([(b"/sub", b"/")], True, "items[0].source"),
        ([(b"/a", b"/b"), (b"/b", b"/c")], True, "items[1].source"),
    ],
)
def test_where_extras_are_removed_nothing_that_is_copied_may_look_like_one(
    items: list[tuple[bytes, bytes]], same_site: bool, field: str
) -> None:
    assert copy_tasks(items, same_site=same_site)
    with pytest.raises(InvalidFields) as refused:
        copy_tasks(items, same_site=same_site, deletes=True)
    assert [problem.field for problem in refused.value.field_problems] == [f"job.copy.{field}.path"]


@pytest.mark.row("J8")
def test_extras_of_destinations_that_lie_apart_may_be_removed() -> None:
    items = [(b"/a", b"/x/a"), (b"/b", b"/x/ab"), (b"/x/sub", b"/y")]
    assert len(copy_tasks(items, same_site=True, deletes=True)) == 3
    assert copy_tasks([(b"/x/sub", b"/x")], same_site=False, deletes=True), "these are two file systems"


def test_the_root_is_not_removed() -> None:
    with pytest.raises(InvalidFields):
        remove_tasks([b"/"])
