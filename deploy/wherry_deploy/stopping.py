"""Ctrl-C, SIGTERM and a lost terminal: the first ends a block in order, the second at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Cancels the block's task at a signal, and takes that cancellation to be its ordinary end."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # asyncio runs this
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        for _ in received:
            task.uncancel()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
