"""Mutual TLS between real processes' ends: who is let in, and certificates that change under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from grpc_health.v1 import health_pb2
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc as stubs
from wherry_chassis.tls import CHANNEL_OPTIONS, MaterialFiles, ServiceChannels
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.chassis_service import Jobs, chassis_service, health_stub
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

_DEADLINE_S = PATIENCE_S
_ROTATION = "signing and lease keys"


@pytest.fixture
def own_pki(tmp_path: Path) -> TestPki:
    """A CA whose certificates the test may replace."""
    return TestPki(tmp_path / "pki")


@contextlib.asynccontextmanager
async def _service(pki: TestPki, folder: Path, tokens: TokenMaker | None = None) -> AsyncIterator[str]:
    pki.files("client")
    async with chassis_service(pki, folder, (tokens or TokenMaker()).verifier()) as address:
        yield address


async def _check(channel: grpc.aio.Channel) -> None:
    await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)


async def _served_serial(address: str, pki: TestPki) -> int:
    """Returns the serial number that the server shows in a new handshake."""
    client = pki.files("client")
    program = ["openssl", "s_client", "-connect", address, "-cert", str(client.certificate), "-key", str(client.key)]
    process = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return x509.load_pem_x509_certificate(output[output.index(b"-----BEGIN CERTIFICATE") :]).serial_number


def _serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_without_a_client_certificate_there_is_no_connection(pki: TestPki, tmp_path: Path) -> None:
    async with _service(pki, tmp_path) as address:
        credentials = grpc.ssl_channel_credentials(pki.ca.read_bytes())
        async with grpc.aio.secure_channel(address, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _check(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _check(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_a_certificate_of_another_ca_with_the_same_subject_is_refused(pki: TestPki, tmp_path: Path) -> None:
    other = TestPki(tmp_path / "other").issue("operator")
    assert other.subject == pki.files("operator").subject
    async with _service(pki, tmp_path) as address:
        credentials = grpc.ssl_channel_credentials(
            pki.ca.read_bytes(), other.key.read_bytes(), other.certificate.read_bytes()
        )
        async with grpc.aio.secure_channel(address, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _check(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_an_expired_client_certificate_is_refused(own_pki: TestPki, tmp_path: Path) -> None:
    own_pki.issue("client", days=-1)
    async with _service(own_pki, tmp_path) as address, own_pki.channel("client", address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _check(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_of_another_ca_is_not_believed(pki: TestPki, tmp_path: Path) -> None:
    stranger = TestPki(tmp_path / "other")
    stranger.files("client")
    async with (
        chassis_service(stranger, tmp_path, TokenMaker().verifier()) as address,
        pki.channel("client", address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _check(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.row("O6", missing=_ROTATION)
async def test_a_server_shows_a_new_certificate_at_the_next_handshake_and_old_connections_live_on(
    own_pki: TestPki, tmp_path: Path
) -> None:
    tokens, jobs = TokenMaker(), Jobs.create()
    own_pki.files("client")
    async with (
        chassis_service(own_pki, tmp_path, tokens.verifier(), jobs=jobs) as address,
        own_pki.channel("client", address) as old,
    ):
        stream = stubs.JobServiceStub(old).WatchJob(
            pb.WatchJobRequest(name="jobs/1"), metadata=(("authorization", f"Bearer {tokens.token()}"),)
        )
        await stream.read()
        before = await _served_serial(address, own_pki)
        assert before == _serial(own_pki.files("queue").certificate)
        for _ in range(2):  # and again, after that
            renewed = own_pki.issue("queue")
            after = await _served_serial(address, own_pki)
            assert after == _serial(renewed.certificate) != before
            before = after
        async with own_pki.channel("client", address) as new:
            await _check(new)
        await _check(old)
        assert not stream.done()


@pytest.mark.row("O6", missing=_ROTATION)
@pytest.mark.parametrize("broken", ["key", "certificate", "ca", "absent", "foreign key", "encrypted key"])
async def test_a_broken_set_of_files_keeps_the_old_one_until_it_is_mended(
    own_pki: TestPki, tmp_path: Path, broken: str
) -> None:
    async with _service(own_pki, tmp_path) as address:
        files = own_pki.files("queue")
        before = _serial(files.certificate)
        ca = files.ca.read_bytes()
        with structlog.testing.capture_logs() as logs:
            match broken:
                case "foreign key":
                    shutil.copy(own_pki.files("client").key, files.key)
                case "encrypted key":
                    key = load_pem_private_key(files.key.read_bytes(), None)
                    secret = BestAvailableEncryption(b"hunter2")
                    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
                case "absent":
                    files.key.unlink()
                case _:
                    getattr(files, broken).write_bytes(b"-----BEGIN rubbish")
            for _ in range(2):
                assert await _served_serial(address, own_pki) == before
        refusals = [line for line in logs if line["event"] == "tls_material_refused"]
        assert len(refusals) == 1
        assert "hunter2" not in str(refusals)
        files.ca.write_bytes(ca)
        renewed = own_pki.issue("queue")
        assert await _served_serial(address, own_pki) == _serial(renewed.certificate)


@pytest.mark.row("O6", missing=_ROTATION)
async def test_a_client_takes_up_a_new_certificate_without_losing_the_calls_under_way(
    own_pki: TestPki, tmp_path: Path
) -> None:
    tokens, jobs = TokenMaker(), Jobs.create()
    user = (("authorization", f"Bearer {tokens.token()}"),)
    own_pki.files("client")
    async with chassis_service(own_pki, tmp_path, tokens.verifier(), jobs=jobs) as address:
        material = own_pki.material("client")
        # Two users of the same files: one taking notice must not hide the change from the other.
        channels, others = ServiceChannels([address], material), ServiceChannels([address], material)
        request = pb.GetJobRequest(name="jobs/1")
        await stubs.JobServiceStub(others.get()).GetJob(request, metadata=user)
        stream = stubs.JobServiceStub(channels.get()).WatchJob(pb.WatchJobRequest(name="jobs/1"), metadata=user)
        await stream.read()
        first = own_pki.files("client").thumbprint
        assert [caller.peer.thumbprint for caller in jobs.callers] == [first, first]
        second = own_pki.issue("client").thumbprint
        assert second != first
        for used in (channels, others):
            await stubs.JobServiceStub(used.get()).GetJob(request, metadata=user)
            assert jobs.callers[-1].peer.thumbprint == second
        assert channels.get() is channels.get()
        assert not stream.done()
        await channels.close()
        await others.close()


async def test_rotating_goes_round_the_replicas_and_makes_one_channel_for_each(own_pki: TestPki) -> None:
    channels = ServiceChannels(["127.0.0.1:1", "127.0.0.1:2"], own_pki.material("client"))
    seen = []
    for _ in range(6):
        seen.append(channels.get())
        channels.rotate(seen[-1])
    assert len({id(channel) for channel in seen}) == 2
    assert seen[0] is seen[2] is seen[4]
    await channels.close()


async def test_calls_that_fail_together_on_one_replica_go_on_to_the_next_and_not_round_to_it_again(
    own_pki: TestPki,
) -> None:
    channels = ServiceChannels(["127.0.0.1:1", "127.0.0.1:2"], own_pki.material("client"))
    dead = channels.get()
    for _ in range(2):
        channels.rotate(dead)
    other = channels.get()
    assert other is not dead
    channels.rotate(dead)  # a call that took longer to fail
    assert channels.get() is other
    channels.rotate(other)
    assert channels.get() is dead
    await channels.close()


async def test_a_channel_with_an_old_certificate_is_closed_once_it_is_idle(own_pki: TestPki) -> None:
    channels = ServiceChannels(["127.0.0.1:1"], own_pki.material("client"))
    first = channels.get()
    own_pki.issue("client")
    second = channels.get()
    assert second is not first
    async with asyncio.timeout(_DEADLINE_S):
        while first.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:
            own_pki.issue("client")
            channels.get()
            await asyncio.sleep(0)
    await channels.close()


def test_files_that_do_not_belong_together_or_cannot_be_read_are_refused_at_the_start(own_pki: TestPki) -> None:
    queue, client = own_pki.files("queue"), own_pki.files("client")
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        MaterialFiles(queue.certificate, client.key, queue.ca)
    with pytest.raises(OSError, match="No such file"):
        MaterialFiles(queue.certificate, queue.key.with_name("absent"), queue.ca)
    with pytest.raises(ValueError, match=r".+"):
        MaterialFiles(queue.certificate, queue.key, queue.key)


def test_material_never_shows_its_key(own_pki: TestPki) -> None:
    material = own_pki.material("queue").current()
    assert b"PRIVATE KEY" in material.key
    assert "PRIVATE KEY" not in repr(material)


def test_a_file_that_was_only_touched_is_the_same_material(own_pki: TestPki) -> None:
    files = own_pki.material("queue")
    before = files.current()
    os.utime(own_pki.files("queue").certificate, ns=(1, 1))
    assert files.current() is before


def test_channels_look_for_dead_connections_and_soon_try_again() -> None:
    options = dict(CHANNEL_OPTIONS)
    assert options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"] <= 30_000
    assert options["grpc.max_reconnect_backoff_ms"] < 5_000


async def test_a_question_goes_on_to_the_replica_that_is_there(own_pki: TestPki, tmp_path: Path) -> None:
    own_pki.files("client")
    asked: list[grpc.aio.Channel] = []

    async def check(channel: grpc.aio.Channel) -> int:
        asked.append(channel)
        answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)
        return int(answer.status)

    async with _service(own_pki, tmp_path) as address:
        channels = ServiceChannels(["127.0.0.1:1", address], own_pki.material("client"))
        assert await channels.ask(check) == health_pb2.HealthCheckResponse.SERVING
        assert await channels.ask(check) == health_pb2.HealthCheckResponse.SERVING
        await channels.close()
    assert len(asked) == 3


async def test_a_question_that_no_replica_can_be_asked_is_asked_of_each_once(own_pki: TestPki) -> None:
    channels = ServiceChannels(["127.0.0.1:1", "127.0.0.1:2"], own_pki.material("client"))
    asked: list[grpc.aio.Channel] = []

    async def check(channel: grpc.aio.Channel) -> int:
        asked.append(channel)
        answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)
        return int(answer.status)

    with pytest.raises(grpc.aio.AioRpcError):
        await channels.ask(check)
    assert len(set(map(id, asked))) == len(asked) == 2
    await channels.close()
