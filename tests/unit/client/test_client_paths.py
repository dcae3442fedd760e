"""`site:path` arguments and how names are shown."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_client.errors import UsageError
from wherry_client.names import show_name, show_text
from wherry_client.paths import RemotePath, of_location, parse

LATER_OF_C3 = "globs"

NAMES = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda raw: b"\0" not in raw and b"/" not in raw)
    .filter(lambda raw: raw not in (b".", b".."))
)


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("argument", "site", "raw", "must_be_directory"),
    [
        ("site-a:", "site-a", b"", False),
        ("site-a:.", "site-a", b"", True),
        ("site-a:/", "site-a", b"/", True),
        ("site-a:dir/file", "site-a", b"dir/file", False),
        ("site-a:dir//./file/", "site-a", b"dir/file", True),
        ("site-a:/a:b:c", "site-a", b"/a:b:c", False),
        ("a:-x #%'\" ü", "a", "-x #%'\" ü".encode(), False),
        ("a:C:\\x", "a", b"C:\\x", False),
        ("a:~/x", "a", b"~/x", False),
    ],
)
def test_an_argument_is_a_site_and_a_path(argument: str, site: str, raw: bytes, must_be_directory: bool) -> None:
    assert parse(argument) == RemotePath(site, raw, must_be_directory)


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    "argument", ["dir/file", "Site:x", "-a:x", "a_b:x", ":x", "", "a:../x", "a:x/..", "a:" + "x" * 16385]
)
def test_what_is_no_place_is_refused(argument: str) -> None:
    with pytest.raises(UsageError):
        parse(argument)


@pytest.mark.row("D7")
@given(st.lists(NAMES, min_size=1, max_size=4), st.booleans())
def test_any_names_survive_the_way_from_argument_to_message_and_back(parts: list[bytes], absolute: bool) -> None:
    raw = (b"/" if absolute else b"") + b"/".join(parts)
    place = parse(os.fsdecode(b"site-a:" + raw))
    assert place.raw == raw
    assert place.name == parts[-1]
    location = place.location()
    assert of_location(location) == RemotePath("site-a", raw)
    assert bool(location.raw_path) == (not _is_utf8(raw))


@pytest.mark.row("C3", missing=LATER_OF_C3)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_two_names_are_shown_alike_and_none_moves_the_cursor(one: bytes, other: bytes) -> None:
    assert (show_name(one) == show_name(other)) == (one == other)
    shown = show_name(one)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_texts_of_services_cannot_forge_lines_or_turn_words_around() -> None:
    assert show_text("a\nerror: \x1b[2J\u202egnp.exe\u009b") == "a\\nerror: \\x1b[2J\\u202egnp.exe\\x9b"
    assert show_text("Universität C:\\dir") == "Universität C:\\dir"


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_an_entry_of_a_directory_lies_below_it() -> None:
    assert parse("a:").child(b"x").raw == b"x"
    assert parse("a:/").child(b"x").raw == b"/x"
    assert parse("a:d/").child(b"x").raw == b"d/x"


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
