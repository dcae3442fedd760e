"""A running queue service, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_chassis import migrations
from wherry_testing.pki import TestPki
from wherry_testing.queue_service import QueueServiceUnderTest, running_queue_service


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        url: str = request.getfixturevalue("fresh_postgres")("wherry_queue")
        return url
    url = f"sqlite:///{tmp_path}/queue.db"
    migrations.upgrade(url, "wherry_queue")
    return url


@pytest.fixture
async def queue(pki: TestPki, database_url: str, tmp_path: Path) -> AsyncIterator[QueueServiceUnderTest]:
    async with running_queue_service(pki, database_url, tmp_path) as service:
        yield service


@pytest.fixture
async def lapsing_queue(pki: TestPki, database_url: str, tmp_path: Path) -> AsyncIterator[QueueServiceUnderTest]:
    """One whose leases lapse soon after their worker's last word."""
    async with running_queue_service(pki, database_url, tmp_path, ttl_s=2) as service:
        yield service
