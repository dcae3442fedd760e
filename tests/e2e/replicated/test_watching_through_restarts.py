"""A `wherry` command that waits for a job lives through restarts of everything between it and the job's rows."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from wherry_client import parse
from wherry_testing.deployment import RealDeployment
from wherry_testing.running_copies import Folders, same_trees, write_many
from wherry_testing.sites import RealSite
from wherry_testing.wherry_command import WherryCommand

_Sites = tuple[RealSite, RealSite]


@dataclass(frozen=True)
class Watched:
    """A job that a command watched while gateway and queue were restarted.

    Attributes:
        lines: what the command wrote; `complaints` to the standard error output.
        status: its exit status.
    """

    folders: Folders
    lines: Sequence[str]
    complaints: Sequence[str]
    status: int


@pytest.fixture(scope="module")
def watched(
    replicated: RealDeployment,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
    tmp_path_factory: pytest.TempPathFactory,
) -> Watched:
    """The job cannot begin before everything has been restarted: no worker is there until then."""
    folders = fresh_folders()
    write_many(folders.source, 3)
    folders.source_site.own("alice")
    wherry = replicated.person(f"{secrets.token_hex(4)}@example.org").wherry
    source, destination = _signed_in(wherry, two_sites, tmp_path_factory.mktemp("described"))
    for worker in replicated.workers:
        worker.terminate()
    for worker in replicated.workers:
        worker.wait_for_end()
    try:
        copied = parse(f"{source}:{folders.source.name}"), parse(f"{destination}:{folders.destination.name}/data")
        with wherry.client() as client:
            job = client.jobs.copy([copied], recursive=True).name
        command = wherry.start("job", "watch", job)
        assert command.stdout is not None
        first = command.stdout.readline()
        replicated.gateway.terminate()
        replicated.gateway.wait()
        replicated.gateway.start()
        replicated.wait_for_gateway()
        for replica in (0, 1):
            replicated.stop_service("queue", replica)
            replicated.start_service("queue", replica)
    finally:
        for _ in range(2):
            replicated.start_worker(wait=False)
    out, complaints = _rest(command)
    return Watched(folders, [first, *out], complaints, command.returncode)


def _signed_in(wherry: WherryCommand, sites: _Sites, folder: Path) -> tuple[str, str]:
    names = []
    for site, username in zip(sites, ("alice", "bob"), strict=True):
        file = folder / f"{site.name}.json"
        file.write_text(json.dumps(site.description))
        names.append(f"{site.name}-{secrets.token_hex(4)}")
        wherry.must("site", "add", names[-1], "--title", names[-1], "--from", str(file))
        login = ("site", "login", names[-1], "--username", username, "--password-stdin")
        wherry.must(*login, stdin=site.accounts[username])
    return names[0], names[1]


def _rest(command: subprocess.Popen[str]) -> tuple[list[str], list[str]]:
    try:
        out, complaints = command.communicate(timeout=90)
    finally:
        command.kill()
    return out.splitlines(keepends=True), complaints.splitlines()


@pytest.mark.row("C4", missing="job pause, resume, retry, logs, receipt")
def test_a_watch_lives_through_a_restart_of_the_gateway_and_of_every_replica(watched: Watched) -> None:
    assert watched.status == 0, "".join(watched.lines) + "\n".join(watched.complaints)
    assert "queued" in watched.lines[0]
    assert watched.lines[-1].startswith("Copied 3 files")


@pytest.mark.row("C4", missing="job pause, resume, retry, logs, receipt")
def test_a_watch_says_nothing_but_that_it_tries_again(watched: Watched) -> None:
    assert watched.complaints
    assert set(watched.complaints) == {"connection lost, trying again"}


def test_the_job_that_was_watched_did_its_work(watched: Watched) -> None:
    assert same_trees(watched.folders.source, watched.folders.destination / "data")
