"""An empty store of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from wherry_chassis import migrations
from wherry_chassis.sql import Database
from wherry_fakes.user_store import MemoryUserStore
from wherry_testing.user_store import Store
from wherry_user.store import SqlStore


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryUserStore()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/user.db"
        migrations.upgrade(url, "wherry_user")
    else:
        make: Callable[[str | None], str] = request.getfixturevalue("fresh_postgres")
        url = make("wherry_user")
    database = Database(url)
    yield SqlStore(database)
    database.close()
