"""What a whole run lets others see: no password, no token, no key, in no log, database or command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from wherry_testing.deployment import RealDeployment
from wherry_testing.inbox import token_in
from wherry_testing.running_copies import Folders, write_many
from wherry_testing.sites import RealSite
from wherry_testing.traces import CommandLines, secrets_in

_Sites = tuple[RealSite, RealSite]


@dataclass(frozen=True)
class Run:
    """A whole run by the command: registration, sign-ins, a copy, a listing, sign-out.

    Attributes:
        secrets: everything secret that came up.
        command_lines: of all processes of the machine meanwhile.
        said: what the command wrote.
    """

    deployment: RealDeployment
    secrets: list[str] = field(repr=False)
    command_lines: set[bytes] = field(repr=False)
    said: str = field(repr=False)


@pytest.fixture(scope="module")
def run(
    deployment: RealDeployment,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    folders = fresh_folders()
    write_many(folders.source, 2)
    folders.source_site.own("alice")
    email, password, wrong = f"{secrets.token_hex(4)}@example.org", secrets.token_hex(12), secrets.token_hex(12)
    wherry = deployment.command(email)
    names = [f"{site.name}-{secrets.token_hex(4)}" for site in two_sites]
    said = []
    with CommandLines() as lines:

        def must(*arguments: str, stdin: str = "") -> None:
            finished = wherry.must(*arguments, stdin=stdin)
            said.append(finished.out + finished.err)

        must("register", email, "--password-stdin", stdin=password)
        mailed = token_in(deployment.mail_to(email))
        must("verify", mailed)
        assert wherry("login", email, "--password-stdin", stdin=wrong).status == 1
        must("login", email, "--password-stdin", stdin=password)
        (file,) = wherry.state.glob("tokens-*.json")
        tokens = json.loads(file.read_text())
        for name, site, user in zip(names, two_sites, ("alice", "bob"), strict=True):
            described = tmp_path_factory.mktemp("described") / "site.json"
            described.write_text(json.dumps(site.description))
            must("site", "add", name, "--title", name, "--from", str(described))
            login = ("site", "login", name, "--username", user, "--password-stdin")
            assert wherry(*login, stdin=wrong).status == 1
            must(*login, stdin=site.accounts[user])
        must("cp", "-r", f"{names[0]}:{folders.source.name}", f"{names[1]}:{folders.destination.name}/data")
        must("ls", "-l", f"{names[1]}:{folders.destination.name}/data")
        must("logout")
    passwords = [password, wrong, *(account for site in two_sites for account in site.accounts.values())]
    keys = [file.read_text().strip() for file in (deployment.folder / "secrets").iterdir()]
    known = [*passwords, tokens["access_token"], tokens["refresh_token"], *keys]
    # The mailed token is typed, as people do: it stands in a command line of theirs, once, and is used up by then.
    seen = {line for line in lines.seen if mailed.encode() not in line}
    return Run(deployment, [*known, mailed], seen, "".join(said))


@pytest.mark.row("S5", missing="VO")
def test_no_secret_stands_in_any_log_of_the_deployment(run: Run) -> None:
    logs = list(run.deployment.logs.glob("*.log"))
    assert len(logs) >= 6
    found = {log.name: secrets_in(log.read_bytes(), run.secrets) for log in logs}
    assert {name: what for name, what in found.items() if what} == {}
    text = b"".join(log.read_bytes() for log in logs)
    assert b"CreateSiteSession" in text, "the logs are those of the run"


def test_no_secret_stands_in_any_log_of_the_sites(run: Run, two_sites: _Sites) -> None:
    for site in two_sites:
        text = site.log.read_bytes()
        assert text
        assert secrets_in(text, run.secrets) == []


def test_no_secret_stands_in_any_command_line(run: Run) -> None:
    everything = b"\n".join(run.command_lines)
    assert b"site\0login" in everything, "the command lines are those of the run"
    assert b"wherry_worker/engine/boot.py" in everything, "the engines' command lines are among them"
    assert secrets_in(everything, run.secrets) == []


def test_the_command_repeats_no_secret(run: Run) -> None:
    assert run.said
    assert secrets_in(run.said.encode(), run.secrets) == []


def test_the_queues_database_holds_no_secret(run: Run) -> None:
    files = list((run.deployment.folder / "data").glob("queue.db*"))
    assert files
    assert [secrets_in(file.read_bytes(), run.secrets) for file in files] == [[] for _ in files]


def test_no_database_holds_a_password_or_a_key_as_it_is(run: Run) -> None:
    for file in (run.deployment.folder / "data").glob("*.db*"):
        assert secrets_in(file.read_bytes(), run.secrets) == [], file.name


def test_a_secret_in_a_text_is_found() -> None:
    assert secrets_in(b"Password=dGVsbCBub2JvZHk", ["tell nobody"]) == ["tell…"]
    assert secrets_in(b"-----BEGIN RSA PRIVATE KEY-----", []) == ["a private key"]
