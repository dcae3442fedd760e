"""A file that ends the server each time that it is sent costs itself, and not the others of its chunk."""

from __future__ import annotations

import pytest
from wherry_testing.scripted_copies import Between, commands, copy, plainly
from wherry_testing.scripted_gridftp import ScriptedSession


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
