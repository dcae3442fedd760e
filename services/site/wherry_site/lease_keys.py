"""The queue's public keys for lease tokens, asked for over gRPC and kept until they expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from wherry.queue.v1 import lease_service_pb2, lease_service_pb2_grpc
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

from wherry_site.errors import LeaseKeysUnavailable

_INTERVAL_S = 1.0
"""An unknown key id makes us ask, but no more often than this: any worker can invent key ids."""
_MAX_AGE_S = 300.0
"""Asked again after so long, so that a withdrawn key stops to count; while the queue is away, old keys serve."""
_TIMEOUT_S = 5.0


class RemoteLeaseKeys:
    """Keys from the queue's `GetLeaseKeys`.

    Args:
        channels: to the queue's replicas.
        now_s: the time, seconds since the epoch, that keys' expiry is held against.
    """

    def __init__(self, channels: ServiceChannels, now_s: Callable[[], float] = time.time) -> None:
        self._channels = channels
        self._now_s = now_s
        self._keys: dict[str, tuple[Ed25519PublicKey, float]] = {}
        self._asked_s = float("-inf")
        self._answered = False
        self._lock = asyncio.Lock()

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the key; see the port. A key that is not known is asked for, which may take a second."""
        come_s = time.monotonic()
        if kid not in self._keys or come_s - self._asked_s > _MAX_AGE_S:
            async with self._lock:
                # Whoever waited here while another asked has that answer: replicas publish keys before using them.
                if self._asked_s < come_s:
                    if kid not in self._keys:
                        await asyncio.sleep(self._asked_s + _INTERVAL_S - time.monotonic())
                    await self._ask()
        if kid not in self._keys:
            if not self._answered:
                raise LeaseKeysUnavailable
            return None
        key, until_s = self._keys[kid]
        return key if until_s > self._now_s() else None

    async def _ask(self) -> None:
        self._asked_s = time.monotonic()
        try:
            answer = await self._channels.ask(_published)
        except grpc.aio.AioRpcError as error:
            self._answered = False
            logger().warning("lease_keys_not_fetched", code=error.code().name)
            return
        self._answered = True
        self._keys = {
            key.kid: (Ed25519PublicKey.from_public_bytes(key.public_key), key.expire_time.ToMilliseconds() / 1000)
            for key in answer.keys
        }


async def _published(channel: grpc.aio.Channel) -> lease_service_pb2.GetLeaseKeysResponse:
    stub = lease_service_pb2_grpc.LeaseKeyServiceStub(channel)
    return await stub.GetLeaseKeys(lease_service_pb2.GetLeaseKeysRequest(), timeout=_TIMEOUT_S)
