"""What is still to be done here for users whose accounts have been deleted.

The user service keeps a deleted user in its outbox until both the site and the queue service have confirmed that they
have done their part. A replica does that for every deletion that it hears of, and confirms one only after it has done
all before it. It begins with whatever is kept, so a restart forgets nothing that was not confirmed; that other replicas
do the same at the same time does no harm, since the work can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc
from wherry.user.v1 import user_service_pb2, user_service_pb2_grpc

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

Forget = Callable[[Sequence[str]], Awaitable[None]]
"""Does a service's part for deleted users (`users/{user}`): done durably when it returns, and safe to repeat."""

_IN_FLIGHT_S = 60.0
"""So long a call may go on that was let in just before its user was refused, at any replica."""
_CONFIRM_TIMEOUT_S = 10.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 30.0
_TIMES = 2


@dataclass(slots=True)
class _Deletion:
    """A deleted user, until all is done and can be confirmed.

    Attributes:
        due_s: when it is to be done next, by the loop's clock.
        wait_s: how long it waits after its next failure.
        times: how often it was done; twice is enough.
    """

    cursor: int
    user: str
    due_s: float
    wait_s: float
    times: int = 0


class Deletions:
    """Deletions on their way from the user service's stream to its outbox.

    Each is done twice: at once, and again when calls have ended that were let in before the user was refused. What such
    a call has written meanwhile (a new sign-in, a new job) would stay for ever otherwise. Then it is confirmed, as soon
    as all before it are done. One that fails is tried again later and later, and keeps none behind it from being done.

    Args:
        channels: to the user service.
        forget: does this service's part.
    """

    def __init__(self, channels: ServiceChannels, forget: Forget) -> None:
        self._channels = channels
        self._forget = forget
        self._heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._done: asyncio.Queue[int] = asyncio.Queue()
        self._open: deque[_Deletion] = deque()

    def add(self, cursor: int, user: str) -> None:
        """Takes in a deletion; those of a stream come in the order of their cursors."""
        self._heard.put_nowait((cursor, user))

    async def run(self) -> None:
        """Does and confirms what is taken in, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            group.create_task(self._confirm_done())

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._take_in()
            now_s = clock()
            if due := [one for one in self._open if one.times < _TIMES and one.due_s <= now_s]:
                await self._do(due)
            cursor = None
            while self._open and self._open[0].times == _TIMES:
                cursor = self._open.popleft().cursor
            if cursor is not None:
                self._done.put_nowait(cursor)

    async def _take_in(self) -> None:
        """Returns when something has been heard, and is open now, or is due."""
        clock = asyncio.get_running_loop().time
        next_s = min((one.due_s for one in self._open if one.times < _TIMES), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(next_s):
                cursor, user = await self._heard.get()
                self._open.append(_Deletion(cursor, user, clock(), _RETRY_FIRST_S))
        while not self._heard.empty():
            self._open.append(_Deletion(*self._heard.get_nowait(), clock(), _RETRY_FIRST_S))

    async def _do(self, some: Sequence[_Deletion]) -> None:
        """Does this service's part for some users; where that fails, for one after the other."""
        clock = asyncio.get_running_loop().time
        try:
            await self._forget([one.user for one in some])
        except DatabaseUnavailable:
            logger().warning("deletions_postponed", users=len(some), cursor=some[0].cursor)
            self._put_off(some)
        except Exception as error:  # noqa: BLE001  # revocations must go on being followed; it stays in the outbox
            if len(some) > 1:
                for one in some:
                    await self._do([one])
                return
            logger().error("deletion_failed", cursor=some[0].cursor, retry_s=some[0].wait_s, exc_info=error)
            self._put_off(some)
        else:
            for one in some:
                one.times += 1
                one.due_s, one.wait_s = clock() + _IN_FLIGHT_S, _RETRY_FIRST_S

    def _put_off(self, some: Sequence[_Deletion]) -> None:
        now_s = asyncio.get_running_loop().time()
        for one in some:
            one.due_s = now_s + one.wait_s
            one.wait_s = min(2 * one.wait_s, _RETRY_MOST_S)

    async def _confirm_done(self) -> None:
        while True:
            await self._confirm(await self._done.get())

    async def _confirm(self, cursor: int) -> None:
        request = user_service_pb2.ConfirmRevocationsRequest(cursor=cursor)
        wait_s = _RETRY_FIRST_S
        while True:
            channel = self._channels.get()
            try:
                stub = user_service_pb2_grpc.RevocationServiceStub(channel)
                await stub.ConfirmRevocations(request, timeout=_CONFIRM_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                logger().warning("deletions_unconfirmed", cursor=cursor, reason=error.code().name)
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return  # it stays in the outbox: a later cursor, or the next start, confirms it
                self._channels.rotate(channel)
            else:
                logger().info("deletions_confirmed", cursor=cursor)
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_MOST_S)
