"""The bulletin of a single replica."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from wherry_chassis.sql import Database
from wherry_queue.bulletin import Bulletin, Topic


@pytest.fixture
def bulletin(tmp_path: Path) -> Iterator[Bulletin]:
    database = Database(f"sqlite:///{tmp_path}/queue.db", threads=1)
    yield Bulletin(database)
    database.close()


def test_who_subscribes_is_told_at_once_of_their_topic_and_of_no_other(bulletin: Bulletin) -> None:
    heard: list[Sequence[Any]] = []
    bulletin.subscribe(Topic.JOBS, heard.append)
    bulletin.say(Topic.JOBS, (job_id for job_id in (2, 1, 2)))
    bulletin.say(Topic.HELD, [3])
    bulletin.say(Topic.JOBS, [])
    assert heard == [[2, 1]]


def test_one_subscribers_fault_is_neither_the_speakers_nor_the_others(bulletin: Bulletin) -> None:
    heard: list[Sequence[Any]] = []

    def fails(_items: Sequence[Any]) -> None:
        raise RuntimeError("a fault")

    bulletin.subscribe(Topic.READY, fails)
    bulletin.subscribe(Topic.READY, heard.append)
    bulletin.say(Topic.READY)
    assert heard == [[]]


async def test_with_one_replica_nothing_is_kept_and_nobody_misses_anything(bulletin: Bulletin) -> None:
    gaps: list[None] = []
    bulletin.on_gap(lambda: gaps.append(None))
    running = asyncio.create_task(bulletin.run())
    for job_id in range(1000):
        bulletin.say(Topic.JOBS, [job_id])
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), 0.05)
    assert not running.done()
    assert vars(bulletin)["_unsent"] == {}
    assert not gaps
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await bulletin.close()
