"""The main job: a directory of many files copied from one real site to another with the `wherry` command."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wherry_client.command import console
from wherry_deploy.demonstration import source_data
from wherry_deploy.demonstration.verify import Comparison, compare
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.running_copies import Folders, write_large
from wherry_testing.wherry_command import WherryCommand

LARGE_BYTES = 200_000_000
LEAST_FILES = 60


@dataclass(frozen=True)
class MainCopy:
    """The copy, and how its owner saw it.

    Attributes:
        files, size_bytes: what there was to copy.
        watched: the job each time that the stream told of it.
        compared: both directories, byte by byte.
    """

    folders: Folders
    files: int
    size_bytes: int
    job: str
    watched: Sequence[dict[str, Any]]
    compared: Comparison

    @property
    def progress(self) -> dict[str, Any]:
        """The job's progress at the end."""
        found: dict[str, Any] = self.watched[-1]["progress"]
        return found


def _make_source(folder: Path) -> None:
    for file in source_data.files():
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.size_bytes == source_data.LARGE_BYTES:
            write_large(path, LARGE_BYTES)
        else:
            path.write_bytes(file.path.encode() * (file.size_bytes // len(file.path.encode())))
    for empty in source_data.EMPTY_DIRECTORIES:
        (folder / empty).mkdir(parents=True)


@pytest.fixture(scope="module")
def main_copy(alice: Person, fresh_folders: Callable[[], Folders]) -> MainCopy:
    folders = fresh_folders()
    _make_source(folders.source)
    folders.source_site.own("alice")
    paths = [path for path in folders.source.rglob("*") if path.is_file()]
    places = f"site-a:{folders.source.name}", f"site-b:{folders.destination.name}/data"
    with alice.wherry.client() as client:
        next(client.jobs.all(), None)  # connected by now: a command would begin to watch when much of it is over
        job = alice.wherry.must("cp", "-r", "--no-wait", *places).out.strip()
        watched: list[dict[str, Any]] = [console.as_json(one) for one in client.jobs.watch(f"jobs/{job}")]
    compared = compare(folders.source, folders.destination / "data")
    return MainCopy(folders, len(paths), sum(path.stat().st_size for path in paths), job, watched, compared)


@pytest.mark.row("J1")
@pytest.mark.row("B1")
def test_every_file_of_a_copied_directory_has_the_bytes_of_its_source(main_copy: MainCopy) -> None:
    assert main_copy.compared.differences == []
    assert main_copy.compared.files == main_copy.files > LEAST_FILES


@pytest.mark.row("D7")
def test_odd_names_arrive_as_they_are(main_copy: MainCopy) -> None:
    names = [{path.name for path in (top / "odd names").iterdir()} for top in _tops(main_copy)]
    assert names[0] == names[1]
    assert any("#" in name for name in names[0])
    assert any("%" in name for name in names[0])


@pytest.mark.row("D9")
@pytest.mark.row("J6")
def test_empty_directories_are_copied_too(main_copy: MainCopy) -> None:
    assert main_copy.compared.empty_directories == len(source_data.EMPTY_DIRECTORIES)
    assert all((main_copy.folders.destination / "data" / empty).is_dir() for empty in source_data.EMPTY_DIRECTORIES)


@pytest.mark.row("D1")
@pytest.mark.row("J2")
def test_a_finished_copy_has_counted_every_file_directory_and_byte(main_copy: MainCopy) -> None:
    progress = main_copy.progress
    assert main_copy.watched[-1]["state"] == "JOB_STATE_SUCCEEDED"
    directories = str(main_copy.compared.directories)
    assert (progress["filesTotal"], progress["filesDone"]) == (str(main_copy.files), str(main_copy.files))
    assert (progress["bytesTotal"], progress["bytesDone"]) == (str(main_copy.size_bytes), str(main_copy.size_bytes))
    assert (progress["directoriesTotal"], progress["directoriesDone"]) == (directories, directories)
    assert {progress[name] for name in ("filesFailed", "bytesFailed", "directoriesFailed", "tasksOpen")} == {"0"}


@pytest.mark.row("D1")
def test_a_running_copy_never_reads_as_done_before_all_is_done(main_copy: MainCopy) -> None:
    unfinished = [job for job in main_copy.watched if job["progress"]["filesDone"] != str(main_copy.files)]
    assert unfinished
    assert {job["state"] for job in unfinished} <= {"JOB_STATE_QUEUED", "JOB_STATE_EXPANDING", "JOB_STATE_RUNNING"}


@pytest.mark.row("J5")
def test_the_stream_tells_of_files_and_bytes_as_they_move(main_copy: MainCopy) -> None:
    done = [int(job["progress"]["filesDone"]) for job in main_copy.watched]
    assert done == sorted(done)
    assert len(set(done)) > 2
    moved = [int(job["progress"]["bytesDone"]) + int(job["progress"]["bytesMoving"]) for job in main_copy.watched]
    assert any(0 < now < main_copy.size_bytes for now in moved)


@pytest.mark.row("J5")
def test_the_stream_tells_the_rate_now_and_on_average_and_the_time_elapsed(main_copy: MainCopy) -> None:
    progresses = [job["progress"] for job in main_copy.watched]
    assert any(progress["bytesPerSecond"] > 0 for progress in progresses)
    assert main_copy.progress["averageBytesPerSecond"] > 0
    elapsed_s = [float(progress["elapsed"].removesuffix("s")) for progress in progresses if "elapsed" in progress]
    assert all(one <= other for one, other in itertools.pairwise(elapsed_s))
    assert elapsed_s[-1] > 0


@pytest.mark.row("J5")
@pytest.mark.row("C4", missing="pause, resume, retry, logs, receipt")
def test_who_watches_a_copy_that_is_over_is_told_how_it_ended(main_copy: MainCopy, alice: Person) -> None:
    lines = alice.wherry.must("job", "watch", "--json", main_copy.job).out.splitlines()
    assert json.loads(lines[-1])["job"]["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.row("J2")
@pytest.mark.row("C4", missing="pause, resume, retry, logs, receipt")
def test_the_list_of_jobs_shows_the_copy_with_its_counts(main_copy: MainCopy, alice: Person) -> None:
    rows = [line.split("\t") for line in alice.wherry.must("jobs").out.splitlines()]
    (row,) = [row for row in rows if row[0] == main_copy.job]
    assert row[1] == "done"
    assert f"{main_copy.files}/{main_copy.files} files" in row[2]


@pytest.mark.row("J3")
def test_a_job_shows_its_tasks_and_what_each_of_them_did(main_copy: MainCopy, alice: Person) -> None:
    tasks = json.loads(alice.wherry.must("job", "show", "--tasks", "--json", main_copy.job).out)["tasks"]
    assert {task["state"] for task in tasks} == {"TASK_STATE_SUCCEEDED"}
    chunks = [task for task in tasks if task["kind"] == "TASK_KIND_COPY_FILES"]
    assert sum(int(task["entryCount"]) for task in chunks) == main_copy.files
    assert sum(int(task["totalBytes"]) for task in chunks) == main_copy.size_bytes


@pytest.mark.row("J3")
def test_a_job_does_not_exist_for_anybody_else(main_copy: MainCopy, deployment: RealDeployment) -> None:
    mallory = deployment.person("mallory@example.org").wherry
    assert mallory.must("jobs").out == ""
    for command in ("show", "watch", "cancel"):
        refused = mallory("job", command, main_copy.job)
        assert refused.status == 1
        assert "no job" in refused.err


def test_no_temporary_file_remains_of_a_copy(main_copy: MainCopy) -> None:
    assert main_copy.folders.temporaries() == []


# --- the same directory listed, moved, copied again and removed


def _tops(main_copy: MainCopy) -> tuple[Path, Path]:
    return main_copy.folders.source, main_copy.folders.destination / "data"


@pytest.mark.row("C3", missing="chmod, sum, sync, globs, dry run")
@pytest.mark.row("D7")
def test_a_listing_shows_every_name_that_was_copied(main_copy: MainCopy, alice: Person) -> None:
    place = f"site-b:{main_copy.folders.destination.name}/data/odd names"
    listed = json.loads(alice.wherry.must("ls", "--json", place).out)["listings"][0]["entries"]
    there = {path.name: path.stat().st_size for path in (_tops(main_copy)[1] / "odd names").iterdir()}
    assert {entry["name"]: int(entry["sizeBytes"]) for entry in listed} == there


@pytest.mark.row("C3", missing="chmod, sum, sync, globs, dry run")
def test_a_directory_is_made_and_moved(alice: Person, fresh_folders: Callable[[], Folders]) -> None:
    folders = fresh_folders()
    top = f"site-b:{folders.destination.name}"
    alice.wherry.must("mkdir", "-p", f"{top}/one/two")
    alice.wherry.must("mv", f"{top}/one/two", f"{top}/three")
    assert {path.name for path in folders.destination.iterdir()} == {"one", "three"}
    assert list((folders.destination / "one").iterdir()) == []


def _small_copy(alice: Person, folders: Folders) -> tuple[WherryCommand, tuple[str, str]]:
    (folders.source / "deep" / "deeper" / "empty").mkdir(parents=True)
    (folders.source / "deep" / "deeper" / "leaf").write_text("leaf")
    (folders.source / "top").write_text("top")
    folders.source_site.own("alice")
    places = f"site-a:{folders.source.name}", f"site-b:{folders.destination.name}/copied"
    alice.wherry.must("cp", "-r", *places)
    return alice.wherry, places


@pytest.mark.row("J6")
@pytest.mark.row("C3", missing="chmod, sum, sync, globs, dry run")
def test_a_directory_is_removed_with_all_that_is_in_it_and_nothing_else(
    alice: Person, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    wherry, (_, destination) = _small_copy(alice, folders)
    (folders.destination / "beside").write_text("beside")
    folders.destination_site.own("bob")
    assert wherry("rm", destination).status == 1, "a directory needs -r"
    wherry.must("rm", "-r", destination)
    assert [path.name for path in folders.destination.iterdir()] == ["beside"]


@pytest.mark.row("J6")
def test_a_copy_into_a_directory_that_is_there_goes_under_its_own_name(
    alice: Person, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    wherry, (source, destination) = _small_copy(alice, folders)
    wherry.must("cp", "-r", source, destination)
    assert compare(folders.source, folders.destination / "copied" / folders.source.name).differences == []


@pytest.mark.row("J8")
def test_another_file_at_the_destination_is_kept_unless_overwriting_was_asked_for(
    alice: Person, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    wherry, _ = _small_copy(alice, folders)
    copied = folders.destination / "copied" / "top"
    copied.write_text("something else")
    places = f"site-a:{folders.source.name}/top", f"site-b:{folders.destination.name}/copied/top"
    kept = wherry("cp", *places)
    assert (kept.status, copied.read_text()) == (1, "something else")
    assert "DESTINATION_EXISTS" in kept.out
    wherry.must("cp", "--overwrite", "always", *places)
    assert copied.read_text() == "top"


@pytest.mark.row("J15")
def test_what_the_destination_has_already_counts_as_done(alice: Person, fresh_folders: Callable[[], Folders]) -> None:
    folders = fresh_folders()
    wherry, _ = _small_copy(alice, folders)
    before = (folders.destination / "copied" / "top").stat()
    again = f"site-a:{folders.source.name}/top", f"site-b:{folders.destination.name}/copied/top"
    assert "Copied 1 file" in wherry.must("cp", *again).out
    after = (folders.destination / "copied" / "top").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
