"""Breaks the parts of a deployment, and has what was broken start again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

from wherry_testing.bare_deployment import BareDeployment
from wherry_testing.chaos.plan import Cut, Kill
from wherry_testing.deployment_processes import LoggedProcess

_LOOK_S = 0.2
_NO_DATABASE = 2
"""With this status a service ends that finds no database when it starts; whoever supervises it starts it again."""


class Breaker:
    """Kills, cuts, and supervises what runs as a machine's supervisor would.

    Attributes:
        done: how often what was broken; and how often what was told to end did.
        endings: how often a process ended that nobody had killed, and was started again.
        database_up: not set while PostgreSQL was killed and is not back yet.
    """

    def __init__(self, centre: BareDeployment, seed: int, fault: Callable[[str], None]) -> None:
        self._centre = centre
        self._fault = fault
        self._dice = random.Random(seed)
        self._down: dict[str, float] = {}
        self._leaving: dict[str, tuple[int, bool]] = {}
        self._database_lost_s = float("-inf")
        self.database_up = asyncio.Event()
        self.database_up.set()
        self.done: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()

    @property
    def _processes(self) -> list[LoggedProcess]:
        return [*self._centre.services.values(), *self._centre.workers]

    async def kill(self, act: Kill) -> None:
        """Kills one of a kind, as soon as one is up."""
        if act.victim == "postgres":
            await self._kill_database(act.down_s)
            return
        while not (up := self._up(act.victim)):  # noqa: ASYNC110  # others start it
            await asyncio.sleep(_LOOK_S)
        victim = up[act.number % len(up)]
        self._down[victim.name] = time.monotonic() + act.down_s
        self._leaving.pop(victim.name, None)
        victim.kill()
        self.done[f"kill {act.victim}"] += 1

    def _up(self, kind: str) -> list[LoggedProcess]:
        return [one for one in self._processes if one.name.startswith(kind) and one.running]

    def may_leave(self, process: LoggedProcess, pid: int) -> None:
        """Notes that a process may end by itself: it is being told to, and whether it was will be known later."""
        self._leaving.setdefault(process.name, (pid, False))

    def must_leave(self, process: LoggedProcess, pid: int) -> None:
        """Notes that a process has to end by itself, unless it is killed before."""
        if process.pid == pid and process.name in self._leaving:  # else it has been killed, or has ended
            self._leaving[process.name] = (pid, True)

    def end(self, process: LoggedProcess, pid: int) -> None:
        """Ends a process as its supervisor would, unless it has been killed meanwhile."""
        if process.running and process.pid == pid:
            self._leaving[process.name] = (pid, True)
            process.terminate()

    def overdue(self) -> list[str]:
        """Returns the names of those that have to end and have not."""
        running = {process.name: process.pid for process in self._processes if process.running}
        return [name for name, (pid, must) in self._leaving.items() if must and running.get(name) == pid]

    def cut(self, act: Cut) -> None:
        """Cuts connections to somebody."""
        names = sorted(self._centre.relays)
        name = names[act.relay % len(names)]
        count = self._centre.relays[name].cut(one=None if act.all else self._dice)
        self.done[f"cut {name.partition('-')[0]}"] += bool(count)

    async def supervise(self) -> None:
        """Starts for ever what is down, after its time."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = time.monotonic()
            for process in self._processes:
                if process.running:
                    continue
                if process.name not in self._down:
                    self._note_end(process)
                    self._down[process.name] = now_s + _LOOK_S
                elif self._down[process.name] <= now_s:
                    process.start()
                    del self._down[process.name]

    def _note_end(self, process: LoggedProcess) -> None:
        status = process.wait()
        pid, _ = self._leaving.pop(process.name, (0, False))
        if pid == process.pid and status == 0:
            self.done[f"left {process.name.partition('-')[0]}"] += 1
            return
        self.endings[process.name.partition("-")[0]] += 1
        excused = status == _NO_DATABASE and time.monotonic() - self._database_lost_s < 60
        if not excused:
            self._fault(f"{process.name} ended by itself with status {status}: {process.last_words()[-600:]}")

    async def _kill_database(self, down_s: float) -> None:
        server = self._centre.server
        if server is None or not self.database_up.is_set():
            return
        self.database_up.clear()
        server.kill()
        self.done["kill postgres"] += 1
        self._database_lost_s = time.monotonic()
        await asyncio.sleep(down_s)
        # On a thread: relays, and whoever waits for them, go on until it has recovered. It dies with that thread, which
        # is the loop's and lives as long.
        await asyncio.to_thread(server.start)
        self.database_up.set()
        self._database_lost_s = time.monotonic()
