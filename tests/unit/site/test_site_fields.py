"""Which values of a site are fit."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_site.directory import default_path
from wherry_site.sites import (
    CHANGEABLE_SITE_FIELDS,
    DATA_CHANNELS,
    Endpoint,
    HostPort,
    draft_problems,
    duplicate_doors,
    fields_to_change,
    is_site_id,
    parse_address,
    path_fault,
    title_fault,
    title_key,
)
from wherry_testing.site_store import a_session, a_site

S3 = pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")


@S3
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("myproxy.example.org:7512", HostPort("myproxy.example.org", 7512)),
        ("a_b.example.:1", HostPort("a_b.example.", 1)),
        ("192.0.2.1:65535", HostPort("192.0.2.1", 65535)),
        ("[2001:db8::1]:7512", HostPort("2001:db8::1", 7512)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: HostPort) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@S3
@pytest.mark.parametrize(
    "text",
    [
        "", ":", "host", "host:", ":7512", "host:0", "host:65536", "host:99999", "host:-1", "host:+1", "host:７５１２",
        "ho st:1", "host\n:1", "host:1\n", "user@host:1", "http://host:1", "host/x:1", "-host:1", "a..b:1", "[host]:1",
        "2001:db8::1:7512", "x" * 64 + ":1", "é.example:1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|host|port"):
        parse_address(text)


@S3
@given(st.text(max_size=40))
def test_no_text_makes_reading_an_address_fail_otherwise(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_address(text).port > 0


@S3
@pytest.mark.parametrize("path", ["", "data", "a/b", "/a/../b", "/..", "/a\0b"])
def test_a_path_is_absolute_and_has_no_way_up(path: str) -> None:
    assert path_fault(path)


@S3
@pytest.mark.parametrize("path", ["/", "/data/{user}", "/a b/#/%41/é/..x/x..", "/-rf"])
def test_other_paths_are_fit(path: str) -> None:
    assert path_fault(path) is None


@S3
def test_a_demand_on_data_channels_is_one_of_those_that_there_are_or_none() -> None:
    draft = a_site().draft
    for channel in ("", *DATA_CHANNELS):
        assert draft_problems(dataclasses.replace(draft, data_channel=channel)) == []
    for channel in ("unknown", "CLEAR", " "):
        problems = draft_problems(dataclasses.replace(draft, data_channel=channel))
        assert [problem.field for problem in problems] == ["site.data_channel"]


@S3
@pytest.mark.parametrize("title", ["", "  ", "--", "a\u202eb", "a\u200bb", "a\nb", "\x7fa", "a\u00adb"])
def test_a_title_can_be_read_and_hides_nothing(title: str) -> None:
    assert title_fault(title)


@S3
def test_titles_that_people_take_for_the_same_are_the_same() -> None:
    same = ["University of A", "UNIVERSITY  OF  A", "university-of-a", "Ｕniversity of A", "University of A."]
    assert len({title_key(title) for title in same}) == 1
    assert title_key("University of B") != title_key("University of A")
    assert title_key("Universität") == title_key("UNIVERSITA\u0308T")


@S3
@pytest.mark.parametrize("text", ["", "A", "a_b", "-a", "a.b", "a" * 64, "a\n", "é"])
def test_an_id_has_lower_case_letters_digits_and_dashes(text: str) -> None:
    assert not is_site_id(text)
    assert is_site_id("0a-")


@S3
def test_doors_are_the_same_whatever_their_hosts_case_and_final_dot() -> None:
    doors = [
        Endpoint("1", "gsiftp", "A.example", 2811),
        Endpoint("2", "gsiftp", "a.EXAMPLE.", 2811, "/x"),
        Endpoint("3", "gsiftp", "a.example", 2812),
    ]
    assert duplicate_doors(doors) == [1]


@S3
def test_a_mask_says_what_changes() -> None:
    def change(mask: list[str], given: list[str]) -> set[str]:
        return set(fields_to_change(mask, given, CHANGEABLE_SITE_FIELDS))

    assert change(["title"], ["title", "public"]) == {"title"}
    assert change([], ["title", "name", "etag"]) == {"title"}
    assert change(["*"], []) == set(CHANGEABLE_SITE_FIELDS)
    for unknown in ("name", "owner", "etag", "endpoints", "x", "*.title"):
        with pytest.raises(ValueError, match="cannot change"):
            change(["title", unknown], [])


@pytest.mark.row("S2")
@pytest.mark.parametrize(
    ("username", "path"), [("alice", "/data/alice"), (None, "/data"), ("..", "/data"), ("a/../../etc", "/data")]
)
def test_a_default_path_can_have_the_accounts_name(username: str | None, path: str) -> None:
    session = None if username is None else dataclasses.replace(a_session().session, username=username)
    assert default_path(a_site(), session) == path
