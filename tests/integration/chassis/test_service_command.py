"""A service's whole process: configuration, database, certificates, serving, and the end by signal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from wherry_chassis.command import run
from wherry_chassis.server import Service
from wherry_testing.buildout_text import BUILDOUT
from wherry_testing.chassis_service import health_stub
from wherry_testing.pki import TestPki

_DEADLINE_S = 60
_PACKAGE = "wherry_queue"
_SERVICE = """
    import sys

    import sqlalchemy as sa
    from wherry_chassis import command, migrations
    from wherry_chassis.access import build_table
    from wherry_chassis.buildout import database_url
    from wherry_chassis.interceptors import chain
    from wherry_chassis.server import Service
    from wherry_chassis.sql import Database
    from wherry_testing.access_tokens import TokenMaker

    migrations.require_current = lambda url, package: None

    async def fail():
        if "--fail" in sys.argv:
            raise LookupError("background work broke")

    def build(buildout, replica):
        return Service(
            name="queue",
            register=lambda server: None,
            service_names=[],
            interceptors=chain(build_table(buildout.access), TokenMaker().verifier()),
            database=Database(database_url(buildout.service.queue)),
            background=[fail],
        )

    arguments = [argument for argument in sys.argv[1:] if argument != "--fail"]
    sys.exit(command.run("queue", "wherry_queue", build, arguments))
"""


@pytest.fixture
def buildout(tmp_path: Path) -> Path:
    """A buildout.toml with real certificates and a free port for the queue."""
    pki = TestPki(tmp_path / "hosts")
    for name in ("queue", "client"):
        pki.issue(name)
    text = BUILDOUT.replace('"postgresql+psycopg://wherry@db.example/queue"', '"sqlite:///queue.db"')
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    before, after = text.split("[service.queue]")
    after = after.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
    file = tmp_path / "buildout.toml"
    file.write_text(f"{before}[service.queue]{after}", encoding="utf-8")
    return file


def _never(*_: object) -> Service:
    raise AssertionError("the service must not be built")


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a service's command, which must refuse; returns what it said, one line."""
    assert run("queue", _PACKAGE, _never, list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wherry-queue: ")
    return line


def test_a_faulty_configuration_is_told_in_a_line_and_status_2(
    buildout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buildout.write_text(buildout.read_text().replace("[worker]", "[worker]\ncolour = 1"), encoding="utf-8")
    assert "worker.colour: unknown key" in _run(capsys, "serve", "--buildout", str(buildout))


def test_a_database_that_cannot_be_reached_is_told_in_a_line(
    buildout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (buildout.parent / "queue.db").mkdir()
    for command in ("serve", "migrate"):
        assert "the database cannot be used" in _run(capsys, command, "--buildout", str(buildout))


@contextlib.asynccontextmanager
async def _process(buildout: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    script = buildout.with_name("service.py")
    script.write_text(textwrap.dedent(_SERVICE), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        *("serve", "--buildout", str(buildout), *arguments),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _event(process: asyncio.subprocess.Process, name: str) -> dict[str, Any]:
    """Returns the next log line of that name."""
    assert process.stderr is not None
    async with asyncio.timeout(_DEADLINE_S):
        while line := await process.stderr.readline():
            if line.startswith(b"{") and (found := json.loads(line))["event"] == name:
                return dict(found)
    raise AssertionError(f"the process ended without {name}")


async def test_a_service_serves_until_it_is_told_to_end_and_says_so_first(buildout: Path) -> None:
    hosts = buildout.parent / "hosts"
    credentials = grpc.ssl_channel_credentials(
        *((hosts / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    )
    async with _process(buildout) as process:
        serving = await _event(process, "serving")
        async with grpc.aio.secure_channel(serving["listen"], credentials) as channel:
            stub = health_stub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            await _event(process, "draining")
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await _event(process, "stopped")
        async with asyncio.timeout(_DEADLINE_S):
            assert await process.wait() == 0


async def test_background_work_that_fails_ends_the_service(buildout: Path) -> None:
    async with _process(buildout, "--fail") as process:
        assert process.stderr is not None
        async with asyncio.timeout(_DEADLINE_S):
            said = await process.stderr.read()
            assert await process.wait() != 0
    assert b"background work broke" in said


async def test_a_taken_port_and_an_absent_replica_are_told_in_a_line(buildout: Path) -> None:
    async with _process(buildout) as first:
        listen = (await _event(first, "serving"))["listen"]
        for arguments, words in (((), f"cannot listen at {listen}"), (("--replica", "1"), "there is no replica 1")):
            async with _process(buildout, *arguments) as second:
                assert second.stderr is not None
                said = (await second.stderr.read()).decode()
                assert await second.wait() == 2
            assert words in said.splitlines()[-1]
            assert "Traceback" not in said
