"""Which entries a copy takes, by patterns on names and paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcmatch import glob
from wherry_worker.filtering import EVERYTHING, Filters

J10 = pytest.mark.row("J10")


@J10
@pytest.mark.parametrize(
    ("pattern", "below", "name", "holds"),
    [
        ("*.dat", "", "x.dat", True),
        ("*.dat", "deep/down", "x.dat", True),
        ("*.dat", "", "x.data", False),
        ("*.dat", "", ".dat", True),
        ("run?", "", "run7", True),
        ("run[0-3]", "", "run7", False),
        ("run[!0-3]", "", "run7", True),
        ("a/b", "a", "b", True),
        ("a/b", "x/a", "b", False),
        ("/a/b", "a", "b", True),
        ("a/*", "a", "b", True),
        ("a/*", "a/b", "c", False),
        ("**/b", "", "b", True),
        ("**/b", "x/y", "b", True),
        ("a/**", "a/b", "c", True),
        ("a/**/z", "a", "z", True),
        ("a/**", "", "a", False),
        ("**/", "x", "y", True),
        ("**/x/**/z", "a/x/b/c", "z", True),
        ("**/x/**/z", "a/y/b/c", "z", False),
        ("DATA", "", "data", False),
        ("!x", "", "!x", True),
        ("-x", "", "-x", True),
        ("{a,b}", "", "a", False),
        ("*.dat", "", "line\nbreak.dat", True),
        ("*.dat", "", "\udcff.dat", True),
    ],
)
def test_a_pattern_means_what_it_is_said_to_mean(pattern: str, below: str, name: str, *, holds: bool) -> None:
    assert Filters(include=(pattern,)).takes_file(below, name) is holds
    assert Filters(exclude=(pattern,)).excludes(below, name) is holds


@J10
def test_what_is_excluded_is_not_taken_though_it_is_included() -> None:
    filters = Filters(include=("*.dat",), exclude=("tmp*",))
    assert filters.takes_file("", "a.dat")
    assert not filters.takes_file("", "tmp.dat")
    assert not filters.excludes("", "a.txt"), "directories are walked whatever is included"


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_without_patterns_everything_is_taken(below: str, name: str) -> None:
    assert EVERYTHING.takes_file(below, name)
    assert not EVERYTHING.excludes(below, name)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_no_pattern_is_an_error(pattern: str, name: str) -> None:
    assert Filters(include=(pattern,)).takes_file("", name) in (True, False)


PARTS = st.lists(st.sampled_from(["a", "b", "ab", ".a"]), min_size=1, max_size=5)
PATTERN_PARTS = st.lists(st.sampled_from(["a", "*", "?", "**", "a*", "[!a]*", ".*"]), min_size=2, max_size=5)


@J10
@given(PATTERN_PARTS, PARTS)
def test_a_pattern_on_paths_means_what_it_means_elsewhere(pattern: list[str], path: list[str]) -> None:
    expected = glob.globmatch("/".join(path), "/".join(pattern), flags=glob.GLOBSTAR | glob.DOTGLOB | glob.CASE)
    assert Filters(include=("/".join(pattern),)).takes_file("/".join(path[:-1]), path[-1]) is expected


@J10
def test_no_pattern_holds_up_everybody_else() -> None:
    """As one expression this takes longer than anybody waits: all ways to lay sixteen `**` over the path are tried."""
    deep = "/".join(["a"] * 300)
    assert not Filters(exclude=("**/a/" * 16 + "b",)).excludes(deep, "a")
    assert not Filters(exclude=("*a" * 16 + "b",)).excludes("", "a" * 255)
