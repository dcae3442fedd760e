"""The pipelined engine between two servers that say what a test has them say, as real ones do too rarely."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from wherry_testing.scripted_copies import (
    SOMETHING_THERE,
    Between,
    a_copy,
    commands,
    copied,
    copy,
    marker,
    plainly,
)
from wherry_testing.scripted_gridftp import ScriptedSession, answer_plainly
from wherry_testing.waiting import PATIENCE_S
from wherry_worker.engine import factories, pipelined_copy
from wherry_worker.engine.messages import CopyItem, ItemDone, Progress
from wherry_worker.engine.namespace import OnBytes
from wherry_worker.engine.port import TaskFailed


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


@pytest.mark.row("D8")
def test_connections_that_have_nothing_to_do_while_a_large_file_moves_give_signs_of_life(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers end those that ask for nothing for ten minutes, and with them the file would begin anew."""
    monkeypatch.setattr(pipelined_copy, "_SIGN_OF_LIFE_S", 0.1)
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
            for count in range(100):
                marker(session, count)
                if all(any(b"NOOP" in one.commands for one in server.sessions) for server in (source, destination)):
                    break
                arrived.wait(0.2)
            arrived.set()
            session.reply(b"226 done")

    engine, source, destination = between(at_source, at_destination)
    assert copy(engine, "large") == {"large": None}
    for server in (source, destination):
        assert any(b"NOOP" in session.commands for session in server.sessions)


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


@pytest.mark.row("T23", missing="gsiftp alone")
def test_the_cause_of_a_broken_channel_is_what_the_other_server_says_however_late(between: Between) -> None:
    complained = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command == b"RETR /second":
            complained.wait(PATIENCE_S)
            threading.Event().wait(1.0)  # a busy machine
            session.reply(b"550-GridFTP-Errno: 21", b"550 Is a directory")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR ") and command.endswith(b"-1"):
            session.reply(b"426 Data channel broken")
            complained.set()

    engine, _, _ = between(at_source, at_destination)
    told = copy(engine, "first", "second", "third")
    assert told == {"first": None, "second": "SOURCE_IS_A_DIRECTORY", "third": None}


@pytest.mark.row("J9")
def test_a_copy_of_another_size_is_not_put_in_place_even_if_its_checksum_is_the_sources(between: Between) -> None:
    """The source had grown before its checksum was computed."""

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"SIZE "):
            session.reply(b"213 4")

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


@pytest.mark.row("J8")
def test_two_files_on_their_way_are_never_given_one_name(between: Between) -> None:
    """The name that is free for the first, beside what is there, is the second one's own."""

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        if command == b"MLST /a.txt":
            session.reply(*SOMETHING_THERE)
        else:
            plainly(command, session)

    engine, _, destination = between(answer_plainly, at_destination)
    task = replace(a_copy("a.txt", "a (1).txt"), overwrite="keep_both")
    assert copied(engine, task)[0] == {"a.txt": None, "a (1).txt": None}
    assert sorted(commands(destination, b"RNTO")) == [b"RNTO /a (1).txt", b"RNTO /a (2).txt"]


@pytest.mark.row("J8")
def test_of_two_files_for_one_place_the_second_finds_the_first_there(between: Between) -> None:
    """Side by side each would find nothing there, and the second be put in the place of the first."""
    there = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"CKSM ") and command.endswith(b"/second"):
            session.reply(b"213 00000001")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"RNTO "):
            there.set()
        if not there.is_set():
            plainly(command, session)

    engine, _, destination = between(at_source, at_destination)
    items = CopyItem(0, "first", "place", 3), CopyItem(1, "second", "place", 3), CopyItem(2, "other", "elsewhere", 3)
    reasons, _ = copied(engine, replace(a_copy(), items=items))
    assert (reasons["first"], reasons["second"]) == (None, "DESTINATION_EXISTS")
    assert len(reasons) == 3
    assert commands(destination, b"RNTO").count(b"RNTO /place") == 1


@pytest.mark.row("D8")
def test_where_only_checksums_are_waited_for_that_is_said(between: Between) -> None:
    """A checksum may take longer than bytes may stand still; of small files not every step is told."""
    verifying = threading.Event()

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"CKSM "):
            verifying.wait(15)

    def hear(progress: Progress) -> None:
        if progress.phase == "verifying":
            verifying.set()

    engine, _, _ = between(answer_plainly, at_destination)
    told = engine.copy_files(a_copy("one", "two"), hear, lambda: False)
    assert [message.problem for message in told if isinstance(message, ItemDone)] == [None, None]
    assert verifying.is_set()


@pytest.mark.row("J1")
def test_how_the_bytes_went_is_told_although_their_connections_are_gone(between: Between) -> None:
    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command == b"RETR /second":
            session.reply(b"550-GridFTP-Errno: 13", b"550 Permission denied")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR ") and command.endswith(b"-1"):
            session.hold()

    engine, _, _ = between(at_source, at_destination)
    reasons, protections = copied(engine, a_copy("first", "second"))
    assert reasons == {"first": None, "second": "SOURCE_PERMISSION_DENIED"}
    assert protections == ["clear"]


def refusing_to_protect(command: bytes, session: ScriptedSession) -> None:
    """As a destination that offers protection, and then does not like what it is given."""
    plainly(command, session)
    if command.startswith(b"DCSC "):
        session.reply(b"500 not with this one")


@pytest.mark.row("J1")
def test_where_nobody_has_asked_for_protection_a_server_that_cannot_after_all_is_no_hindrance(between: Between) -> None:
    engine, _, destination = between(answer_plainly, refusing_to_protect, "Y29udGV4dA==")
    assert copied(engine, a_copy("file")) == ({"file": None}, ["clear"])
    assert commands(destination, b"DCSC") != []


@pytest.mark.row("J1")
def test_protection_that_a_site_demands_is_never_left_out(between: Between) -> None:
    engine, _, destination = between(answer_plainly, refusing_to_protect, "Y29udGV4dA==")
    with pytest.raises(TaskFailed) as failed:
        copied(engine, replace(a_copy("file"), least_protection="encrypted"))
    assert failed.value.problem.reason == "DATA_CHANNEL_NOT_PROTECTED"
    assert commands(destination, b"STOR") == []


def test_what_a_server_lacks_for_the_bytes_is_left_to_the_other_engine(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        """Copies, and notes it."""

        def __init__(self) -> None:
            self.copied: list[str] = []

        def copy(self, source_path: str, destination_path: str, size_bytes: int, on_bytes: OnBytes) -> None:
            self.copied.append(f"{source_path} to {destination_path}, {size_bytes}")
            on_bytes(size_bytes)

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command == b"MODE E":
            session.reply(b"504 no such mode")

    other = Other()
    monkeypatch.setattr(factories, "_third_party", lambda _setup, _door: other)
    engine, _, destination = between(answer_plainly, at_destination)
    assert copied(engine, a_copy("file")) == ({"file": None}, ["clear"])
    assert other.copied == ["/file to /.wherry-job.7-1-0, 3"]
    assert commands(destination, b"STOR") == []
