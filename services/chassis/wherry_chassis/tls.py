"""Mutual TLS with host certificates that are read again when their files change."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wherry_chassis.logging import logger

MAX_MESSAGE_BYTES = 4 << 20
CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


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
        self._seen = self._stamps()
        self._material = self._read()

    def current(self) -> tuple[Material, bool]:
        """Returns the material and whether it is new since the last call."""
        stamps = self._stamps()
        if stamps == self._seen:
            return self._material, False
        self._seen = stamps
        try:
            self._material = self._read()
        except (OSError, ValueError) as error:
            logger().error("tls_material_refused", file=str(self._files[0]), error=str(error))
            return self._material, False
        logger().info("tls_material_reloaded", file=str(self._files[0]))
        return self._material, True

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
        if load_pem_private_key(key, None).public_key() != certificate.public_key():
            raise ValueError(f"the key {self._files[1]} does not belong to the certificate {self._files[0]}")
        return Material(chain, key, ca)


def server_credentials(files: MaterialFiles) -> grpc.ServerCredentials:
    """Returns credentials that demand a client certificate of our CA and follow the files at the next handshake."""
    first, _ = files.current()

    def configuration(material: Material) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.ca)

    def fetch() -> Any:  # None means "as before", which the stubs do not know
        material, changed = files.current()
        return configuration(material) if changed else None

    return grpc.dynamic_ssl_server_credentials(configuration(first), fetch, require_client_authentication=True)


class ServiceChannels:
    """Channels to the replicas of one service. A failing replica is passed over with `rotate`.

    The channel is made anew when the certificate's files have changed, so a rotation needs no restart.
    """

    def __init__(self, addresses: Sequence[str], files: MaterialFiles) -> None:
        self._addresses = itertools.cycle(addresses)
        self._files = files
        self._address = next(self._addresses)
        self._channel: grpc.aio.Channel | None = None
        self._old: list[grpc.aio.Channel] = []

    def get(self) -> grpc.aio.Channel:
        """Returns the channel to the current replica."""
        material, changed = self._files.current()
        if changed and self._channel is not None:
            self._retire()
        if self._channel is None:
            credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.chain)
            self._channel = grpc.aio.secure_channel(self._address, credentials, options=CHANNEL_OPTIONS)
        return self._channel

    def rotate(self) -> None:
        """Goes on to the next replica; calls under way end with the old channel."""
        self._address = next(self._addresses)
        self._retire()

    async def close(self) -> None:
        """Closes all channels."""
        self._retire()
        for channel in self._old:
            await channel.close()

    def _retire(self) -> None:
        if self._channel is not None:
            self._old.append(self._channel)
            self._channel = None
