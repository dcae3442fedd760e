"""The site service's store on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from wherry_chassis.sql import Database
from wherry_site.store import Store
from wherry_testing.site_store import sqlite_store


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store on each database."""
    if request.param == "sqlite":
        async with sqlite_store(tmp_path) as opened:
            yield opened
        return
    fresh: Callable[[str], str] = request.getfixturevalue("fresh_postgres")
    database = Database(fresh("wherry_site"), threads=6)
    try:
        yield Store(database)
    finally:
        database.close()
