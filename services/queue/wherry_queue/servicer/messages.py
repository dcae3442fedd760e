"""Messages of the contracts out of what the domain and the store know."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import data_channel_pb2, entry_pb2
from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_queue.job_files import Cursor
from wherry_queue.settling import Failure
from wherry_queue.states import FINISHED, job_state
from wherry_queue.store.reading import JobView
from wherry_queue.waiting import Reason

_MOST_ID = (1 << 63) - 1
"""What databases take."""
_FAILURE_CHARS = 8_000
_CHANNELS = [data_channel_pb2.DataChannel.ValueType(number) for number in data_channel_pb2.DataChannel.values()]
_UNKNOWN_PAGE = "is not a token of an earlier answer; leave it empty to begin anew"


def timestamp(epoch_ms: int | None) -> Timestamp | None:
    """Returns a timestamp; None for None."""
    if epoch_ms is None:
        return None
    stamp = Timestamp()
    stamp.FromMilliseconds(epoch_ms)
    return stamp


def duration(seconds: float) -> Duration:
    """Returns a duration of so many seconds."""
    length = Duration()
    length.FromNanoseconds(int(seconds * 1e9))
    return length


def seconds(length: Duration) -> float:
    """Returns a duration's seconds."""
    return length.ToNanoseconds() / 1e9


def shown(path: bytes | None) -> str:
    """Returns a path to show; bytes that are no UTF-8 are escaped."""
    return (path or b"").decode("utf-8", "backslashreplace")


def raw(path: bytes) -> bytes:
    """Returns the path's bytes where they are no UTF-8 and so have to travel beside the text; else nothing."""
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return path
    return b""


def location_path(location: entry_pb2.Location) -> bytes:
    """Returns the path that a location means."""
    return location.raw_path or location.path.encode("utf-8", "surrogateescape")


def failure_message(stored: dict[str, Any] | None) -> entry_pb2.Failure | None:
    """Returns a stored failure as a message; None for None."""
    return entry_pb2.Failure(**stored) if stored else None


def failure_of(message: entry_pb2.Failure) -> Failure:
    """Returns a message's failure. Of a very long text (sites' own words are in it) only the beginning is kept."""
    reason, text, remedy = (words[:_FAILURE_CHARS] for words in (message.reason, message.message, message.help))
    return Failure(reason or "UNKNOWN", text, message.party, message.retryable, remedy)


def page_size(asked: int, default: int = 50) -> int:
    """Returns how many to give: AIP-158: 0 means the default, too many means the most."""
    return min(asked or default, 1000)


def page_key(token: str, field: str = "page_token") -> int | None:
    """Returns the key that a page token holds; raises InvalidFields for one that we did not make."""
    if not token:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", token):
        raise InvalidFields(FieldProblem(field, _UNKNOWN_PAGE))
    return int(token)


def page_token(key: int | None) -> str:
    """Returns the token of a page that begins behind a key; empty for None: there is none."""
    return "" if key is None else str(key)


def file_cursor(token: str, field: str = "page_token") -> Cursor:
    """Returns where a page of files begins; raises InvalidFields for a token that we did not make."""
    if not token:
        return Cursor()
    task, dot, index = token.partition(".")
    if not dot:
        raise InvalidFields(FieldProblem(field, _UNKNOWN_PAGE))
    return Cursor(page_key(task, field) or 0, page_key(index, field) or 0)


def file_token(cursor: Cursor | None) -> str:
    """Returns the token of a page of files; empty for none."""
    return f"{cursor.task_id}.{cursor.index}" if cursor is not None else ""


def job_uid_of(name: str) -> str:
    """Returns the job's uid in the name of a job or of something of it (its pattern was validated)."""
    return name.split("/")[1]


def id_at(name: str, part: int) -> int:
    """Returns the number that a resource name has at a part (its pattern was validated); too large a one is none."""
    return min(int(name.split("/")[part]), _MOST_ID)


def task_id_of(name: str) -> int:
    """Returns the id in a task's resource name (its pattern was validated)."""
    return int(name.rsplit("/", 1)[1])


