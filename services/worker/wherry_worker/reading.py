"""Reads what the services say into the worker's own words; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

import zstandard
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.queue.v1 import job_service_pb2 as job
from wherry.queue.v1 import lease_service_pb2 as lease
from wherry.site.v1 import site_service_pb2 as site
from wherry.type.v1 import data_channel_pb2

from wherry_worker.access import Endpoint, SiteAccess
from wherry_worker.engine.messages import Overwrite, Protection
from wherry_worker.engine.paths import to_text
from wherry_worker.filtering import Filters
from wherry_worker.packing import unpack_chunk
from wherry_worker.ports import Opened, StreamEvent
from wherry_worker.trust import Authority
from wherry_worker.work import (
    ChangeModeOfDirectory,
    ChangeModes,
    CleanUp,
    CopyChunk,
    CopyRules,
    EndedSession,
    Lease,
    LeaseRef,
    ListOne,
    MakeOneDirectory,
    RemoveChunk,
    RemoveOneDirectory,
    RenameOne,
    Renewal,
    SumChunk,
    WalkCopy,
    WalkRemove,
    WalkTree,
    Work,
    WorkClass,
)

_OVERWRITE: dict[job.OverwritePolicy.ValueType, Overwrite] = {
    job.OVERWRITE_POLICY_UNSPECIFIED: "never",
    job.OVERWRITE_POLICY_NEVER: "never",
    job.OVERWRITE_POLICY_ALWAYS: "always",
    job.OVERWRITE_POLICY_IF_NEWER: "if_newer",
    job.OVERWRITE_POLICY_IF_DIFFERENT: "if_different",
    job.OVERWRITE_POLICY_KEEP_BOTH: "keep_both",
}
PROTECTIONS: dict[data_channel_pb2.DataChannel.ValueType, Protection | None] = {
    data_channel_pb2.DATA_CHANNEL_UNSPECIFIED: None,
    data_channel_pb2.DATA_CHANNEL_CLEAR: "clear",
    data_channel_pb2.DATA_CHANNEL_AUTHENTICATED: "authenticated",
    data_channel_pb2.DATA_CHANNEL_ENCRYPTED: "encrypted",
}
"""How bytes go, by the contracts' words for it; None: as both sites have it."""
_ALGORITHM = "adler32"


class UnknownWork(Exception):
    """The queue leased a kind of work that this release does not know."""


def ref_of(message: lease.LeaseRef) -> LeaseRef:
    """Returns a lease's name."""
    return LeaseRef(message.task, message.fence)


def event_of(message: lease.StreamLeasesResponse, margin_s: float) -> tuple[StreamEvent, Sequence[LeaseRef]]:
    """Returns what a message says, and the leases in it whose work this release cannot read.

    Deadlines become this process's monotonic clock's, `margin_s` before the lease's end.
    """
    leases: list[Lease] = []
    unknown: list[LeaseRef] = []
    for item in message.leases:
        try:
            leases.append(lease_of(item, margin_s))
        except (UnknownWork, ValueError, DecodeError, zstandard.ZstdError):
            unknown.append(ref_of(item.lease))
    event = StreamEvent(
        opened=_opened(message.opened) if message.HasField("opened") else None,
        leases=leases,
        renewed=[
            Renewal(ref_of(item.lease), _deadline(item.time_left, margin_s), item.lease_token)
            for item in message.renewed
        ],
        cancelled=[(ref_of(item.lease), item.reason) for item in message.cancelled],
        drain_grace_s=_seconds(message.drain_grace) if message.HasField("drain_grace") else None,
        ended_sessions=[EndedSession(item.user, item.site) for item in message.ended_sessions],
    )
    return event, unknown


def lease_of(message: lease.Lease, margin_s: float) -> Lease:
    """Returns a lease. Raises UnknownWork."""
    return Lease(
        ref=ref_of(message.lease),
        deadline=_deadline(message.time_left, margin_s),
        token=message.lease_token,
        work_class=(WorkClass.INTERACTIVE if message.work_class == lease.WORK_CLASS_INTERACTIVE else WorkClass.BULK),
        user=message.user,
        source_site=message.source_site,
        destination_site=message.destination_site or message.source_site,
        attempt=message.attempt,
        work=_work(message),
    )


