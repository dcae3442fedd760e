"""The pipelined engine between two scripted servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from wherry_testing.pki import TestPki
from wherry_testing.scripted_copies import Between
from wherry_testing.scripted_gridftp import Script, ScriptedGridFtp
from wherry_worker.engine.factories import pipelined_engine
from wherry_worker.engine.messages import RESUME_BYTES, Door, Setup
from wherry_worker.engine.port import Engine
from wherry_worker.trust import Authority, write_trust_directory


@pytest.fixture
def between(pki: TestPki, tmp_path: Path) -> Iterator[Between]:
    """Starts two servers with their scripts, and an engine that waits a second for bytes."""
    files = pki.issue("researcher", roles=())
    credential = tmp_path / "credential.pem"
    credential.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    trust = tmp_path / "trust"
    write_trust_directory(trust, [Authority(files.ca.read_text())])
    with ExitStack() as stack:

        def start(
            at_source: Script, at_destination: Script, context: str = "", resume_bytes: int = RESUME_BYTES
        ) -> tuple[Engine, ScriptedGridFtp, ScriptedGridFtp]:
            servers = [
                stack.enter_context(ScriptedGridFtp(pki.files("storage"), script))
                for script in (at_source, at_destination)
            ]
            source, destination = (
                Door(name, "gsiftp", server.endpoint.host, server.endpoint.port, str(credential), str(trust))
                for name, server in zip(("sites/a", "sites/b"), servers, strict=True)
            )
            times = (20, 20, 1)
            engine = pipelined_engine(Setup("pipelined", source, destination, *times, context, resume_bytes))
            stack.callback(engine.close)
            return engine, servers[0], servers[1]

        yield start
