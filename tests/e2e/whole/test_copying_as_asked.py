"""Copies as people ask for them, with the `wherry` command, between real sites: policies, links, filters, sums."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wherry_testing.deployment import Person
from wherry_testing.running_copies import Folders, same_trees
from wherry_testing.wherry_command import WherryCommand

THEN = 1_500_000_000


class Copies:
    """Two folders and the command; paths are as the command takes them."""

    def __init__(self, wherry: WherryCommand, folders: Folders) -> None:
        self.wherry = wherry
        self.folders = folders
        self.here = folders.source
        self.there = folders.destination
        self.source = f"site-a:{folders.source.name}"
        self.destination = f"site-b:{folders.destination.name}"

    def at_source(self, **files: str) -> None:
        """Writes files of the source, all of one old time; a name's `__` stands for a slash."""
        _write(self.here, files)
        self.folders.source_site.own("alice")

    def at_destination(self, **files: str) -> None:
        """Writes files of the destination."""
        _write(self.there, files)
        self.folders.destination_site.own("bob")

    def copied(self, *options: str) -> dict[str, Any]:
        """Copies each entry of the source folder into the destination folder; returns the job, as JSON has it."""
        entries = sorted(path.name for path in self.here.iterdir())
        sources = [f"{self.source}/{name}" for name in entries]
        done = self.wherry("cp", "-r", "--json", *options, *sources, self.destination + "/")
        found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
        return found

    def files(self, job: str) -> list[dict[str, Any]]:
        """Returns what a job tells of its files."""
        return [json.loads(line)["file"] for line in self.wherry.must("job", "files", "--json", job).out.splitlines()]

    def texts(self) -> dict[str, str]:
        """Returns what is at the destination, by path."""
        return {str(path.relative_to(self.there)): path.read_text() for path in self.there.rglob("*") if path.is_file()}


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (THEN, THEN))


@pytest.fixture
def copies(alice: Person, fresh_folders: Callable[[], Folders]) -> Copies:
    return Copies(alice.wherry, fresh_folders())


# --- what becomes of a file that is there already


