from __future__ import annotations

import asyncio
import os
import signal

import pytest
from wherry_deploy.stopping import ended_by_signal
from wherry_testing.waiting import PATIENCE_S

WITHIN_S = PATIENCE_S


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_is_the_blocks_ordinary_end(number: signal.Signals) -> None:
    ended = []
    async with asyncio.timeout(WITHIN_S):
        with ended_by_signal():
            try:
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()
            finally:
                ended.append(number)
    assert ended == [number]


async def test_a_second_signal_ends_the_orderly_end_too() -> None:
    reached = []
    async with asyncio.timeout(WITHIN_S):
        with ended_by_signal():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                reached.append("stopping")
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
    assert reached == ["stopping"]


async def test_a_cancellation_that_no_signal_asked_for_goes_on() -> None:
    async def block() -> None:
        with ended_by_signal():
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
