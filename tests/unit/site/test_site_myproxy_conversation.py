"""The MyProxy client against servers that a test scripts: what it says, and what it makes of odd answers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from wherry_chassis.errors import DomainError, InvalidFields
from wherry_fakes.site_sign_in import FakeCa, shared_key
from wherry_site.errors import SignInRefused, SiteAnswerUnusable, SiteUnreachable
from wherry_site.myproxy import MyProxySignIn
from wherry_site.sign_in import IssuedCredential, Password, SignInServer

S5 = pytest.mark.row("S5", missing="VOMS")
CA = FakeCa("Scripted")
KEY = shared_key("the person")
OK = b"VERSION=MYPROXYv2\nRESPONSE=0\n\0"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """A TLS server that follows a script. `request` is what it was asked, `tls` the version that was agreed on."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.request = b""
        self.tls = ""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tls = writer.get_extra_info("ssl_object").version()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.request = await reader.readuntil(b"\0")
            await self._script(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def where(self, *addresses: str) -> SignInServer:
        return SignInServer("sites/s", "localhost", self.port, addresses or ("127.0.0.1",), [CA.pem])


@contextlib.asynccontextmanager
async def scripted(folder: Path, script: Script, *, least: ssl.TLSVersion | None = None) -> AsyncIterator[Scripted]:
    server = Scripted(script)
    key = shared_key("the host")
    pem = CA.issue_host("localhost", key).public_bytes(Encoding.PEM)
    (folder / "host.pem").write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem")
    if least is not None:
        context.minimum_version = least
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


async def sign_in(
    server: SignInServer, *, username: str = "alice", password: str = "pass word", timeout_s: float = 5
) -> IssuedCredential:
    async def take() -> Any:
        return KEY

    client = MyProxySignIn(take, timeout_s=timeout_s)
    return await client.sign_in(server, username, Password(password), 3600)


def answering(*certificates: x509.Certificate, count: int | None = None, last: bytes = OK) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        request = await reader.read(4096)
        assert x509.load_der_x509_csr(request).is_signature_valid
        der = b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        writer.write(bytes([len(certificates) if count is None else count]) + der + last)
        await writer.drain()

    return script


def saying(*answer: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in answer:
            writer.write(part)
            await writer.drain()

    return script


def person(life: dt.timedelta = dt.timedelta(hours=1)) -> x509.Certificate:
    return CA.issue("alice", KEY, life)


async def failure(folder: Path, script: Script, **how: Any) -> DomainError:
    async with scripted(folder, script) as server:
        with pytest.raises(DomainError) as caught:
            await sign_in(server.where(), **how)
    assert "pass word" not in str(caught.value) + repr(caught.value) + repr(caught.value.metadata)
    return caught.value


@S5
async def test_the_request_is_what_the_protocol_says_and_tls_is_at_most_1_2(tmp_path: Path) -> None:
    async with scripted(tmp_path, answering(person())) as server:
        credential = await sign_in(server.where())
    assert server.request == (b"0VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=alice\nPASSPHRASE=pass word\nLIFETIME=3600\n\0")
    assert server.tls == "TLSv1.2"
    assert credential.certificate.subject == person().subject
    assert credential.key is KEY


@S5
async def test_a_chain_is_kept_without_the_ca_itself(tmp_path: Path) -> None:
    middle = FakeCa("Middle")
    link = CA.sign(middle.name, middle.key, dt.timedelta(hours=1), ca=True)
    mine = middle.issue("alice", KEY, dt.timedelta(hours=1))
    async with scripted(tmp_path, answering(mine, link, CA.certificate)) as server:
        credential = await sign_in(server.where())
    assert credential.certificate == mine
    assert list(credential.chain) == [link]


@S5
async def test_addresses_are_tried_in_turn(tmp_path: Path) -> None:
    async with scripted(tmp_path, answering(person())) as server:
        assert await sign_in(server.where("127.0.0.2", "127.0.0.1"))


@S5
async def test_a_certificate_that_has_already_expired_is_no_success(tmp_path: Path) -> None:
    error = await failure(tmp_path, answering(person(-dt.timedelta(hours=1))))
    assert isinstance(error, SiteAnswerUnusable)
    assert "already expired" in str(error)


@S5
async def test_a_certificate_for_another_key_is_refused(tmp_path: Path) -> None:
    others = CA.issue("alice", shared_key("somebody else"), dt.timedelta(hours=1))
    assert "not for the key" in str(await failure(tmp_path, answering(others)))


@S5
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"invalid password", SignInRefused),
        (b"invalid username", SignInRefused),
        (b"PAM authentication failed: Authentication failure", SignInRefused),
        (b"unable to check the clock", SiteAnswerUnusable),
    ],
)
async def test_what_the_server_says_decides(tmp_path: Path, said: bytes, kind: type[DomainError]) -> None:
    answer = b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=" + said + b"\n\0"
    assert type(await failure(tmp_path, saying(answer))) is kind


@S5
async def test_a_password_that_the_server_says_back_to_us_is_not_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=nobody has the password pass word here\n\0"
    await failure(tmp_path, saying(answer))
    logged = "".join(capfd.readouterr())
    assert "nobody has the password ***" in logged
    assert "pass word" not in logged


@S5
@pytest.mark.parametrize(
    "script",
    [
        saying(b"x" * 100_000),
        saying(b"\xff\0"),
        saying(b"VERSION=MYPROXYv2\n\0"),
        saying(OK[:-5]),
        answering(count=0),
        answering(count=255),
        answering(person(), count=2, last=b"\x30\x82\x01\x00" + b"x" * 256),
        answering(person(), count=2, last=b"no certificate"),
        answering(person(), last=b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=too late\n\0"),
    ],
)
async def test_odd_answers_are_refused_in_words(tmp_path: Path, script: Script) -> None:
    assert isinstance(await failure(tmp_path, script), SiteAnswerUnusable)


@S5
async def test_a_server_that_hangs_up_or_never_answers_is_unreachable(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert isinstance(await failure(tmp_path, hang_up), SiteUnreachable)
    assert isinstance(await failure(tmp_path, silence, timeout_s=0.3), SiteUnreachable)


@S5
async def test_a_server_that_speaks_tls_1_3_only_is_sent_nothing(tmp_path: Path) -> None:
    async with scripted(tmp_path, answering(person()), least=ssl.TLSVersion.TLSv1_3) as server:
        with pytest.raises((SiteAnswerUnusable, SiteUnreachable)):
            await sign_in(server.where())
        assert server.request == b""


@S5
@pytest.mark.parametrize(("username", "password"), [("a\nb", "x"), ("a\0", "x"), ("a", "x\r"), ("a", "x\n")])
async def test_nothing_that_could_break_out_of_its_line_is_sent(tmp_path: Path, username: str, password: str) -> None:
    async with scripted(tmp_path, answering(person())) as server:
        with pytest.raises(InvalidFields):
            await sign_in(server.where(), username=username, password=password)
    assert server.request == b""
