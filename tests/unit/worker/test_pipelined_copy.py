"""The pipelined engine between two servers that say what a test has them say, as real ones do too rarely."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from wherry_testing.pki import TestPki
from wherry_testing.scripted_gridftp import Script, ScriptedGridFtp, ScriptedSession
from wherry_worker.engine.factories import pipelined_engine
from wherry_worker.engine.messages import CopyFiles, CopyItem, Door, ItemDone, Setup
from wherry_worker.engine.port import Engine, TaskFailed
from wherry_worker.trust import Authority, write_trust_directory

NOTHING_THERE = b"550-GridFTP-Errno: 2", b"550 No such file or directory"
Between = Callable[[Script, Script], tuple[Engine, ScriptedGridFtp, ScriptedGridFtp]]


@pytest.fixture
def between(pki: TestPki, tmp_path: Path) -> Iterator[Between]:
    """Starts two servers with their scripts, and an engine that waits a second for bytes."""
    files = pki.issue("researcher", roles=())
    credential = tmp_path / "credential.pem"
    credential.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    trust = tmp_path / "trust"
    write_trust_directory(trust, [Authority(files.ca.read_text())])
    with ExitStack() as stack:

        def start(at_source: Script, at_destination: Script) -> tuple[Engine, ScriptedGridFtp, ScriptedGridFtp]:
            servers = [
                stack.enter_context(ScriptedGridFtp(pki.files("storage"), script))
                for script in (at_source, at_destination)
            ]
            source, destination = (
                Door(name, "gsiftp", server.endpoint.host, server.endpoint.port, str(credential), str(trust))
                for name, server in zip(("sites/a", "sites/b"), servers, strict=True)
            )
            engine = pipelined_engine(Setup("pipelined", source, destination, 20, 20, marker_timeout_s=1))
            stack.callback(engine.close)
            return engine, servers[0], servers[1]

        yield start


def copy(engine: Engine, *names: str) -> dict[str, str | None]:
    """Copies files; returns for each why it is not there."""
    task = CopyFiles("job.7", 1, "/", "/", tuple(CopyItem(index, name, name, 3) for index, name in enumerate(names)))
    told = engine.copy_files(task, lambda _progress: None, lambda: False)
    done = [message for message in told if isinstance(message, ItemDone)]
    return {names[item.index]: item.problem.reason if item.problem else None for item in done}


def commands(server: ScriptedGridFtp, verb: bytes) -> list[bytes]:
    """All of a kind that a server was given."""
    return [line for session in server.sessions for line in session.commands if line.startswith(verb + b" ")]


def plainly(command: bytes, session: ScriptedSession) -> None:
    """As a destination at which there is nothing yet."""
    if command.startswith(b"MLST ") and b"/.wherry-" not in command:
        session.reply(*NOTHING_THERE)


def marker(session: ScriptedSession, count: int) -> None:
    session.reply(b"112-Perf Marker", b" Stripe Index: 0", b" Stripe Bytes Transferred: %d" % count, b"112 End.")


@pytest.mark.row("D8")
def test_a_source_that_is_silent_while_bytes_arrive_has_not_stalled(between: Between) -> None:
    """A large file takes longer than silence may last, and of its source nothing is heard meanwhile."""
    arrived = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"RETR "):
            session.reply(b"150 opening")
            arrived.wait(20)
            session.reply(b"226 done")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR "):
            session.reply(b"150 opening")
            for count in range(10):
                marker(session, count)
                arrived.wait(0.3)
            arrived.set()
            session.reply(b"226 done")

    engine, source, _ = between(at_source, at_destination)
    assert copy(engine, "large") == {"large": None}
    assert len(commands(source, b"RETR")) == 1


@pytest.mark.row("T23", missing="gsiftp alone")
def test_markers_that_say_the_same_again_and_again_are_no_sign_of_life(between: Between) -> None:
    over = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"RETR "):
            session.hold()

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR "):
            session.hold()
            while not over.wait(0.2) and session.commands[-1] == command:
                marker(session, 1000)

    engine, _, _ = between(at_source, at_destination)
    try:
        with pytest.raises(TaskFailed) as failed:
            copy(engine, "file")
    finally:
        over.set()
    assert failed.value.problem.reason == "TRANSFER_STALLED"
    assert failed.value.problem.retryable


@pytest.mark.row("T23", missing="gsiftp alone")
def test_a_refused_file_is_charged_although_the_one_before_it_takes_its_time(between: Between) -> None:
    """The first file is sent, and on its way to a slow disk, when the source refuses the second."""
    slow = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command == b"RETR /second":
            session.reply(b"550-GridFTP-Errno: 13", b"550 Permission denied")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR ") and command.endswith(b"-0"):
            slow.wait(0.8)
        elif command.startswith(b"STOR ") and command.endswith(b"-1"):
            session.hold()

    engine, _, destination = between(at_source, at_destination)
    reasons = copy(engine, "first", "second", "third")
    assert reasons == {"first": None, "second": "SOURCE_PERMISSION_DENIED", "third": None}
    # A second try would be another temporary name, whose number has the same remainder.
    begun = [int(line.rpartition(b"-")[2]) % 1_000_000 for line in commands(destination, b"STOR")]
    assert begun.count(0) == 1


@pytest.mark.row("J9")
def test_a_copy_of_another_size_is_not_put_in_place_even_if_its_checksum_is_the_sources(between: Between) -> None:
    """The source had grown before its checksum was computed."""

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"MLST ") and b"/.wherry-" in command:
            session.reply(b"250-status", b" Type=file;Size=4;Modify=20260102030405; /it", b"250 End.")

    looks: list[bytes] = []

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"MLST "):
            looks.append(command)
            threading.Event().wait(0.5 * (len(looks) - 1))  # the destination is the quicker one to answer
            size = b"3" if len(looks) == 1 else b"4"
            session.reply(b"250-status", b" Type=file;Size=" + size + b";Modify=20260102030405; /it", b"250 End.")

    engine, _, destination = between(at_source, at_destination)
    assert copy(engine, "file") == {"file": "SOURCE_CHANGED"}
    assert commands(destination, b"RNTO") == []
    assert commands(destination, b"DELE") != []


@pytest.mark.row("D2")
def test_what_lies_at_the_destination_is_removed_when_the_source_is_lost(between: Between) -> None:
    """The belief in all connections goes with the source's; the destination is well, and is asked once more."""
    lost = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if lost.is_set():
            session.drop()
        elif command.startswith(b"RETR "):
            lost.set()
            session.hold()
            source.sessions[0].drop()  # the first to come is the one for names

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR "):
            session.hold()

    engine, source, destination = between(at_source, at_destination)
    with pytest.raises(TaskFailed) as failed:
        copy(engine, "file")
    assert failed.value.problem.reason == "SOURCE_CONNECTION_LOST"
    begun = {line.removeprefix(b"STOR ") for line in commands(destination, b"STOR")}
    assert begun
    assert begun <= {line.removeprefix(b"DELE ") for line in commands(destination, b"DELE")}
