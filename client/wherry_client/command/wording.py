"""How sizes, times, states and jobs are written for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from wherry.queue.v1 import job_service_pb2
from wherry.type.v1 import entry_pb2

from wherry_client import channels
from wherry_client.errors import UsageError
from wherry_client.names import show_text
from wherry_client.paths import of_location

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_STATES = {
    job_service_pb2.JOB_STATE_QUEUED: "queued",
    job_service_pb2.JOB_STATE_EXPANDING: "listing",
    job_service_pb2.JOB_STATE_RUNNING: "running",
    job_service_pb2.JOB_STATE_PAUSED: "paused",
    job_service_pb2.JOB_STATE_WAITING_FOR_SIGN_IN: "waiting for sign-in",
    job_service_pb2.JOB_STATE_CANCELLING: "cancelling",
    job_service_pb2.JOB_STATE_CANCELLED: "cancelled",
    job_service_pb2.JOB_STATE_SUCCEEDED: "done",
    job_service_pb2.JOB_STATE_PARTIALLY_FAILED: "partly failed",
    job_service_pb2.JOB_STATE_FAILED: "failed",
}
_DURATION = re.compile(r"([0-9]+)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size(size_bytes: float) -> str:
    """Returns a number of bytes in powers of 1000, as `31.2 MB`."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 999.95 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def rate(bytes_per_second: float) -> str:
    """Returns a rate, as `25.4 MB/s`."""
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """Returns a duration, as `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def parse_duration(text: str) -> int:
    """Returns the seconds of `90`, `90s`, `30m`, `12h` or `7d`; raises UsageError."""
    matched = _DURATION.fullmatch(text.strip())
    if matched is None or int(matched[1]) == 0:
        raise UsageError(f'"{show_text(text)}" is no duration: write seconds, or 30m, 12h, 7d.')
    return int(matched[1]) * _SECONDS[matched[2]]


def moment(timestamp: Timestamp) -> str:
    """Returns a time in the local zone, as `2026-11-22 01:33`; a dash where there is none."""
    if not timestamp.seconds and not timestamp.nanos:
        return "-"
    try:
        return datetime.fromtimestamp(timestamp.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):  # a time that a file claims and no calendar has
        return "-"


def count(number: int, thing: str, things: str = "") -> str:
    """Returns `1 file`, `12,000 files`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def state(job: job_service_pb2.Job) -> str:
    """Returns a job's state in words."""
    return _STATES.get(job.state, f"state {job.state}")


def job_id(job: job_service_pb2.Job) -> str:
    """Returns the id that commands take."""
    return show_text(job.name.removeprefix("jobs/"))


def operation(job: job_service_pb2.Job) -> str:
    """Returns what a job does, in one line."""
    kind = job.WhichOneof("operation")
    if kind == "copy":
        first = job.copy.items[0] if job.copy.items else job_service_pb2.CopyItem()
        more = _and_more(job.item_count or len(job.copy.items))  # lists show the first few of them only
        return f"cp {of_location(first.source)}{more} → {of_location(first.destination)}"
    if kind == "remove":
        return f"rm {_first(job.remove.targets)}{_and_more(job.item_count or len(job.remove.targets))}"
    if kind == "make_directory":
        return f"mkdir {of_location(job.make_directory.target)}"
    if kind == "change_mode":
        asked = job.change_mode
        mode = asked.mode if asked.HasField("mode") else asked.directory_mode
        return f"chmod {mode:o} {_first(asked.targets)}{_and_more(job.item_count or len(asked.targets))}"
    if kind == "checksum":
        return f"sum {_first(job.checksum.targets)}{_and_more(job.item_count or len(job.checksum.targets))}"
    if kind == "rename":
        return f"mv {of_location(job.rename.source)} → {of_location(job.rename.destination)}"
    return "an operation that this release of the client does not know"


def data_channels(job: job_service_pb2.Job) -> str:
    """Returns how the bytes of a job went, in words; empty where none did."""
    return ", ".join(channels.in_words(channel) for channel in job.data_channels)


def left(progress: job_service_pb2.JobProgress) -> str:
    """Returns how long a job still takes, as `8.0 s to 12.0 s left`; empty where nothing can be said."""
    if not progress.HasField("remaining_most"):
        return ""
    ends = [duration(round(end.ToNanoseconds() / 1e9)) for end in (progress.remaining_least, progress.remaining_most)]
    return f"{' to '.join(dict.fromkeys(ends))} left"


def _first(targets: Sequence[entry_pb2.Location]) -> str:
    return str(of_location(targets[0])) if targets else ""


def _and_more(items: int) -> str:
    return f" and {items - 1} more" if items > 1 else ""
