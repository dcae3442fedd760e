"""Workers' reports, folded into one figure a job."""

from __future__ import annotations

import pytest
from wherry_queue.progress import NOTHING_MOVED, Moved, ProgressBoard
from wherry_queue.remaining import UNKNOWN, Rates

pytestmark = pytest.mark.row("J5")


def test_what_moves_is_summed_and_the_newest_measurement_is_kept() -> None:
    board = ProgressBoard()
    board.moved(1, 10, Moved(100, 1), measured_ms=5000)
    board.moved(1, 11, Moved(50, 0), measured_ms=4000)
    folded = board.fold(100.0)[1]
    assert (folded.moved, folded.tasks, folded.measured_ms) == (Moved(150, 1), 2, 5000)
    assert board.ended(1, 10, Moved(120, 2)) == Moved(100, 1)
    assert board.fold(101.0)[1].moved == Moved(50, 0)


def test_the_rate_is_that_of_the_last_seconds_and_tasks_that_end_do_not_lower_it() -> None:
    board = ProgressBoard()
    for second in range(20):
        board.moved(1, second, Moved(1000, 1), measured_ms=second)
        folded = board.fold(100.0 + second)[1]
        board.ended(1, second, Moved(1000, 1))
    assert folded.bytes_per_second == pytest.approx(1000.0)
    assert folded.rates == Rates(1000.0, 1000.0, 1.0, 1.0)


def test_a_rest_is_no_slowness_and_what_was_measured_before_a_short_one_is_remembered() -> None:
    board = ProgressBoard()
    for second in range(10):
        board.moved(1, 1, Moved(1000 * second, second), measured_ms=second)
        board.fold(100.0 + second)
    board.ended(1, 1, Moved(9000, 9))
    board.fold(110.0)
    assert board.fold(111.0) == {}, "nothing has changed"
    board.moved(1, 2, NOTHING_MOVED, measured_ms=40)
    folded = board.fold(130.0)[1]
    assert folded.bytes_per_second == 0.0
    assert folded.rates.files_most > 0


def test_a_job_of_which_nothing_moves_here_any_more_is_forgotten() -> None:
    board = ProgressBoard()
    for second in range(10):
        board.moved(1, 1, Moved(1000 * second, second), measured_ms=second)
        board.fold(100.0 + second)
    board.ended(1, 1)
    board.fold(110.0)
    board.fold(200.0)
    board.moved(1, 2, Moved(5, 0), measured_ms=50)
    folded = board.fold(201.0)[1]
    assert (folded.rates, folded.measured_ms) == (UNKNOWN, 50)
