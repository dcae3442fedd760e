"""The service as a process of its own: `migrate`, `serve`, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis.buildout import BuildoutError
from wherry_testing.pki import TestPki
from wherry_testing.user_service import user_buildout
from wherry_user.app import build

MAIL = {"host": "127.0.0.1", "port": 25, "security": "none", "sender": "wherry@example.org"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def buildout_file(tmp_path: Path, pki: TestPki) -> tuple[Path, int]:
    user_buildout(tmp_path, pki, "sqlite:///user.db", MAIL)
    file, port = tmp_path / "buildout.toml", free_port()
    file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
    return file, port


async def started(action: str, file: Path) -> asyncio.subprocess.Process:
    command = ["-m", "wherry_user", action, "--buildout", str(file)]
    return await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Waits for a process; returns its status and what it wrote to standard error."""
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode()


async def serve_until_healthy_and_stop(file: Path, port: int, pki: TestPki) -> tuple[int | None, str]:
    process = await started("serve", file)
    try:
        async with pki.channel("client", f"127.0.0.1:{port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs know no asyncio
            request = health_pb2.HealthCheckRequest(service="wherry.user.v1.UserService")
            answer = await health.Check(request, timeout=30, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            keys: rpc.KeyServiceAsyncStub = rpc.KeyServiceStub(channel)
            assert len((await keys.GetJwks(pb.GetJwksRequest(), timeout=10)).keys) == 1
        process.send_signal(signal.SIGTERM)
        return await finished(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_service_migrates_serves_and_stops(buildout_file: tuple[Path, int], pki: TestPki) -> None:
    file, port = buildout_file
    for _ in range(2):
        assert await finished(await started("migrate", file)) == (0, "")
    status, logged = await serve_until_healthy_and_stop(file, port, pki)
    assert status == 0, logged
    secret = file.parent / "signing.kek"
    secret.write_bytes(base64.b64encode(os.urandom(32)))
    status, logged = await finished(await started("serve", file))
    assert status == 2
    assert "tokens.signing_key_encryption_key" in logged
    assert "wrapped under another key" in logged
    assert "Traceback" not in logged


async def test_serving_an_unmigrated_database_says_what_to_run(buildout_file: tuple[Path, int]) -> None:
    status, logged = await finished(await started("serve", buildout_file[0]))
    assert status == 2
    assert "wherry-user migrate" in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize("secret", [base64.b64encode(b"too short").decode(), "no base64!"])
def test_a_key_encryption_key_that_is_none_is_told_without_showing_it(
    tmp_path: Path, pki: TestPki, secret: str
) -> None:
    buildout = user_buildout(tmp_path, pki, "sqlite:///user.db", MAIL)
    (tmp_path / "signing.kek").write_text(secret)
    with pytest.raises(BuildoutError, match=r"tokens\.signing_key_encryption_key: .*32 random bytes") as caught:
        build(buildout, 0)
    assert secret not in str(caught.value)
