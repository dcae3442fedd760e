"""Puts what the worker has to say into the contracts' messages; decides nothing."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.queue.v1 import job_service_pb2 as job
from wherry.queue.v1 import lease_service_pb2 as lease
from wherry.type.v1 import entry_pb2 as entry

from wherry_worker.engine.messages import Entry, EntryKind, Party, Problem
from wherry_worker.engine.paths import to_bytes
from wherry_worker.packing import compress, pack_chunk
from wherry_worker.reading import PROTECTIONS
from wherry_worker.work import (
    Found,
    ItemFailure,
    LeaseRef,
    Outcome,
    Settlement,
    TaskProgress,
)

_KINDS: dict[EntryKind, entry.EntryKind.ValueType] = {
    "file": entry.ENTRY_KIND_FILE,
    "directory": entry.ENTRY_KIND_DIRECTORY,
    "symlink": entry.ENTRY_KIND_SYMLINK,
    "other": entry.ENTRY_KIND_OTHER,
    "unlistable": entry.ENTRY_KIND_UNLISTABLE,
}
_PARTIES: dict[Party, entry.Party.ValueType] = {
    "unknown": entry.PARTY_UNSPECIFIED,
    "user": entry.PARTY_USER,
    "source_site": entry.PARTY_SOURCE_SITE,
    "destination_site": entry.PARTY_DESTINATION_SITE,
    "operator": entry.PARTY_OPERATOR,
    "network": entry.PARTY_NETWORK,
}
_DATA_CHANNELS = {protection: channel for channel, protection in PROTECTIONS.items()}
_OUTCOMES = {
    Outcome.COMPLETED: lease.OUTCOME_COMPLETED,
    Outcome.FAILED: lease.OUTCOME_FAILED,
    Outcome.CANCELLED: lease.OUTCOME_CANCELLED,
    Outcome.RETURNED: lease.OUTCOME_RETURNED,
}


def ref_message(ref: LeaseRef) -> lease.LeaseRef:
    """Returns a lease's name as a message."""
    return lease.LeaseRef(task=ref.task, fence=ref.fence)


def progress_message(progress: TaskProgress) -> lease.TaskProgress:
    """Returns progress as a message."""
    measured = Timestamp()
    measured.FromNanoseconds(int(progress.measured_at_s * 1e9))
    return lease.TaskProgress(
        lease=ref_message(progress.ref),
        measure_time=measured,
        transferred_bytes=progress.transferred_bytes,
        files_done=progress.files_done,
    )


def settlement_message(settlement: Settlement) -> lease.Settlement:
    """Returns a settlement as a message."""
    message = lease.Settlement(
        lease=ref_message(settlement.ref),
        outcome=_OUTCOMES[settlement.outcome],
        done=settlement.done,
        files_done=settlement.files_done,
        bytes_done=settlement.bytes_done,
        failures=[_failure_message(failure) for failure in settlement.failures],
        log=settlement.log,
        sign_in_site=settlement.sign_in_site,
        data_channel=_DATA_CHANNELS[settlement.protection],
        files_unchanged=settlement.files_unchanged,
        bytes_unchanged=settlement.bytes_unchanged,
        left_behind=settlement.left_behind,
    )
    if settlement.problem is not None:
        message.failure.CopyFrom(_problem_message(settlement.problem))
    if settlement.retry_after_s > 0:
        message.retry_after.CopyFrom(_duration(settlement.retry_after_s))
    if settlement.results:
        results = lease.ChunkResults(
            results=[
                lease.EntryResult(
                    index=result.index,
                    size_bytes=result.size_bytes,
                    checksum=entry.Checksum(algorithm=result.algorithm, value=result.checksum)
                    if result.checksum
                    else None,
                    duration=_duration(result.duration_s),
                    adopted=result.adopted,
                    left_alone=result.left_alone,
                    kept_beside=to_bytes(result.kept_beside),
                )
                for result in settlement.results
            ]
        )
        message.results = compress(results.SerializeToString())
    return message


def found_message(ref: LeaseRef, found: Found) -> lease.ReportEntriesRequest:
    """Returns a batch of a walk or a listing as a message."""
    return lease.ReportEntriesRequest(
        lease=ref_message(ref),
        after=to_bytes(found.after),
        cursor=to_bytes(found.cursor),
        chunks=[pack_chunk(items) for items in found.chunks],
        directories=[to_bytes(name) for name in found.directories],
        remove_directory=found.remove_directory,
        entries=[_entry_message(item) for item in found.entries],
        failures=[_failure_message(failure) for failure in found.failures],
        directories_done=found.directories_done,
        chunk_source_directory=to_bytes(found.chunk_source_directory),
        chunk_destination_directory=to_bytes(found.chunk_destination_directory),
        listed_kind=_KINDS[found.listed_kind] if found.entries else entry.ENTRY_KIND_UNSPECIFIED,
        listed_depth=found.listed_depth,
        skipped=[_failure_message(failure) for failure in found.skipped],
        files_unchanged=found.files_unchanged,
        bytes_unchanged=found.bytes_unchanged,
        extraneous_chunks=[pack_chunk(items) for items in found.extraneous_chunks],
        extraneous_directories=[to_bytes(name) for name in found.extraneous_directories],
        inner_directories=found.inner_directories,
        below=found.below,
    )


def _entry_message(item: Entry) -> entry.Entry:
    shown, raw = _shown(item.name)
    message = entry.Entry(name=shown, raw_name=raw, kind=_KINDS[item.kind], size_bytes=item.size_bytes, mode=item.mode)
    if item.kind != "unlistable":
        message.modify_time.FromSeconds(item.modify_time_s)
    if item.problem is not None:
        message.failure.CopyFrom(_problem_message(item.problem))
    return message


def _failure_message(failure: ItemFailure) -> job.EntryFailure:
    shown, raw = _shown(failure.path)
    return job.EntryFailure(
        index=failure.index,
        path=shown,
        raw_path=raw,
        failure=_problem_message(failure.problem),
        size_bytes=failure.size_bytes,
    )


def _problem_message(problem: Problem) -> entry.Failure:
    return entry.Failure(
        reason=problem.reason,
        message=_shown(problem.message)[0],
        party=_PARTIES[problem.party],
        retryable=problem.retryable,
        help=problem.help,
    )


def _shown(text: str) -> tuple[str, bytes]:
    """Returns text that is valid UTF-8, and the bytes that decide where it is not what was meant."""
    raw = to_bytes(text)
    try:
        return raw.decode(), b""
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), raw


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
