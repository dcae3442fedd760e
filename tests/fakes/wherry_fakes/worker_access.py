"""Access to sites that are folders of this machine, and pools of engines that work on them."""

from __future__ import annotations

import sys
from pathlib import Path

from wherry_fakes import folder_engine_boot
from wherry_worker.access import Endpoint, SiteAccess, Visit
from wherry_worker.engine_process import EngineCommand, EngineLimits
from wherry_worker.engines import EnginePool, Plan

FOLDER_COMMAND = EngineCommand(sys.executable, Path(folder_engine_boot.__file__))


def folder_access(site: str, folder: Path, credential: bytes = b"SECRET KEY") -> SiteAccess:
    """Access to a site whose only door is a folder."""
    endpoint = Endpoint("folder", f"{site.removeprefix('sites/')}.example", 2811, str(folder))
    return SiteAccess(site, (endpoint,), (), f"{site}#1", None, credential)


def folder_plan(source: Path, destination: Path | None = None) -> Plan:
    """A plan between two folders, or for one."""
    access = folder_access("sites/a", source)
    if destination is None:
        return Plan("folder", Visit(access, access.endpoints[0]), None)
    other = folder_access("sites/b", destination)
    return Plan("folder", Visit(access, access.endpoints[0]), Visit(other, other.endpoints[0]))


def folder_pool(state: Path, limits: EngineLimits | None = None, **options: float) -> EnginePool:
    """A pool of engine processes that work on folders; close it."""
    (state / "engines").mkdir(exist_ok=True)
    return EnginePool(
        state / "engines",
        FOLDER_COMMAND,
        limits or EngineLimits(),
        idle_s=options.get("idle_s", 60),
        most=int(options.get("most", 8)),
    )
