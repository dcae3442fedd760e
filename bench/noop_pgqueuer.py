"""The peer for no-op tasks: pgqueuer, one worker, on the same PostgreSQL."""

from __future__ import annotations

import time
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import asyncpg
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.types import QueueExecutionMode


async def tasks_per_second(database_url: str, tasks: int, batch: int) -> float:
    """Returns how many no-op jobs a second pgqueuer gets through with batches of that size."""
    parts = urlsplit(database_url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    connection = await asyncpg.connect(
        host=query.get("host") or parts.hostname,
        port=int(query.get("port") or parts.port or 5432),
        user=parts.username or query.get("user"),
        database=parts.path.lstrip("/"),
    )
    try:
        driver = AsyncpgDriver(connection)
        queries = Queries(driver)
        await queries.install()
        for start in range(0, tasks, 1000):
            count = min(1000, tasks - start)
            await queries.enqueue(["noop"] * count, [None] * count, [0] * count)
        manager = QueueManager(queries)

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            pass

        begun_s = time.perf_counter()
        await manager.run(batch_size=batch, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
        return tasks / (time.perf_counter() - begun_s)
    finally:
        await connection.close()
