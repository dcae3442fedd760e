"""The `wherry` command against fake services behind a gateway's one port."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wherry_client.__main__ import run
from wherry_fakes.centre import FakeCentre
from wherry_fakes.scripted_queue import directory_entry, file_entry
from wherry_testing.client_runs import FindTokenFile, Finished, Wherry
from wherry_testing.pki import TestPki

EMAIL = "alice@example.org"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def deployment_pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("client-pki"))


@pytest.fixture
def centre(deployment_pki: TestPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCentre]:
    """The services, two sites with files, one registered person, and a configuration that names them."""
    with FakeCentre(deployment_pki) as centre:
        centre.people.register(EMAIL, PASSWORD)
        for site in ("site-a", "site-b"):
            centre.sites.add(site, title=f"University of {site[-1].upper()}", accounts={"alice": "open sesame"})
        centre.queue.put("site-a", b"/home/alice", directory_entry("data"), file_entry("notes.txt", 1234))
        centre.queue.put("site-a", b"/home/alice/data", file_entry("one"), file_entry("two"))
        centre.queue.put("site-b", b"/home/alice", directory_entry("inbox"), file_entry("old.txt"))
        centre.queue.put("site-b", b"/home/alice/inbox")
        monkeypatch.setenv("WHERRY_CONFIG", str(centre.write_configuration(tmp_path)))
        monkeypatch.setenv("WHERRY_STATE", str(tmp_path / "state"))
        yield centre


@pytest.fixture
def strangers(centre: FakeCentre, tmp_path: Path) -> Path:
    """A folder for a configuration that names another deployment's authority, known to the centre as `strangers`."""
    folder = tmp_path / "strangers"
    centre.authorities["strangers"] = TestPki(folder / "pki")
    return folder


@pytest.fixture
def wherry(centre: FakeCentre, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wherry:
    """Runs a command line in this process."""

    def call(*arguments: str, stdin: str = "") -> Finished:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = run(arguments)
        captured = capsys.readouterr()
        return Finished(int(status), captured.out, captured.err)

    return call


@pytest.fixture
def signed_in(wherry: Wherry, centre: FakeCentre) -> Wherry:
    """The same, with Alice signed in at Wherry and at both sites."""
    assert wherry("login", EMAIL, "--password-stdin", stdin=PASSWORD).status == 0
    for site in ("site-a", "site-b"):
        centre.sites.sign_in("users/1", site)
    return wherry


@pytest.fixture
def start(centre: FakeCentre) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command line as a process of its own; ends it after the test."""
    processes = []

    def call(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "wherry_client", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "default"},
        )
        processes.append(process)
        return process

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def token_file(tmp_path: Path) -> FindTokenFile:
    """Finds the one token file."""

    def find() -> Path | None:
        found = list((tmp_path / "state").glob("tokens-*.json"))
        assert len(found) < 2
        return found[0] if found else None

    return find
