"""The control connection and what is asked over it, against a server that says what it is told to."""

from __future__ import annotations

from functools import partial

import pytest
from wherry_gridftp import operations
from wherry_gridftp.connection import MAX_COMMAND_BYTES
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import ConnectionLost, NotOffered, Refused, TimedOut, UnfitName
from wherry_gridftp.features import Offer, features, offer
from wherry_gridftp.pump import Broken, command, pump
from wherry_gridftp.replies import Reply
from wherry_testing.scripted_gridftp import ScriptedSession, Serve

pytestmark = pytest.mark.row("T1")


def test_answers_reach_whom_they_are_for_whatever_the_window(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.reply(b"213 " + line.rsplit(b"/", 1)[1])

    _, connection = serve(script, window=3)
    answers: list[tuple[int, str | Refused]] = []

    def take(number: int, answer: str | Refused) -> None:
        answers.append((number, answer))

    for number in range(50):
        operations.checksum(connection, b"/%d" % number, "md5", partial(take, number))
    assert pump([connection], lambda: len(answers) == 50, within_s=30)
    assert answers == [(number, str(number)) for number in range(50)]


def test_no_more_commands_are_under_way_than_the_window_allows(serve: Serve) -> None:
    held: list[ScriptedSession] = []

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.hold()
            held.append(session)

    _, connection = serve(script, window=4)
    answers: list[object] = []
    for number in range(10):
        operations.remove(connection, b"/%d" % number, answers.append)
    pump([connection], lambda: len(held) == 4, within_s=30)
    assert not pump([connection], lambda: len(held) > 4, within_s=0.3)
    held[0].reply(b"250 gone")
    assert pump([connection], lambda: len(held) == 5, within_s=30)
    assert len(answers) == 1


def test_a_refusal_is_told_with_the_servers_number(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MKD"):
            session.reply(b"550-GridFTP-Errno: 13", b"550-GridFTP-Reason: Permission denied", b"550 End.")

    _, connection = serve(script)
    with pytest.raises(Refused) as refused:
        operations.ask(connection, partial(operations.make_directory, connection, b"/no"))
    assert refused.value.reply.errno == 13
    assert features(connection) >= {"MLST", "CKSM"}, "the connection is as good as before"


def test_all_operations_on_names_say_what_they_mean(serve: Serve) -> None:
    server, connection = serve()
    path = b"/a b;\xff"
    for operation in (
        partial(operations.remove, connection, path),
        partial(operations.make_directory, connection, path),
        partial(operations.remove_directory, connection, path),
        partial(operations.rename, connection, path, b"/to"),
        partial(operations.set_mode, connection, path, 0o640),
        partial(operations.set_modify_time, connection, path, 1767323045),
    ):
        operations.ask(connection, operation)
    assert operations.ask(connection, partial(operations.stat, connection, path)) == Entry(
        b"/it", "file", 3, 1767323045, 0o644
    )
    assert operations.ask(connection, partial(operations.checksum, connection, path, "adler32")) == "024d0127"
    assert server.sessions[0].commands[2:] == [
        b"DELE " + path,
        b"MKD " + path,
        b"RMD " + path,
        b"RNFR " + path,
        b"RNTO /to",
        b"SITE CHMOD 0640 " + path,
        b"SITE UTIME 20260102030405 " + path,
        b"MLST " + path,
        b"CKSM ADLER32 0 -1 " + path,
    ]


def test_a_path_where_nothing_is_is_an_answer_and_no_refusal(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLST"):
            session.reply(b"550-GridFTP-Errno: 2", b"550 End.")

    _, connection = serve(script)
    assert operations.ask(connection, partial(operations.stat, connection, b"/x")) is None


@pytest.mark.parametrize("answer", [b"213", b"213 not hexadecimal", b"250 024d0127", b"350 024d0127", b"213 1 2"])
def test_what_is_no_checksum_is_not_taken_for_one(serve: Serve, answer: bytes) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.reply(answer)

    _, connection = serve(script)
    with pytest.raises(Refused):
        operations.ask(connection, partial(operations.checksum, connection, b"/x", "md5"))


def test_an_adler32_has_the_zeros_that_some_servers_leave_out(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.reply(b"213 24D0127")

    _, connection = serve(script)
    assert operations.ask(connection, partial(operations.checksum, connection, b"/x", "adler32")) == "024d0127"


def test_an_answer_that_is_no_success_is_none(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.reply(b"350 what else?")

    _, connection = serve(script)
    with pytest.raises(Refused):
        operations.ask(connection, partial(operations.remove, connection, b"/x"))


# --- names that the protocol cannot carry ---


@pytest.mark.parametrize("name", [b"a\nb", b"a\rb", b"a\0b", b"a" * MAX_COMMAND_BYTES])
def test_a_name_that_would_end_its_command_is_never_sent(serve: Serve, name: bytes) -> None:
    server, connection = serve()
    before = len(server.sessions[0].commands)
    for submit in (
        partial(operations.remove, connection, b"/" + name),
        partial(operations.rename, connection, b"/" + name, b"/x"),
        partial(operations.rename, connection, b"/x", b"/" + name),
        partial(operations.set_mode, connection, b"/" + name, 0o644),
    ):
        with pytest.raises(UnfitName):
            operations.ask(connection, submit)
    command(connection, b"NOOP")
    assert server.sessions[0].commands[before:] == [b"NOOP"]


def test_a_name_of_any_length_below_the_limit_arrives_whole(serve: Serve) -> None:
    """One protected record holds 16 KiB."""
    server, connection = serve()
    path = b"/" + bytes(range(1, 10)) * 5000
    operations.ask(connection, partial(operations.remove, connection, path))
    assert server.sessions[0].commands[-1] == b"DELE " + path


# --- features ---


def test_what_a_server_offers_is_read_with_its_checksums(serve: Serve) -> None:
    _, connection = serve()
    offered = offer(connection)
    assert offered.checksums == ("md5", "adler32")
    offered.require("MLSC", "DCSC")
    with pytest.raises(NotOffered, match="ERET, MFMT is missing"):
        offered.require("MFMT", "MLST", "ERET")


def test_a_server_that_does_not_understand_the_question_offers_nothing(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line == b"FEAT":
            session.reply(b"500 what?")

    _, connection = serve(script)
    assert offer(connection) == Offer()


def test_an_offer_that_comes_as_one_protected_line_is_read_too(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line == b"FEAT":
            session.reply_at_once(b"211-OK", b"  mlst Type*;", b" CKSM", b"211 End")

    _, connection = serve(script)
    assert offer(connection) == Offer(frozenset({"MLST", "CKSM"}))


# --- servers that fail ---


def test_a_server_that_says_nothing_is_given_up_after_the_commands_patience(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.hold()

    _, connection = serve(script)
    with pytest.raises(TimedOut):
        operations.ask(connection, partial(operations.checksum, connection, b"/x", "md5", patience_s=0.3))


def test_a_connection_that_ends_is_told_as_lost(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.drop()

    _, connection = serve(script)
    with pytest.raises(ConnectionLost):
        operations.ask(connection, partial(operations.remove, connection, b"/x"))


@pytest.mark.parametrize(
    "said",
    [
        b"632 %%%not base64%%%\r\n",
        b"632 AAAA\r\n",
        b"nonsense\r\n",
        b"250 gone\r\n",
        b"632 " + b"A" * (3 << 20),
    ],
)
def test_what_is_not_the_protocol_is_told_as_lost(serve: Serve, said: bytes) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.hold()
            session.raw(said)

    _, connection = serve(script)
    with pytest.raises(ConnectionLost):
        operations.ask(connection, partial(operations.remove, connection, b"/x"))


def test_a_server_that_speaks_unasked_takes_its_leave(serve: Serve) -> None:
    server, connection = serve()
    server.sessions[0].reply(b"421 idle for too long")
    with pytest.raises(Broken, match="421 idle for too long") as broken:
        pump([connection], lambda: False, within_s=30)
    assert broken.value.connection is connection


def test_a_server_that_leaves_instead_of_an_answer_has_refused_nothing(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.reply(b"421 going down")

    _, connection = serve(script)
    with pytest.raises(ConnectionLost, match="421 going down"):
        operations.ask(connection, partial(operations.remove, connection, b"/x"))


def test_what_a_taker_of_answers_raises_goes_through_and_ends_the_connection(serve: Serve) -> None:
    _, connection = serve()

    def take(reply: Reply) -> None:
        raise LookupError(reply.text)

    connection.submit(b"NOOP", take)
    with pytest.raises(LookupError):
        pump([connection], lambda: False, within_s=30)
    with pytest.raises(ConnectionLost, match="closed"):
        command(connection, b"NOOP")


def test_a_rename_whose_first_half_is_refused_says_why(serve: Serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"RNFR"):
            session.reply(b"550 No such file or directory")
        elif line.startswith(b"RNTO"):
            session.reply(b"503 bad sequence")

    _, connection = serve(script)
    with pytest.raises(Refused) as refused:
        operations.ask(connection, partial(operations.rename, connection, b"/x", b"/y"))
    assert refused.value.reply.errno == 2


def test_nothing_of_what_is_under_way_is_shown_with_the_connection(serve: Serve) -> None:
    _, connection = serve()
    answers: list[Reply] = []
    connection.submit(b"DCSC P c2VjcmV0", answers.append)
    assert "c2VjcmV0" not in repr(connection) + repr(vars(connection))
