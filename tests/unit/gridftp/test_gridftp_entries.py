"""Facts about files, and markers of transfers, as servers write them."""

from __future__ import annotations

import pytest
from wherry_gridftp.entries import Entry, entry_of, time_value
from wherry_gridftp.markers import MAX_RANGES, MAX_RESTART_BYTES, Markers, merged, restart_value
from wherry_gridftp.replies import Garbled, Reply

pytestmark = pytest.mark.row("D7")


def test_facts_of_a_file_are_read() -> None:
    line = b"Type=file;Modify=20260102030405;Size=12;Perm=awr;UNIX.mode=0640;UNIX.group=domain users; a b; c "
    assert entry_of(line) == Entry(name=b"a b; c ", kind="file", size_bytes=12, modify_time_s=1767323045, mode=0o640)
    assert time_value(1767323045) == b"20260102030405"


def test_a_time_may_have_a_fraction_which_is_left_out() -> None:
    assert entry_of(b"Type=file;Modify=20260102030405.678; x").modify_time_s == 1767323045


def test_names_of_facts_are_the_same_in_any_case() -> None:
    assert entry_of(b"TYPE=File;SIZE=3; x") == Entry(b"x", "file", 3)


@pytest.mark.parametrize(
    ("kind_fact", "kind", "itself"),
    [
        (b"dir", "directory", False),
        (b"cdir", "directory", True),
        (b"pdir", "directory", True),
        (b"OS.unix=chr-1/3", "other", False),
    ],
)
def test_kinds_are_told(kind_fact: bytes, kind: str, itself: bool) -> None:
    entry = entry_of(b"Type=" + kind_fact + b";Size=4096; x")
    assert (entry.kind, entry.itself, entry.size_bytes) == (kind, itself, 0)


def test_where_a_link_leads_is_told_as_it_is() -> None:
    assert entry_of(b"Type=file;UNIX.slink=/a%3B%20b%25; l").target == b"/a; b%"
    assert entry_of(b"Type=OS.unix=slink:; l").target == b""
    assert entry_of(b"Type=file; l").target is None


def test_a_name_without_facts_is_one_that_begins_with_a_space() -> None:
    assert entry_of(b" name") == Entry(b"name", "other")


@pytest.mark.parametrize("line", [b"", b" ", b"Type=file;Size=1;", b"Type=file; "])
def test_a_line_without_a_name_is_no_entry(line: bytes) -> None:
    with pytest.raises(Garbled):
        entry_of(line)


@pytest.mark.parametrize(
    "facts",
    [
        b"Size=" + b"9" * 5000,
        b"Size=-1",
        b"Size=0x10",
        b"UNIX.mode=0999",
        b"UNIX.mode=",
        b"Modify=20269999",
        b"Modify=20261301000000",
        b"Modify=20260132000000",
        b"Modify=20260101240000",
        b"Modify=20260101006000",
        b"Modify=00000101000000",
        b"Modify=2026010200000x",
    ],
)
def test_facts_that_make_no_sense_are_facts_that_are_not_told(facts: bytes) -> None:
    assert entry_of(b"Type=file;" + facts + b"; x") == Entry(b"x", "file")


# --- markers ---


def _range_marker(text: bytes) -> Reply:
    return Reply(111, (b"111 Range Marker " + text,))


def test_ranges_that_touch_become_one() -> None:
    markers = Markers()
    for text in (b"0-10", b"20-30", b"10-20,40-50"):
        assert markers.take(_range_marker(text))
    assert list(markers.ranges) == [(0, 30), (40, 50)]
    assert markers.bytes == 40
    assert not markers.take(_range_marker(b"0-30")), "nothing new"


def test_ranges_are_given_back_as_a_server_wants_them() -> None:
    assert restart_value(merged([(20, 30), (0, 10), (10, 12), (5, 5)])) == b"0-12,20-30"


def test_of_more_ranges_than_a_line_should_hold_the_first_are_given_back() -> None:
    value = restart_value((10**15 + 2 * n, 10**15 + 2 * n + 1) for n in range(10_000))
    assert MAX_RESTART_BYTES - 40 < len(value) <= MAX_RESTART_BYTES
    assert all(len(one) == 33 for one in value.split(b","))


def test_a_server_that_tells_ever_more_ranges_costs_no_more_memory() -> None:
    markers = Markers()
    for start in range(0, 20 * MAX_RANGES, MAX_RANGES):
        markers.take(_range_marker(b",".join(b"%d-%d" % (3 * n, 3 * n + 1) for n in range(start, start + MAX_RANGES))))
    assert len(markers.ranges) == MAX_RANGES


def test_a_server_with_ever_more_stripes_costs_no_more_memory() -> None:
    markers = Markers()
    told = [
        markers.take(Reply(112, (b"112-Perf Marker", b" Stripe Index: %d" % index, b" Stripe Bytes Transferred: 1")))
        for index in range(5000)
    ]
    assert sum(told) == markers.bytes < 2000


@pytest.mark.parametrize("text", [b"", b"x", b"5-3", b"-4", b"9" * 5000 + b"-" + b"9" * 5001])
def test_markers_that_make_no_sense_tell_nothing(text: bytes) -> None:
    markers = Markers()
    assert not markers.take(_range_marker(text))
    assert markers.bytes == 0


@pytest.mark.parametrize("count", [b"", b"x", b"-4", b"9" * 5000])
def test_counts_that_make_no_sense_tell_nothing(count: bytes) -> None:
    markers = Markers()
    assert not markers.take(Reply(112, (b"112-Perf Marker", b" Stripe Bytes Transferred: " + count, b"112 End.")))
    assert markers.bytes == 0
