"""The pool of engine processes: warm ones are used again, by the same user for the same sites only."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from wherry_chassis.logging import logger

from wherry_worker.access import EngineFolder, SiteAccess, Visit
from wherry_worker.channel_context import channel_context
from wherry_worker.engine.messages import Message, Setup, Task
from wherry_worker.engine_process import DeathCause, EngineCommand, EngineDied, EngineLimits, EngineProcess
from wherry_worker.trust import TrustError

_CONTEXT_LIFETIME = dt.timedelta(days=14)
"""Longer than any copy takes: connections of one are opened anew after a loss."""


class EngineUnavailable(Exception):
    """No engine could be started; the message says why, without a secret."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Whose an engine is and where it works; `destination` is None for tasks at one site."""

    user: str
    source: str
    destination: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine shall work at: see planner.py."""

    engine: str
    source: Visit
    destination: Visit | None


class EngineHandle(Protocol):
    """An engine in use by one task."""

    def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        """As EngineProcess.run."""
        ...

    async def extend(self, deadline: float) -> None:
        """As EngineProcess.extend."""
        ...

    async def halt(self) -> None:
        """As EngineProcess.halt."""
        ...

    async def kill(self, cause: DeathCause) -> None:
        """As EngineProcess.kill."""
        ...

    @property
    def output(self) -> str:
        """The last lines that the libraries printed."""
        ...


class Engines(Protocol):
    """Where tasks get engines from."""

    def engine(self, key: EngineKey, plan: Plan) -> AbstractAsyncContextManager[EngineHandle]:
        """Returns a context in which an engine with the plan's doors belongs to the caller alone.

        Raises EngineUnavailable, EngineDied.
        """
        ...

    def known(self, user: str, sites: Sequence[str]) -> list[SiteAccess]:
        """Returns the accesses that engines of this user hold at these sites."""
        ...

    def renew(self, user: str, accesses: Sequence[SiteAccess]) -> None:
        """Gives the user's engines, busy ones too, these credentials in the place of those that they have."""
        ...

    async def end_sessions(self, user: str, site: str) -> None:
        """Ends the user's idle engines that hold a credential of the site, at once, and forgets it.

        Busy ones go on, and are not kept warm when their task has ended.
        """
        ...

    async def end_all_sessions(self) -> None:
        """Does the same for all users and sites."""
        ...


@dataclass(slots=True)
class _Pooled:
    key: EngineKey
    process: EngineProcess
    folder: EngineFolder
    plan: Plan
    idle_since: float = 0.0
    accesses: dict[str, SiteAccess] = field(default_factory=dict)


