"""Whatever happens in whatever order: counters are right, nothing is done twice, and nothing waits for ever."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import event
from sqlalchemy.engine import Engine
from wherry_chassis import migrations
from wherry_chassis.sql import make_engine
from wherry_testing.queue_machine import QueueMachine

_EXAMPLES = {"sqlite": 25, "postgresql": 12}
_LONG = int(os.environ.get("WHERRY_CHAOS_EXAMPLES", "0"))
"""So many examples, other ones each time, instead of the same few: as `make chaos` has it."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """One database for all examples."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.db"
        migrations.upgrade(url, "wherry_queue")
        made: Engine = make_engine(url).execution_options(wherry_writes=True)
        event.listen(made, "connect", _never_wait_for_the_disk)
    else:
        made = make_engine(request.getfixturevalue("fresh_postgres")("wherry_queue"))
    try:
        yield made
    finally:
        made.dispose()


def _never_wait_for_the_disk(connection: Any, _record: object) -> None:
    connection.execute("pragma synchronous=OFF")


@pytest.mark.row("D1")
@pytest.mark.row("D4")
@pytest.mark.timeout(3600 if _LONG else 300)
def test_counters_are_right_under_any_order_of_events(engine: Engine) -> None:
    machine = type("Machine", (QueueMachine,), {"engine": engine})
    if _LONG:
        number = int(os.environ.get("WHERRY_CHAOS_SEED", random.getrandbits(32)))
        print(f"WHERRY_CHAOS_SEED={number} WHERRY_CHAOS_EXAMPLES={_LONG}")  # noqa: T201  # to be run again with it
        machine = seed(number)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_LONG or _EXAMPLES[engine.dialect.name],
            stateful_step_count=40,
            derandomize=not _LONG,
            database=None,
            # To make a failure shorter takes many minutes; a long run may spend them.
            phases=[Phase.generate, Phase.shrink] if _LONG else [Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
