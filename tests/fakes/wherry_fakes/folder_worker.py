"""A worker process whose sites are folders of this machine: its engines are real processes that really copy.

    python -m wherry_fakes.folder_worker --buildout FILE --process N --root FOLDER

with `tests/fakes` on PYTHONPATH. A site `sites/a` is the folder `FOLDER/a`. It asks nobody for credentials. Names that
make a copy stall, crash and so on are those of folder_doors.py.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from wherry_chassis.buildout import load
from wherry_chassis.logging import configure
from wherry_fakes.worker_access import FOLDER_COMMAND, folder_access
from wherry_worker import app
from wherry_worker.access import SiteAccess
from wherry_worker.attempt import Attempt
from wherry_worker.engine_process import EngineLimits
from wherry_worker.engines import EnginePool
from wherry_worker.ports import Reports
from wherry_worker.running import Runner, TaskRunner
from wherry_worker.work import Settlement


class FolderRunner:
    """Runs leases on folders below `root`."""

    def __init__(self, reports: Reports, root: Path, engines: EnginePool) -> None:
        self._reports = reports
        self._root = root
        self._engines = engines

    async def run(self, attempt: Attempt) -> Settlement:
        """Works through an attempt."""
        lease = attempt.lease
        sites = _Folders(self._root, [lease.source_site, lease.destination_site])
        return await TaskRunner(sites, self._reports, self._engines, {"folder": "folder"}).run(attempt)

    async def end_sessions(self, user: str, site: str) -> None:
        """Ends engines of a user."""
        await self._engines.end_sessions(user, site)

    async def end_all_sessions(self) -> None:
        """Ends engines of everybody."""
        await self._engines.end_all_sessions()


class _Folders:
    def __init__(self, root: Path, sites: Sequence[str]) -> None:
        self._accesses = [folder_access(site, root / site.removeprefix("sites/")) for site in dict.fromkeys(sites)]

    async def fetch(self, token: str, have: Sequence[SiteAccess]) -> list[SiteAccess]:
        return list(self._accesses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the process; returns the exit status."""
    parser = argparse.ArgumentParser(prog="folder_worker", description="A worker whose sites are folders")
    parser.add_argument("--buildout", type=Path, required=True, metavar="FILE")
    parser.add_argument("--process", type=int, default=0, metavar="N")
    parser.add_argument("--root", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    buildout = load(options.buildout)
    configure("worker", format=buildout.logging.format, level=buildout.logging.level)
    state = options.root / f"engines-{options.process}"
    state.mkdir(exist_ok=True)

    def make_runner(parts: app.Parts) -> Runner:
        return FolderRunner(parts.queue, options.root, EnginePool(state, FOLDER_COMMAND, EngineLimits()))

    asyncio.run(app.run(buildout, make_runner, name=f"{socket.gethostname()}-folder-{options.process}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
