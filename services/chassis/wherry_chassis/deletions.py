"""What is still to be done here for users whose accounts have been deleted.

The user service keeps a deleted user in its outbox until both the site and the queue service have confirmed that they
have done their part. A replica does that for every deletion that it hears of, in order, and confirms one only after it
has done all before it. It begins with whatever is kept, so a restart forgets nothing that was not confirmed; that other
replicas do the same at the same time does no harm, since the work can be repeated.
"""

from __future__ import annotations

import asyncio
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Users in the order of their cursors, and the cursor of the last."""

    users: Sequence[str]
    cursor: int


class Deletions:
    """Deletions on their way from the user service's stream to its outbox.

    Each is done twice: at once, and again when calls have ended that were let in before the user was refused. What such
    a call has written meanwhile (a new sign-in, a new job) would stay for ever otherwise. Then it is confirmed.

    Args:
        channels: to the user service.
        forget: does this service's part.
    """

    def __init__(self, channels: ServiceChannels, forget: Forget) -> None:
        self._channels = channels
        self._forget = forget
        self._heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._done_once: asyncio.Queue[tuple[float, _Batch]] = asyncio.Queue()

    def add(self, cursor: int, user: str) -> None:
        """Takes in a deletion; those of a stream come in the order of their cursors."""
        self._heard.put_nowait((cursor, user))

    async def run(self) -> None:
        """Does and confirms what is taken in, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._do_at_once())
            group.create_task(self._do_again_and_confirm())

    async def _do_at_once(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            heard = [await self._heard.get()]
            while not self._heard.empty():
                heard.append(self._heard.get_nowait())
            batch = _Batch([user for _, user in heard], heard[-1][0])
            await self._do(batch)
            self._done_once.put_nowait((loop.time() + _IN_FLIGHT_S, batch))

    async def _do_again_and_confirm(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, batch = await self._done_once.get()
            await asyncio.sleep(due_s - loop.time())
            await self._do(batch)
            await self._confirm(batch.cursor)

    async def _do(self, batch: _Batch) -> None:
        """Does this service's part, however often it takes."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                await self._forget(batch.users)
            except DatabaseUnavailable:
                logger().warning("deletions_postponed", users=len(batch.users), cursor=batch.cursor)
            except Exception as error:  # noqa: BLE001  # revocations must go on being followed; it stays in the outbox
                logger().error("deletions_failed", users=len(batch.users), cursor=batch.cursor, exc_info=error)
            else:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_MOST_S)

    async def _confirm(self, cursor: int) -> None:
        request = user_service_pb2.ConfirmRevocationsRequest(cursor=cursor)
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                stub = user_service_pb2_grpc.RevocationServiceStub(self._channels.get())
                await stub.ConfirmRevocations(request, timeout=_CONFIRM_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                logger().warning("deletions_unconfirmed", cursor=cursor, reason=error.code().name)
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return  # it stays in the outbox: a later cursor, or the next start, confirms it
                self._channels.rotate()
            else:
                logger().info("deletions_confirmed", cursor=cursor)
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_MOST_S)
