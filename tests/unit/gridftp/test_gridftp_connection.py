"""The control connection against a server that says what it is told to."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from wherry_gridftp import operations
from wherry_gridftp.connection import Connection, Endpoint
from wherry_gridftp.errors import (
    ConnectionLost,
    CredentialUnusable,
    HostNotTrusted,
    NotOffered,
    Refused,
    TimedOut,
    UnfitName,
    Unreachable,
)
from wherry_gridftp.features import features
from wherry_gridftp.gsi import Credential
from wherry_gridftp.listing import list_directory
from wherry_gridftp.pump import command, pump
from wherry_testing.pki import TestPki
from wherry_testing.scripted_gridftp import ScriptedGridFtp, ScriptedSession

pytestmark = pytest.mark.row("T1", missing="the real servers")


def test_logging_in_delegates_nothing(serve) -> None:
    server, _ = serve()
    assert server.sessions[0].delegated == b"0"
    assert server.sessions[0].commands[:2] == [b"USER :globus-mapping:", b"PASS dummy"]


def test_a_server_of_another_authority_is_not_believed(serve, untrusting: Credential) -> None:
    server, _ = serve()
    with pytest.raises(HostNotTrusted):
        Connection(server.endpoint, untrusting)


def test_a_server_of_another_name_is_not_believed(pki: TestPki, credential: Credential) -> None:
    elsewhere = pki.issue("elsewhere", roles=(), addresses=(), hosts=("elsewhere.example",))
    with ScriptedGridFtp(elsewhere) as server, pytest.raises(HostNotTrusted):
        Connection(server.endpoint, credential)


def test_a_credential_that_is_none_is_said_to_be_the_clients_fault(
    serve, credential: Credential, tmp_path: Path
) -> None:
    server, _ = serve()
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(CredentialUnusable):
        Connection(server.endpoint, Credential(tmp_path / "none.pem", credential.trust_directory))


def test_a_port_where_nobody_listens_is_unreachable(serve, credential: Credential) -> None:
    server, _ = serve()
    server.__exit__(None, None, None)
    with pytest.raises(Unreachable):
        Connection(server.endpoint, credential)


def test_answers_reach_whom_they_are_for_whatever_the_window(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.reply(b"213 " + line.rsplit(b"/", 1)[1])

    server, connection = serve(script, window=3)
    answers: list[tuple[int, str | Refused]] = []
    for number in range(50):
        operations.checksum(connection, b"/%d" % number, "md5", lambda a, n=number: answers.append((n, a)))
    assert pump([connection], lambda: len(answers) == 50, within_s=20)
    assert answers == [(number, str(number)) for number in range(50)]


def test_no_more_commands_are_under_way_than_the_window_allows(serve) -> None:
    held: list[ScriptedSession] = []

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.hold()
            held.append(session)

    server, connection = serve(script, window=4)
    answers: list[object] = []
    for number in range(10):
        operations.remove(connection, b"/%d" % number, answers.append)
    pump([connection], lambda: len(held) == 4, within_s=20)
    assert not pump([connection], lambda: len(held) > 4, within_s=0.3)
    held[0].reply(b"250 gone")
    assert pump([connection], lambda: len(held) == 5, within_s=20)
    assert len(answers) == 1


def test_a_refusal_is_told_with_the_servers_number(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MKD"):
            session.reply(b"550-GridFTP-Errno: 13", b"550-GridFTP-Reason: Permission denied", b"550 End.")

    _, connection = serve(script)
    with pytest.raises(Refused) as refused:
        operations.ask(connection, lambda then: operations.make_directory(connection, b"/no", then))
    assert refused.value.reply.errno == 13
    assert features(connection) >= {"MLST", "CKSM"}, "the connection is as good as before"


def test_a_name_that_looks_like_the_end_of_a_reply_ends_none(serve) -> None:
    lines = [b"150-", b" Type=file;Size=1; 226 done", b" Type=file;Size=2; 550 no", b"150 part"]

    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            session.reply(*lines)
            session.reply(b"250-", b" Type=dir; e", b"250 End.")

    _, connection = serve(script)
    assert [entry.name for entry in list_directory(connection, b"/")] == [b"226 done", b"550 no", b"e"]


def test_a_name_with_a_line_break_in_a_listing_is_kept_whole(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"MLSC"):
            session.reply(b"250-", b" Type=file; one", b"two", b" Type=file; three", b"250 End.")

    _, connection = serve(script)
    assert [entry.name for entry in list_directory(connection, b"/")] == [b"one\r\ntwo", b"three"]


@pytest.mark.parametrize("name", [b"a\nb", b"a\rb", b"a\0b"])
def test_a_name_that_would_end_its_command_is_never_sent(serve, name: bytes) -> None:
    server, connection = serve()
    before = len(server.sessions[0].commands)
    with pytest.raises(UnfitName):
        operations.remove(connection, b"/" + name, lambda answer: None)
    command(connection, b"NOOP")
    assert server.sessions[0].commands[before:] == [b"NOOP"]


def test_a_server_that_says_nothing_is_given_up_after_the_commands_patience(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"CKSM"):
            session.hold()

    _, connection = serve(script)
    with pytest.raises(TimedOut):
        operations.ask(connection, lambda then: operations.checksum(connection, b"/x", "md5", then, patience_s=0.3))


def test_a_connection_that_ends_is_told_as_lost(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.drop()

    _, connection = serve(script)
    with pytest.raises(ConnectionLost):
        operations.ask(connection, lambda then: operations.remove(connection, b"/x", then))


def test_what_is_not_the_protocol_is_told_as_lost(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"DELE"):
            session.hold()
            session.raw(b"632 %%%not base64%%%\r\n")

    _, connection = serve(script)
    with pytest.raises(ConnectionLost):
        operations.ask(connection, lambda then: operations.remove(connection, b"/x", then))


def test_a_rename_whose_first_half_is_refused_says_why(serve) -> None:
    def script(line: bytes, session: ScriptedSession) -> None:
        if line.startswith(b"RNFR"):
            session.reply(b"550 No such file or directory")
        elif line.startswith(b"RNTO"):
            session.reply(b"503 bad sequence")

    _, connection = serve(script)
    with pytest.raises(Refused) as refused:
        operations.ask(connection, lambda then: operations.rename(connection, b"/x", b"/y", then))
    assert refused.value.reply.errno == 2


def test_a_server_without_the_security_exchange_is_left_to_others(credential: Credential) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_plainly() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 plain\r\n")
                connection.recv(100)
                connection.sendall(b"500 AUTH not understood\r\n")

        thread = threading.Thread(target=serve_plainly)
        thread.start()
        with pytest.raises(NotOffered):
            Connection(Endpoint("localhost", listener.getsockname()[1]), credential)
        thread.join(5)
