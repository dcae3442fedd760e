"""A copy of very many named files, as its stream comes in: cut into chunks, kept, and made a job of at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import NoReturn

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import DatabaseUnavailable, FieldProblem, InvalidFields
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.jobs import Chunk, NewJob
from wherry_queue.pairs import PairBounds, PairCutter
from wherry_queue.paths import is_absolute
from wherry_queue.servicer.chunk_payloads import packer
from wherry_queue.servicer.creation import DEFAULT_PRIORITY, path_at, sessions_of, sites_if_known
from wherry_queue.servicer.messages import raw, shown
from wherry_queue.servicer.option_checks import check_pairs
from wherry_queue.site_directory import SiteDirectory, check_protocols
from wherry_queue.store import staging
from wherry_queue.store.staging import Roots

_KEPT_AT_ONCE = 200
_KEPT_BYTES = 4 << 20
"""Chunks written in one transaction, and their bytes; no more than these are in memory."""


async def copy_of_pairs(
    requests: AsyncIterator[pb.CreateJobFromPairsRequest],
    user: str,
    database: Database,
    directory: SiteDirectory,
    bounds: PairBounds,
) -> tuple[int | None, str]:
    """Takes a stream to its end and makes a job of it; returns (id, uid), without an id where it was there before.

    Raises:
        InvalidFields: a field or a pair is unfit, or there are no pairs, or too many.
        TooMuchStaged: the user's copies that are being sent hold too much.
        SiteNotFound, SignInRequired: about its sites.
    """
    incoming = aiter(requests)
    first = await anext(incoming, None)
    if first is None or not first.HasField("copy"):
        raise InvalidFields(FieldProblem("copy", "is in the first message of the stream"))
    asked = first.copy
    if asked.request_id:
        uid = await database.read(staging.earlier, user, asked.request_id)
        if uid is not None:
            async for _ in incoming:  # the caller is heard out; to cut the stream would look like a failure
                pass
            return None, uid
    upload = await _Upload.begin(asked, user, database, directory, bounds)
    try:
        await upload.add(first.pairs)
        async for message in incoming:
            if message.HasField("copy"):
                raise InvalidFields(FieldProblem("copy", "is in the first message of the stream only"))
            await upload.add(message.pairs)
        made = await upload.complete()
    except BaseException:
        # Shielded: the caller may have gone and this call be torn down. What stays is swept away later.
        await asyncio.shield(upload.forget())
        raise
    return made


class _Upload:
    """A copy on its way in."""

    def __init__(
        self, copy_id: int, new: NewJob, cutter: PairCutter, asked: pb.PairsCopy, database: Database, most_bytes: int
    ) -> None:
        self._copy_id = copy_id
        self._new = new
        self._cutter = cutter
        self._asked = asked
        self._database = database
        self._most_bytes = most_bytes
        self._unkept: list[Chunk] = []
        self._unkept_bytes = 0

    @classmethod
    async def begin(
        cls, asked: pb.PairsCopy, user: str, database: Database, directory: SiteDirectory, bounds: PairBounds
    ) -> _Upload:
        """Checks what holds for all pairs."""
        ends = (asked.source.site, asked.destination.site)
        check_pairs(asked.options, asked.overwrite)
        sites = await sites_if_known(ends, user, directory)
        if sites is not None:
            check_protocols(sites[ends[0]], sites[ends[1]], asked.options.protocols)
        source, destination = (
            path_at(location, sites, f"copy.{field}.path")
            for field, location in (("source", asked.source), ("destination", asked.destination))
        )
        same_site = ends[0] == ends[1]
        if same_site and is_absolute(source) != is_absolute(destination):
            _cannot_be_compared("source" if is_absolute(destination) else "destination")
        new = NewJob(
            user=user,
            source_site=ends[0],
            destination_site=ends[1],
            operation="copy",
            specification=b"",
            tasks=(),
            request_id=asked.request_id or None,
            priority=asked.priority if asked.HasField("priority") else DEFAULT_PRIORITY,
            attempts=asked.attempts if asked.HasField("attempts") else None,
            overwrite=asked.overwrite or pb.OVERWRITE_POLICY_NEVER,
            options=asked.options.SerializeToString(),
            sessions={} if sites is None else sessions_of(sites, ends),
            unresolved=sites is None,
        )
        cutter = PairCutter(source, destination, packer(), same_site=same_site, most=bounds.pairs)
        copy_id = await database.write(staging.begin, user)
        return cls(copy_id, new, cutter, asked, database, bounds.staged_bytes)

    async def add(self, pairs: Sequence[pb.FilePair]) -> None:
        """Takes pairs. On a thread: thousands of them would hold everybody else up."""
        for chunk in await asyncio.to_thread(self._cut, pairs):
            self._unkept.append(chunk)
            self._unkept_bytes += len(chunk.payload)
            if len(self._unkept) >= _KEPT_AT_ONCE or self._unkept_bytes >= _KEPT_BYTES:
                await self._keep()

    def _cut(self, pairs: Sequence[pb.FilePair]) -> list[Chunk]:
        return self._cutter.add((pair.source_path, pair.destination_path, pair.size_bytes) for pair in pairs)

    async def _keep(self) -> None:
        if self._unkept:
            await self._database.write(staging.add, self._copy_id, self._unkept, self._most_bytes)
        self._unkept, self._unkept_bytes = [], 0

    async def complete(self) -> tuple[int, str]:
        """Makes a job of all that came."""
        if not self._cutter.count:
            raise InvalidFields(FieldProblem("pairs", "are missing: there is nothing to copy"))
        self._unkept += self._cutter.rest()
        await self._keep()
        new = _described(self._new, self._asked, self._cutter)
        roots = Roots(self._cutter.source, self._cutter.destination)
        return await self._database.write(staging.complete, self._copy_id, new, roots)

    async def forget(self) -> None:
        """Gives up."""
        with contextlib.suppress(DatabaseUnavailable):  # then it is swept away
            await self._database.write(staging.forget, self._copy_id)
        logger().info("staged_copy_given_up", pairs=self._cutter.count)


def _cannot_be_compared(end: str) -> NoReturn:
    """Refuses a copy within a site of which one end begins nobody knows where: each file might go onto itself."""
    problem = "is relative, and where that begins cannot be asked at the moment; write it as an absolute path"
    raise InvalidFields(FieldProblem(f"copy.{end}.path", problem))


def _described(new: NewJob, asked: pb.PairsCopy, cutter: PairCutter) -> NewJob:
    """Returns the job with what it shows of itself: the first of its files."""
    items = [
        pb.CopyItem(source=_location(asked.source.site, source), destination=_location(asked.destination.site, other))
        for source, other in cutter.shown
    ]
    options = asked.options if asked.HasField("options") else None
    job = pb.Job(copy=pb.CopyOperation(items=items, overwrite=asked.overwrite, options=options))
    return replace(new, specification=job.SerializeToString(), item_count=cutter.count)


def _location(site: str, path: bytes) -> entry_pb2.Location:
    return entry_pb2.Location(site=site, path=shown(path), raw_path=raw(path))