@pytest.mark.row("J8")
def test_if_newer_replaces_what_is_older_and_leaves_the_rest(copies: Copies) -> None:
    copies.at_source(older="new", newer="new", missing="new")
    copies.at_destination(older="old", newer="mine")
    os.utime(copies.there / "older", (THEN - 100, THEN - 100))
    os.utime(copies.there / "newer", (THEN + 100, THEN + 100))
    found = copies.copied("--if-newer")
    assert found["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert copies.texts() == {"older": "new", "newer": "mine", "missing": "new"}
    assert found["job"]["progress"]["filesUnchanged"] == "1"


@pytest.mark.row("J8")
@pytest.mark.parametrize(("compare", "replaced"), [("time", "same length 1"), ("checksum", "same length 2")])
def test_if_different_goes_by_what_it_is_told_to_compare(copies: Copies, compare: str, replaced: str) -> None:
    copies.at_source(file="same length 2")
    copies.at_destination(file="same length 1")
    copies.copied("--if-different", "--compare", compare)
    assert copies.texts() == {"file": replaced}


@pytest.mark.row("J8")
def test_keep_both_gives_the_new_one_another_name(copies: Copies) -> None:
    copies.at_source(file="new", same="same")
    copies.at_destination(file="old", same="same")
    assert copies.copied("--keep-both")["job"]["state"] == "JOB_STATE_SUCCEEDED"
    texts = copies.texts()
    assert texts.pop("file") == "old"
    assert texts.pop("same") == "same"
    assert list(texts.values()) == ["new"]


@pytest.mark.row("J8")
def test_a_sync_copies_what_differs_and_removes_what_is_too_much(copies: Copies) -> None:
    copies.at_source(kept="kept", changed="changed since", deep__deeper__new="new")
    copies.at_destination(
        kept="kept", changed="before", extra="extra", deep__old__leaf="gone", deep__old__more__leaf="gone"
    )
    (copies.here / "empty").mkdir()
    copies.folders.source_site.own("alice")
    before = (copies.there / "kept").stat()
    copies.wherry.must("sync", "--delete", copies.source, copies.destination)
    assert same_trees(copies.here, copies.there)
    assert (copies.there / "kept").stat().st_ino == before.st_ino
    again = json.loads(
        copies.wherry.must("sync", "--delete", "--json", copies.source, copies.destination).out.splitlines()[-1]
    )
    progress = again["job"]["progress"]
    assert (progress["filesUnchanged"], progress["filesTotal"]) == ("3", "3")
    assert progress.get("extraneousRemoved", "0") == "0"


@pytest.mark.row("J8")
@pytest.mark.row("J11", missing="reachable both ways")
def test_a_dry_run_of_a_sync_says_what_would_be_done_and_does_nothing(copies: Copies) -> None:
    copies.at_source(new="new", changed="changed since", kept="kept")
    copies.at_destination(changed="before", kept="kept", extra="extra")
    before = copies.texts()
    done = copies.wherry.must("sync", "--delete", "--dry-run", copies.source, copies.destination)
    assert copies.texts() == before
    assert {name for name in ("new", "changed", "extra") if f"/{name}" in done.out} == {"new", "changed", "extra"}
    assert "/kept" not in done.out
    assert [line.split(":")[0] for line in done.out.splitlines() if line.startswith("sign-in")] == [
        "sign-in at site-a",
        "sign-in at site-b",
    ]


# --- links, filters, times


@pytest.mark.row("J6")
@pytest.mark.row("D9")
def test_links_are_left_out_and_named(copies: Copies) -> None:
    copies.at_source(directory__file="text")
    (copies.here / "directory" / "link").symlink_to("file")
    (copies.here / "directory" / "broken").symlink_to("nowhere")
    found = copies.copied()
    assert copies.texts() == {"directory/file": "text"}
    skipped = [
        file for file in copies.files(found["job"]["name"].split("/")[1]) if file["state"] == "FILE_STATE_SKIPPED"
    ]
    # GridFTP servers do not list a link that leads nowhere; that there is something is said of its directory.
    assert [file["path"].rsplit("/", 1)[-1] for file in skipped] == ["link", "directory"]
    assert [file["failure"]["reason"] for file in skipped] == ["SYMLINK_SKIPPED", "ENTRIES_NOT_LISTED"]


@pytest.mark.row("J6")
@pytest.mark.row("D9")
def test_followed_links_are_copied_as_what_they_lead_to(copies: Copies) -> None:
    copies.at_source(directory__file="text", elsewhere__leaf="leaf")
    (copies.here / "directory" / "link").symlink_to("file")
    (copies.here / "directory" / "tree").symlink_to("../elsewhere")
    copies.copied("--follow-links")
    assert copies.texts() == {
        "directory/file": "text",
        "directory/link": "text",
        "directory/tree/leaf": "leaf",
        "elsewhere/leaf": "leaf",
    }
    assert not any(path.is_symlink() for path in copies.there.rglob("*"))


@pytest.mark.row("J6")
def test_a_link_that_leads_back_up_ends_the_copy_of_its_branch_only(copies: Copies) -> None:
    copies.at_source(directory__file="text", beside="beside")
    (copies.here / "directory" / "loop").symlink_to("../directory")
    copies.copied("--follow-links")
    texts = copies.texts()
    assert (texts["directory/file"], texts["beside"]) == ("text", "beside")
    assert len(texts) < 100


@pytest.mark.row("J6")
def test_a_removal_of_many_levels_takes_links_and_never_what_they_lead_to(copies: Copies) -> None:
    deep = copies.there / "top" / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    (copies.there / "kept").mkdir()
    (copies.there / "kept" / "leaf").write_text("kept")
    (deep / "out").symlink_to("../../../../../kept")
    (copies.there / "top" / "broken").symlink_to("nowhere")
    copies.folders.destination_site.own("bob")
    copies.wherry.must("rm", "-r", f"{copies.destination}/top")
    assert copies.texts() == {"kept/leaf": "kept"}
    assert sorted(path.name for path in copies.there.iterdir()) == ["kept"]


@pytest.mark.row("J10")
def test_only_what_a_pattern_includes_and_none_excludes_is_copied(copies: Copies) -> None:
    copies.at_source(
        top__run__one__data="1",
        top__run__one__log="2",
        top__run__two__data="3",
        top__run__scratch__data="4",
        top__data="5",
    )
    copies.copied("--include", "run/**/data", "--exclude", "scratch")
    assert copies.texts() == {"top/run/one/data": "1", "top/run/two/data": "3"}


@pytest.mark.row("J1")
def test_files_keep_the_time_of_their_change_unless_it_is_not_wanted(copies: Copies) -> None:
    copies.at_source(file="text")
    copies.copied()
    assert int((copies.there / "file").stat().st_mtime) == THEN
    (copies.there / "file").unlink()
    copies.copied("--no-times")
    assert (copies.there / "file").stat().st_mtime > time.time() - 3600


# --- what is recorded


@pytest.mark.row("J9")
@pytest.mark.row("D10")
@pytest.mark.parametrize("algorithm", ["adler32", "md5", "sha256"])
def test_the_checksum_that_both_ends_have_is_recorded_for_each_file(copies: Copies, algorithm: str) -> None:
    copies.at_source(directory__one="1", two="2")
    found = copies.copied("--checksum", algorithm)
    told = {
        file["path"].rsplit("/", 1)[-1]: (file["checksum"]["algorithm"], file["checksum"]["value"])
        for file in copies.files(found["job"]["name"].split("/")[1])
    }
    if algorithm == "adler32":
        assert told == {"one": ("adler32", "00320032"), "two": ("adler32", "00330033")}
    else:
        assert told == {
            n: (algorithm, hashlib.new(algorithm, t.encode()).hexdigest()) for n, t in (("one", "1"), ("two", "2"))
        }


@pytest.mark.row("J1")
@pytest.mark.row("D6")
def test_checksums_of_a_tree_are_those_of_its_bytes(copies: Copies) -> None:
    copies.at_source(one="1", deep__two="2")
    lines = copies.wherry.must("sum", "-r", "--algorithm", "sha256", copies.source).out.splitlines()
    told = {line.split(maxsplit=1)[1].rsplit("/", 1)[-1].strip(): line.split()[0] for line in lines}
    assert told == {"one": hashlib.sha256(b"1").hexdigest(), "two": hashlib.sha256(b"2").hexdigest()}


@pytest.mark.row("J1")
@pytest.mark.row("D6")
def test_permissions_of_files_and_directories_are_changed_through_a_tree(copies: Copies) -> None:
    copies.at_destination(top__file="1", top__deep__file="2")
    copies.wherry.must("chmod", "-r", "--directories", "750", "640", f"{copies.destination}/top")
    modes = {
        str(path.relative_to(copies.there)): oct(stat.S_IMODE(path.stat().st_mode)) for path in copies.there.rglob("*")
    }
    assert modes == {"top": "0o750", "top/file": "0o640", "top/deep": "0o750", "top/deep/file": "0o640"}


@pytest.mark.row("J1")
@pytest.mark.parametrize(("options", "told"), [((), "encrypted"), (("--data-channel", "clear"), "clear")])
def test_a_job_tells_how_its_bytes_went(copies: Copies, options: tuple[str, ...], told: str) -> None:
    copies.at_source(file="text")
    found = copies.copied(*options)
    assert found["job"]["dataChannels"] == [f"DATA_CHANNEL_{told.upper()}"]
    shown = copies.wherry.must("job", "show", found["job"]["name"].split("/")[1]).out
    assert told in shown


# --- what fails says so


@pytest.mark.row("B3")
@pytest.mark.row("T23")
@pytest.mark.row("T9")
def test_a_file_that_may_not_be_read_is_told_with_reason_whose_it_is_and_what_to_do(copies: Copies) -> None:
    copies.at_source(open="text", secret="text")
    (copies.here / "secret").chmod(0)
    found = copies.copied()
    assert found["job"]["state"] == "JOB_STATE_PARTIALLY_FAILED"
    assert copies.texts() == {"open": "text"}
    (entry,) = found["failures"]
    failure = entry["failure"]
    assert entry["path"].endswith("/secret")
    assert failure["reason"] == "SOURCE_PERMISSION_DENIED"
    assert failure["party"] in ("PARTY_USER", "PARTY_SOURCE_SITE")
    assert failure["help"]
    shown = copies.wherry("job", "show", found["job"]["name"].split("/")[1])
    assert "SOURCE_PERMISSION_DENIED" in shown.out
    assert failure["help"] in " ".join(shown.out.split())


@pytest.mark.row("B3")
@pytest.mark.row("T14")
def test_a_copy_that_fails_says_at_which_end(copies: Copies) -> None:
    copies.at_source(file="text")
    copies.there.chmod(0o500)
    try:
        found = copies.copied()
    finally:
        copies.there.chmod(0o700)
    (entry,) = found["failures"]
    assert entry["failure"]["reason"] == "DESTINATION_PERMISSION_DENIED"
    assert found["job"]["state"] == "JOB_STATE_FAILED"
