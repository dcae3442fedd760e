"""What is said of the time that is left, scored against what happened: jobs are played through to their end."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest
from wherry_queue.remaining import STEP_S, RateHistory, remaining

pytestmark = [pytest.mark.row("J5"), pytest.mark.row("B6")]

JOBS = 40
LENGTH_S = 400.0
WARM_S = 10.0


def steady(rng: random.Random, _place: float) -> float:
    return rng.lognormvariate(0, 0.3)


def noisy(rng: random.Random, _place: float) -> float:
    return rng.lognormvariate(0, 1.0)


def with_stops(rng: random.Random, _place: float) -> float:
    return 0.0 if rng.random() < 0.2 else rng.lognormvariate(0, 0.4)


def slower_in_the_middle(rng: random.Random, place: float) -> float:
    return (1.0 if place < 0.5 else 0.4) * rng.lognormvariate(0, 0.3)


def played(seed: int, rate_at: Callable[[random.Random, float], float]) -> tuple[list[bool], list[float]]:
    """Plays a job; returns of each moment whether it ended within what was said, and how wide that was."""
    rng = random.Random(seed)
    usual, file_bytes = 10 ** rng.uniform(6, 9), 10 ** rng.uniform(4, 7)
    steps = int(LENGTH_S / STEP_S)
    moves = [usual * rate_at(rng, step / steps) * STEP_S for step in range(steps)]
    total, moved, history = sum(moves), 0.0, RateHistory()
    hits, widths = [], []
    for step, move in enumerate(moves):
        now_s = step * STEP_S
        history.add(now_s, int(moved), int(moved / file_bytes))
        said = remaining(int((total - moved) / file_bytes), int(total - moved), history.rates(now_s))
        if said is not None and WARM_S <= now_s <= 0.95 * LENGTH_S:
            hits.append(said.least_s <= LENGTH_S - now_s <= said.most_s)
            widths.append(said.most_s / said.least_s)
        moved += move
    return hits, widths


@pytest.mark.parametrize(
    ("rate_at", "least_hit"),
    [(steady, 0.95), (noisy, 0.95), (with_stops, 0.95), (slower_in_the_middle, 0.5)],
    ids=["steady", "noisy", "with stops", "slower in the middle"],
)
def test_jobs_end_within_the_time_that_was_said(
    rate_at: Callable[[random.Random, float], float], least_hit: float
) -> None:
    hits = [hit for seed in range(JOBS) for hit in played(seed, rate_at)[0]]
    assert len(hits) > JOBS * 100, "it is not by silence that it is right"
    assert sum(hits) / len(hits) >= least_hit


def test_of_a_steady_job_the_time_is_said_within_a_factor_of_three() -> None:
    assert statistics.median(width for seed in range(JOBS) for width in played(seed, steady)[1]) <= 3
