"""The demonstration as `make demo` runs it, in a folder of its own. The tests build on each other's folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wherry_chassis.buildout import load
from wherry_testing.buildout_up import wait_until

pytestmark = pytest.mark.timeout(600)
WITHIN_S = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demonstration")
    # Sites serve other accounts, which have to be able to walk here.
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    yield folder
    assert processes(folder) == []


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "wherry_deploy.demonstration", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | environment,
    )


def processes(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{folder}/" in command:
                found.append(command)
    return found


@pytest.mark.row("U8")
@pytest.mark.row("J6", missing="symbolic links")
@pytest.mark.row("B1")
def test_the_demonstration_copies_verifies_and_ends_leaving_nothing(folder: Path) -> None:
    running = start(folder, DEMO_EXIT="1")
    said, errors = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0, said + errors
    assert errors == ""
    assert processes(folder) == []
    for name in ("Wherry", "site-a", "site-b"):
        assert re.search(rf"^  {name} +\S+ +password \S{{14}}$", said, re.MULTILINE), said
    copied = re.search(r"^Copied +(\d+) files and (\d+) directories \((\d+) of them empty\)$", said, re.MULTILINE)
    assert copied is not None, said
    assert int(copied[1]) >= 60
    assert int(copied[3]) >= 1
    assert re.search(r"^Rate +[\d.]+ MB/s", said, re.MULTILINE)
    (mail,) = (folder / "inbox").iterdir()
    assert "wherry verify" in mail.read_text()
    passwords = re.findall(r"password (\S+)$", said, re.MULTILINE)
    for log in (folder / "logs").iterdir():
        for password in passwords:
            assert password not in log.read_text(errors="replace"), log.name


def test_a_second_run_uses_what_is_there_and_stays_until_ctrl_c(folder: Path) -> None:
    copies = folder / "site-b" / "site" / "data" / "guest17"
    before = set(copies.iterdir())
    assert before, "the first run has to be there"
    running = start(folder, DEMO_EXIT="")
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if "Everything stays up until Ctrl-C" in line:
            break
    wherry = subprocess.run([folder / "wherry", "jobs", "--json"], capture_output=True, text=True, check=False)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0, "".join(lines) + rest + errors
    assert not any("wherry register" in line for line in lines)
    assert wherry.returncode == 0, wherry.stderr
    assert len(set(copies.iterdir()) - before) == 1
    wait_until(lambda: processes(folder) == [])


def test_what_keeps_it_from_running_is_one_clear_line_and_where_the_logs_are(folder: Path) -> None:
    address = load(folder / "deployment" / "buildout.toml").service.queue.listen[0]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        running = start(folder, DEMO_EXIT="1")
        _, errors = running.communicate(timeout=WITHIN_S)
    first, second = errors.splitlines()
    assert running.returncode == 1
    assert first.startswith("demonstration: ")
    assert address in first
    assert second == f"The logs are in {folder / 'logs'}."
    assert processes(folder) == []
