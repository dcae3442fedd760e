"""Relays between parties of a deployment, whose connections a test can cut.

    with Cutter() as cutter:
        relay = cutter.relay(to=("localhost", 50053))
        ...  # callers connect to relay.address
        relay.cut()

Bytes pass as they are: whoever speaks TLS through a relay speaks it to the other end. Relays run on a thread of their
own, so that whatever else a test does keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from wherry_testing.waiting import PATIENCE_S

T = TypeVar("T")
Place = tuple[str, int] | Path
"""Where somebody listens: host and port, or a unix socket."""
_WITHIN_S = PATIENCE_S


class _Side(asyncio.Protocol):
    """One of a connection's two ends: what comes here goes out at the other."""

    def __init__(self, connected: Callable[[_Side], None] = lambda _side: None) -> None:
        self._connected = connected
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connected(self)

    def join(self, other: _Side) -> None:
        """Passes on what came before the other end was there."""
        self.other = other
        assert other.transport is not None
        for data in self._early:
            other.transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def abort(self) -> None:
        """Ends it as a lost network would, without a word."""
        if self.transport is not None:
            self.transport.abort()


class Relay:
    """Passes connections on to one place.

    Attributes:
        place: where callers connect.
    """

    def __init__(self, cutter: Cutter, to: Place, place: Place) -> None:
        self.place = place
        self._cutter = cutter
        self._to = to
        self._connections: list[tuple[_Side, _Side]] = []
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where callers connect, as `localhost:port`: a name that hosts' certificates bear."""
        assert isinstance(self.place, tuple)
        return f"localhost:{self.place[1]}"

    def cut(self, *, one: random.Random | None = None) -> int:
        """Cuts all connections, or one that `one` chooses; returns how many that were."""
        return self._cutter.run(self._cut(one))

    def cut_at(self, port: int) -> int:
        """Cuts the connection that comes to its place from this port; returns how many that were."""
        return self._cutter.run(self.cutting_at(port))

    async def cutting_at(self, port: int) -> int:
        """The same, for the relays' thread."""
        found = [pair for pair in self._connections if _port_of(pair[1]) == port]
        for near, far in found:
            near.abort()
            far.abort()
        return len(found)

    async def open(self) -> None:
        """Listens."""
        loop = asyncio.get_running_loop()
        if isinstance(self.place, Path):
            self._server = await loop.create_unix_server(self._accept, self.place)
        else:
            self._server = await loop.create_server(self._accept, *self.place)
            self.place = (self.place[0], self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listens no more, and cuts what is connected."""
        if self._server is not None:
            self._server.close()
        await self._cut(None)

    def _accept(self) -> asyncio.Protocol:
        return _Side(lambda near: self._cutter.spawn(self._connect(near)))

    async def _connect(self, near: _Side) -> None:
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._to, Path):
                _, far = await loop.create_unix_connection(_Side, str(self._to))
            else:
                _, far = await loop.create_connection(_Side, *self._to)
        except OSError:
            near.abort()  # as refused as it can be once it has been accepted
            return
        if near.transport is None or near.transport.is_closing():
            far.abort()
            return
        self._connections = [pair for pair in self._connections if not _closed(pair)]
        self._connections.append((near, far))
        near.join(far)
        far.join(near)

    async def _cut(self, one: random.Random | None) -> int:
        alive = [pair for pair in self._connections if not _closed(pair)]
        chosen = alive if one is None or not alive else [one.choice(alive)]
        for near, far in chosen:
            near.abort()
            far.abort()
        return len(chosen)


class Cutter:
    """Makes relays; a context manager that ends them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._relays: list[Relay] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for relay in self._relays:
            self.run(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WITHIN_S)
        self._loop.close()

    def relay(self, to: Place, *, at: Place = ("127.0.0.1", 0)) -> Relay:
        """Returns a relay to a place, at a free port of this machine unless it is said where."""
        relay = Relay(self, to, at)
        self.run(relay.open())
        self._relays.append(relay)
        return relay

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does something on the relays' thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WITHIN_S)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Has something done; for the relays' thread."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(_forget, self._tasks))


def _forget(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    tasks.discard(task)
    with contextlib.suppress(asyncio.CancelledError):
        task.result()


def _port_of(side: _Side) -> int | None:
    """Returns the port of this machine from which a side speaks; None of what is no TCP connection, or no more one."""
    name = None if side.transport is None else side.transport.get_extra_info("sockname")
    return name[1] if isinstance(name, tuple) else None


def _closed(pair: tuple[_Side, _Side]) -> bool:
    return any(side.transport is None or side.transport.is_closing() for side in pair)
