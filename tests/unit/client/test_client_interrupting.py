"""Ctrl-C ends what waits, wherever it comes."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest
from wherry_client.command.interrupting import interruptible


@pytest.mark.row("C3", missing="the rest of C3")
def test_an_interrupt_that_a_library_drops_comes_again() -> None:
    def wait() -> None:
        with interruptible():
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            threading.Event().wait(20)

    with pytest.raises(KeyboardInterrupt):
        wait()


@pytest.mark.row("C3", missing="the rest of C3")
def test_behind_it_signals_are_as_they_were_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with contextlib.suppress(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
