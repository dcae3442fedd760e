"""How long a job still takes: an interval out of the rates of the last minutes, and nothing where nothing is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_queue.remaining import STALL_S, STEP_S, UNKNOWN, RateHistory, Rates, ends_of, remaining

pytestmark = [pytest.mark.row("J5"), pytest.mark.row("B6")]
COUNTS = st.integers(0, 1 << 62)
RATES = st.floats(0.0, 1e15)


@st.composite
def some_rates(draw: st.DrawFn) -> Rates:
    """Rates as a history gives them, or sums of several replicas'."""
    of_bytes = ends_of(draw(st.lists(RATES, max_size=30)))
    of_files = ends_of(draw(st.lists(RATES, max_size=30)))
    return Rates(*of_bytes, *of_files)


@given(files=COUNTS, size_bytes=COUNTS, rates=some_rates())
def test_an_interval_has_its_ends_in_order_and_neither_is_endless(files: int, size_bytes: int, rates: Rates) -> None:
    found = remaining(files, size_bytes, rates)
    if found is not None:
        assert 0.0 <= found.least_s <= found.most_s
        assert math.isfinite(found.most_s)


@given(files=COUNTS, size_bytes=COUNTS, more=COUNTS, of_files=st.booleans(), rates=some_rates())
def test_where_more_is_left_it_is_never_said_to_take_less(
    files: int, size_bytes: int, more: int, of_files: bool, rates: Rates
) -> None:
    less = remaining(files, size_bytes, rates)
    longer = remaining(files + more * of_files, size_bytes + more * (not of_files), rates)
    if less is not None and longer is not None:
        assert less.least_s <= longer.least_s
        assert less.most_s <= longer.most_s


@given(st.lists(RATES, min_size=2, max_size=100))
def test_the_average_lies_between_the_ends(rates: list[float]) -> None:
    least, most = ends_of(rates)
    mean = math.fsum(rates) / len(rates)
    assert least <= mean <= most
    assert (least > 0) == (mean > 0)


def test_one_tenth_at_either_end_is_left_out() -> None:
    least, most = ends_of([100.0] * 18 + [50.0, 900.0])
    assert least == 100.0
    assert most == pytest.approx(137.5)
    least, most = ends_of([0.0] * 3 + [100.0] * 17)
    assert least == pytest.approx(8.5), "a stop does not make it endless"
    assert most == 100.0


def test_both_bytes_and_files_have_to_be_moved() -> None:
    rates = Rates(bytes_least=10, bytes_most=100, files_least=1, files_most=2)
    found = remaining(10, 10, rates)
    assert found is not None
    assert (found.least_s, found.most_s) == (5.0, 10.0)
    found = remaining(1, 1000, rates)
    assert found is not None
    assert (found.least_s, found.most_s) == (10.0, 100.0)


def test_a_large_file_that_has_not_come_to_its_end_takes_as_long_as_its_bytes() -> None:
    found = remaining(1, 1000, Rates(bytes_least=10, bytes_most=100))
    assert found is not None
    assert (found.least_s, found.most_s) == (10.0, 100.0)
    assert remaining(1, 0, Rates(bytes_least=10, bytes_most=100)) is None, "files without bytes have no rate yet"


def test_nothing_is_said_where_nothing_is_left_or_a_rate_is_not_known() -> None:
    assert remaining(0, 0, Rates(1, 1, 1, 1)) is None
    assert remaining(1, 1, UNKNOWN) is None
    assert remaining(1, 1, Rates(files_least=1, files_most=1)) is None, "no bytes have moved yet"
    assert remaining(1, 0, Rates(files_least=1, files_most=1)) is not None


def history_of(*steps: tuple[int, int]) -> tuple[RateHistory, float]:
    """A history with so many bytes and files moved in each step, and its last moment."""
    history, now_s, size_bytes, files = RateHistory(), 1000.0, 0, 0
    history.add(now_s, 0, 0)
    for more_bytes, more_files in steps:
        now_s, size_bytes, files = now_s + STEP_S, size_bytes + more_bytes, files + more_files
        history.add(now_s, size_bytes, files)
    return history, now_s


def test_a_steady_job_has_its_rate_at_both_ends() -> None:
    history, now_s = history_of(*[(2000, 4)] * 10)
    assert history.rates(now_s) == Rates(1000.0, 1000.0, 2.0, 2.0)


def test_before_it_has_moved_for_a_while_nothing_is_said() -> None:
    history, now_s = history_of((2000, 4))
    assert history.rates(now_s) == UNKNOWN


def test_a_job_that_has_stopped_moving_is_given_no_time() -> None:
    history, now_s = history_of(*[(2000, 4)] * 10)
    assert history.rates(now_s + STALL_S - 1) != UNKNOWN
    assert history.rates(now_s + STALL_S) == UNKNOWN


def test_what_an_attempt_loses_again_is_no_rate() -> None:
    history, now_s = history_of((2000, 4), (-2000, -4), (2000, 4))
    rates = history.rates(now_s)
    assert rates.bytes_least > 0
    assert rates.bytes_most == 1000.0
