"""Runs one lease: credentials, plan, engine, result. Whatever happens, a settlement comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from wherry_chassis.logging import logger

from wherry_worker.access import SiteAccess
from wherry_worker.attempt import Attempt
from wherry_worker.chunking import ChunkLimits
from wherry_worker.cleaning import clean_up
from wherry_worker.copy_walks import walk_copy
from wherry_worker.copying import (
    CLEAN_UP_S,
    OpenEngine,
    change_modes,
    copy_chunk,
    deadline_problem,
    died_problem,
    remove_chunk,
    sum_chunk,
)
from wherry_worker.engine.messages import MakeDirectory, Problem, RemoveDirectory, Rename, SetMode
from wherry_worker.engine_process import EngineDied, EngineTaskFailed
from wherry_worker.engines import EngineHandle, EngineKey, Engines, EngineUnavailable, Plan
from wherry_worker.listing import list_for_caller
from wherry_worker.planner import NoCommonProtocol, allowed, plan
from wherry_worker.ports import (
    CredentialRefused,
    LeaseLost,
    QueueUnavailable,
    Reports,
    Sites,
    SiteSessionExpired,
    SiteUnavailable,
)
from wherry_worker.stopping import SESSION_ENDS, as_stopped
from wherry_worker.walking import WalkFailed, walk_remove, walk_tree
from wherry_worker.work import (
    ChangeModeOfDirectory,
    ChangeModes,
    CleanUp,
    CopyChunk,
    ListOne,
    MakeOneDirectory,
    Outcome,
    RemoveChunk,
    RemoveOneDirectory,
    RenameOne,
    Settlement,
    SumChunk,
    WalkCopy,
    WalkRemove,
    WalkTree,
)

#: A credential that ends sooner than this is not begun with.
LEAST_CREDENTIAL_S = 30.0
#: Work stops so long before its credential's end: what it leaves behind is removed with that same credential.
SESSION_MARGIN_S = CLEAN_UP_S
#: The part of a credential's life after which another is asked for (from its half on there is one), and the least time
#: between two askings.
RENEW_AFTER = 0.6
RENEW_LEAST_S = 5.0
#: Tasks go back for so long where something outside them is down.
RETURN_FOR_S = 5.0
#: A door that calls a credential expired is believed where its end is no further off than this.
CLOCKS_APART_S = 600.0
_SESSION_REFUSED = frozenset({"SESSION_EXPIRED", "SOURCE_SESSION_EXPIRED", "DESTINATION_SESSION_EXPIRED"})


class Runner(Protocol):
    """Runs leases."""

    async def run(self, attempt: Attempt) -> Settlement:
        """Works through an attempt; raises nothing but CancelledError. What was stopped ends as stopping.py says."""
        ...

    async def end_sessions(self, user: str, site: str) -> None:
        """Lets everything go that is kept warm for a user at a site, since their session there has ended."""
        ...

    async def end_all_sessions(self) -> None:
        """Lets everything go that is kept warm for anybody, since ends of sessions may not have been heard of."""
        ...


class TaskRunner:
    """Runs leases with engines."""

    def __init__(
        self,
        sites: Sites,
        reports: Reports,
        engines: Engines,
        schemes: Mapping[str, str],
        limits: ChunkLimits | None = None,
    ) -> None:
        self._sites = sites
        self._reports = reports
        self._engines = engines
        self._schemes = schemes
        self._limits = limits or ChunkLimits()

    async def run(self, attempt: Attempt) -> Settlement:
        """Works through an attempt."""
        started = time.monotonic()
        settlement = await self._settled(attempt)
        if attempt.stop_reason is not None:
            settlement = as_stopped(settlement, attempt.stop_reason)
            if attempt.stop_reason in SESSION_ENDS:
                attempt.ended_sites |= {attempt.lease.source_site, attempt.lease.destination_site}
        else:
            settlement = await self._with_session_looked_at(attempt, settlement)
        for site in sorted(attempt.ended_sites):  # what comes meanwhile finds the engine idle
            # Also where it was said before: the engine may have begun, or tidied up, after that.
            await self._engines.end_sessions(attempt.lease.user, site)
        logger().info(
            "task_ended",
            task=attempt.lease.ref.task,
            fence=attempt.lease.ref.fence,
            work=type(attempt.lease.work).__name__,
            outcome=settlement.outcome.value,
            reason=None if settlement.problem is None else settlement.problem.reason,
            files=settlement.files_done,
            size_bytes=settlement.bytes_done,
            failures=len(settlement.failures),
            duration_s=round(time.monotonic() - started, 3),
        )
        return replace(settlement, log=attempt.log)

    async def end_sessions(self, user: str, site: str) -> None:
        """See Runner."""
        await self._engines.end_sessions(user, site)

    async def end_all_sessions(self) -> None:
        """See Runner."""
        await self._engines.end_all_sessions()

    async def _settled(self, attempt: Attempt) -> Settlement:
        ref = attempt.lease.ref
        try:
            return await self._work(attempt)
        except (EngineTaskFailed, WalkFailed) as failed:
            attempt.note(f"{failed.problem.reason}: {failed.problem.message}")
            return Settlement(ref, Outcome.FAILED, failed.problem)
        except EngineDied as died:
            attempt.note(f"engine ended: {died.cause}")
            problem = died_problem(died)
            if problem is not None:
                return Settlement(ref, Outcome.FAILED, problem)
            return Settlement(ref, Outcome.RETURNED, deadline_problem(died))
        except LeaseLost:
            attempt.note("the queue gave the task to another worker")
            return Settlement(ref, Outcome.CANCELLED)
        except SiteSessionExpired as expired:
            return await self._signed_out(attempt, Settlement(ref, Outcome.RETURNED), expired.site)
        except NoCommonProtocol:
            return Settlement(ref, Outcome.FAILED, _NO_COMMON_PROTOCOL)
        except (SiteUnavailable, QueueUnavailable, CredentialRefused, EngineUnavailable) as error:
            attempt.note(f"{type(error).__name__}: {error}")
            logger().warning("task_returned", task=ref.task, cause=type(error).__name__, detail=str(error))
            return Settlement(ref, Outcome.RETURNED, _unready(error), retry_after_s=RETURN_FOR_S)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001  # whatever is wrong with one task must not end the worker or lose the lease
            logger().exception("task_crashed", task=ref.task)
            return Settlement(ref, Outcome.FAILED, _CRASHED)

    async def _work(self, attempt: Attempt) -> Settlement:
        lease = attempt.lease
        accesses = await self._accesses(attempt)
        source, destination = self._ends(attempt, accesses)
        chosen = plan(source, destination, allowed(self._schemes, lease.work), lease.attempt)
        attempt.note(f"by {chosen.engine}: {_shown(chosen)}")
        key = EngineKey(lease.user, source.site, None if destination is None else destination.site)
        newest = {access.site: access for access in accesses}

        def open_engine() -> AbstractAsyncContextManager[EngineHandle]:
            # A second engine, in the place of one that died, may begin long after the first credentials have ended.
            return self._engines.engine(key, _with_newest(chosen, newest))

        async with self._renewing(attempt, newest):
            return await self._do(attempt, open_engine, [source] if destination is None else [source, destination])

    async def _do(self, attempt: Attempt, open_engine: OpenEngine, sites: Sequence[SiteAccess]) -> Settlement:
        lease = attempt.lease
        match lease.work:
            case CopyChunk():
                return await copy_chunk(attempt, open_engine, lease.work, sites)
            case RemoveChunk():
                return await remove_chunk(attempt, open_engine, lease.work)
            case ChangeModes():
                return await change_modes(attempt, open_engine, lease.work)
            case SumChunk():
                return await sum_chunk(attempt, open_engine, lease.work)
        async with open_engine() as engine:
            match lease.work:
                case WalkCopy():
                    await walk_copy(attempt, engine, lease.work, self._reports, self._limits)
                case WalkRemove():
                    await walk_remove(attempt, engine, lease.work, self._reports, self._limits)
                case WalkTree():
                    await walk_tree(attempt, engine, lease.work, self._reports, self._limits)
                case ChangeModeOfDirectory():
                    await attempt.first(engine, SetMode(lease.work.path, lease.work.mode))
                case CleanUp():
                    await clean_up(attempt, engine, lease.work)
                case ListOne():
                    await list_for_caller(attempt, engine, lease.work, self._reports)
                case MakeOneDirectory():
                    task = MakeDirectory(
                        "source", lease.work.path, parents=lease.work.parents, exist_ok=lease.work.parents
                    )
                    await attempt.first(engine, task)
                case RenameOne():
                    await attempt.first(engine, Rename(lease.work.path, lease.work.new_path))
                case RemoveOneDirectory():
                    await attempt.first(engine, RemoveDirectory(lease.work.path))
        return Settlement(lease.ref, Outcome.COMPLETED)

    async def _accesses(self, attempt: Attempt) -> list[SiteAccess]:
        lease = attempt.lease
        have = self._engines.known(lease.user, [lease.source_site, lease.destination_site])
        accesses = await self._sites.fetch(attempt.token, have)
        for access in accesses:
            if _left_s([access]) < LEAST_CREDENTIAL_S:
                raise SiteSessionExpired(access.site)
        await _bind(attempt, accesses)
        return accesses

    def _ends(self, attempt: Attempt, accesses: Sequence[SiteAccess]) -> tuple[SiteAccess, SiteAccess | None]:
        lease, by_site = attempt.lease, {access.site: access for access in accesses}
        copies = isinstance(lease.work, WalkCopy | CopyChunk)
        try:
            return by_site[lease.source_site], by_site[lease.destination_site] if copies else None
        except KeyError:
            raise CredentialRefused("SITE_MISSING") from None

    @asynccontextmanager
    async def _renewing(self, attempt: Attempt, newest: dict[str, SiteAccess]) -> AsyncIterator[None]:
        """Renews the credentials of a task that outlasts them, as far as the user's sessions at the sites go."""
        renewing = asyncio.create_task(self._renew(attempt, newest), name="renewing credentials")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, attempt: Attempt, newest: dict[str, SiteAccess]) -> None:
        while (left_s := _left_s(newest.values())) < float("inf"):
            await asyncio.sleep(max((left_s - SESSION_MARGIN_S) * RENEW_AFTER, RENEW_LEAST_S))
            try:
                accesses = await self._sites.fetch(attempt.token, list(newest.values()))
            except (SiteUnavailable, SiteSessionExpired, CredentialRefused) as error:
                attempt.note(f"credentials not renewed: {type(error).__name__}")
                continue
            newest.update({access.site: access for access in accesses})
            self._engines.renew(attempt.lease.user, accesses)
            await _bind(attempt, accesses)

    async def _with_session_looked_at(self, attempt: Attempt, settlement: Settlement) -> Settlement:
        """Returns how an attempt ended whose session did too: what had no time left, or was refused, is given back."""
        over = attempt.credential_over
        if settlement.outcome is Outcome.RETURNED and over is not None:
            if _beyond_s(over) > LEAST_CREDENTIAL_S:
                return replace(settlement, problem=_not_renewed(over.site))
            return await self._signed_out(attempt, settlement, over.site)
        problem = settlement.problem
        if problem is not None and problem.reason in _SESSION_REFUSED and (bound := attempt.bound_by) is not None:
            # The door's clock is ahead of ours; where the end is far off, it is not the user who can help.
            lease = attempt.lease
            site = lease.destination_site if problem.reason.startswith("DESTINATION") else lease.source_site
            if site == bound.site and _left_s([bound]) < CLOCKS_APART_S:
                return await self._signed_out(attempt, replace(settlement, outcome=Outcome.RETURNED), site)
        return settlement

    async def _signed_out(self, attempt: Attempt, settlement: Settlement, site: str) -> Settlement:
        await self._engines.end_sessions(attempt.lease.user, site)
        return replace(settlement, problem=_session_expired(site), sign_in_site=site)


