"""Counting failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_user.throttle import Limit, Tally, account_key, address_key, counted

LIMIT = Limit(3, 1000)


def test_the_window_begins_with_the_first_and_ends_by_itself() -> None:
    tally, wait_ms = counted(None, LIMIT, 50)
    assert (tally, wait_ms) == (Tally(50, 1), 0)
    for expected in (2, 3):
        tally, wait_ms = counted(tally, LIMIT, 60)
        assert (tally.count, wait_ms) == (expected, 0)
    assert counted(tally, LIMIT, 60) == (tally, 990)
    assert counted(tally, LIMIT, 1049) == (tally, 1)
    assert counted(tally, LIMIT, 1050) == (Tally(1050, 1), 0)


@given(st.lists(st.integers(0, 5000), max_size=60))
def test_never_more_than_the_limit_goes_through_in_a_window(times_ms: list[int]) -> None:
    tally, through = None, []
    for now_ms in sorted(times_ms):
        tally, wait_ms = counted(tally, LIMIT, now_ms)
        if wait_ms == 0:
            through.append((tally.window_start_ms, now_ms))
    for start_ms in {start for start, _ in through}:
        assert sum(start == start_ms for start, _ in through) <= LIMIT.count
        assert all(now_ms - start_ms < LIMIT.window_ms for start, now_ms in through if start == start_ms)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
    ],
)
def test_addresses_of_one_host_count_together(one: str, other: str) -> None:
    assert address_key(one) == address_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:2::1", "2001:db8:1:3::1"), ("unix:", "192.0.2.1")],
)
def test_addresses_of_different_hosts_count_apart(one: str, other: str) -> None:
    assert address_key(one) != address_key(other)


def test_keys_do_not_show_what_was_typed_and_fit_the_column() -> None:
    assert "hunter2" not in account_key("hunter2")
    assert len(account_key("x" * 1000)) <= 100
    assert len(address_key("x" * 1000)) <= 100
