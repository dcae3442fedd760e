"""Small files that a walk has just listed are not looked at once more before they are sent, and only then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wherry_testing.scripted_copies import NOTHING_THERE, SOMETHING_THERE, Between, a_copy, commands, copied, plainly
from wherry_testing.scripted_gridftp import ScriptedSession, answer_plainly
from wherry_worker.engine.messages import CopyFiles

LISTED_S = 1_500_000_000


def listed(task: CopyFiles, *, size_bytes: int = 3) -> CopyFiles:
    """Has a walk have listed the files."""
    items = tuple(replace(item, listed_time_s=LISTED_S, size_bytes=size_bytes) for item in task.items)
    return replace(task, items=items)


@pytest.mark.row("J1")
def test_a_listed_file_is_looked_for_once_just_before_it_gets_its_name(between: Between) -> None:
    engine, source, destination = between(answer_plainly, plainly)
    assert copied(engine, listed(a_copy("file")))[0] == {"file": None}
    assert commands(source, b"MLST") == []
    (names,) = [session for session in destination.sessions if any(b"RNTO" in line for line in session.commands)]
    verbs = [line.split(b" ")[0] for line in names.commands]
    assert verbs[-5:] == [b"CKSM", b"SITE", b"MLST", b"RNFR", b"RNTO"]
    assert commands(destination, b"MLST") == [b"MLST /file"]


@pytest.mark.row("J1")
def test_it_keeps_the_time_that_the_listing_told(between: Between) -> None:
    engine, _, destination = between(answer_plainly, plainly)
    copied(engine, listed(a_copy("file")))
    assert [line.split(b" ")[2] for line in commands(destination, b"SITE") if b"UTIME" in line] == [b"20170714024000"]


@pytest.mark.row("J8")
def test_what_has_come_to_its_place_since_is_left_there(between: Between) -> None:
    def at_destination(command: bytes, session: ScriptedSession) -> None:
        if command == b"MLST /file":
            session.reply(*SOMETHING_THERE)
        elif command == b"CKSM ADLER32 0 -1 /file":
            session.reply(b"213 00000001")

    engine, _, destination = between(answer_plainly, at_destination)
    assert copied(engine, listed(a_copy("file")))[0] == {"file": "DESTINATION_EXISTS"}
    assert commands(destination, b"RNTO") == []


@pytest.mark.row("J9")
def test_a_file_that_has_grown_since_is_looked_at_and_sent_once_more(between: Between) -> None:
    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"MLST "):
            session.reply(b"250-status", b" Type=file;Size=4;Modify=20260102030405; /it", b"250 End.")

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"SIZE "):
            session.reply(b"213 4")

    engine, source, destination = between(at_source, at_destination)
    assert copied(engine, listed(a_copy("file")))[0] == {"file": None}
    assert len(commands(source, b"MLST")) == 1
    first, second = (line.split(b" ", 1)[1] for line in commands(destination, b"STOR"))
    assert first != second
    assert b"DELE " + first in commands(destination, b"DELE")
    assert commands(destination, b"RNFR") == [b"RNFR " + second]


@pytest.mark.row("T23", missing="gsiftp alone")
def test_a_file_that_has_gone_since_is_told_as_gone(between: Between) -> None:
    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"CKSM "):
            session.reply(*NOTHING_THERE)

    engine, _, destination = between(at_source, plainly)
    assert copied(engine, listed(a_copy("file")))[0] == {"file": "SOURCE_NOT_FOUND"}
    assert commands(destination, b"STOR") == []


@pytest.mark.row("J9")
def test_of_a_large_file_no_listing_is_believed(between: Between) -> None:
    engine, source, _ = between(answer_plainly, plainly)
    copied(engine, listed(a_copy("file"), size_bytes=50_000_000))
    assert len(commands(source, b"MLST")) == 1
