"""What a replica does again and again beside leasing: it renews its row, repairs what a crash left, clears away.

All of it is safe to do twice, and safe to leave to another replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.own_replica import OwnReplica
from wherry_queue.store import (
    banning,
    cleaning,
    control,
    deletion,
    leases,
    limits,
    phases,
    replicas,
    retention,
    sign_ins,
    staging,
)

_SWEEP_S = 10.0
_SIGN_INS_S = 2.0
_CLEARING_S = 5.0
_BREATH_S = 0.02
_STAGED_S = 3600.0
"""What a stream of pairs left that broke off is kept for so long."""
_SETTLED = 500
_CLEAN_UP_S = 7 * 86_400.0
"""For so long a clean-up waits for its user to sign in, or for its site to come back."""
_REAPED = 500
"""Leases of a dead replica that are taken back in one transaction."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept after their end."""

    listing_s: float
    job_s: float
    audit_s: float


class Upkeep:
    """Keeps a replica and the database in order."""

    def __init__(
        self,
        database: Database,
        replica: OwnReplica,
        dispatcher: Dispatcher,
        retention: Retention,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._replica = replica
        self._dispatcher = dispatcher
        self._retention = retention
        self._clock = clock

    async def run(self) -> None:
        """Does it for ever. What has to be done in time does not wait for what can take long."""
        terms = self._dispatcher.terms
        often_s = min(terms.ttl_s, terms.heartbeat_s) / 3
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._keep, often_s))
            group.create_task(self._again(self._expire, min(_SIGN_INS_S, often_s)))
            group.create_task(self._again(self._sweep, min(_SWEEP_S, terms.ttl_s)))
            group.create_task(self._again(self._clear_away, _SWEEP_S))

    async def _again(self, work: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await self._replica.ready()
                await work()
            except DatabaseUnavailable:
                logger().warning("upkeep_interrupted", work=work.__name__.strip("_"))
            await asyncio.sleep(pause_s)

    async def _keep(self) -> None:
        await self._replica.renew()
        await self._dispatcher.keep_leases()

    async def _expire(self) -> None:
        self._dispatcher.signed(await self._database.write(sign_ins.expire))

    async def _sweep(self) -> None:
        if self._replica.steady:
            await self._reap()
        await self._dispatcher.settle_doubt()
        for job_id in await self._database.read(control.half_cancelled):
            await self._database.write(control.cancel_job, job_id)
            self._dispatcher.changed([job_id])
        self._dispatcher.held(await self._database.write(banning.settle, _SETTLED))
        await self._database.write(limits.count_missed, self._dispatcher.terms.limits)
        await self._dispatcher.open_phases(await self._database.read(phases.stalled_jobs))

    async def _reap(self) -> None:
        """Takes back the leases of replicas that have died; their workers had one time to live to bring them along."""
        grace_ms = int(self._dispatcher.terms.ttl_s * 1000)
        for dead in await self._database.read(replicas.dead_replicas, grace_ms):
            refs = await self._database.read(leases.running_on, dead)
            for start in range(0, len(refs), _REAPED):
                some = refs[start : start + _REAPED]
                jobs = await self._database.write(leases.requeue, dead, some)
                logger().warning("replica_reaped", replica=dead, leases=len(some))
                await self._dispatcher.open_phases(jobs)
                self._dispatcher.changed(jobs)
                self._dispatcher.ready()
            await self._database.write(replicas.forget_replica, dead)

    async def _clear_away(self) -> None:
        """Deletes what is over, for a while at a time: however much there is, other work gets its turns."""
        kept = self._retention
        ends_s = self._clock() + _CLEARING_S
        await self._clean_up(ends_s)
        sweeps: tuple[tuple[Callable[..., int], tuple[int, ...]], ...] = (
            (deletion.sweep, ()),
            (retention.sweep_listings, (int(kept.listing_s * 1000),)),
            (retention.sweep_jobs, (int(kept.job_s * 1000),)),
        )
        for sweep, arguments in sweeps:
            while self._clock() < ends_s:
                if not await self._database.write(sweep, *arguments):
                    break
                await asyncio.sleep(_BREATH_S)
        await self._database.write(staging.sweep_staged, int(_STAGED_S * 1000))
        await self._database.write(retention.sweep_audit, int(kept.audit_s * 1000))

    async def _clean_up(self, ends_s: float) -> None:
        """Has removed what copies that have ended left behind; gives up what could not be for long."""
        grace_ms = int(self._dispatcher.terms.ttl_s * 1000)  # a server may write on for a moment
        made = False
        while self._clock() < ends_s and await self._database.write(cleaning.make, grace_ms):
            made = True
            await asyncio.sleep(_BREATH_S)
        if made:
            self._dispatcher.ready()
        for late in await self._database.read(cleaning.overdue, int(_CLEAN_UP_S * 1000)):
            await self._database.write(control.cancel_job, late.job_id)
            self._dispatcher.held([late.job_id])
            logger().warning("clean_up_given_up", user=late.user, site=late.site, task=late.cleans)
        for gone in await self._database.write(cleaning.sweep, int(self._retention.listing_s * 1000)):
            if gone.reason:
                logger().warning(
                    "clean_up_failed", user=gone.user, site=gone.site, task=gone.cleans, reason=gone.reason
                )
