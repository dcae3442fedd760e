"""Relays between parties of a deployment that lose answers: the callee has done what it was asked, and the caller's
connection dies in place of the answer.

    with AnswerCutter() as cutter:
        relay = cutter.relay("localhost:50053", serving=queue, calling=worker)
        cut = relay.cut("SettleLeases")
        ...  # the worker is pointed at relay.address, and settles
        cut.wait()

A relay speaks mutual TLS at both ends, so it holds the callee's certificate for the caller and the caller's for the
callee: what a callee binds to its caller's certificate stays bound to it. Calls pass as bytes: nothing is understood,
and so nothing is changed. Everything runs on a thread of its own; a test's other gRPC calls had better be synchronous,
since gRPC for asyncio does not like two loops in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import TracebackType
from typing import Any

import grpc
from wherry_chassis.server import SERVER_OPTIONS
from wherry_chassis.tls import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, Material
from wherry_testing.cutting import Cutter, Relay
from wherry_testing.waiting import PATIENCE_S

_WITHIN_S = PATIENCE_S
_TRANSPORT = ("user-agent", "content-type", "te")
"""Headers of the connection that a call came by."""


class Cut:
    """One answer that is to be lost.

    Attributes:
        answer: its bytes, once it is.
    """

    def __init__(self, method: str, number: int, holding: bytes) -> None:
        self.method = method
        self._number = number
        self._holding = holding
        self.answer = b""
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the answer has been lost."""
        return self._done.is_set()

    def meets(self, method: str, number: int, answer: bytes) -> bool:
        """Tells whether it is this message: the `number`-th of the answer to a call."""
        if method != self.method:
            return False
        return self._holding in answer if self._holding else number == self._number

    def wait(self, within_s: float = _WITHIN_S) -> None:
        """Returns once the answer has been lost and the connection is dead; raises AssertionError after `within_s`."""
        assert self._done.wait(within_s), f"not within {within_s:g} s: an answer of {self.method} to cut"

    def note(self, answer: bytes) -> None:
        """Notes that it has been."""
        self.answer = answer
        self._done.set()


class AnswerRelay:
    """Passes one party's calls on to one other.

    Attributes:
        address: where the caller finds it.
    """

    def __init__(self, cutter: Cutter, to: str, serving: Material, calling: Material) -> None:
        self.address = ""
        self._cutter = cutter
        self._to = to
        self._serving = serving
        self._calling = calling
        self._front: Relay | None = None
        self._server: Any = None
        self._channel: Any = None
        self._lock = threading.Lock()
        self._armed: list[Cut] = []
        self._answers: dict[str, list[bytes]] = {}
        self._calls: defaultdict[str, int] = defaultdict(int)

    def cut(self, method: str, *, message: int = 1, holding: bytes = b"") -> Cut:
        """Arms it: the next message of this place in an answer of a method, as `SettleLeases`, kills the connection.

        With `holding` it is the next message, whatever its place, that has these bytes in it.
        """
        cut = Cut(method, message, holding)
        with self._lock:
            self._armed.append(cut)
        return cut

    def disarm(self) -> None:
        """Lets all answers pass that have not been lost yet."""
        with self._lock:
            self._armed.clear()

    def sever(self) -> None:
        """Kills all connections and takes no more, as a network that is down, until `restore`."""
        self._cutter.run(self._down())

    def restore(self) -> None:
        """Takes connections again, at the same address."""
        self._cutter.run(self._up())

    def calls(self, method: str) -> int:
        """Returns how often a method has been called."""
        return self._calls[method]

    @contextlib.contextmanager
    def recording(self, method: str) -> Iterator[list[bytes]]:
        """Gives all messages of the answers of a method that come within the block, lost ones included."""
        answers: list[bytes] = []
        with self._lock:
            self._answers[method] = answers
        try:
            yield answers
        finally:
            with self._lock:
                del self._answers[method]

    async def open(self) -> None:
        """Listens; for the relays' thread."""
        credentials = grpc.ssl_channel_credentials(self._calling.ca, self._calling.key, self._calling.chain)
        self._channel = grpc.aio.secure_channel(self._to, credentials, options=CHANNEL_OPTIONS)
        options = [*SERVER_OPTIONS, ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers([_Everything(self)])
        mine = grpc.ssl_server_credentials(
            [(self._serving.key, self._serving.chain)], self._serving.ca, require_client_auth=True
        )
        port = self._server.add_secure_port("127.0.0.1:0", mine)
        await self._server.start()
        # In front of it, since gRPC does not let a server kill a connection.
        self._front = Relay(self._cutter, ("127.0.0.1", port), ("127.0.0.1", 0))
        await self._front.open()
        self.address = self._front.address

    async def close(self) -> None:
        """Ends it; for the relays' thread."""
        if self._front is not None:
            await self._front.close()
        if self._server is not None:
            await self._server.stop(0)
        if self._channel is not None:
            await self._channel.close()

    async def _down(self) -> None:
        assert self._front is not None, "not open"
        await self._front.close()

    async def _up(self) -> None:
        assert self._front is not None, "not open"
        await self._front.open()

    def _due(self, method: str, number: int, answer: bytes) -> Cut | None:
        with self._lock:
            due = next((cut for cut in self._armed if cut.meets(method, number, answer)), None)
            if due is not None:
                self._armed.remove(due)
            return due

    async def passed_on(self, method: str, requests: AsyncIterator[bytes], context: Any) -> AsyncGenerator[bytes, None]:
        """Passes a call on, and its answer back, or not; for the relays' thread."""
        name = method.rpartition("/")[2]
        self._calls[name] += 1
        metadata = [(key, value) for key, value in context.invocation_metadata() if key not in _TRANSPORT]
        call = self._channel.stream_stream(method)(metadata=metadata, timeout=context.time_remaining())
        asking = asyncio.create_task(_ask(call, requests))
        number = 0
        try:
            async for answer in call:
                number += 1
                with self._lock:
                    if name in self._answers:
                        self._answers[name].append(answer)
                if (cut := self._due(name, number, answer)) is not None:
                    assert self._front is not None, "not open"
                    await self._front.cutting_at(int(context.peer().rpartition(":")[2]))
                    cut.note(answer)
                    return
                yield answer
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
        finally:
            asking.cancel()
            call.cancel()
            await asyncio.gather(asking, return_exceptions=True)


class AnswerCutter:
    """Makes such relays; a context manager that ends them."""

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._relays: list[AnswerRelay] = []

    def __enter__(self) -> AnswerCutter:
        self._cutter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for relay in self._relays:
            self._cutter.run(relay.close())
        self._cutter.__exit__(kind, problem, trace)

    def relay(self, to: str, *, serving: Material, calling: Material) -> AnswerRelay:
        """Returns a relay to `host:port`, which shows the caller one certificate and the callee another."""
        relay = AnswerRelay(self._cutter, to, serving, calling)
        self._cutter.run(relay.open())
        self._relays.append(relay)
        return relay


class _Everything(grpc.GenericRpcHandler):
    """Handles every method, of whichever shape: on the wire a single message is a stream of one."""

    def __init__(self, relay: AnswerRelay) -> None:
        self._relay = relay

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = handler_call_details.method

        async def handle(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with contextlib.aclosing(self._relay.passed_on(method, requests, context)) as answers:
                async for answer in answers:
                    yield answer

        return grpc.stream_stream_rpc_method_handler(handle)


async def _ask(call: Any, requests: AsyncIterator[bytes]) -> None:
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # the callee has ended the call: what it said is passed back all the same
