"""Mail over real SMTP: STARTTLS, TLS, and logins."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry_chassis.buildout import BuildoutError
from wherry_testing.inbox import Inbox, token_in
from wherry_testing.pki import TestPki
from wherry_testing.refusals import refused
from wherry_testing.user_service import PASSWORD, RunningUsers, user_buildout, user_service
from wherry_user.app import build

MAIL_PASSWORD = "the mail server's password"
REQUEST = pb.CreateUserRequest(email="alice@example.org", password=PASSWORD)


def server_side(pki: TestPki) -> ssl.SSLContext:
    files = pki.files("mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


@contextlib.asynccontextmanager
async def mailing(folder: Path, pki: TestPki, inbox: Inbox, **mail: str) -> AsyncIterator[RunningUsers]:
    """Runs the service with these lines of `[mail]` and a mail server to match (or not)."""
    async with inbox.serving():
        lines = {"host": "127.0.0.1", "port": inbox.port, "sender": "Wherry <wherry@example.org>"}
        async with user_service(user_buildout(folder, pki, "sqlite:///user.db", lines | mail), pki, inbox) as service:
            yield service


@pytest.fixture
def login(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "mail.password").write_text(MAIL_PASSWORD + "\n")
    return {"username": "wherry", "password": f"file:{tmp_path}/mail.password"}


@pytest.mark.row("U8")
async def test_mail_goes_out_by_starttls_with_a_login(tmp_path: Path, pki: TestPki, login: dict[str, str]) -> None:
    inbox = Inbox(username="wherry", password=MAIL_PASSWORD, starttls=server_side(pki))
    async with mailing(tmp_path / "d", pki, inbox, security="starttls", ca=str(pki.ca), **login) as service:
        await service.users.CreateUser(REQUEST)
        mail = await inbox.wait_for("alice@example.org")
    assert inbox.encrypted == [True]
    assert inbox.logins == [("wherry", True)]
    assert mail["From"] == "Wherry <wherry@example.org>"
    assert token_in(mail)


@pytest.mark.row("U8")
async def test_mail_goes_out_by_tls_from_the_start(tmp_path: Path, pki: TestPki, login: dict[str, str]) -> None:
    inbox = Inbox(username="wherry", password=MAIL_PASSWORD, tls=server_side(pki))
    async with mailing(tmp_path / "d", pki, inbox, security="tls", ca=str(pki.ca), **login) as service:
        await service.users.CreateUser(REQUEST)
        await inbox.wait_for("alice@example.org")
    assert inbox.encrypted == [True]
    assert inbox.logins == [("wherry", True)]


@pytest.mark.row("U8")
async def test_a_server_without_starttls_gets_neither_login_nor_mail(
    tmp_path: Path, pki: TestPki, login: dict[str, str]
) -> None:
    inbox = Inbox()
    async with mailing(tmp_path / "d", pki, inbox, security="starttls", ca=str(pki.ca), **login) as service:
        with refused("UNAVAILABLE", "MAIL_UNAVAILABLE"):
            await service.users.CreateUser(REQUEST)
    assert inbox.mails == []
    assert inbox.logins == []


@pytest.mark.row("U8")
async def test_a_server_of_another_authority_gets_nothing(tmp_path: Path, pki: TestPki, login: dict[str, str]) -> None:
    other = TestPki(tmp_path / "other")
    inbox = Inbox(username="wherry", password=MAIL_PASSWORD, starttls=server_side(other))
    async with mailing(tmp_path / "d", pki, inbox, security="starttls", ca=str(pki.ca), **login) as service:
        with refused("UNAVAILABLE", "MAIL_UNAVAILABLE"):
            await service.users.CreateUser(REQUEST)
    assert inbox.logins == []


@pytest.mark.row("U8")
async def test_a_refused_login_leaves_no_account_and_its_password_nowhere(
    tmp_path: Path, pki: TestPki, login: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    inbox = Inbox(username="wherry", password="changed meanwhile", starttls=server_side(pki))
    async with mailing(tmp_path / "d", pki, inbox, security="starttls", ca=str(pki.ca), **login) as service:
        with refused("UNAVAILABLE", "MAIL_UNAVAILABLE") as refusal:
            await service.users.CreateUser(REQUEST)
    assert inbox.logins
    assert not any(right for _, right in inbox.logins)
    written = "".join(capfd.readouterr())
    assert "mail_failed" in written
    for secret in (MAIL_PASSWORD, PASSWORD):
        assert secret not in written
        assert secret not in (refusal.error.details() or "")


@pytest.mark.row("U8")
async def test_the_mail_has_the_link_where_the_deployment_has_a_page(tmp_path: Path, pki: TestPki) -> None:
    inbox = Inbox()
    page = "https://wherry.example.org/verify?token={token}"
    async with mailing(tmp_path / "d", pki, inbox, security="none", verify_url=page) as service:
        await service.users.CreateUser(REQUEST)
        mail = await inbox.wait_for("alice@example.org")
    assert f"https://wherry.example.org/verify?token={token_in(mail)}" in mail.get_content()


def test_a_login_without_tls_is_refused_at_start(tmp_path: Path, pki: TestPki, login: dict[str, str]) -> None:
    lines = {"host": "127.0.0.1", "port": 25, "security": "none", "sender": "wherry@example.org"}
    buildout = user_buildout(tmp_path / "d", pki, "sqlite:///user.db", lines | login)
    with pytest.raises(BuildoutError, match=r"mail\.security"):
        build(buildout, 0)
