"""Mutual TLS with host certificates that are read again when their files change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wherry_chassis.logging import logger

Answer = TypeVar("Answer")

MAX_MESSAGE_BYTES = 4 << 20
CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Material:
    """A host certificate's chain, its key, and the CAs believed, all PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    ca: bytes


class MaterialFiles:
    """The three files, read again when one of them changes. A broken set keeps the old one, and says so once.

    Raises:
        OSError, ValueError: at first reading, files that cannot be read or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        self._files = (certificate, key, ca)
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._material = self._read()

    def current(self) -> Material:
        """Returns the material; the same object until the files have changed to another set that is whole."""
        with self._lock:  # servers ask from a thread of their own
            stamps = self._stamps()
            if stamps == self._seen:
                return self._material
            self._seen = stamps
            try:
                found = self._read()
            except (OSError, ValueError) as error:
                logger().error("tls_material_refused", file=str(self._files[0]), error=str(error))
                return self._material
            if found != self._material:
                self._material = found
                logger().info("tls_material_reloaded", file=str(self._files[0]))
            return self._material

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        stamps: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                status = file.stat()
                stamps.append((status.st_mtime_ns, status.st_ino))
            except OSError:
                stamps.append(None)
        return tuple(stamps)

    def _read(self) -> Material:
        chain, key, ca = (file.read_bytes() for file in self._files)
        certificate = x509.load_pem_x509_certificate(chain)
        x509.load_pem_x509_certificates(ca)
        try:
            public = load_pem_private_key(key, None).public_key()
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"the key {self._files[1]} cannot be used: {error}") from error
        if public != certificate.public_key():
            raise ValueError(f"the key {self._files[1]} does not belong to the certificate {self._files[0]}")
        return Material(chain, key, ca)


def server_credentials(files: MaterialFiles) -> grpc.ServerCredentials:
    """Returns credentials that demand a client certificate of our CA and follow the files at the next handshake."""
    served = files.current()

    def configuration(material: Material) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.ca)

    def fetch() -> Any:  # None means "as before", which the stubs do not know
        nonlocal served
        if (material := files.current()) is served:
            return None
        served = material
        return configuration(material)

    return grpc.dynamic_ssl_server_credentials(configuration(served), fetch, require_client_authentication=True)


class ServiceChannels:
    """Channels to the replicas of one service, one for each. A failing replica is passed over with `rotate`.

    A channel is made anew when the certificate's files have changed, so a rotation needs no restart. The one before
    lives on for the calls that it carries, and is closed when it has been idle for long (gRPC's half hour).
    """

    def __init__(self, addresses: Sequence[str], files: MaterialFiles) -> None:
        self._addresses = list(addresses)
        self._files = files
        self._index = 0
        self._channels: dict[str, tuple[Material, grpc.aio.Channel]] = {}
        self._old: list[grpc.aio.Channel] = []
        self._closing: set[asyncio.Task[None]] = set()

    def get(self) -> grpc.aio.Channel:
        """Returns the channel to the current replica."""
        material = self._files.current()
        address = self._addresses[self._index]
        known = self._channels.get(address)
        if known is not None and known[0] is material:
            return known[1]
        if known is not None:
            self._old.append(known[1])
            self._close_idle()
        credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.chain)
        channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self._channels[address] = (material, channel)
        return channel

    def rotate(self, failed: grpc.aio.Channel) -> None:
        """Goes on to the next replica; calls under way go on where they are.

        Args:
            failed: the channel of the call that failed. Only where it is still the current one does this change
                anything: of several calls that fail together on one, all but the first come too late.
        """
        known = self._channels.get(self._addresses[self._index])
        if known is not None and known[1] is failed:
            self._index = (self._index + 1) % len(self._addresses)

    async def ask(self, call: Callable[[grpc.aio.Channel], Awaitable[Answer]]) -> Answer:
        """Returns the answer of the current replica or, where that one is not reached, of the next that is.

        For calls that may be repeated. Raises the last replica's AioRpcError.
        """
        for left in reversed(range(len(self._addresses))):
            channel = self.get()
            try:
                return await call(channel)
            except grpc.aio.AioRpcError as error:
                self.rotate(channel)
                if not left or error.code() not in _PASSING:
                    raise
        raise LookupError("a service has at least one address")

    async def close(self) -> None:
        """Closes all channels, and ends the calls on them."""
        open_channels = [*self._old, *(channel for _, channel in self._channels.values())]
        self._old, self._channels = [], {}
        await asyncio.gather(*(channel.close() for channel in open_channels), *self._closing)

    def _close_idle(self) -> None:
        """Closes the old channels that carry no call: one that does is connected, or trying to be."""
        idle = [channel for channel in self._old if channel.get_state() is grpc.ChannelConnectivity.IDLE]
        self._old = [channel for channel in self._old if channel not in idle]
        for channel in idle:
            task = asyncio.get_running_loop().create_task(channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
