"""Files sent one behind the other, between two servers that answer as they are told to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import TimedOut, UnfitName
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.third_party import ThirdParty
from wherry_testing.scripted_gridftp import Script, ScriptedGridFtp, ScriptedSession, Serve, answer_plainly

pytestmark = pytest.mark.row("T14")


@dataclass
class Between:
    """A sender between two scripted servers, with what came of the files."""

    source: ScriptedGridFtp
    destination: ScriptedGridFtp
    connections: tuple[Connection, Connection]
    sent: list[int] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)

    def sender(self, count: int, window: int = 128) -> ThirdParty[int]:
        sender = ThirdParty[int](*self.connections, self.sent.append, self.moved, window=window)
        for number in range(count):
            sender.submit(number, b"/from/%d" % number, b"/to/%d" % number)
        return sender

    def until(self, so: Callable[[], bool], within_s: float = 30) -> bool:
        return pump(self.connections, so, within_s=within_s)

    def moved(self, key: int, markers: Markers) -> None:
        self.progress.append((key, markers.bytes))


def _between(serve: Serve, at_source: Script = answer_plainly, at_destination: Script = answer_plainly) -> Between:
    source, first = serve(at_source)
    destination, second = serve(at_destination)
    return Between(source, destination, (first, second))


def _refusing(verb: bytes, number: int, *lines: bytes) -> Script:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(verb) and line.endswith(b"/%d" % number):
            session.reply(*lines)

    return script


def test_all_files_are_sent_in_order(serve: Serve) -> None:
    between = _between(serve)
    between.sender(300)
    assert between.until(lambda: len(between.sent) == 300)
    assert between.sent == list(range(300))


def test_a_file_is_there_only_once_both_servers_have_said_so(serve: Serve) -> None:
    held: list[ScriptedSession] = []

    def script(line: bytes, session: ScriptedSession) -> None:
        if line == b"STOR /to/1":
            session.hold()
            held.append(session)

    between = _between(serve, at_destination=script)
    between.sender(2)
    assert between.until(lambda: bool(held) and between.sent == [0])
    assert not between.until(lambda: 1 in between.sent, within_s=0.3)
    held[0].reply(b"226 done")
    assert between.until(lambda: between.sent == [0, 1])


def test_after_a_source_is_missing_nothing_later_is_believed(serve: Serve) -> None:
    between = _between(serve, at_source=_refusing(b"RETR", 3, b"550 No such file or directory"))
    sender = between.sender(10)
    assert between.until(lambda: sender.failed)
    between.until(sender.both_have_spoken, within_s=0.3)
    failure = sender.failure()
    assert failure is not None
    assert (failure.key, failure.side, failure.reply.errno) == (3, "source", 2)
    assert between.sent == [0, 1, 2], "the destination has said 226 to 3 and later: it may have had other files' bytes"
    assert sender.unconfirmed() == list(range(3, 10))


def test_words_about_the_file_count_for_more_than_those_about_the_channel(serve: Serve) -> None:
    between = _between(
        serve,
        at_source=_refusing(b"RETR", 2, b"426-Data channel broke", b"426 End."),
        at_destination=_refusing(b"STOR", 2, b"500-System error in write: No space left on device", b"500 End."),
    )
    sender = between.sender(5)
    assert between.until(sender.both_have_spoken)
    failure = sender.failure()
    assert failure is not None
    assert (failure.key, failure.side, failure.reply.errno) == (2, "destination", 28)


def test_a_files_own_name_is_no_word_about_the_channel(serve: Serve) -> None:
    """Else nobody would be charged with it, and it would be begun anew until the whole chunk is given up."""

    def at_source(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"RETR "):
            session.reply(b"550 " + line.removeprefix(b"RETR ") + b": Permission denied")

    between = _between(
        serve, at_source=at_source, at_destination=_refusing(b"STOR", 0, b"426 an end-of-file was reached")
    )
    sender = between.sender(0)
    sender.submit(0, b"/from/aborted runs/broken pipe.dat", b"/to/0")
    assert between.until(sender.both_have_spoken)
    failure = sender.failure()
    assert failure is not None
    assert (failure.side, failure.reply.errno) == ("source", 13)


def test_a_channel_that_breaks_at_both_ends_is_nobodys_fault(serve: Serve) -> None:
    between = _between(
        serve,
        at_source=_refusing(b"RETR", 0, b"426 globus_xio: Broken pipe"),
        at_destination=_refusing(b"STOR", 0, b"426 an end-of-file was reached"),
    )
    sender = between.sender(1)
    assert between.until(sender.both_have_spoken)
    failure = sender.failure()
    assert failure is not None
    assert failure.side is None


def test_no_more_files_are_under_way_than_the_window_allows(serve: Serve) -> None:
    held: list[ScriptedSession] = []

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"STOR"):
            session.hold()
            held.append(session)

    between = _between(serve, at_destination=script)
    between.sender(10, window=4)
    assert between.until(lambda: len(held) == 4)
    assert not between.until(lambda: len(held) > 4, within_s=0.3)
    assert sum(command.startswith(b"RETR") for command in between.source.sessions[0].commands) <= 4


def test_progress_is_what_the_destination_has_told(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"STOR"):
            session.reply(b"150 opening")
            for count in (b"10", b"30"):
                session.reply(
                    b"112-Perf Marker", b" Stripe Index: 0", b" Stripe Bytes Transferred: " + count, b"112 End."
                )
            session.reply(b"111 Range Marker 0-40")
            session.reply(b"226 done")

    between = _between(serve, at_destination=script)
    between.sender(1)
    assert between.until(lambda: bool(between.sent))
    assert between.progress == [(0, 10), (0, 30), (0, 40)]


class _Telling:
    """A destination that tells of a file again and again, from the source's point of view for a long time."""

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        self._over = threading.Event()

    def __call__(self, line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"STOR"):
            for count in itertools.count(1):
                told = count if self._progress else 7
                session.reply(b"112-Perf Marker", b" Stripe Bytes Transferred: %d" % told, b"112 End.")
                if self._over.wait(0.1):
                    break
            session.reply(b"226 done")

    def end(self) -> None:
        self._over.set()


