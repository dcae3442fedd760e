"""A service's process: server, health, reflection, background work, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from wherry_chassis.interceptors import CallInterceptor
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database
from wherry_chassis.tls import MAX_MESSAGE_BYTES, MaterialFiles, server_credentials

_DRAIN_S = 3.0
"""Between saying NOT_SERVING and refusing calls, so that whoever balances sees it first."""
_GRACE_S = 10.0
_PING_S = 5.0
MIN_PING_INTERVAL_S = 2
"""How often those who call may ask whether the connection lives while nothing is sent. More often, and after the third
time the connection is cut, with all its calls. The gateway asks every 4 s, so that it notices a frozen replica soon."""
SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_S * 1000),
)
"""Of every service's server."""


@dataclass
class Service:
    """What a composition root hands over to be run.

    Attributes:
        name: `user`, `site` or `queue`.
        register: adds the servicers to a server.
        service_names: the full names of what was added, for health and reflection.
        interceptors: the chain, outermost first.
        before_start: what has to be done before the first call is served; one that fails ends the start.
        background: coroutines that run as long as the service does; one that fails ends it.
        close: what to close at the end.
        before_stop: called when the service has been told to end, before its calls are given their grace.
        drained: once this is set, the service says NOT_SERVING for good, so that whoever balances sends it nothing
            more; it answers what comes all the same.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    service_names: Sequence[str]
    interceptors: Sequence[CallInterceptor]
    database: Database
    before_start: Sequence[Callable[[], Awaitable[None]]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    before_stop: Callable[[], None] = field(default=lambda: None)
    drained: asyncio.Event = field(default_factory=asyncio.Event)


class ListenError(Exception):
    """An address that a service cannot listen at; the message names it."""


@contextlib.asynccontextmanager
async def running(
    service: Service, listen: str, files: MaterialFiles, *, drain_s: float = 0, grace_s: float = _GRACE_S
) -> AsyncIterator[int]:
    """Runs a service within the block; gives the port that it listens on.

    At the end calls go on to be taken for `drain_s`; those under way have `grace_s` to end.

    Raises:
        ListenError: something else listens there, or the address is not this machine's.
    """
    server = grpc.aio.server(
        interceptors=list(service.interceptors),
        options=SERVER_OPTIONS,
    )
    service.register(server)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [*service.service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    try:
        for prepare in service.before_start:
            await prepare()
        try:
            port = server.add_secure_port(listen, server_credentials(files))
        except RuntimeError as error:
            raise ListenError(f"cannot listen at {listen}: the port is taken, or the address is not ours") from error
        await server.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_named(work)) for work in service.background]
            tasks.append(group.create_task(_watch_health(service, health)))
            logger().info("serving", listen=listen, port=port)
            try:
                yield port
            finally:
                await health.enter_graceful_shutdown()
                logger().info("draining")
                service.before_stop()
                await asyncio.sleep(drain_s)
                await server.stop(grace_s)
                for task in tasks:
                    task.cancel()
    finally:
        await server.stop(0)
        for close in service.close:
            await close()
        service.database.close()
        logger().info("stopped")


async def serve_until_signal(service: Service, listen: str, files: MaterialFiles) -> None:
    """Runs a service until SIGTERM or SIGINT: NOT_SERVING, a moment for balancers, then calls end with a grace."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(service, listen, files, drain_s=_DRAIN_S):
        await stop.wait()


async def _named(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _watch_health(service: Service, health: health_aio.HealthServicer) -> None:
    """Says NOT_SERVING while the database does not answer, and for ever once the service is drained."""
    names = ["", *service.service_names]
    last: bool | None = None
    was_alive = True
    while True:
        drained, alive = service.drained.is_set(), await service.database.ping()
        if was_alive and not alive:
            logger().error("database_unreachable")
        was_alive = alive
        serving = alive and not drained
        if serving != last:
            state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            for name in names:
                await health.set(name, state)
            last = serving
        if drained:
            await asyncio.sleep(_PING_S)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PING_S):
                await service.drained.wait()
