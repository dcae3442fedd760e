from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from wherry_deploy.demonstration.inbox import Inbox
from wherry_deploy.ports import free_ports
from wherry_testing.waiting import PATIENCE_S
from wherry_user.mail import Mail
from wherry_user.smtp import SmtpMailer

WITHIN_S = PATIENCE_S


def _mailer(port: int) -> SmtpMailer:
    return SmtpMailer("127.0.0.1", port, "none", "wherry@localhost", ssl.create_default_context())


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.row("U8")
async def test_mail_sent_through_smtp_can_be_read_in_the_demonstrations_inbox(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    text = "Confirm it:\n\n    wherry verify abc\n\nGrüße – 雪\n"
    async with Inbox(tmp_path / "inbox").receiving("127.0.0.1", port) as inbox, asyncio.timeout(WITHIN_S):
        mailer = _mailer(port)
        await mailer.send(Mail("alice@example.org", "Über die Adresse", text))
        mail = await inbox.next_to("alice@example.org")
    assert (mail.sender, mail.to, mail.subject) == ("wherry@localhost", ("alice@example.org",), "Über die Adresse")
    assert mail.text == text
    content = mail.file.read_text(encoding="utf-8")
    assert "Subject: Über die Adresse" in content
    assert text in content


async def test_each_mail_is_given_out_once_and_to_whom_it_is_addressed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with Inbox(tmp_path).receiving("127.0.0.1", port) as inbox, asyncio.timeout(WITHIN_S):
        mailer = _mailer(port)
        for to, subject in (("bob@example.org", "1"), ("alice@example.org", "2"), ("alice@example.org", "3")):
            await mailer.send(Mail(to, subject, "text\n"))
        subjects = [(await inbox.next_to("alice@example.org")).subject for _ in range(2)]
        waiting = asyncio.create_task(inbox.next_to("alice@example.org"))
        await mailer.send(Mail("alice@example.org", "4", "text\n"))
        assert [*subjects, (await waiting).subject] == ["2", "3", "4"]
    assert len(_names(tmp_path)) == 4


async def test_a_later_run_goes_on_with_the_numbers(tmp_path: Path) -> None:
    for run in range(2):
        (port,) = free_ports(1)
        async with Inbox(tmp_path).receiving("127.0.0.1", port):
            await _mailer(port).send(Mail("a@example.org", str(run), "x\n"))
    assert _names(tmp_path) == ["0001-a@example.org.txt", "0002-a@example.org.txt"]
