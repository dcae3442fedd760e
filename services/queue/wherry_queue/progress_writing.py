"""Writes what moves at this replica into the database, once a second for all its jobs together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.sql import Database

from wherry_queue.own_replica import OwnReplica
from wherry_queue.progress import ProgressBoard
from wherry_queue.store import moving

_EVERY_S = 1.0
_RATES_S = 10.0


class ProgressWriter:
    """Folds the board's progress into rows.

    Args:
        database: of the queue.
        replica: in whose name is written.
        board: what moves here.
        changed: told of the jobs that were written.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        database: Database,
        replica: OwnReplica,
        board: ProgressBoard,
        changed: Callable[[Iterable[int]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._replica = replica
        self._board = board
        self._changed = changed
        self._clock = clock

    async def run(self) -> None:
        """Writes for ever."""
        rates_s = self._clock()
        while True:
            await asyncio.sleep(_EVERY_S)
            folded = self._board.fold(self._clock())
            if not folded or self._replica.id is None:
                continue
            try:
                await self._database.write(moving.write_progress, self._replica.id, folded)
                if self._clock() >= rates_s + _RATES_S:
                    rates_s = self._clock()
                    await self._database.write(moving.note_rates, folded)
            except DatabaseUnavailable:
                continue
            self._changed(folded)
