"""A store on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_site.store import Store
from wherry_testing.site_store import sqlite_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    async with sqlite_store(tmp_path) as opened:
        yield opened