class EnginePool:
    """Starts, keeps, lends and ends engine processes.

    `most` bounds their number, idle ones included; tasks in need wait for none, as the number of leases is bounded too.
    """

    def __init__(
        self,
        folder: Path,
        command: EngineCommand,
        limits: EngineLimits,
        *,
        idle_s: float = 60,
        most: int = 16,
    ) -> None:
        self._folder = folder
        self._command = command
        self._limits = limits
        self._idle_s = idle_s
        self._most = most
        self._idle: list[_Pooled] = []  # least recently used first
        self._busy: list[_Pooled] = []
        self.started = 0

    def known(self, user: str, sites: Sequence[str]) -> list[SiteAccess]:
        """Returns the newest accesses that engines of this user hold at these sites."""
        found: dict[str, SiteAccess] = {}
        for pooled in [*self._idle, *self._busy]:
            if pooled.key.user == user:
                found.update({site: access for site, access in pooled.accesses.items() if site in sites})
        return list(found.values())

    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[EngineHandle]:
        """Lends an engine; it goes back warm unless it died or is worn."""
        pooled = await self._take(key, plan)
        try:
            yield pooled.process
        finally:
            self._busy.remove(pooled)
            if pooled.process.alive:
                pooled.idle_since = time.monotonic()
                self._idle.append(pooled)
            else:
                await self._end(pooled)

    def renew(self, user: str, accesses: Sequence[SiteAccess]) -> None:
        """Replaces the credentials in the engines' folders; what is connected stays so."""
        fresh = {access.site: access for access in accesses}
        for pooled in [*self._idle, *self._busy]:
            if pooled.key.user == user:
                source = self._renewed(pooled, "source", pooled.plan.source, fresh)
                destination = pooled.plan.destination
                if destination is not None:
                    destination = self._renewed(pooled, "destination", destination, fresh)
                pooled.plan = replace(pooled.plan, source=source, destination=destination)

    def _renewed(self, pooled: _Pooled, side: str, visit: Visit, fresh: Mapping[str, SiteAccess]) -> Visit:
        access = fresh.get(visit.access.site)
        if access is None or access.credential_id == visit.access.credential_id:
            return visit
        pooled.folder.renew(side, access.proxy_pem)
        pooled.accesses[access.site] = access
        return replace(visit, access=access)

    async def end_sessions(self, user: str, site: str) -> None:
        """Ends what is idle; busy engines end with their task."""
        for pooled in self._busy:
            if pooled.key.user == user and pooled.accesses.pop(site, None) is not None:
                pooled.process.worn = True
        await self._end_idle([p for p in self._idle if p.key.user == user and site in p.accesses])

    async def end_all_sessions(self) -> None:
        """Ends what is idle; busy engines end with their task."""
        for pooled in self._busy:
            pooled.accesses.clear()
            pooled.process.worn = True
        await self._end_idle(list(self._idle))

    async def _end_idle(self, ended: Sequence[_Pooled]) -> None:
        for pooled in ended:
            self._idle.remove(pooled)  # all of them before the first is waited for: no task gets one of them any more
        await asyncio.gather(*(self._kill(pooled) for pooled in ended))

    async def reap(self) -> None:
        """Ends engines that have been idle for too long; runs until cancelled."""
        while True:
            now = time.monotonic()
            for pooled in [p for p in self._idle if now - p.idle_since >= self._idle_s or not p.process.alive]:
                self._idle.remove(pooled)
                await self._end(pooled)
            soonest = min((p.idle_since for p in self._idle), default=now) + self._idle_s
            await asyncio.sleep(min(max(soonest - now, 0.05), 1.0))

    async def close(self) -> None:
        """Ends all engines and wipes what they held."""
        for pooled in [*self._idle, *self._busy]:
            await self._kill(pooled)
        self._idle.clear()

    async def _take(self, key: EngineKey, plan: Plan) -> _Pooled:
        for pooled in reversed(self._idle):
            if pooled.key == key and pooled.process.alive and pooled.plan.engine == plan.engine:
                self._idle.remove(pooled)
                if pooled.plan != plan:
                    await self._equip_busy(pooled, plan)
                else:
                    self._busy.append(pooled)
                return pooled
        while self._idle and len(self._idle) + len(self._busy) >= self._most:
            await self._end(self._idle.pop(0))
        return await self._start(key, plan)

    async def _start(self, key: EngineKey, plan: Plan) -> _Pooled:
        folder = EngineFolder(self._folder)
        try:
            process = await EngineProcess.start(self._command, folder.path / "trust", self._limits)
        except OSError as error:
            folder.wipe()
            raise EngineUnavailable(f"{self._command.python} cannot be run: {error.strerror}") from error
        self.started += 1
        pooled = _Pooled(key, process, folder, plan)
        await self._equip_busy(pooled, plan)
        logger().debug("engine_started", pid=process.pid, engine=plan.engine)
        return pooled

    async def _equip_busy(self, pooled: _Pooled, plan: Plan) -> None:
        """Equips an engine that counts as busy from now on: credentials that are renewed meanwhile are for it too."""
        self._busy.append(pooled)
        try:
            await self._equip(pooled, plan)
        except BaseException:
            self._busy.remove(pooled)
            raise

    async def _equip(self, pooled: _Pooled, plan: Plan) -> None:
        try:
            source, destination, _ = pooled.folder.write(plan.source, plan.destination)
            pooled.plan = plan
            visits = [plan.source] if plan.destination is None else [plan.source, plan.destination]
            pooled.accesses = {visit.access.site: visit.access for visit in visits}
            # One for each engine: whoever has it could pass for the other server to either of the two.
            context = "" if destination is None else await asyncio.to_thread(channel_context, _CONTEXT_LIFETIME)
            await pooled.process.setup(Setup(plan.engine, source, destination, channel_context=context))
        except TrustError as error:
            await self._end(pooled)
            raise EngineUnavailable(str(error)) from error
        except EngineDied:
            output = pooled.process.output
            await self._end(pooled)
            logger().error("engine_did_not_start", engine=plan.engine, output=output)
            raise EngineUnavailable("the engine process did not start") from None
        except BaseException:
            await self._end(pooled)
            raise

    async def _kill(self, pooled: _Pooled) -> None:
        try:
            await pooled.process.kill("closed")
        finally:
            pooled.folder.wipe()

    async def _end(self, pooled: _Pooled) -> None:
        try:
            await pooled.process.close()
        finally:
            pooled.folder.wipe()