async def _bind(attempt: Attempt, accesses: Sequence[SiteAccess]) -> None:
    """Has an attempt stop before the first of its credentials ends."""
    ending = [access for access in accesses if access.expires is not None]
    first = min(ending, key=lambda access: _left_s([access]), default=None)
    await attempt.bound(time.monotonic() + _left_s(accesses) - SESSION_MARGIN_S, first)


def _beyond_s(access: SiteAccess) -> float:
    """Returns how long the session goes on behind the credential, so that another could be had."""
    if access.session_expires is None or access.expires is None:
        return 0.0
    return (access.session_expires - access.expires).total_seconds()


def _left_s(accesses: Iterable[SiteAccess]) -> float:
    """Returns the time until the first of the credentials ends."""
    ends = [access.expires for access in accesses if access.expires is not None]
    return (min(ends) - datetime.now(UTC)).total_seconds() if ends else float("inf")


def _with_newest(chosen: Plan, newest: Mapping[str, SiteAccess]) -> Plan:
    source = replace(chosen.source, access=newest[chosen.source.access.site])
    destination = chosen.destination
    if destination is not None:
        destination = replace(destination, access=newest[destination.access.site])
    return replace(chosen, source=source, destination=destination)


def _shown(chosen: Plan) -> str:
    visits = [chosen.source] if chosen.destination is None else [chosen.source, chosen.destination]
    return " to ".join(f"{v.endpoint.scheme}://{v.endpoint.host}:{v.endpoint.port}" for v in visits)


