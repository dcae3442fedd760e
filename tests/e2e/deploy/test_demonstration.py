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
from urllib.parse import urlsplit

import pytest
from wherry_chassis.buildout import load
from wherry_client import load as load_client
from wherry_testing.buildout_up import wait_until
from wherry_testing.gateway_callers import HttpCaller
from wherry_testing.traces import processes_of

pytestmark = pytest.mark.timeout(600)
WITHIN_S = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demonstration")
    # Sites serve other accounts, which have to be able to walk here.
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    yield folder
    assert processes_of(folder) == {}


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


@pytest.mark.row("U8")
@pytest.mark.row("J6")
@pytest.mark.row("B1")
def test_the_demonstration_copies_verifies_and_ends_leaving_nothing(folder: Path) -> None:
    running = start(folder, DEMO_EXIT="1")
    said, errors = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0, said + errors
    assert errors == ""
    assert processes_of(folder) == {}
    address, accounts = said.index("  https://localhost:"), said.index("  Wherry ")
    assert address < accounts < said.index("\n$ wherry site login site-a") < said.index("\n$ wherry cp -r")
    assert str(folder / "web-ca.pem") in said
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


@pytest.mark.row("S2")
def test_whoever_follows_what_is_printed_signs_in_at_once_finds_the_sites_and_a_second_run_uses_what_is_there(
    folder: Path,
) -> None:
    copies = folder / "site-b" / "site" / "data" / "guest17"
    before = set(copies.iterdir())
    assert before, "the first run has to be there"
    first = load_client(folder / "deployment" / "client.toml").gateway
    running = start(folder, DEMO_EXIT="")
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if "web-ca.pem" in line:
            break
    said = "".join(lines)
    assert f"  https://{first}\n" in said, "the address stays the same"
    account = re.search(r"^  Wherry +(\S+) +password (\S+)$", said, re.MULTILINE)
    assert account is not None, said
    sites = sites_seen(f"https://{first}", folder / "web-ca.pem", account[1], account[2])
    for line in running.stdout:
        lines.append(line)
        if "Everything stays up until Ctrl-C" in line:
            break
    wherry = subprocess.run([folder / "wherry", "jobs", "--json"], capture_output=True, text=True, check=False)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0, "".join(lines) + rest + errors
    assert sites == ["sites/site-a", "sites/site-b"]
    assert not any("wherry register" in line or "wherry site add" in line for line in lines)
    assert wherry.returncode == 0, wherry.stderr
    assert len(set(copies.iterdir()) - before) == 1
    wait_until(lambda: processes_of(folder) == {})


def sites_seen(url: str, ca: Path, email: str, password: str) -> list[str]:
    """Signs in as a newcomer does, with nothing but what is printed, and returns the sites that they see."""
    parts = urlsplit(url)
    caller = HttpCaller(parts.hostname or "", parts.port or 0, ca)
    try:
        assert b"<html" in caller.ask("GET", "/").body
        tokens = caller.json("POST", "/v1/sessions", {"email": email, "password": password}).json()["tokens"]
        listed = caller.json("GET", "/v1/sites", headers={"authorization": f"Bearer {tokens['accessToken']}"})
        return [site["name"] for site in listed.json()["sites"]]
    finally:
        caller.close()


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
    assert processes_of(folder) == {}
