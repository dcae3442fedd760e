"""Which exact path each source of a cp or mv gets."""

from __future__ import annotations

import pytest
from wherry_client.copying import MAX_ITEMS, plan_copy, plan_rename
from wherry_client.errors import UsageError
from wherry_client.files import PathKind
from wherry_client.paths import RemotePath, parse

LATER_OF_C3 = "globs"
THERE = {
    "a:": PathKind.DIRECTORY,
    "b:": PathKind.DIRECTORY,
    "b:/": PathKind.DIRECTORY,
    "b:dir": PathKind.DIRECTORY,
    "b:file": PathKind.FILE,
    "a:dir": PathKind.DIRECTORY,
    "a:file": PathKind.FILE,
}


def kind_of(place: RemotePath) -> PathKind:
    return THERE.get(str(place), PathKind.MISSING)


def plan(*arguments: str, recursive: bool = False) -> list[str]:
    *sources, destination = [parse(argument) for argument in arguments]
    return [str(target) for _, target in plan_copy(sources, destination, kind_of, recursive=recursive)]


@pytest.mark.row("J6")
@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        (("a:file", "b:dir"), ["b:dir/file"]),
        (("a:file", "b:dir/"), ["b:dir/file"]),
        (("a:file", "b:"), ["b:file"]),
        (("a:file", "b:/"), ["b:/file"]),
        (("a:x/y/file", "b:dir"), ["b:dir/file"]),
        (("a:file", "b:new"), ["b:new"]),
        (("a:file", "b:file"), ["b:file"]),
        (("a:one", "a:two", "b:dir"), ["b:dir/one", "b:dir/two"]),
        (("-r", "a:dir", "b:dir"), ["b:dir/dir"]),
        (("-r", "a:dir/", "b:dir"), ["b:dir/dir"]),
        (("-r", "a:dir", "b:new"), ["b:new"]),
        (("-r", "a:dir", "b:new/"), ["b:new"]),
        (("-r", "a:", "b:dir"), ["b:dir"]),
        (("-r", "a:", "b:new"), ["b:new"]),
        (("-r", "a:/", "b:"), ["b:"]),
    ],
)
def test_sources_go_where_cp_would_put_them(arguments: tuple[str, ...], targets: list[str]) -> None:
    recursive = arguments[0] == "-r"
    assert plan(*arguments[recursive:], recursive=recursive) == targets


@pytest.mark.row("J6")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("a:one", "a:two", "b:new"), "no such directory"),
        (("a:one", "a:two", "b:file"), "no such directory"),
        (("a:file", "b:new/"), "no such directory"),
        (("-r", "a:file", "b:new/"), "no such directory"),
        (("-r", "a:dir", "b:file/"), "no such directory"),
        (("a:one", "b:two", "b:dir"), "same site"),
        (("a:", "b:dir"), "-r"),
        (("a:x/one", "a:y/one", "b:dir"), "would both become"),
        (("b:file", "b:file"), "are the same"),
        (("-r", "b:dir", "b:dir/deep"), "into itself"),
        (("-r", "b:dir", "b:dir"), "into itself"),
        (("-r", "b:", "b:dir"), "into itself"),
        (("-r", "b:/", "b:/x"), "into itself"),
    ],
)
def test_what_cp_would_refuse_is_refused_before_anything_is_asked_for(
    arguments: tuple[str, ...], complaint: str
) -> None:
    recursive = arguments[0] == "-r"
    with pytest.raises(UsageError) as caught:
        plan(*arguments[recursive:], recursive=recursive)
    assert complaint in f"{caught.value.message} {caught.value.advice}"


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_name_that_only_begins_alike_is_not_inside() -> None:
    assert plan("b:dir", "b:dir2", recursive=True) == ["b:dir2"]
    assert plan("b:", "b:/elsewhere", recursive=True) == ["b:/elsewhere"]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_more_sources_than_a_job_takes_are_refused() -> None:
    with pytest.raises(UsageError, match="at most"):
        plan(*(f"a:{number}" for number in range(MAX_ITEMS + 1)), "b:dir")


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("source", "destination", "target"),
    [("b:file", "b:dir", "b:dir/file"), ("b:file", "b:new", "b:new"), ("b:dir", "b:new/", "b:new")],
)
def test_mv_puts_into_a_directory_that_is_there(source: str, destination: str, target: str) -> None:
    assert str(plan_rename(parse(source), parse(destination), kind_of)) == target


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("source", "destination"), [("a:file", "b:x"), ("b:", "b:x"), ("b:file", "b:new/"), ("b:file", "b:file")]
)
def test_mv_refuses_what_cannot_be(source: str, destination: str) -> None:
    with pytest.raises(UsageError):
        plan_rename(parse(source), parse(destination), kind_of)
