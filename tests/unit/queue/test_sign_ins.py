"""Which tasks may start in what is left of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_queue.sign_ins import ANSWERED_REST_MS, LEAST_REST_MS, fits

NOW_MS = 1_700_000_000_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
W4 = pytest.mark.row("W4")


def starts(
    *, takes_ms: int = HOUR_MS, rest_ms: int | None = HOUR_MS, refused_rest_ms: int | None = None, rate: bool = True
) -> bool:
    """Asks about a task that takes so long in a session that lasts so long; both and its refusal from now on."""
    until_ms = None if rest_ms is None else NOW_MS + rest_ms
    refused_until_ms = 0 if refused_rest_ms is None else NOW_MS + refused_rest_ms
    return fits(takes_ms * 1_000_000, 1e9 if rate else None, until_ms, NOW_MS, refused_until_ms)


@W4
def test_a_task_starts_if_it_can_end_within_its_session() -> None:
    assert starts(takes_ms=HOUR_MS, rest_ms=HOUR_MS)
    assert not starts(takes_ms=HOUR_MS, rest_ms=HOUR_MS - 1)


@W4
@pytest.mark.parametrize("rate", [True, False])
def test_nothing_starts_in_the_last_minute_however_small(rate: bool) -> None:
    assert starts(takes_ms=0, rest_ms=LEAST_REST_MS, rate=rate)
    assert not starts(takes_ms=0, rest_ms=LEAST_REST_MS - 1, rate=rate)


@W4
def test_without_a_known_rate_the_least_rest_is_all_that_counts() -> None:
    assert starts(takes_ms=100 * HOUR_MS, rest_ms=LEAST_REST_MS, rate=False)
    assert fits(1 << 60, 0.0, NOW_MS + LEAST_REST_MS, NOW_MS, 0)


@W4
def test_where_nothing_is_known_of_a_session_it_is_tried() -> None:
    assert starts(rest_ms=None, takes_ms=100 * HOUR_MS)


@W4
def test_a_session_that_is_over_lets_nothing_start() -> None:
    assert not starts(rest_ms=0, takes_ms=0)
    assert not starts(rest_ms=-1, takes_ms=0, refused_rest_ms=HOUR_MS)
    assert not fits(0, None, 0, NOW_MS, 0)


@W4
def test_a_task_is_refused_once_for_each_end_of_a_session() -> None:
    assert not starts(takes_ms=HOUR_MS, rest_ms=5 * MINUTE_MS)
    assert starts(takes_ms=HOUR_MS, rest_ms=5 * MINUTE_MS, refused_rest_ms=5 * MINUTE_MS)
    assert starts(takes_ms=HOUR_MS, rest_ms=5 * MINUTE_MS, refused_rest_ms=6 * MINUTE_MS), "a renewal that shortened"


@W4
def test_a_user_who_answers_a_refusal_with_the_most_that_the_site_gives_need_not_do_so_again() -> None:
    assert starts(takes_ms=24 * HOUR_MS, rest_ms=HOUR_MS, refused_rest_ms=5 * MINUTE_MS)


@W4
def test_signing_in_again_at_one_of_two_sites_does_not_yet_make_it_start() -> None:
    """The earlier of the two ends is then the other site's, hardly later than the one that was refused."""
    assert not starts(takes_ms=HOUR_MS, rest_ms=8 * MINUTE_MS, refused_rest_ms=5 * MINUTE_MS)


@W4
def test_a_refusal_for_a_session_that_is_long_over_says_nothing_about_another() -> None:
    assert not starts(takes_ms=HOUR_MS, rest_ms=20 * MINUTE_MS, refused_rest_ms=-24 * HOUR_MS)


@W4
@given(
    st.integers(0, 1 << 60),
    st.one_of(st.none(), st.floats(0, 1e12)),
    st.integers(LEAST_REST_MS, 30 * 24 * HOUR_MS),
    st.integers(0, HOUR_MS),
)
def test_whatever_it_needs_it_starts_at_the_latest_at_the_second_sign_in(
    bytes_left: int, rate: float | None, life_ms: int, later_ms: int
) -> None:
    """A user who signs in again within the life of what was refused, for ten minutes or more, is sent off once."""
    until_ms = NOW_MS + life_ms
    if fits(bytes_left, rate, until_ms, NOW_MS, 0):
        return
    answered_ms = NOW_MS + min(later_ms, life_ms - 1)
    assert fits(bytes_left, rate, answered_ms + max(life_ms, ANSWERED_REST_MS), answered_ms, until_ms)


@W4
def test_a_rate_learnt_from_small_files_keeps_no_large_one_from_being_tried() -> None:
    assert fits(16_000_000, 200.0, NOW_MS + HOUR_MS, NOW_MS, 0)
