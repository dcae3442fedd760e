"""cp with options, sync, chmod, sum."""

from __future__ import annotations

import pytest
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import data_channel_pb2, entry_pb2
from wherry_fakes.centre import FakeCentre
from wherry_fakes.scripted_queue import progress_of, succeeded
from wherry_testing.client_runs import Wherry

LATER_OF_C3 = "globs"
pytestmark = pytest.mark.row("C3", missing=LATER_OF_C3)


def copied(signed_in: Wherry, centre: FakeCentre, *options: str) -> messages.CopyOperation:
    """What the queue is asked for by a cp with options."""
    assert signed_in("cp", "--no-wait", *options, "site-a:notes.txt", "site-b:x").status == 0
    return centre.queue.last_job().copy


@pytest.mark.row("J8")
@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ([], messages.OVERWRITE_POLICY_NEVER),
        (["--overwrite", "always"], messages.OVERWRITE_POLICY_ALWAYS),
        (["--overwrite", "if-newer"], messages.OVERWRITE_POLICY_IF_NEWER),
        (["--if-newer"], messages.OVERWRITE_POLICY_IF_NEWER),
        (["--if-different"], messages.OVERWRITE_POLICY_IF_DIFFERENT),
        (["--keep-both"], messages.OVERWRITE_POLICY_KEEP_BOTH),
        (["--keep-both", "--overwrite", "keep-both"], messages.OVERWRITE_POLICY_KEEP_BOTH),
    ],
)
def test_what_becomes_of_files_that_are_there_already_is_said_in_one_of_two_ways(
    signed_in: Wherry, centre: FakeCentre, options: list[str], policy: messages.OverwritePolicy.ValueType
) -> None:
    asked = copied(signed_in, centre, *options)
    assert asked.overwrite == policy
    assert not asked.HasField("options"), "what was not said is not sent"


@pytest.mark.row("J9")
@pytest.mark.row("J10")
def test_each_option_reaches_the_queue(signed_in: Wherry, centre: FakeCentre) -> None:
    given = ["--if-different", "--compare", "checksum", "--checksum", "sha256", "--follow-links", "--no-times",
             "-r", "--include", "*.dat", "--include", "run7/**", "--exclude", "*.tmp", "--encrypt",
             "--dry-run"]  # fmt: skip
    options = copied(signed_in, centre, *given).options
    assert options == messages.CopyOptions(
        comparison=messages.COMPARISON_CHECKSUM,
        checksum_algorithm="sha256",
        symlinks=messages.SYMLINK_POLICY_FOLLOW,
        keep_modify_times=False,
        include=["*.dat", "run7/**"],
        exclude=["*.tmp"],
        data_channel=data_channel_pb2.DATA_CHANNEL_ENCRYPTED,
        dry_run=True,
    )
    assert copied(signed_in, centre, "--no-verify").options.verification == messages.VERIFICATION_SIZE
    assert copied(signed_in, centre, "--protocol", "gsiftp", "--protocol", "gsiftp").options.protocols == ["gsiftp"]
    channel = copied(signed_in, centre, "--data-channel", "authenticated").options.data_channel
    assert channel == data_channel_pb2.DATA_CHANNEL_AUTHENTICATED


