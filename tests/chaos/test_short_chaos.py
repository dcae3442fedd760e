"""The short form of `make chaos`: 2,000 tasks while workers, queue replicas, PostgreSQL and the site service are
killed, connections are cut, workers and replicas are drained, and users and sites are banned for a while. `make chaos`
does fifty times as much, and real copies.

A failure names its seed: `make chaos SEED=…` replays it on as many tasks as one likes (ARGS='--tasks 2000').
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from wherry_testing.chaos import scenes
from wherry_testing.chaos.result import Result

TASKS, TASKS_ON_SQLITE = 2000, 600
pytestmark = pytest.mark.timeout(360)


@pytest.fixture
def seed() -> int:
    """Another one each time, unless WHERRY_CHAOS_SEED says which."""
    given = os.environ.get("WHERRY_CHAOS_SEED")
    return int(given) if given else random.randrange(1_000_000)


@pytest.mark.row("W1")
@pytest.mark.row("W2")
@pytest.mark.row("D1")
@pytest.mark.row("D2")
@pytest.mark.row("D4")
@pytest.mark.row("J7")
@pytest.mark.row("B4")
async def test_nothing_is_lost_or_done_twice_while_everything_is_killed_in_turn(tmp_path: Path, seed: int) -> None:
    result = await scenes.on_postgresql(tmp_path, seed, print, TASKS)
    _assert_held(result)
    assert all(result.broken[f"kill {victim}"] for victim in ("worker", "queue", "postgres", "site")), result.told()
    assert any(name.startswith("cut ") for name in result.broken), result.told()


@pytest.mark.row("D1")
@pytest.mark.row("D2")
@pytest.mark.row("O1", missing="MariaDB")
async def test_nothing_is_lost_or_done_twice_on_sqlite_while_the_queue_is_killed(tmp_path: Path, seed: int) -> None:
    result = await scenes.on_sqlite(tmp_path, seed, print, TASKS_ON_SQLITE)
    _assert_held(result)
    assert all(result.broken[f"kill {victim}"] for victim in ("worker", "queue", "site")), result.told()


def _assert_held(result: Result) -> None:
    assert not result.faults, "\n".join(result.told())
    assert all(result.broken[f"drain {party}"] for party in ("worker", "queue")), result.told()
    bans = result.broken["ban user"] + result.broken["ban site"]
    assert 0 < bans == result.broken["lift ban"], result.told()
