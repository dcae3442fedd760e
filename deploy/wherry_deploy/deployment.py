"""The processes of a deployment on this machine: migrated, started, healthy, and stopped again.

async with running(Path("buildout.toml"), lines) as processes:
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from wherry_chassis.buildout import Buildout, Service, load

from wherry_deploy import gateway_health
from wherry_deploy.health import connectable, is_serving, operator_material
from wherry_deploy.log_lines import Lines
from wherry_deploy.supervise import Program, Running, run_to_end, supervise

SERVICES = ("user", "site", "queue")
READY_WITHIN_S = 60.0
_STAGES = {"user": 1, "site": 1, "queue": 2}
"""Who calls others ends before them: workers and gateway, queue, then site and user."""
_WORKER_STAGE = _GATEWAY_STAGE = 3
_ASSETS_STAGE = 1
_WORKER_READY = "stream_opened"
"""The event by which a worker says that a replica of the queue has taken it in."""


def programs(file: Path, buildout: Buildout) -> list[Program]:
    """Returns every process of the deployment that belongs on this machine."""
    material = operator_material(buildout)
    found = []
    for name in SERVICES:
        section: Service = getattr(buildout.service, name)
        for replica, address in enumerate(section.listen):
            found.append(
                Program(
                    name if len(section.listen) == 1 else f"{name}-{replica}",
                    [*_python(f"wherry_{name}"), "serve", *_buildout(file), "--replica", str(replica)],
                    stage=_STAGES[name],
                    probe=functools.partial(is_serving, connectable(address), material),
                )
            )
    if (gateway := buildout.gateway) is not None:
        for name, command, stage, probe in (
            ("gateway-assets", "assets", _ASSETS_STAGE, gateway_health.assets_are_served),
            ("gateway", "serve", _GATEWAY_STAGE, gateway_health.is_serving),
        ):
            found.append(
                Program(
                    name,
                    [*_python("wherry_gateway"), command, *_buildout(file)],
                    stage=stage,
                    probe=functools.partial(asyncio.to_thread, probe, gateway),
                )
            )
    found.extend(
        Program(
            "worker" if buildout.worker.processes == 1 else f"worker-{index}",
            [*_python("wherry_worker"), "serve", *_buildout(file)],
            stage=_WORKER_STAGE,
            ready_line=_says_ready if buildout.logging.level in ("debug", "info") else None,
        )
        for index in range(buildout.worker.processes)
    )
    return found


async def migrate(file: Path, lines: Lines) -> None:
    """Brings every service's database to this release's schema.

    Raises:
        ProgramFailed: one cannot be.
    """
    async with asyncio.TaskGroup() as group:
        for name in SERVICES:
            command = [*_python(f"wherry_{name}"), "migrate", *_buildout(file)]
            group.create_task(run_to_end(Program(f"{name}-migrate", command), lines))


@contextlib.asynccontextmanager
async def running(
    file: Path, lines: Lines, *, further: Sequence[Program] = (), within_s: float = READY_WITHIN_S
) -> AsyncIterator[Running]:
    """Runs a whole deployment within the block, which begins when every process is ready.

    Args:
        file: the `buildout.toml`.
        lines: takes what the processes say.
        further: processes to run beside those of the deployment.
        within_s: how long all of them may take to be ready.

    Raises:
        BuildoutError: the file cannot be used.
        ProgramFailed: a process does not start.
    """
    buildout = load(file)
    try:
        await migrate(file, lines)
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None
    async with supervise([*further, *programs(file, buildout)], lines) as processes:
        await processes.ready(within_s)
        yield processes


def _says_ready(line: str) -> bool:
    """A worker has no port to ask at. Where no such events are logged, a worker that runs is taken for ready."""
    return _WORKER_READY in line


def _python(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def _buildout(file: Path) -> list[str]:
    return ["--buildout", str(file.absolute())]