@pytest.mark.parametrize(
    "options",
    [
        ["--if-newer", "--keep-both"],
        ["--overwrite", "always", "--if-different"],
        ["--compare", "checksum"],
        ["--no-verify", "--checksum", "md5"],
        ["--encrypt", "--data-channel", "clear"],
        ["--checksum", "crc32"],
        ["--include", "*.dat"],
        ["--exclude", "*.tmp"],
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_asked_for(
    signed_in: Wherry, centre: FakeCentre, options: list[str]
) -> None:
    refused = signed_in("cp", *options, "site-a:notes.txt", "site-b:x")
    assert (refused.status, refused.out) == (2, "")
    assert centre.queue.jobs == {}


@pytest.mark.row("J8")
def test_sync_names_the_destination_exactly_and_copies_what_differs(signed_in: Wherry, centre: FakeCentre) -> None:
    assert signed_in("sync", "--delete", "site-a:data", "site-b:inbox").status == 0
    asked = centre.queue.last_job().copy
    assert [(item.source.path, item.destination.path) for item in asked.items] == [("data", "inbox")]
    assert (asked.recursive, asked.overwrite) == (True, messages.OVERWRITE_POLICY_IF_DIFFERENT)
    assert asked.options == messages.CopyOptions(delete_extraneous=True)
    assert signed_in("sync", "--compare", "checksum", "site-a:", "site-b:").status == 0
    assert centre.queue.last_job().copy.options == messages.CopyOptions(comparison=messages.COMPARISON_CHECKSUM)
    assert signed_in("sync", "site-a:data", "site-a:data/below").status == 2
    assert signed_in("sync", "--no-wait", "site-a:data/below", "site-a:data").status == 0
    refused = signed_in("sync", "--delete", "site-a:data/below", "site-a:data")
    assert (refused.status, refused.out) == (2, "")


@pytest.mark.row("J11", missing="reachable both ways")
def test_a_dry_run_tells_what_would_be_copied_and_removed(signed_in: Wherry, centre: FakeCentre) -> None:
    step = messages.Job(state=messages.JOB_STATE_SUCCEEDED)
    progress = messages.JobProgress(
        files_total=5, files_done=2, files_unchanged=2, bytes_total=500, bytes_done=200, extraneous_total=2,
        entries_skipped=1,
    )  # fmt: skip
    step.progress.CopyFrom(progress)
    centre.queue.script = [step]
    planned = messages.FILE_STATE_PLANNED
    centre.queue.files = [
        messages.JobFile(path="/a/one", destination_path="/b/one", size_bytes=100, state=planned),
        messages.JobFile(path="/a/link", state=messages.FILE_STATE_SKIPPED),
        messages.JobFile(path="/a/two\x1b", destination_path="/b/two\x1b", size_bytes=1, state=planned),
        messages.JobFile(path="/b/old", size_bytes=1, state=planned, extraneous=True),
    ]
    kinds = (messages.TASK_KIND_REMOVE_FILES, messages.TASK_KIND_REMOVE_DIRECTORY)
    centre.queue.tasks = [
        messages.Task(kind=kind, state=messages.TASK_STATE_PLANNED, source_path="/b/older") for kind in kinds
    ]
    told = signed_in("sync", "--dry-run", "--delete", "site-a:data", "site-b:inbox")
    lines = told.out.splitlines()[-7:]
    assert [line.split(" for another ")[0] for line in lines[4:6]] == ["sign-in at site-a:", "sign-in at site-b:"]
    assert (told.status, lines[:4] + lines[6:]) == (
        0,
        [
            "copy site-a:/a/one → site-b:/b/one (100 B)",
            "copy site-a:/a/two\\x1b → site-b:/b/two\\x1b (1 B)",
            "remove site-b:/b/old",
            "remove site-b:/b/older/",
            "Dry run: would copy 3 files, 300 B, 2 are unchanged, would remove 2 extraneous; 1 skipped.",
        ],
    )
    found = signed_in("cp", "-r", "-n", "--json", "site-a:data", "site-b:inbox").json
    assert [file["path"] for file in found["files"]] == ["/a/one", "/a/two\x1b", "/b/old"]
    assert [directory["sourcePath"] for directory in found["directories"]] == ["/b/older"]
    assert [session["site"] for session in found["siteSessions"]] == ["sites/site-a", "sites/site-b"]


@pytest.mark.row("J11", missing="reachable both ways")
def test_a_dry_run_with_clashes_names_them_and_says_so_by_its_exit_status(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    step = progress_of(messages.JOB_STATE_PARTIALLY_FAILED, total=3)
    step.progress.files_failed = 1
    step.failure.reason = "DESTINATION_EXISTS"
    centre.queue.script = [step]
    clash = messages.EntryFailure(path="/a/one")
    clash.failure.CopyFrom(entry_pb2.Failure(reason="DESTINATION_EXISTS", message="A file is there already."))
    centre.queue.failures = [clash]
    told = signed_in("cp", "-r", "--dry-run", "site-a:data", "site-b:inbox")
    assert told.status == 3
    assert "Partly failed. Dry run: would copy 2 files, 3.0 MB; 1 failed." in told.out
    assert "/a/one: A file is there already. [DESTINATION_EXISTS]" in told.out


@pytest.mark.row("D6")
def test_chmod_reads_octal_modes(signed_in: Wherry, centre: FakeCentre) -> None:
    assert signed_in("chmod", "640", "site-a:notes.txt", "site-a:data").status == 0
    asked = centre.queue.last_job().change_mode
    assert ([target.path for target in asked.targets], asked.mode) == (["notes.txt", "data"], 0o640)
    assert (asked.recursive, asked.HasField("directory_mode")) == (False, False)
    assert signed_in("chmod", "-R", "0", "--directories", "2750", "site-a:data").status == 0
    asked = centre.queue.last_job().change_mode
    assert (asked.mode, asked.directory_mode, asked.recursive) == (0, 0o2750, True)
    assert signed_in("job", "show", "2").out.splitlines()[1].split(maxsplit=1)[1] == "chmod 0 site-a:data"


@pytest.mark.parametrize("mode", ["", "u+x", "888", "10000", "-1", "0o644"])
def test_what_is_no_octal_mode_is_refused(signed_in: Wherry, centre: FakeCentre, mode: str) -> None:
    assert signed_in("chmod", "--", mode, "site-a:notes.txt").status == 2
    assert signed_in("chmod", "640", "site-a:notes.txt", "site-b:old.txt").status == 2
    assert centre.queue.jobs == {}


@pytest.mark.row("J9")
def test_sum_writes_a_line_for_each_file_and_nothing_else_into_a_pipe(signed_in: Wherry, centre: FakeCentre) -> None:
    done = messages.FILE_STATE_DONE
    sums = [entry_pb2.Checksum(algorithm="md5", value=f"00{digit}") for digit in "abc"]
    centre.queue.files = [
        *(messages.JobFile(path=f"/a/{n}", state=done, checksum=each) for n, each in enumerate(sums)),
        messages.JobFile(path="/a/broken", state=messages.FILE_STATE_FAILED),
    ]
    told = signed_in("sum", "-r", "--algorithm", "md5", "site-a:data")
    assert (told.status, told.out) == (0, "00a  site-a:/a/0\n00b  site-a:/a/1\n00c  site-a:/a/2\n")
    asked = centre.queue.last_job().checksum
    assert (asked.algorithm, asked.recursive, asked.targets[0].path) == ("md5", True, "data")
    centre.queue.script = [progress_of(messages.JOB_STATE_FAILED)]
    assert signed_in("sum", "--json", "site-a:data").status == 1
    step = progress_of(messages.JOB_STATE_PARTIALLY_FAILED, done=3, total=4)
    step.failure.reason = "PERMISSION_DENIED"
    centre.queue.script = [step]
    partly = signed_in("sum", "-r", "site-a:data")
    assert (partly.status, partly.out) == (3, told.out), "nor where some of them failed"
    assert "PERMISSION_DENIED" in partly.err


def test_a_job_shows_what_was_left_alone_and_how_its_bytes_went(signed_in: Wherry, centre: FakeCentre) -> None:
    step = succeeded(5)
    step.progress.MergeFrom(
        messages.JobProgress(files_unchanged=3, entries_skipped=2, extraneous_total=7, extraneous_removed=6)
    )
    step.data_channels.extend([data_channel_pb2.DATA_CHANNEL_CLEAR, data_channel_pb2.DATA_CHANNEL_ENCRYPTED])
    centre.queue.script = [step]
    told = signed_in("cp", "-r", "site-a:data", "site-b:inbox")
    assert told.out.splitlines()[-1] == (
        "Copied 5 files, 5.0 MB, 3 of them unchanged, removed 6 of 7 extraneous in 4.0 s; 2 skipped."
    )
    shown = dict(line.split(maxsplit=1) for line in signed_in("job", "show", "1").out.splitlines() if "  " in line)
    assert (shown["unchanged"], shown["skipped"], shown["extraneous"]) == ("3", "2", "6 of 7 removed")
    assert "data channel  clear, encrypted" in signed_in("job", "show", "1").out


@pytest.mark.row("C4", missing="job logs, receipt")
def test_a_jobs_files_are_listed_with_their_checksums_and_reasons(signed_in: Wherry, centre: FakeCentre) -> None:
    signed_in("cp", "-r", "site-a:data", "site-b:inbox")
    link = messages.JobFile(path="/a/link", state=messages.FILE_STATE_SKIPPED)
    link.failure.CopyFrom(entry_pb2.Failure(reason="SYMLINK_SKIPPED", message="Links are left out."))
    checksum = entry_pb2.Checksum(algorithm="adler32", value="0000abcd")
    done = messages.JobFile(path="/a/one", size_bytes=7, state=messages.FILE_STATE_DONE, checksum=checksum)
    centre.queue.files = [link, done, messages.JobFile(raw_path=b"/a/\xff", state=messages.FILE_STATE_WAITING)]
    assert signed_in("job", "files", "1").out.splitlines() == [
        "skipped\t0\t-\t/a/link\tLinks are left out.",
        "done\t7\tadler32:0000abcd\t/a/one",
        "waiting\t0\t-\t/a/\\xff",
    ]
    only = signed_in("job", "files", "1", "--state", "done", "--state", "skipped").out
    assert [line.split("\t")[0] for line in only.splitlines()] == ["skipped", "done"]
