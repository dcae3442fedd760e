"""Logging in: whom the client believes, what it says of the other's refusals, and how long it waits."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from wherry_gridftp.connection import Connection, Endpoint
from wherry_gridftp.errors import (
    ConnectionLost,
    CredentialExpired,
    CredentialRefused,
    CredentialUnusable,
    HostCertificateExpired,
    HostNotTrusted,
    NotOffered,
    Refused,
    SecurityFailed,
    TimedOut,
    UnknownAuthority,
    Unreachable,
    WrongHost,
)
from wherry_gridftp.gsi import Credential
from wherry_testing.pki import HostFiles, TestPki
from wherry_testing.scripted_gridftp import ScriptedGridFtp, Serve, Speak, SpeakingServer

pytestmark = pytest.mark.row("T14")


def test_logging_in_delegates_nothing(serve: Serve) -> None:
    server, _ = serve()
    assert server.sessions[0].delegated == b"0"
    assert server.sessions[0].commands[:2] == [b"USER :globus-mapping:", b"PASS dummy"]


# --- the server's certificate ---


def _login_fails(server: HostFiles, credential: Credential, error: type[SecurityFailed]) -> SecurityFailed:
    with ScriptedGridFtp(server) as running, pytest.raises(error) as failed:
        Connection(running.endpoint, credential, timeout_s=30)
    assert type(failed.value) is error
    assert not running.sessions[0].commands, "nothing is said to who is not believed"
    return failed.value


def test_a_server_of_another_authority_is_not_believed(storage: HostFiles, untrusting: Credential) -> None:
    _login_fails(storage, untrusting, UnknownAuthority)


def test_a_server_of_another_name_is_not_believed(pki: TestPki, credential: Credential) -> None:
    elsewhere = pki.issue("elsewhere", roles=(), addresses=(), hosts=("elsewhere.example",))
    _login_fails(elsewhere, credential, WrongHost)


def test_a_server_at_another_address_is_not_believed(pki: TestPki, credential: Credential) -> None:
    elsewhere = pki.issue("elsewhere", roles=(), addresses=("192.0.2.1",), hosts=("localhost",))
    with ScriptedGridFtp(elsewhere) as server, pytest.raises(WrongHost):
        Connection(Endpoint("127.0.0.1", server.endpoint.port), credential, timeout_s=30)


def test_a_server_whose_certificate_has_expired_is_not_believed(pki: TestPki, credential: Credential) -> None:
    old = pki.issue("old-storage", roles=(), days=-1)
    _login_fails(old, credential, HostCertificateExpired)


def test_all_that_is_not_believed_can_be_caught_as_one() -> None:
    for error in (UnknownAuthority, WrongHost, HostCertificateExpired):
        assert issubclass(error, HostNotTrusted)


# --- the client's credential ---


def test_a_credential_of_another_authority_is_told_as_the_servers_refusal(
    storage: HostFiles, credential: Credential, tmp_path: Path
) -> None:
    stranger = TestPki(tmp_path / "pki", name="Strangers").issue("stranger", roles=())
    both = tmp_path / "credential.pem"
    both.write_bytes(stranger.certificate.read_bytes() + stranger.key.read_bytes())
    failed = _login_fails(storage, Credential(both, credential.trust_directory), CredentialRefused)
    assert failed.at_server
    assert "alert unknown ca" in str(failed)


def test_a_credential_that_has_expired_is_told_as_such(
    pki: TestPki, storage: HostFiles, credential: Credential, tmp_path: Path
) -> None:
    old = pki.issue("old-researcher", roles=(), days=-1)
    both = tmp_path / "credential.pem"
    both.write_bytes(old.certificate.read_bytes() + old.key.read_bytes())
    failed = _login_fails(storage, Credential(both, credential.trust_directory), CredentialExpired)
    assert failed.at_server


def _refusing(*words: bytes) -> Speak:
    """A server that ends the security exchange with words."""

    def speak(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        connection.sendall(b"220 here\r\n")
        file.readline()
        connection.sendall(b"334 go on\r\n")
        file.readline()
        connection.sendall(b"".join(word + b"\r\n" for word in words))
        file.readline()

    return speak


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((b"530-GSS failure: The certificate has expired: Credential", b"530 End."), CredentialExpired),
        ((b"535 Could not verify credential",), CredentialRefused),
        ((b"431 no more than that now",), Refused),
    ],
)
def test_a_servers_own_words_about_the_credential_are_told_apart(
    words: tuple[bytes, ...], error: type[Exception], credential: Credential
) -> None:
    with SpeakingServer(_refusing(*words)) as server, pytest.raises(error) as failed:
        Connection(server.endpoint, credential, timeout_s=30)
    assert type(failed.value) is error


def test_a_credential_that_is_none_is_said_to_be_the_clients_fault(credential: Credential, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for bad in (
        Credential(tmp_path / "none.pem", credential.trust_directory),
        Credential(tmp_path / "missing.pem", credential.trust_directory),
        Credential(credential.file, tmp_path / "missing"),
    ):
        with pytest.raises(CredentialUnusable):
            Connection(Endpoint("localhost", 1), bad)


def test_a_key_with_a_password_is_an_error_and_no_question_at_the_terminal(
    pki: TestPki, credential: Credential, tmp_path: Path
) -> None:
    files, both = pki.files("researcher"), tmp_path / "credential.pem"
    encrypted = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", files.key, "-passout", "pass:secret"], check=True, capture_output=True
    )
    both.write_bytes(files.certificate.read_bytes() + encrypted.stdout)
    with pytest.raises(CredentialUnusable):
        Connection(Endpoint("localhost", 1), Credential(both, credential.trust_directory))


def test_a_name_that_is_no_hosts_is_unreachable(credential: Credential) -> None:
    for host in ("", ".example", "a..b", "x" * 70 + ".example", "zero\0byte"):
        with pytest.raises(Unreachable):
            Connection(Endpoint(host, 1), credential)


def test_no_error_and_no_text_of_it_holds_a_key(pki: TestPki, credential: Credential, tmp_path: Path) -> None:
    """A file with a mistake in it is quoted by nobody."""
    key = pki.files("researcher").key.read_text()
    shutil.copy(credential.file, both := tmp_path / "credential.pem")
    both.write_text(key.replace("-----END", "----END"))
    with pytest.raises(CredentialUnusable) as failed:
        Connection(Endpoint("localhost", 1), Credential(both, credential.trust_directory))
    chain = [failed.value, failed.value.__cause__]
    assert not any(line in f"{error!r} {error}" for error in chain for line in key.splitlines() if len(line) > 20)


# --- servers that are none, that say too much, or nothing ---


def test_a_port_where_nobody_listens_is_unreachable(storage: HostFiles, credential: Credential) -> None:
    server = ScriptedGridFtp(storage)
    server.stop()
    with pytest.raises(Unreachable):
        Connection(server.endpoint, credential)


def test_a_server_without_the_security_exchange_is_left_to_others(credential: Credential) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(b"220 plain\r\n")
        connection.recv(100)
        connection.sendall(b"500 AUTH not understood\r\n")
        connection.recv(100)

    with SpeakingServer(speak) as server, pytest.raises(NotOffered):
        Connection(server.endpoint, credential, timeout_s=30)


def test_a_server_that_is_full_says_so_in_its_greeting(credential: Credential) -> None:
    with SpeakingServer(lambda connection: connection.sendall(b"421 too many\r\n")) as server:
        with pytest.raises(Refused) as refused:
            Connection(server.endpoint, credential, timeout_s=30)
        assert refused.value.reply.code == 421


def test_what_was_said_before_the_protection_began_is_not_taken_for_an_answer_after_it(
    storage: HostFiles, credential: Credential
) -> None:
    with ScriptedGridFtp(storage, said_too_early=b"331 go on\r\n230 welcome\r\n") as server:
        with pytest.raises(ConnectionLost, match="more than it was asked"):
            Connection(server.endpoint, credential, timeout_s=30)
        assert not server.sessions[0].commands


@pytest.mark.parametrize("greeting", [b"", b"220-\r\n"])
def test_a_server_that_falls_silent_is_given_up(greeting: bytes, credential: Credential) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(greeting)
        connection.recv(100)

    with SpeakingServer(speak) as server, pytest.raises(TimedOut):
        Connection(server.endpoint, credential, timeout_s=0.3)


def test_a_server_that_falls_silent_in_the_security_exchange_is_given_up(credential: Credential) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(b"220 here\r\n")
        connection.recv(100)
        connection.sendall(b"334 go on\r\n")
        while connection.recv(1000):
            pass

    with SpeakingServer(speak) as server, pytest.raises(TimedOut):
        Connection(server.endpoint, credential, timeout_s=0.3)


def test_a_server_that_dribbles_is_given_up_all_the_same(credential: Credential) -> None:
    """The time is for the whole login, not for each byte of it."""

    def speak(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"120 soon\r\n")
            connection.settimeout(0.05)
            try:
                if not connection.recv(10):
                    return
            except TimeoutError:
                continue

    with SpeakingServer(speak) as server, pytest.raises(TimedOut):
        Connection(server.endpoint, credential, timeout_s=0.5)


def test_a_security_exchange_without_an_end_is_ended(credential: Credential) -> None:
    def speak(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        connection.sendall(b"220 here\r\n")
        file.readline()
        connection.sendall(b"334 go on\r\n")
        while file.readline():
            connection.sendall(b"335 ADAT=\r\n")

    with SpeakingServer(speak) as server, pytest.raises(NotOffered):
        Connection(server.endpoint, credential, timeout_s=30)


def test_an_ipv4_address_in_the_form_of_ipv6_is_one_of_ipv4(pki: TestPki, credential: Credential) -> None:
    mapped = pki.issue("mapped", roles=(), addresses=("::ffff:127.0.0.1",))
    with ScriptedGridFtp(mapped) as server:
        endpoint = Endpoint("::ffff:127.0.0.1", server.endpoint.port)
        with Connection(endpoint, credential, timeout_s=30) as connection:
            assert (connection.peer, connection.is_ipv6) == ("127.0.0.1", False)
