"""Shows how far a job is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from wherry.queue.v1 import job_service_pb2

from wherry_client.command import console, wording
from wherry_client.names import show_text

_LINE_EVERY_S = 10.0


class Reporter(Protocol):
    """Is told of a job as it goes on."""

    def __enter__(self) -> Self:
        """Begins to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clears what is not to stay."""
        ...

    def update(self, job: job_service_pb2.Job) -> None:
        """Shows the job as it is now."""
        ...

    def interrupted(self) -> None:
        """Shows that the connection is lost and sought again."""
        ...


class SilentReporter:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, job: job_service_pb2.Job) -> None:
        """Shows nothing."""

    def interrupted(self) -> None:
        """Shows nothing."""


class LineReporter(SilentReporter):
    """Writes a line when the job's state changes, and every ten seconds while it moves."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._headline = ""
        self._line = ""
        self._written_at = 0.0

    def update(self, job: job_service_pb2.Job) -> None:
        """Writes a line, or not."""
        headline, line = headline_of(job), line_of(job)
        due = self._now() - self._written_at >= _LINE_EVERY_S
        if headline == self._headline and (line == self._line or not due):
            return
        self._headline, self._line, self._written_at = headline, line, self._now()
        console.say(f"job {wording.job_id(job)}: {line}")

    def interrupted(self) -> None:
        """Says so."""
        console.note("connection lost, trying again")


class JsonReporter(SilentReporter):
    """Writes the job as a line of JSON, at each change."""

    def update(self, job: job_service_pb2.Job) -> None:
        """Writes a line."""
        console.show_json_line({"job": console.as_json(job)})


class BarReporter:
    """Shows a bar that stands for bytes, or for files where no bytes move."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[label]}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console.console(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, label="asking", figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, job: job_service_pb2.Job) -> None:
        """Moves the bar."""
        done, total = fraction_of(job.progress)
        self._bar.update(
            self._task,
            label=f"job {wording.job_id(job)} {headline_of(job)}",
            figures=figures_of(job),
            completed=done,
            total=total or None,
        )

    def interrupted(self) -> None:
        """Says so in place of the state."""
        self._bar.update(self._task, label="connection lost, trying again")


def reporter_for(*, as_json: bool) -> Reporter:
    """Returns what fits the output: nothing beside JSON, a bar on a terminal, lines elsewhere."""
    if as_json:
        return SilentReporter()
    return BarReporter() if console.is_terminal() else LineReporter()


def headline_of(job: job_service_pb2.Job) -> str:
    """Returns the state, and why a job waits if it does."""
    text = wording.state(job)
    if job.HasField("waiting_reason"):
        text += f" ({show_text(job.waiting_reason.message or job.waiting_reason.reason)})"
    return text


def line_of(job: job_service_pb2.Job) -> str:
    """Returns state and figures in one line."""
    figures = figures_of(job)
    return f"{headline_of(job)}, {figures}" if figures else headline_of(job)


def figures_of(job: job_service_pb2.Job) -> str:
    """Returns files, bytes, rate, failures and the time that is left, as far as they are known."""
    progress = job.progress
    parts = []
    if progress.files_total:
        parts.append(f"{progress.files_done + progress.files_landed:,}/{progress.files_total:,} files")
    if progress.bytes_total:
        moved = progress.bytes_done + progress.bytes_moving
        parts.append(f"{wording.size(moved)}/{wording.size(progress.bytes_total)}")
    if progress.bytes_per_second > 0:
        parts.append(wording.rate(progress.bytes_per_second))
    if left := wording.left(progress):
        parts.append(left)
    if failed := progress.files_failed + progress.directories_failed:
        parts.append(f"{failed:,} failed")
    return ", ".join(parts)


def fraction_of(progress: job_service_pb2.JobProgress) -> tuple[int, int]:
    """Returns how much is behind us of how much: in bytes, or in files and directories where no bytes move."""
    if progress.bytes_total:
        return progress.bytes_done + progress.bytes_failed + progress.bytes_moving, progress.bytes_total
    ended = progress.files_done + progress.files_failed + progress.directories_done + progress.directories_failed
    return ended, progress.files_total + progress.directories_total