def _silent_source(line: bytes, session: ScriptedSession) -> None:
    if line.startswith(b"RETR"):
        session.hold()


def test_a_source_is_silent_as_long_as_its_destination_tells_of_progress(serve: Serve) -> None:
    telling = _Telling(progress=True)
    between = _between(serve, _silent_source, telling)
    sender = ThirdParty[int](*between.connections, between.sent.append, between.moved, patience_s=2)
    sender.submit(0, b"/from", b"/to")
    try:
        # Several times its patience: whatever is said of it, nothing is given up.
        assert not between.until(lambda: sender.failed, within_s=5)
    finally:
        telling.end()
    between.source.sessions[0].reply(b"226 done")
    assert between.until(lambda: between.sent == [0])


def test_a_destination_that_tells_of_no_progress_does_not_keep_a_file_alive(serve: Serve) -> None:
    telling = _Telling(progress=False)
    between = _between(serve, _silent_source, telling)
    sender = ThirdParty[int](*between.connections, between.sent.append, patience_s=0.5)
    sender.submit(0, b"/from", b"/to")
    try:
        with pytest.raises(Broken) as broken:
            between.until(lambda: sender.failed)
    finally:
        telling.end()
    assert isinstance(broken.value.cause, TimedOut)
    assert broken.value.connection is between.connections[0]


def test_ranges_that_are_there_are_not_sent_again(serve: Serve) -> None:
    between = _between(serve)
    sender = ThirdParty[int](*between.connections, between.sent.append)
    sender.submit(7, b"/from", b"/to", have=[(0, 100), (200, 300)])
    assert between.until(lambda: between.sent == [7])
    for server, verb in ((between.source, b"RETR /from"), (between.destination, b"STOR /to")):
        assert server.sessions[0].commands[-2:] == [b"REST 0-100,200-300", verb]


@pytest.mark.parametrize("at_source", [True, False])
def test_a_file_whose_ranges_a_server_does_not_keep_is_not_there(serve: Serve, at_source: bool) -> None:
    """It would have holes, or the whole of it, or be sent to nobody: whatever is said of it later."""

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"REST"):
            session.reply(b"501 no such ranges")

    between = _between(serve, *((script, answer_plainly) if at_source else (answer_plainly, script)))
    sender = ThirdParty[int](*between.connections, between.sent.append)
    sender.submit(7, b"/from", b"/to", have=[(0, 100)])
    assert between.until(lambda: sender.failed)
    assert between.until(lambda: not any(connection.busy for connection in between.connections))
    failure = sender.failure()
    assert failure is not None
    assert (failure.side, failure.reply.code) == ("source" if at_source else "destination", 501)
    assert failure.of_restart
    assert not between.sent


@pytest.mark.row("B9")
def test_what_has_arrived_of_the_file_that_moves_is_told_with_what_was_there(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"STOR"):
            session.reply(b"150 opening")
            session.reply(b"112-Perf Marker", b" Stripe Index: 0", b" Stripe Bytes Transferred: 50", b"112 End.")
            session.reply(b"111 Range Marker 100-150,200-210")
            session.hold()

    between = _between(serve, at_destination=script)
    sender = ThirdParty[int](*between.connections, between.sent.append, between.moved)
    assert sender.arrived() == ()
    sender.submit(0, b"/from", b"/to", have=[(0, 100)])
    assert between.until(lambda: len(between.progress) == 2)
    assert sender.arrived() == [(0, 150), (200, 210)]
    assert between.progress == [(0, 150), (0, 160)]


@pytest.mark.parametrize("code", [b"350", b"226-"])
def test_only_a_success_is_one(serve: Serve, code: bytes) -> None:
    between = _between(serve, at_destination=_refusing(b"STOR", 0, code + b" what else?"))
    sender = between.sender(1)
    between.until(lambda: sender.failed or bool(between.sent))
    assert (between.sent, sender.failed) == (([], True) if code == b"350" else ([0], False))


@pytest.mark.parametrize("paths", [(b"/a\nb", b"/to"), (b"/from", b"/a\rb"), (b"/from", b"/a\0b")])
def test_of_a_file_with_an_unfit_name_neither_server_hears_anything(serve: Serve, paths: tuple[bytes, bytes]) -> None:
    """One that waits for the other would be given the next file's bytes."""
    between = _between(serve)
    sender = between.sender(1)
    with pytest.raises(UnfitName):
        sender.submit(1, *paths)
    sender.submit(2, b"/from/2", b"/to/2")
    assert between.until(lambda: between.sent == [0, 2])
    assert between.source.sessions[0].commands[2:] == [b"RETR /from/0", b"RETR /from/2"]
    assert between.destination.sessions[0].commands[2:] == [b"STOR /to/0", b"STOR /to/2"]
