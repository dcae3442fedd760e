"""Listings: whose names they hold, and how much of one is in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
from wherry_gridftp import listing
from wherry_gridftp.errors import ConnectionLost, Refused, TimedOut, UnfitName
from wherry_gridftp.listing import list_directory
from wherry_gridftp.pump import command
from wherry_testing.scripted_gridftp import Script, ScriptedSession, Serve

pytestmark = pytest.mark.row("D18", missing="the real servers")


def _listing(*replies: tuple[bytes, ...]) -> Script:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            for reply in replies:
                session.reply(*reply)

    return script


def test_a_listing_in_parts_has_the_entries_of_all(serve: Serve) -> None:
    first = (b"150-Contents", b" Type=cdir; .", b" Type=file;Size=1; a", b"150 part")
    last = (b"250-Contents", b" Type=dir; b", b"250 End.")
    _, connection = serve(_listing(first, last))
    entries = list(list_directory(connection, b"/"))
    assert [(entry.name, entry.kind, entry.itself) for entry in entries] == [
        (b".", "directory", True),
        (b"a", "file", False),
        (b"b", "directory", False),
    ]


def test_a_name_that_looks_like_the_end_of_a_reply_ends_none(serve: Serve) -> None:
    lines = (b"150-", b" Type=file;Size=1; 226 done", b" Type=file;Size=2; 550 no", b"150 part")
    _, connection = serve(_listing(lines, (b"250-", b" Type=dir; e", b"250 End.")))
    assert [entry.name for entry in list_directory(connection, b"/")] == [b"226 done", b"550 no", b"e"]


def test_a_name_with_a_line_break_in_it_is_kept_whole_over_parts_too(serve: Serve) -> None:
    _, connection = serve(
        _listing(
            (b"150-", b" Type=file; one", b"two", b" Type=file; three", b"150 part"),
            (b"250-", b"four", b" Type=file; five", b"250 End."),
        )
    )
    names = [entry.name for entry in list_directory(connection, b"/")]
    assert names == [b"one\r\ntwo", b"three\r\nfour", b"five"]


def test_what_follows_a_line_break_in_a_name_may_look_like_anything_but_an_entry(serve: Serve) -> None:
    lines = (b" Type=file; a", b" b; c", b"", b"250 End.", b" Type=file; ", b"d", b" Type=file; e")
    _, connection = serve(_listing((b"250-Contents", *lines, b"250 End.")))
    names = [entry.name for entry in list_directory(connection, b"/")]
    assert names == [b"a\r\n b; c\r\n\r\n250 End.", b"\r\nd", b"e"]


def test_a_listing_that_comes_as_one_protected_line_is_read_too(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            session.reply_at_once(b"250-here", b" Type=file; a", b" Type=file; b", b"250 End")

    _, connection = serve(script)
    assert [entry.name for entry in list_directory(connection, b"/")] == [b"a", b"b"]


def test_a_refusal_is_told_whenever_it_comes(serve: Serve) -> None:
    _, connection = serve(
        _listing((b"150-", b" Type=file; a", b" Type=file; b", b"150 part"), (b"550-GridFTP-Errno: 5", b"550 End."))
    )
    entries = list_directory(connection, b"/")
    assert next(entries).name == b"a"
    with pytest.raises(Refused) as refused:
        next(entries)
    assert refused.value.reply.errno == 5
    assert command(connection, b"NOOP").code == 200


def test_entries_are_handed_on_before_the_listing_has_ended(serve: Serve) -> None:
    sessions: list[ScriptedSession] = []

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            sessions.append(session)
            # The last of a part may go on in the next one: it is told with that.
            session.reply(b"150-", b" Type=file; a", b" Type=file; b", b"150 part")

    _, connection = serve(script)
    entries = list_directory(connection, b"/", patience_s=10)
    assert next(entries).name == b"a"
    sessions[0].reply(b"250-", b" Type=file; c", b"250 End.")
    assert [entry.name for entry in entries] == [b"b", b"c"]


def _endless(enough: threading.Event) -> Script:
    """A server whose directory has no end; it says so once it has been kept from going on."""

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            part = [b" Type=file;Size=1; %d" % number + b"x" * 200 for number in range(1000)]
            while not enough.is_set():
                session.reply(b"150-", *part, b"150 part")
            session.reply(b"250-", b"250 End.")

    return script


def test_a_directory_without_an_end_costs_no_memory_and_may_be_left(serve: Serve) -> None:
    """What is not taken stays with the server, which has to wait."""
    enough = threading.Event()
    _, connection = serve(_endless(enough))
    entries = list_directory(connection, b"/")
    assert len(list(itertools.islice(entries, 20_000))) == 20_000
    enough.set()
    entries.close()  # type: ignore[attr-defined]  # it is a generator, which its type does not promise
    assert command(connection, b"NOOP").code == 200, "what still came of the listing is forgotten"


def test_entries_that_nobody_takes_are_not_kept_for_ever(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_WAITING_BYTES", 1 << 20)
    enough = threading.Event()
    _, connection = serve(_endless(enough))
    entries = list_directory(connection, b"/")
    next(entries)
    try:
        with pytest.raises(ConnectionLost, match="more entries came than were taken"):
            command(connection, b"NOOP")
    finally:
        enough.set()


def _endless_name(session: ScriptedSession) -> None:
    session.reply(b"150-", b" Type=file; one", *[b"x" * 10_000] * 200, b"150 part")


def _no_name(session: ScriptedSession) -> None:
    session.reply(b"250-", b" Type=file;Size=3;", b"250 End.")


def _no_facts(session: ScriptedSession) -> None:
    session.reply(b"250-", b" a name", b"250 End.")


@pytest.mark.parametrize(
    ("answer", "says"),
    [(_endless_name, "endless name"), (_no_name, "without a name"), (_no_facts, "without facts")],
)
def test_a_listing_that_is_none_is_told_as_lost(
    serve: Serve, answer: Callable[[ScriptedSession], None], says: str
) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            answer(session)

    _, connection = serve(script)
    with pytest.raises(ConnectionLost, match=says):
        list(list_directory(connection, b"/"))


def test_a_server_that_falls_silent_in_the_middle_is_given_up(serve: Serve) -> None:
    _, connection = serve(_listing((b"150-", b" Type=file; a", b" Type=file; b", b"150 part")))
    entries = list_directory(connection, b"/", patience_s=0.3)
    assert next(entries).name == b"a"
    with pytest.raises(TimedOut):
        next(entries)


def test_a_name_that_would_end_its_command_is_never_sent(serve: Serve) -> None:
    server, connection = serve()
    with pytest.raises(UnfitName):
        next(list_directory(connection, b"/a\nDELE b"))
    command(connection, b"NOOP")
    assert server.sessions[0].commands[2:] == [b"NOOP"]
