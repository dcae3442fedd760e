"""A client's credential, and servers that say what a test has them say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from wherry_gridftp.connection import Connection
from wherry_gridftp.gsi import Credential
from wherry_testing.pki import HostFiles, TestPki
from wherry_testing.scripted_gridftp import Script, ScriptedGridFtp, Serve, answer_plainly
from wherry_worker.trust import Authority, write_trust_directory


@pytest.fixture(scope="session")
def storage(pki: TestPki) -> HostFiles:
    """The servers' host certificate."""
    return pki.issue("storage", roles=())


@pytest.fixture(scope="session")
def credential(pki: TestPki, tmp_path_factory: pytest.TempPathFactory) -> Credential:
    """A certificate of the tests' CA, and that CA alone to believe in."""
    folder = tmp_path_factory.mktemp("gridftp")
    files = pki.issue("researcher", roles=())
    both = folder / "credential.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    write_trust_directory(folder / "trust", [Authority(files.ca.read_text())])
    return Credential(both, folder / "trust")


@pytest.fixture
def serve(storage: HostFiles, credential: Credential) -> Iterator[Serve]:
    """Starts a server with a script and connects to it."""
    with ExitStack() as stack:

        def start(
            script: Script = answer_plainly,
            *,
            timeout_s: float = 30,
            window: int = 128,
            address: str = "127.0.0.1",
        ) -> tuple[ScriptedGridFtp, Connection]:
            server = stack.enter_context(ScriptedGridFtp(storage, script, address=address))
            connection = Connection(server.endpoint, credential, timeout_s=timeout_s, window=window)
            return server, stack.enter_context(connection)

        yield start


@pytest.fixture(scope="session")
def untrusting(credential: Credential, tmp_path_factory: pytest.TempPathFactory) -> Credential:
    """The same credential, with another authority to believe in."""
    folder = tmp_path_factory.mktemp("others")
    others = TestPki(folder / "pki", name="Others")
    write_trust_directory(folder / "trust", [Authority(others.ca.read_text())])
    return Credential(credential.file, folder / "trust")