def _work(message: lease.Lease) -> Work:
    match message.WhichOneof("work"):
        case "walk_copy":
            walk = message.walk_copy
            return WalkCopy(
                to_text(walk.source_path),
                to_text(walk.destination_path),
                walk.root,
                walk.recursive,
                to_text(walk.cursor),
                _rules(walk.overwrite, walk.options),
                to_text(walk.path_below),
            )
        case "walk_remove":
            removal = message.walk_remove
            path, cursor = to_text(removal.path), to_text(removal.cursor)
            return WalkRemove(path, removal.root, removal.recursive, cursor, removal.dry_run)
        case "walk_tree":
            tree = message.walk_tree
            return WalkTree(
                to_text(tree.path),
                tree.root,
                tree.recursive,
                to_text(tree.cursor),
                tree.directories_too,
                tree.directories_only,
            )
        case "copy_files":
            copy = message.copy_files
            return CopyChunk(
                to_text(copy.source_directory),
                to_text(copy.destination_directory),
                unpack_chunk(copy.chunk),
                copy.done,
                _rules(copy.overwrite, copy.options),
                copy.make_parents,
            )
        case "remove_files":
            files = message.remove_files
            return RemoveChunk(to_text(files.directory), unpack_chunk(files.chunk), files.done)
        case "change_mode_of_files":
            modes = message.change_mode_of_files
            return ChangeModes(to_text(modes.directory), unpack_chunk(modes.chunk), modes.done, modes.mode)
        case "checksum_files":
            sums = message.checksum_files
            algorithm = sums.algorithm or _ALGORITHM
            return SumChunk(to_text(sums.directory), unpack_chunk(sums.chunk), sums.done, algorithm)
        case "change_mode_of_directory":
            mode = message.change_mode_of_directory
            return ChangeModeOfDirectory(to_text(mode.path), mode.mode)
        case "remove_directory":
            return RemoveOneDirectory(to_text(message.remove_directory.path))
        case "make_directory":
            return MakeOneDirectory(to_text(message.make_directory.path), message.make_directory.parents)
        case "rename":
            return RenameOne(to_text(message.rename.source_path), to_text(message.rename.destination_path))
        case "remove_temporaries":
            left = message.remove_temporaries
            items = unpack_chunk(left.chunk) if left.HasField("chunk") else ()
            return CleanUp(left.task, left.fence, to_text(left.destination_directory), items)
        case "list":
            return ListOne(to_text(message.list.path), max(message.list.depth, 1))
        case None:
            raise UnknownWork
        case never:
            assert_never(never)


def access_of(message: site.SiteCredential, have: Sequence[SiteAccess]) -> SiteAccess:
    """Returns a site's access; where the answer names a credential that we have, with that one's key.

    Raises ValueError where it names one that we have not, and where the site demands what this release does not know.
    """
    if message.data_channel not in PROTECTIONS:
        raise ValueError("the site demands a protection of its data channels that this worker does not know")
    proxy_pem = message.proxy_pem
    if not proxy_pem:
        kept = [access for access in have if access.credential_id == message.credential_id]
        if not kept:
            raise ValueError("the site service left out a credential that this worker does not hold")
        proxy_pem = kept[0].proxy_pem
    return SiteAccess(
        site=message.site,
        endpoints=tuple(Endpoint(e.scheme, e.host, e.port, e.root_path or "/") for e in message.endpoints),
        authorities=tuple(
            Authority(ca.certificate_pem, tuple(ca.namespaces)) for ca in message.certificate_authorities
        ),
        credential_id=message.credential_id,
        expires=_time(message.expire_time) if message.HasField("expire_time") else None,
        proxy_pem=proxy_pem,
        session_expires=_time(message.session_expire_time) if message.HasField("session_expire_time") else None,
        data_channel=PROTECTIONS[message.data_channel],
    )


def _opened(message: lease.StreamOpened) -> Opened:
    return Opened(
        _seconds(message.heartbeat_interval),
        _seconds(message.lease_ttl),
        [ref_of(item) for item in message.lost],
    )


def _rules(policy: job.OverwritePolicy.ValueType, options: job.CopyOptions) -> CopyRules:
    if policy not in _OVERWRITE or options.data_channel not in PROTECTIONS:
        raise UnknownWork  # of a queue of a later release: what it means would be guessed
    return CopyRules(
        overwrite=_OVERWRITE[policy],
        comparison="checksum" if options.comparison == job.COMPARISON_CHECKSUM else "size_and_time",
        verification="size" if options.verification == job.VERIFICATION_SIZE else "checksum",
        algorithm=options.checksum_algorithm or _ALGORITHM,
        follow_links=options.symlinks == job.SYMLINK_POLICY_FOLLOW,
        keep_times=options.keep_modify_times if options.HasField("keep_modify_times") else True,
        filters=Filters(tuple(options.include), tuple(options.exclude)),
        protection=PROTECTIONS[options.data_channel],
        delete_extraneous=options.delete_extraneous,
        dry_run=options.dry_run,
        protocols=tuple(options.protocols),
    )


def _deadline(time_left: Duration, margin_s: float) -> float:
    left = _seconds(time_left)
    # A short lease keeps most of itself: the margin is never more than a quarter.
    return time.monotonic() + left - min(margin_s, left / 4)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
