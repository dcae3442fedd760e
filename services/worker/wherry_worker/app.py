"""Puts a worker process together and runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from wherry_chassis.buildout import Buildout
from wherry_chassis.buildout import Worker as WorkerSection
from wherry_chassis.command import read_material
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

from wherry_worker.access import RunFolder
from wherry_worker.engine_process import EngineCommand, EngineLimits
from wherry_worker.engines import EnginePool
from wherry_worker.leasing import Leasing
from wherry_worker.queue_client import QueueClient
from wherry_worker.running import Runner, TaskRunner
from wherry_worker.site_client import SiteClient

#: Before a SIGTERM's drain becomes a stop; a supervisor should wait a little longer.
DRAIN_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runner is made of."""

    section: WorkerSection
    queue: QueueClient
    sites: SiteClient
    engines: EnginePool


def task_runner(parts: Parts) -> Runner:
    """Returns what runs leases in a worker."""
    return TaskRunner(parts.sites, parts.queue, parts.engines, {"gsiftp": parts.section.gsiftp})


async def run(
    buildout: Buildout, make_runner: Callable[[Parts], Runner] = task_runner, *, name: str | None = None
) -> None:
    """Runs a worker until it is drained, by SIGTERM, SIGINT or the queue; a second signal ends it at once.

    Raises BuildoutError for host certificate files that cannot be used, OSError for the state folder.
    """
    section = buildout.worker
    files = read_material(section.certificate, section.key, buildout.deployment.ca)
    site_addresses = buildout.service.site.addresses
    queue_channels = ServiceChannels(buildout.service.queue.addresses, files)
    site_channels = ServiceChannels(site_addresses, files)
    folder = RunFolder(section.state)
    pool = EnginePool(
        folder.path,
        EngineCommand(section.engine_python),
        EngineLimits(
            stall_s=section.stall_s,
            verify_stall_s=section.verify_stall_s,
            other_stall_s=section.other_stall_s,
            memory_bytes=section.engine_memory_bytes,
        ),
        idle_s=section.engine_idle_s,
        most=2 * (section.interactive + section.bulk),
    )
    name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    queue = QueueClient(queue_channels, name, version("wherry-worker"))
    sites = SiteClient(site_channels, replicas=len(site_addresses))
    runner = make_runner(Parts(section, queue, sites, pool))
    leasing = Leasing(queue, runner, interactive=section.interactive, bulk=section.bulk)
    reaping = asyncio.create_task(pool.reap(), name="reaping engines")
    logger().info("worker_started", worker=name, interactive=section.interactive, bulk=section.bulk)
    try:
        await _until_signal(leasing)
    finally:
        reaping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reaping
        await pool.close()
        folder.close()
        await queue_channels.close()
        await site_channels.close()
        logger().info("worker_stopped", worker=name)


async def _until_signal(leasing: Leasing) -> None:
    serving = asyncio.create_task(leasing.serve(DRAIN_GRACE_S), name="leasing")
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            serving.cancel()
        asked = True
        leasing.drain()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
