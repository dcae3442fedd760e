"""A demonstration site, set up by the endpoint kit as a storage site's administrator would."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry_deploy.demonstration.accounts import Account
from wherry_deploy.demonstration.commands import Commands
from wherry_deploy.demonstration.failing import DemonstrationFailed
from wherry_deploy.log_lines import Lines
from wherry_deploy.supervise import Program

_SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True)
class DemoSite:
    """A site in a folder of its own, which holds everything of it.

    Attributes:
        name: its id at Wherry, too.
        title: what people read.
        folder: where it lies.
        account: the one account there.
        ports: of MyProxy and of GridFTP, where the site is not set up yet.
        lines: takes what the kit says.
    """

    name: str
    title: str
    folder: Path
    account: Account
    ports: tuple[int, int]
    lines: Lines

    async def install(self) -> None:
        """Sets the site up, or what is missing of it.

        Raises:
            DemonstrationFailed: this machine cannot be a site, or what is there does not fit.
        """
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self._config.exists():
            self._config.write_text(self._toml(), encoding="utf-8")
        kit = self._kit()
        checked = await kit.run(self._command("check"))
        for line in checked.output.splitlines():
            if line.startswith("FAIL"):
                raise DemonstrationFailed(f"{self.name}: {line.removeprefix('FAIL').strip()}")
        if checked.status != 0:
            raise DemonstrationFailed(f"{self.name}: {checked.complaint()}")
        passwords = f"{self.account.name}:{self.account.password}\n"
        installing = self._command("install", "--passwords", "-")
        await kit.must(installing, stdin=passwords, doing=f"setting up {self.name}")

    async def registration(self) -> Path:
        """Returns a file with what registering the site at Wherry needs, as the kit says it."""
        said = await self._kit().must(self._command("show", "--json"), doing=f"describing {self.name}")
        file = self.folder / "registration.json"
        file.write_text(said, encoding="utf-8")
        return file

    def program(self) -> Program:
        """Returns the process that serves the site. It ends after all others."""
        return Program(
            self.name,
            self._command("serve"),
            stage=0,
            ready_line=lambda line: line == "ready",
            environment=_kit_environment(),
        )

    def files(self) -> Path:
        """Returns where the account's files lie, seen from this machine."""
        return self.folder / "site" / "data" / self.account.name

    def own(self, top: Path) -> None:
        """Gives everything below to the account. An ordinary user's sandbox serves that user's own files."""
        if os.geteuid() != 0:
            return
        owner = self.files().stat()
        for path in (top, *top.rglob("*")):
            os.lchown(path, owner.st_uid, owner.st_gid)

    @property
    def _config(self) -> Path:
        return self.folder / "endpoint.toml"

    def _command(self, *arguments: str) -> Sequence[str]:
        python = str(_SYSTEM_PYTHON) if _SYSTEM_PYTHON.exists() else sys.executable
        return [python, "-m", "wherry_endpoint", *arguments, "--config", str(self._config)]

    def _kit(self) -> Commands:
        return Commands(f"{self.name}-setup", self.lines, _kit_environment())

    def _toml(self) -> str:
        return f"""\
# Made by the demonstration; `wherry-endpoint init` writes one with all that can stand here.
[site]
name = {json.dumps(self.name)}
title = {json.dumps(self.title)}
host = "localhost"
folder = "site"
[myproxy]
port = {self.ports[0]}
[gridftp]
port = {self.ports[1]}
[sandbox]
enabled = true
accounts = [{json.dumps(self.account.name)}]
"""


def _kit_environment() -> dict[str, str]:
    """The kit runs with the distribution's Python, as at a site; there it is found by this variable."""
    found = importlib.util.find_spec("wherry_endpoint")
    if found is None or found.origin is None:
        raise DemonstrationFailed("the endpoint kit is not installed: run make setup")
    return {"PYTHONPATH": str(Path(found.origin).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