def job_message(view: JobView) -> pb.Job:
    """Returns a job as its owner sees it; whole, or with the first few of its items, as it was read."""
    row = view.row
    state = job_state(row)
    job = pb.Job.FromString(row.specification)
    job.name, job.owner, job.priority = f"jobs/{row.uid}", view.owner, row.priority
    if row.attempts is not None:
        job.attempts = row.attempts
    job.state = getattr(pb, f"JOB_STATE_{state.name}")
    job.item_count = row.item_count
    job.data_channels.extend(channel for channel in _CHANNELS if row.data_channels >> channel & 1)
    job.progress.CopyFrom(_progress(view, finished=state in FINISHED))
    if failure := failure_message(row.failure):
        job.failure.CopyFrom(failure)
    for field, value in (("create_time", row.created_ms), ("start_time", row.started_ms), ("end_time", row.ended_ms)):
        if stamp := timestamp(value):
            getattr(job, field).CopyFrom(stamp)
    if view.waiting is not None:
        job.waiting_reason.CopyFrom(_waiting_reason(view.waiting))
    return job


def _progress(view: JobView, *, finished: bool) -> pb.JobProgress:
    row = view.row
    elapsed_s = 0.0
    if row.started_ms is not None:
        elapsed_s = max((row.ended_ms or view.now_ms) - row.started_ms, 1) / 1000
    moving = 0 if finished else view.bytes_moving
    progress = pb.JobProgress(
        files_total=row.files_total,
        files_done=row.files_done,
        files_failed=row.files_failed,
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        bytes_failed=row.bytes_failed,
        bytes_moving=moving,
        directories_total=row.directories_total,
        directories_done=row.directories_done,
        directories_failed=row.directories_failed,
        tasks_open=row.tasks_open,
        tasks_running=row.tasks_running,
        bytes_per_second=0.0 if finished else view.bytes_per_second,
        average_bytes_per_second=(row.bytes_done - row.bytes_unchanged + moving) / elapsed_s if elapsed_s else 0.0,
        elapsed=duration(elapsed_s),
        files_landed=0 if finished else view.files_landed,
        measure_time=None if finished else timestamp(view.measured_ms),
        files_unchanged=row.files_unchanged,
        bytes_unchanged=row.bytes_unchanged,
        entries_skipped=row.entries_skipped,
        extraneous_total=row.extraneous_total,
        extraneous_removed=row.extraneous_removed,
    )
    if view.remaining is not None and not finished:
        progress.remaining_least.CopyFrom(duration(view.remaining.least_s))
        progress.remaining_most.CopyFrom(duration(view.remaining.most_s))
    return progress


def _waiting_reason(reason: Reason) -> pb.WaitingReason:
    return pb.WaitingReason(
        reason=reason.reason,
        message=reason.message,
        site=reason.site,
        retry_time=timestamp(reason.retry_ms),
        position=reason.position,
        active_users=reason.active_users,
        share=reason.share,
        limit=reason.limit,
        in_use=reason.in_use,
        limit_subject=reason.limit_subject,
    )


def task_message(uid: str, row: Any) -> pb.Task:
    """Returns a task."""
    return pb.Task(
        name=f"jobs/{uid}/tasks/{row.id}",
        kind=row.kind,
        state=row.state,
        source_path=shown(row.source_path),
        destination_path=shown(row.destination_path),
        entry_count=row.entry_count,
        total_bytes=row.total_bytes,
        attempt_count=row.attempt_count,
        failure=failure_message(row.failure),
        phase=row.phase,
    )


_OUTCOME_STATES = {
    1: pb.TASK_STATE_SUCCEEDED,
    2: pb.TASK_STATE_FAILED,
    3: pb.TASK_STATE_CANCELLED,
    4: pb.TASK_STATE_READY,
}


def attempt_message(task_name: str, number: int, row: Any) -> pb.Attempt:
    """Returns an attempt, numbered from 1."""
    return pb.Attempt(
        name=f"{task_name}/attempts/{number}",
        worker=row.worker or "",
        outcome=_OUTCOME_STATES[row.outcome],
        failure=failure_message(row.failure),
        end_time=timestamp(row.ended_ms),
        log=row.log or "",
    )


def entry_failure_message(row: Any) -> pb.EntryFailure:
    """Returns an entry's failure."""
    return pb.EntryFailure(
        index=max(row.entry_index, 0),
        path=shown(row.path),
        raw_path=raw(row.path),
        failure=failure_message(row.failure),
        size_bytes=row.size_bytes,
    )