def _session_expired(site: str) -> Problem:
    return Problem(
        "SITE_SESSION_EXPIRED",
        f"The sign-in at {site.removeprefix('sites/')} has expired.",
        "user",
        retryable=True,
        help=f"Sign in at {site.removeprefix('sites/')} again.",
    )


def _not_renewed(site: str) -> Problem:
    name = site.removeprefix("sites/")
    return Problem("CREDENTIAL_NOT_RENEWED", f"No new credential for {name} could be had.", "operator", retryable=True)


def _unready(error: Exception) -> Problem:
    reasons = {
        SiteUnavailable: ("SITE_SERVICE_UNAVAILABLE", "The site service did not answer."),
        QueueUnavailable: ("QUEUE_UNAVAILABLE", "The queue did not answer."),
        CredentialRefused: ("CREDENTIAL_REFUSED", f"The site service gave no credential ({error})."),
        EngineUnavailable: ("ENGINE_UNAVAILABLE", f"No transfer engine could be started: {error}."),
    }
    reason, message = reasons[type(error)]
    return Problem(reason, message, "operator", retryable=True)


_NO_COMMON_PROTOCOL = Problem(
    "NO_COMMON_PROTOCOL",
    "The two sites have no door with the same protocol that allows a direct copy.",
    "source_site",
    help="One of the sites has to offer a protocol that the other has.",
)
_CRASHED = Problem("WORKER_ERROR", "The worker failed; its log says more.", "operator", retryable=True)
