"""Waiting for what comes about by itself: a condition with a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 60.0
"""How long tests wait for what nobody was promised within a time: it ends what hangs, and judges no machine's speed."""


async def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds; raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # conditions lie in other processes and in code that has no event
            await asyncio.sleep(0.005)
