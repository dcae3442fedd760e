"""Files sent one behind the other, between two servers that answer as they are told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from wherry_gridftp.connection import Connection
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import pump
from wherry_gridftp.third_party import ThirdParty
from wherry_testing.scripted_gridftp import ScriptedGridFtp, ScriptedSession

pytestmark = pytest.mark.row("T14", missing="the real servers")


@dataclass
class Between:
    """A sender between two scripted servers, with what came of the files."""

    source: ScriptedGridFtp
    destination: ScriptedGridFtp
    connections: tuple[Connection, Connection]
    sent: list[int] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)

    def sender(self, count: int, window: int = 128) -> ThirdParty[int]:
        sender = ThirdParty[int](
            *self.connections,
            self.sent.append,
            lambda key, markers: self.progress.append((key, markers.bytes)),
            window=window,
        )
        for number in range(count):
            sender.submit(number, b"/from/%d" % number, b"/to/%d" % number)
        return sender

    def until(self, so: Callable[[], bool], within_s: float = 20) -> bool:
        return pump(self.connections, so, within_s=within_s)


def _between(serve, at_source=None, at_destination=None) -> Between:
    source, first = serve(*([at_source] if at_source else []))
    destination, second = serve(*([at_destination] if at_destination else []))
    return Between(source, destination, (first, second))


def _refusing(verb: bytes, number: int, *lines: bytes) -> Callable[[bytes, ScriptedSession], None]:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(verb) and line.endswith(b"/%d" % number):
            session.reply(*lines)

    return script


def test_all_files_are_sent_in_order(serve) -> None:
    between = _between(serve)
    between.sender(300)
    assert between.until(lambda: len(between.sent) == 300)
    assert between.sent == list(range(300))


def test_a_file_is_there_only_once_both_servers_have_said_so(serve) -> None:
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


def test_after_a_source_is_missing_nothing_later_is_believed(serve) -> None:
    between = _between(serve, at_source=_refusing(b"RETR", 3, b"550 No such file or directory"))
    sender = between.sender(10)
    assert between.until(lambda: sender.failed)
    between.until(sender.both_have_spoken, within_s=0.3)
    failure = sender.failure()
    assert failure is not None
    assert (failure.key, failure.side, failure.reply.errno) == (3, "source", 2)
    assert between.sent == [0, 1, 2], "the destination has said 226 to 3 and later: it may have had other files' bytes"
    assert sender.unconfirmed() == list(range(3, 10))


def test_words_about_the_file_count_for_more_than_those_about_the_channel(serve) -> None:
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


def test_a_channel_that_breaks_at_both_ends_is_nobodys_fault(serve) -> None:
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


def test_no_more_files_are_under_way_than_the_window_allows(serve) -> None:
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


def test_progress_is_what_the_destination_has_told(serve) -> None:
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


def test_ranges_that_are_there_are_not_sent_again(serve) -> None:
    between = _between(serve)
    sender = ThirdParty[int](*between.connections, between.sent.append)
    sender.submit(7, b"/from", b"/to", have=[(0, 100), (200, 300)])
    assert between.until(lambda: between.sent == [7])
    for server, verb in ((between.source, b"RETR /from"), (between.destination, b"STOR /to")):
        assert server.sessions[0].commands[-2:] == [b"REST 0-100,200-300", verb]


def test_ranges_that_touch_become_one() -> None:
    markers = Markers()
    from wherry_gridftp.replies import Reply

    for line in (b"111 Range Marker 0-10", b"111 Range Marker 20-30", b"111 Range Marker 10-20,40-50"):
        markers.take(Reply(111, (line,)))
    assert list(markers.ranges) == [(0, 30), (40, 50)]
    assert markers.bytes == 40


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (DataChannel(), [b"TYPE I", b"MODE E", b"DCAU N"]),
        (DataChannel(context="Q0VSVA=="),
         [b"TYPE I", b"MODE E", b"DCSC P Q0VSVA==", b"DCAU A", b"PBSZ 1048576", b"PROT P"]),
        (DataChannel(context="Q0VSVA==", private=False), [b"TYPE I", b"MODE E", b"DCSC P Q0VSVA==", b"DCAU A"]),
    ],
)  # fmt: skip
def test_both_servers_are_told_alike_how_the_channel_is_protected(
    serve, channel: DataChannel, said: list[bytes]
) -> None:
    between = _between(serve)
    set_up(*between.connections, channel)
    assert between.source.sessions[0].commands[2:-1] == said
    assert between.destination.sessions[0].commands[2:-1] == said
    assert between.source.sessions[0].commands[-1] == b"PORT 127,0,0,1,200,1"
