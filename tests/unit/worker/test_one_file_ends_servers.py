"""A file that ends the server each time that it is sent costs itself, and not the others of its chunk."""

from __future__ import annotations

import threading

import pytest
from wherry_testing.scripted_copies import Between, commands, copy, plainly
from wherry_testing.scripted_gridftp import ScriptedSession
from wherry_testing.waiting import PATIENCE_S

_WITHIN_S = PATIENCE_S


@pytest.mark.row("T23", missing="gsiftp alone")
def test_a_file_over_which_servers_end_again_and_again_is_charged_and_the_others_go_on(between: Between) -> None:
    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command == b"RETR /deadly":
            session.drop()

    engine, source, _ = between(at_source, plainly)
    assert copy(engine, "one", "deadly", "two", "three") == {
        "one": None,
        "deadly": "TRANSFER_BROKEN",
        "two": None,
        "three": None,
    }
    assert len(commands(source, b"RETR")) < 20


@pytest.mark.row("T23", missing="gsiftp alone")
def test_a_file_that_is_there_before_a_server_ends_is_not_charged_though_the_other_says_so_late(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_worker.engine.pipelined_copy.ANSWER_OF_THE_OTHER_S", _WITHIN_S)
    ended = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command == b"RETR /deadly":
            session.drop()
            ended.set()

    def at_destination(command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith(b"STOR "):
            ended.wait(_WITHIN_S)

    engine, source, _ = between(at_source, at_destination)
    told = copy(engine, "one", "deadly", "two")
    assert told == {"one": None, "deadly": "TRANSFER_BROKEN", "two": None}
    assert commands(source, b"RETR").count(b"RETR /one") == 1
