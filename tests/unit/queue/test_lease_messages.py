"""What a worker is told of a task and its job."""

from __future__ import annotations

from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry_queue.servicer.lease_messages import lease_message
from wherry_queue.states import TaskKind, WorkClass
from wherry_queue.store.leases import LeasedTask
from wherry_queue.workers import GivenLease

OPTIONS = job_service_pb2.CopyOptions(exclude=["*.tmp"], dry_run=True).SerializeToString()


def leased(kind: TaskKind, **changes: Any) -> pb.Lease:
    """The lease of a task."""
    values: dict[str, Any] = {
        "task_id": 7, "fence": 2, "job_id": 1, "job_uid": "abc", "user": "users/a", "source_site": "sites/a",
        "destination_site": "sites/b", "work_class": WorkClass.BULK, "kind": kind, "source_path": b"/from/x",
        "destination_path": None, "root": False, "path_below": b"", "extraneous": False, "recursive": True,
        "overwrite": 4, "options": b"", "cursor": b"c", "payload": b"packed", "entry_count": 3, "total_bytes": 30,
        "below": False, "settled": b"\x01", "attempt": 1,
    }  # fmt: skip
    return lease_message(GivenLease(LeasedTask(**(values | changes)), "token", 10.0))


@pytest.mark.row("J8")
@pytest.mark.row("J10")
def test_walks_and_chunks_of_a_copy_carry_its_options() -> None:
    walk = leased(TaskKind.WALK_COPY, options=OPTIONS, path_below=b"x", destination_path=b"/to/x").walk_copy
    assert (list(walk.options.exclude), walk.options.dry_run, walk.path_below) == (["*.tmp"], True, b"x")
    assert walk.overwrite == job_service_pb2.OVERWRITE_POLICY_IF_DIFFERENT
    assert leased(TaskKind.COPY_FILES, options=OPTIONS).copy_files.options.exclude == ["*.tmp"]
    assert not leased(TaskKind.COPY_FILES).copy_files.HasField("options")


@pytest.mark.row("J8")
@pytest.mark.parametrize(("options", "dry"), [(OPTIONS, True), (b"", False)])
def test_a_dry_runs_walk_at_the_destination_is_told_to_remove_nothing(options: bytes, dry: bool) -> None:
    assert leased(TaskKind.WALK_REMOVE, extraneous=True, options=options).walk_remove.dry_run is dry


@pytest.mark.row("J1")
@pytest.mark.row("D6")
@pytest.mark.parametrize(
    ("asked", "of_files", "of_directories"),
    [
        (job_service_pb2.ChangeModeOperation(mode=0), 0, 0),
        (job_service_pb2.ChangeModeOperation(mode=0o640), 0o640, 0o640),
        (job_service_pb2.ChangeModeOperation(mode=0o640, directory_mode=0o750), 0o640, 0o750),
    ],
)
def test_files_and_directories_get_the_modes_that_were_asked_for(
    asked: job_service_pb2.ChangeModeOperation, of_files: int, of_directories: int
) -> None:
    options = asked.SerializeToString()
    walk = leased(TaskKind.WALK_CHANGE_MODE, options=options).walk_tree
    assert (walk.directories_too, walk.directories_only, walk.recursive, walk.cursor) == (True, False, True, b"c")
    files = leased(TaskKind.CHANGE_MODE_OF_FILES, options=options).change_mode_of_files
    assert (files.mode, files.directory, files.chunk.entry_count, files.done) == (of_files, b"/from/x", 3, b"\x01")
    assert leased(TaskKind.CHANGE_MODE_OF_DIRECTORY, options=options).change_mode_of_directory.mode == of_directories


@pytest.mark.row("D6")
def test_where_only_directories_are_to_be_changed_no_mode_is_made_up_for_files() -> None:
    options = job_service_pb2.ChangeModeOperation(directory_mode=0o750).SerializeToString()
    assert leased(TaskKind.WALK_CHANGE_MODE, options=options).walk_tree.directories_only
    assert leased(TaskKind.CHANGE_MODE_OF_FILES, options=options).WhichOneof("work") is None
    directory = leased(TaskKind.CHANGE_MODE_OF_DIRECTORY, options=options).change_mode_of_directory
    assert directory.mode == 0o750


@pytest.mark.row("J9")
def test_a_chunk_of_checksums_names_the_algorithm() -> None:
    options = job_service_pb2.ChecksumOperation(algorithm="sha256").SerializeToString()
    assert leased(TaskKind.CHECKSUM_FILES, options=options).checksum_files.algorithm == "sha256"
    walk = leased(TaskKind.WALK_CHECKSUM, options=options).walk_tree
    assert (walk.directories_too, walk.directories_only) == (False, False)


def test_every_kind_of_task_has_its_message() -> None:
    asked = job_service_pb2.ChangeModeOperation(mode=0o640).SerializeToString()
    of_mode = {TaskKind.WALK_CHANGE_MODE, TaskKind.CHANGE_MODE_OF_FILES, TaskKind.CHANGE_MODE_OF_DIRECTORY}
    for kind in TaskKind:
        assert leased(kind, options=asked if kind in of_mode else b"").WhichOneof("work"), kind.name
