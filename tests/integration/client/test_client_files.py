"""ls, cp, rm, mkdir, mv."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable

import grpc
import pytest
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import entry_pb2
from wherry_client.client import open_client
from wherry_client.errors import UnavailableError
from wherry_client.files import PathKind
from wherry_client.paths import parse
from wherry_fakes.centre import FakeCentre
from wherry_fakes.scripted_queue import (
    Break,
    Hold,
    directory_entry,
    file_entry,
    progress_of,
    succeeded,
)
from wherry_testing.client_runs import Wherry

LATER_OF_C3 = "globs"


def pairs_of(job: messages.Job) -> list[tuple[str, str]]:
    return [(item.source.path, item.destination.path) for item in job.copy.items]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_ls_lists_the_default_path_and_paths_below_it_and_absolute_ones(signed_in: Wherry) -> None:
    assert signed_in("ls", "site-a:").out.splitlines() == ["data/", "notes.txt"]
    assert signed_in("ls", "site-a:data").out.splitlines() == ["one", "two"]
    assert signed_in("ls", "site-a:/home/alice/data/").out.splitlines() == ["one", "two"]
    assert signed_in("ls", "site-a:data", "site-b:").out == "site-a:data:\none\ntwo\n\nsite-b::\ninbox/\nold.txt\n"


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_ls_in_full_shows_permissions_sizes_and_times(signed_in: Wherry) -> None:
    lines = signed_in("ls", "-l", "site-a:").out.splitlines()
    assert lines[0].startswith("drwxr-xr-x")
    assert lines[1].split()[:2] == ["-rw-r--r--", "1234"]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_names_that_are_not_utf_8_or_hold_control_characters_are_shown_escaped_and_travel_raw(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    raw = b"caf\xe9 \x1b[31m\nx\\"
    odd = file_entry("shown", raw_name=raw)
    centre.queue.put("site-a", b"/home/alice/odd", odd, file_entry("plain # % ' \" ü"))
    listed = signed_in("ls", "site-a:odd").out
    assert listed == "caf\\xe9 \\x1b[31m\\nx\\\\\nplain # % ' \" ü\n"
    assert signed_in("ls", "--json", "site-a:odd").json["listings"][0]["entries"][0]["rawName"] == (
        "Y2Fm6SAbWzMxbQp4XA=="
    )
    assert signed_in("cp", os.fsdecode(b"site-a:odd/" + raw), "site-b:inbox").status == 0
    item = centre.queue.last_job().copy.items[0]
    assert item.source.raw_path == b"odd/" + raw
    assert item.destination.raw_path == b"inbox/" + raw


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_name_that_cannot_be_carried_is_explained_beside_the_listing(signed_in: Wherry, centre: FakeCentre) -> None:
    broken = entry_pb2.Entry(name="bad", kind=entry_pb2.ENTRY_KIND_UNLISTABLE)
    broken.failure.message = "The name holds a line break."
    centre.queue.put("site-a", b"/home/alice/odd", broken, file_entry("good"))
    listed = signed_in("ls", "site-a:odd")
    assert listed.out.split() == ["bad", "good"]
    assert "line break" in listed.err


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_ls_tells_what_is_missing_and_where_a_sign_in_is_needed(signed_in: Wherry, centre: FakeCentre) -> None:
    missing = signed_in("ls", "site-a:nowhere")
    assert (missing.status, "no such file" in missing.err) == (1, True)
    centre.sites.sessions.clear()
    needed = signed_in("ls", "site-a:")
    assert (needed.status, "wherry site login site-a" in needed.err) == (4, True)


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("site-a:", PathKind.DIRECTORY),
        ("site-a:data", PathKind.DIRECTORY),
        ("site-b:inbox", PathKind.DIRECTORY),
        ("site-a:notes.txt", PathKind.FILE),
        ("site-a:nowhere", PathKind.MISSING),
        ("site-a:same", PathKind.DIRECTORY),
        ("site-a:same/same", PathKind.FILE),
        ("site-a:nest", PathKind.DIRECTORY),
    ],
)
def test_a_listing_tells_directories_files_and_nothing_apart(
    signed_in: Wherry, centre: FakeCentre, place: str, kind: PathKind
) -> None:
    here = centre.queue.trees["sites/site-a"][1]
    here[b"/home/alice"] += [directory_entry("nest"), directory_entry("same")]
    centre.queue.put("site-a", b"/home/alice/same", file_entry("same"))
    centre.queue.put("site-a", b"/home/alice/nest", directory_entry("nest"))
    with open_client() as client:
        assert client.files.kind_of(parse(place)) is kind


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_an_existing_directory_receives_the_source_under_its_own_name(signed_in: Wherry, centre: FakeCentre) -> None:
    copied = signed_in("cp", "-r", "site-a:data", "site-b:inbox")
    assert copied.status == 0
    assert pairs_of(centre.queue.last_job()) == [("data", "inbox/data")]
    assert centre.queue.last_job().copy.recursive
    signed_in("cp", "-r", "site-a:data", "site-a:notes.txt", "site-b:")
    assert pairs_of(centre.queue.last_job()) == [("data", "data"), ("notes.txt", "notes.txt")]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_destination_that_is_not_there_is_the_copys_name(signed_in: Wherry, centre: FakeCentre) -> None:
    assert signed_in("cp", "-r", "site-a:data", "site-b:new/").status == 0
    assert pairs_of(centre.queue.last_job()) == [("data", "new")]
    assert signed_in("cp", "site-a:notes.txt", "site-b:new/").status == 2
    assert signed_in("cp", "-r", "site-a:notes.txt", "site-b:new/").status == 2
    assert signed_in("cp", "site-a:notes.txt", "site-a:data/one", "site-b:new").status == 2
    assert len(centre.queue.jobs) == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_options_of_a_copy_reach_the_queue_and_no_wait_writes_the_id(signed_in: Wherry, centre: FakeCentre) -> None:
    asked = signed_in("cp", "--no-wait", "--priority", "9", "--overwrite", "always", "site-a:notes.txt", "site-b:x")
    assert (asked.status, asked.out) == (0, "1\n")
    job = centre.queue.last_job()
    assert (job.priority, job.copy.overwrite) == (9, messages.OVERWRITE_POLICY_ALWAYS)
    assert not job.copy.recursive
    assert centre.queue.watch_calls == 0


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_lost_answer_to_a_request_for_a_job_makes_one_job(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.queue.lost_answers = 2
    assert signed_in("cp", "--no-wait", "site-a:notes.txt", "site-b:x").status == 0
    assert centre.queue.create_calls == 3
    assert len(centre.queue.jobs) == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_copy_shows_plain_lines_in_a_pipe_and_ends_with_a_summary(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.queue.script = [
        progress_of(messages.JOB_STATE_EXPANDING, done=0, total=1),
        progress_of(messages.JOB_STATE_RUNNING, done=1, total=2),
        succeeded(),
    ]
    copied = signed_in("cp", "-r", "site-a:data", "site-b:")
    assert copied.out.splitlines() == [
        "job 1: listing, 0/1 files, 0 B/1.0 MB",
        "job 1: running, 1/2 files, 1.0 MB/2.0 MB",
        "job 1: done, 2/2 files, 2.0 MB/2.0 MB",
        "Copied 2 files, 2.0 MB in 4.0 s (500.0 kB/s).",
    ]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_part_that_failed_is_listed_with_reason_and_advice_and_status_3(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    ending = progress_of(messages.JOB_STATE_PARTIALLY_FAILED, done=58, total=60)
    ending.progress.files_failed = 25
    denied = entry_pb2.Failure(reason="SOURCE_PERMISSION_DENIED", message="Permission denied.", help="Ask its owner.")
    centre.queue.failures = [messages.EntryFailure(path=f"/data/{number}", failure=denied) for number in range(25)]
    centre.queue.script = [ending]
    copied = signed_in("cp", "-r", "site-a:data", "site-b:")
    assert copied.status == 3
    assert "Partly failed. Copied 58 of 60 files" in copied.out
    assert "  /data/0: Permission denied. [SOURCE_PERMISSION_DENIED]" in copied.out
    assert copied.out.count("Permission denied.") == 20
    assert copied.out.count("Ask its owner.") == 1
    assert "wherry job show 1 --failures" in copied.out
    assert signed_in("job", "show", "1", "--failures").out.count("Permission denied.") == 25


@pytest.mark.row("C3", missing=LATER_OF_C3)
@pytest.mark.parametrize(
    ("state", "status"),
    [
        (messages.JOB_STATE_SUCCEEDED, 0),
        (messages.JOB_STATE_PARTIALLY_FAILED, 3),
        (messages.JOB_STATE_FAILED, 1),
        (messages.JOB_STATE_CANCELLED, 1),
    ],
)
def test_the_exit_status_tells_how_the_job_ended(
    signed_in: Wherry, centre: FakeCentre, state: messages.JobState.ValueType, status: int
) -> None:
    centre.queue.script = [messages.Job(state=state)]
    assert signed_in("rm", "site-a:data/one").status == status
    assert signed_in("job", "watch", "1", "--json").status == status


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_watch_goes_on_through_broken_streams(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.queue.script = [
        progress_of(messages.JOB_STATE_RUNNING, done=0),
        Break(grpc.StatusCode.UNAVAILABLE),
        Break(grpc.StatusCode.UNKNOWN),
        progress_of(messages.JOB_STATE_RUNNING, done=1),
        Break(None),
        succeeded(),
    ]
    copied = signed_in("cp", "-r", "site-a:data", "site-b:")
    assert copied.status == 0
    assert centre.queue.watch_calls == 4
    assert copied.err.count("connection lost") == 3


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_watch_goes_on_when_the_gateway_is_started_again(signed_in: Wherry, centre: FakeCentre) -> None:
    release = threading.Event()
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), Hold(release), succeeded()]
    with open_client() as client:
        job = client.jobs.remove([parse("site-a:x")])
        interruptions: list[str] = []
        watch = client.jobs.watch(job.name, on_interruption=lambda error: interruptions.append(error.message))
        assert next(watch).state == messages.JOB_STATE_RUNNING
        centre.stop()
        again = threading.Timer(1, centre.start)
        again.start()
        release.set()
        states = [current.state for current in watch]
        again.join()
    assert states[-1] == messages.JOB_STATE_SUCCEEDED
    assert interruptions


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_watch_goes_on_when_no_replica_of_the_queue_answers_for_a_while(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), Break(), succeeded()]
    with open_client() as client:
        job = client.jobs.remove([parse("site-a:x")])
        told: list[str] = []

        def interrupted(error: UnavailableError) -> None:
            told.append(error.message)
            if len(told) == 3:
                centre.away.clear()

        watch = client.jobs.watch(job.name, on_interruption=interrupted)
        next(watch)
        centre.away.add("queue")
        assert [current.state for current in watch][-1] == messages.JOB_STATE_SUCCEEDED
    assert len(told) >= 3
    assert "The queue service behind the gateway" in told[-1]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_listing_is_asked_for_again_while_the_way_to_the_queue_is_lost(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.away.add("queue")
    back = threading.Timer(0.2, centre.away.clear)
    back.start()
    listed = signed_in("ls", "site-a:")
    back.join()
    assert (listed.status, listed.out.split()) == (0, ["data/", "notes.txt"])


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_watch_goes_on_when_its_token_has_ended_meanwhile(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), Break(), succeeded()]
    with open_client() as client:
        job = client.jobs.remove([parse("site-a:x")])
        seen = []
        for current in client.jobs.watch(job.name):
            seen.append(current.state)
            centre.people.refuse_access_tokens()
    assert seen[-1] == messages.JOB_STATE_SUCCEEDED
    assert centre.people.refreshes == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_waiting_ends_at_the_time_given_with_status_5_and_tells_how_to_go_on(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    release = threading.Event()
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), Hold(release)]
    waited = signed_in("cp", "--timeout", "1s", "-r", "site-a:data", "site-b:")
    release.set()
    assert waited.status == 5
    assert "wherry job watch 1" in waited.err


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_job_that_waits_for_a_sign_in_ends_the_waiting_with_status_4_where_nobody_can_sign_in(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    step = progress_of(messages.JOB_STATE_WAITING_FOR_SIGN_IN)
    step.waiting_reason.reason, step.waiting_reason.site = "SIGN_IN_REQUIRED", "sites/site-b"
    centre.queue.script = [step, succeeded()]
    waited = signed_in("cp", "-r", "site-a:data", "site-b:")
    assert waited.status == 4
    assert "wherry site login site-b" in waited.err
    assert "wherry job watch 1" in waited.err


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_ctrl_c_leaves_the_job_alone_and_tells_how_to_go_on(
    signed_in: Wherry, centre: FakeCentre, start: Callable[..., subprocess.Popen[str]]
) -> None:
    release = threading.Event()
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), Hold(release)]
    process = start("cp", "-r", "site-a:data", "site-b:")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("job 1: running")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    release.set()
    assert process.returncode == 130
    assert "wherry job watch 1" in told
    assert "Traceback" not in told
    assert centre.queue.last_job().state == messages.JOB_STATE_RUNNING


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_reader_who_leaves_ends_the_command_in_silence(
    signed_in: Wherry, centre: FakeCentre, start: Callable[..., subprocess.Popen[str]]
) -> None:
    centre.queue.put("site-a", b"/home/alice/many", *(file_entry(f"{number:05}" * 40) for number in range(2000)))
    process = start("ls", "site-a:many")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_wait_in_json_writes_one_object_with_the_failures(signed_in: Wherry, centre: FakeCentre) -> None:
    ending = messages.Job(state=messages.JOB_STATE_FAILED)
    ending.failure.reason = "SOURCE_NOT_FOUND"
    centre.queue.script = [progress_of(messages.JOB_STATE_RUNNING), ending]
    centre.queue.failures = [messages.EntryFailure(path="/x", failure=ending.failure)]
    copied = signed_in("cp", "--json", "site-a:notes.txt", "site-b:x")
    assert copied.status == 1
    assert copied.json["job"]["state"] == "JOB_STATE_FAILED"
    assert copied.json["failures"][0]["failure"]["reason"] == "SOURCE_NOT_FOUND"


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_rm_takes_directories_with_r_only_by_the_queues_word_and_never_a_sites_beginning(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    assert signed_in("rm", "-r", "site-a:data", "site-a:/tmp/x").status == 0
    job = centre.queue.last_job()
    assert [target.path for target in job.remove.targets] == ["data", "/tmp/x"]
    assert job.remove.recursive
    for place in ("site-a:", "site-a:/", "site-a:.", "site-a://"):
        assert signed_in("rm", "-r", place).status == 2
    assert len(centre.queue.jobs) == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_mkdir_and_mv_are_silent_when_done_and_tell_when_not(signed_in: Wherry, centre: FakeCentre) -> None:
    made = signed_in("mkdir", "-p", "site-a:new/deep")
    assert (made.status, made.out, made.err) == (0, "", "")
    assert centre.queue.last_job().make_directory.parents
    moved = signed_in("mv", "site-a:notes.txt", "site-a:data")
    assert (moved.status, moved.out, moved.err) == (0, "", "")
    assert centre.queue.last_job().rename.destination.path == "data/notes.txt"
    assert signed_in("mv", "site-a:notes.txt", "site-b:x").status == 2

    failed = messages.Job(state=messages.JOB_STATE_FAILED)
    failed.failure.reason, failed.failure.message = "SOURCE_EXISTS", "It exists already."
    centre.queue.script = [failed]
    again = signed_in("mkdir", "site-a:data")
    assert (again.status, "It exists already. [SOURCE_EXISTS]" in again.out) == (1, True)


@pytest.mark.row("C4", missing="job logs, receipt")
def test_jobs_are_listed_newest_first_through_all_pages_and_shown_and_cancelled(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    for name in "abcde":
        signed_in("cp", "--no-wait", f"site-a:{name}", "site-b:x")
    rows = [line.split("\t") for line in signed_in("jobs").out.splitlines()]
    assert [row[0] for row in rows] == ["5", "4", "3", "2", "1"]
    assert rows[0][4] == "cp site-a:e → site-b:x"
    assert len(signed_in("jobs", "-n", "3").out.splitlines()) == 3
    assert "list and make" in signed_in("job", "show", "jobs/2", "--tasks").out
    assert signed_in("job", "cancel", "2").out == "Job 2: cancelled.\n"
    assert signed_in("job", "show", "99").status == 1
    assert signed_in("job", "show", "no/job").status == 2


@pytest.mark.row("C4", missing="job logs, receipt")
def test_a_job_is_paused_resumed_and_after_its_failure_retried(signed_in: Wherry, centre: FakeCentre) -> None:
    signed_in("cp", "--no-wait", "site-a:notes.txt", "site-b:x")
    assert signed_in("job", "pause", "1").out == "Job 1: paused.\n"
    assert signed_in("job", "resume", "1").out == "Job 1: running.\n"
    refused = signed_in("job", "retry", "1")
    assert refused.status == 1
    centre.queue.last_job().state = messages.JOB_STATE_PARTIALLY_FAILED
    assert '"JOB_STATE_QUEUED"' in signed_in("job", "retry", "1", "--json").out


@pytest.mark.row("C4", missing="job logs, receipt")
def test_job_watch_in_json_writes_a_line_at_each_change(signed_in: Wherry, centre: FakeCentre) -> None:
    signed_in("cp", "--no-wait", "site-a:notes.txt", "site-b:x")
    lines = signed_in("job", "watch", "1", "--json").out.splitlines()
    assert len(lines) == 2
    assert '"JOB_STATE_SUCCEEDED"' in lines[-1]


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_leaving_a_listing_cancels_it_at_the_service(signed_in: Wherry, centre: FakeCentre) -> None:
    with open_client() as client:
        entries = client.files.entries(parse("site-a:data"))
        next(entries)
        entries.close()
        assert centre.queue.listings_cancelled.wait(30)
