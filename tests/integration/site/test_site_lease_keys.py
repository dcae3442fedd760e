"""The queue's keys: asked for over gRPC, kept until they expire, not asked for more often than is good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry_chassis.tls import ServiceChannels
from wherry_fakes.token_issuers import FakeLeaseKeys, Signer
from wherry_site.errors import LeaseKeysUnavailable
from wherry_site.lease_keys import RemoteLeaseKeys
from wherry_testing.pki import TestPki

S6 = pytest.mark.row("S6")


class Queue:
    """A queue that can be stopped and started, and the keys that the site service has of it."""

    def __init__(self, pki: TestPki) -> None:
        self.keys = FakeLeaseKeys()
        self._pki = pki
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self.now_s = time.time()

    async def start(self) -> None:
        files = self._pki.files("queue")
        credentials = grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())], files.ca.read_bytes(), require_client_auth=True
        )
        self._server = grpc.aio.server()
        lease_service_pb2_grpc.add_LeaseKeyServiceServicer_to_server(self.keys, self._server)
        self._port = self._server.add_secure_port(f"127.0.0.1:{self._port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def channels(self) -> ServiceChannels:
        return ServiceChannels([f"127.0.0.1:{self._port}"], self._pki.material("site"))


@pytest.fixture
async def queue(pki: TestPki) -> AsyncIterator[Queue]:
    running = Queue(pki)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def remote(queue: Queue) -> AsyncIterator[RemoteLeaseKeys]:
    channels = queue.channels()
    yield RemoteLeaseKeys(channels, lambda: queue.now_s)
    await channels.close()


@S6
async def test_known_keys_are_not_asked_for_again_and_serve_while_the_queue_is_away(
    queue: Queue, remote: RemoteLeaseKeys
) -> None:
    for _ in range(5):
        key = await remote.get("lease-key-1")
        assert key is not None
        assert key.public_bytes_raw() == queue.keys.signers[0].public
    await queue.stop()
    assert await remote.get("lease-key-1") is not None
    assert queue.keys.asked == 1


@S6
async def test_a_key_serves_until_it_expires(queue: Queue, remote: RemoteLeaseKeys) -> None:
    assert await remote.get("lease-key-1") is not None
    queue.now_s += 3500
    assert await remote.get("lease-key-1") is not None
    queue.now_s += 200
    assert await remote.get("lease-key-1") is None


@S6
async def test_invented_key_ids_make_us_ask_once_a_second_at_most(queue: Queue, remote: RemoteLeaseKeys) -> None:
    assert await remote.get("lease-key-1") is not None
    started_s = time.monotonic()
    assert await asyncio.gather(*(remote.get(f"invented-{number}") for number in range(50))) == [None] * 50
    assert queue.keys.asked == 2, "all who waited have the one answer"
    assert time.monotonic() - started_s >= 0.9


@S6
async def test_a_key_that_is_new_is_found_although_the_keys_were_just_asked_for(
    queue: Queue, remote: RemoteLeaseKeys
) -> None:
    assert await remote.get("lease-key-1") is not None
    queue.keys.signers.append(Signer("lease-key-2"))
    assert await remote.get("lease-key-2") is not None


@S6
async def test_while_the_queue_cannot_be_asked_an_unknown_key_is_no_forgery_yet(pki: TestPki, queue: Queue) -> None:
    await queue.stop()
    channels = queue.channels()
    remote = RemoteLeaseKeys(channels)
    with pytest.raises(LeaseKeysUnavailable):
        await remote.get("lease-key-1")
    await queue.start()
    assert await remote.get("lease-key-1") is not None
    await channels.close()
