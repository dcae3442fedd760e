"""A queue's database with one replica, on SQLite and on PostgreSQL: the same promises hold on both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_chassis import migrations
from wherry_chassis.sql import Database
from wherry_testing.queue_cases import QueueCase


@pytest.fixture(params=["sqlite", "postgresql"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueCase]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.db"
        migrations.upgrade(url, "wherry_queue")
    else:
        url = request.getfixturevalue("fresh_postgres")("wherry_queue")
    database = Database(url)
    try:
        yield await QueueCase(database).begin()
    finally:
        database.close()
