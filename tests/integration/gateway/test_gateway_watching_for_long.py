"""A stream that is quiet for long. It stands at the end of the alphabet, and so of a run, to be old by then."""

from __future__ import annotations

import time
from typing import Protocol

import pytest
from wherry_chassis.server import MIN_PING_INTERVAL_S
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import ended
from wherry_testing.recording_upstream import Held

_PINGS = 5
_EVERY_S = 4
"""How often the gateway asks services whether the connection lives. The fourth time too many would be the last."""


class _QuietWatch(Protocol):
    call: object
    held: Held
    started_s: float


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
def test_services_do_not_end_a_quiet_stream_because_the_gateway_asks_whether_it_lives(
    standing_edge: Edge, quiet_watch: _QuietWatch
) -> None:
    assert MIN_PING_INTERVAL_S < _EVERY_S
    old_s = _PINGS * _EVERY_S
    standing_edge.wait(lambda: time.monotonic() - quiet_watch.started_s > old_s, 2 * old_s)
    assert not quiet_watch.held.left.is_set()
    quiet_watch.held.end()
    assert ended(quiet_watch.call, []).code == "OK"
