"""How sizes, times and jobs are written."""

from __future__ import annotations

import io

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import entry_pb2
from wherry_client.command import console, waiting, wording
from wherry_client.command.progress import BarReporter, LineReporter, figures_of, fraction_of, headline_of
from wherry_client.errors import UsageError

LATER_OF_C3 = "globs"


def copy_job(state: messages.JobState.ValueType = messages.JOB_STATE_RUNNING, **progress: float) -> messages.Job:
    job = messages.Job(name="jobs/7", state=state, progress=messages.JobProgress(**progress))  # type: ignore[arg-type]  # one dict for ints and floats
    item = job.copy.items.add()
    item.source.CopyFrom(entry_pb2.Location(site="sites/a", path="data"))
    item.destination.CopyFrom(entry_pb2.Location(site="sites/b", path="data"))
    return job


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (312_400_000, "312.4 MB"),
        (5 * 10**21, "5000.0 EB"),
    ],
)
def test_sizes_are_short_and_never_a_thousand_of_a_unit(size_bytes: int, text: str) -> None:
    assert wording.size(size_bytes) == text


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert wording.parse_duration(text) == seconds


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize("text", ["", "0", "1.5h", "-1", "12 hours", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        wording.parse_duration(text)


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_time_that_is_not_there_or_in_no_calendar_is_a_dash() -> None:
    assert wording.moment(Timestamp()) == "-"
    assert wording.moment(Timestamp(seconds=2**60)) == "-"


@pytest.mark.row("J5")
def test_figures_count_the_bytes_that_move_and_tell_the_time_that_is_left_as_an_interval() -> None:
    job = copy_job(
        files_done=12, files_total=60, bytes_done=10**6, bytes_moving=10**6, bytes_total=10**7, bytes_per_second=10**6
    )
    assert figures_of(job) == "12/60 files, 2.0 MB/10.0 MB, 1.0 MB/s", "nothing is said that the queue has not said"
    assert fraction_of(job.progress) == (2 * 10**6, 10**7)
    job.progress.remaining_least.FromMilliseconds(7_600)
    job.progress.remaining_most.FromMilliseconds(95_000)
    assert figures_of(job).endswith(", 8.0 s to 1 min 35 s left")
    job.progress.remaining_least.FromMilliseconds(95_400)
    assert figures_of(job).endswith(", 1 min 35 s left")


@pytest.mark.row("J5")
def test_a_removal_counts_files_and_directories() -> None:
    progress = messages.JobProgress(
        files_done=3, files_failed=1, files_total=5, directories_done=1, directories_total=2
    )
    assert fraction_of(progress) == (5, 7)


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_job_that_waits_says_why() -> None:
    job = copy_job(messages.JOB_STATE_QUEUED)
    job.waiting_reason.message = "No worker is there.\x1b[2J"
    assert headline_of(job) == "queued (No worker is there.\\x1b[2J)"


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("job", "line"),
    [
        (
            copy_job(
                messages.JOB_STATE_SUCCEEDED, files_done=60, files_total=60, directories_done=9, bytes_done=312 * 10**6,
                average_bytes_per_second=25.4e6,
            ),
            "Copied 60 files and 9 directories, 312.0 MB in 12.0 s (25.4 MB/s).",
        ),
        (
            copy_job(messages.JOB_STATE_SUCCEEDED, files_done=1, files_total=1),
            "Copied 1 file, 0 B in 12.0 s.",
        ),
        (
            copy_job(messages.JOB_STATE_FAILED, files_total=1, files_failed=1),
            "Failed. Copied 0 of 1 files, 0 B in 12.0 s; 1 failed.",
        ),
        (
            copy_job(messages.JOB_STATE_CANCELLED, files_done=3, files_total=60, bytes_done=3),
            "Cancelled. Copied 3 of 60 files, 3 B in 12.0 s (0 B/s).",
        ),
    ],
)  # fmt: skip
def test_the_summary_is_one_line(job: messages.Job, line: str) -> None:
    job.progress.elapsed.seconds = 12
    assert waiting.summary(job) == line


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_pipe_gets_a_line_at_each_new_state_and_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    reporter = LineReporter(now=lambda: clock[0])
    for second in range(25):
        clock[0] = 100.0 + second
        reporter.update(copy_job(files_done=second, files_total=60))
    reporter.update(copy_job(messages.JOB_STATE_SUCCEEDED, files_done=60, files_total=60))
    written = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in written] == ["0/60", "10/60", "20/60", "60/60"]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(
        console, "console", lambda: Console(file=written, force_terminal=True, width=120, markup=False, highlight=False)
    )
    with BarReporter() as reporter:
        reporter.update(copy_job(files_done=30, files_total=60, bytes_done=5, bytes_total=10))
        reporter.interrupted()
        reporter.update(copy_job(files_done=31, files_total=60, bytes_done=6, bytes_total=10))
    shown = written.getvalue()
    assert "job 7 running" in shown
    assert "31/60 files, 6 B/10 B" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("\x1b[2K")


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_markup_in_a_foreign_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    from wherry_client.errors import WherryError

    console.show_error(WherryError("[red]not red[/red] :smile: [/x]", advice="[link=x]no[/link]"))
    told = capsys.readouterr().err
    assert "[red]not red[/red] :smile: [/x]" in told
    assert "[link=x]no[/link]" in told


@pytest.mark.row("C4", missing="job logs, receipt")
def test_a_job_with_more_items_than_a_list_shows_counts_them_all() -> None:
    job = copy_job()
    assert "more" not in wording.operation(job)
    job.item_count = 25
    assert "and 24 more" in wording.operation(job)
