"""A mail server whose every mail becomes a file: the inbox of the demonstration and of tests.

async with Inbox(folder).receiving("localhost", port) as inbox:
    ...
    mail = await inbox.next_to("demo@example.org")
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class ReceivedMail:
    """A mail as it came.

    Attributes:
        to: whom the envelope named.
        sender: whom the envelope named.
        subject: decoded.
        text: the plain text, decoded.
        file: where it can be read.
    """

    to: tuple[str, ...]
    sender: str
    subject: str
    text: str
    file: Path


class Inbox:
    """A folder of mails, one readable text file each, numbered as they came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mails: list[ReceivedMail] = []
        self._taken: list[ReceivedMail] = []
        self._arrived = asyncio.Condition()
        folder.mkdir(parents=True, exist_ok=True)
        self._number = max((int(file.name[:4]) for file in folder.glob("[0-9][0-9][0-9][0-9]-*.txt")), default=0)

    @contextlib.asynccontextmanager
    async def receiving(self, host: str, port: int) -> AsyncIterator[Inbox]:
        """Receives mail within the block. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, host, port)
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def next_to(self, to: str) -> ReceivedMail:
        """Returns the first mail to an address since this inbox was opened that has not been returned before."""
        async with self._arrived:
            while True:
                for mail in self.mails:
                    if to in mail.to and mail not in self._taken:
                        self._taken.append(mail)
                        return mail
                await self._arrived.wait()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Keeps a mail."""
        content = envelope.content
        message = email.message_from_bytes(content if isinstance(content, bytes) else b"", policy=email.policy.default)
        async with self._arrived:
            self._arrived.notify_all()
            self._keep(message, envelope.mail_from or "", tuple(envelope.rcpt_tos))
        return "250 OK"

    def _keep(self, message: EmailMessage, sender: str, to: tuple[str, ...]) -> None:
        body = message.get_body(("plain",))
        text = str(body.get_content()).replace("\r\n", "\n") if body is not None else ""
        subject = str(message["Subject"] or "")
        self._number += 1
        name = "".join(character if character.isalnum() or character in "@.-" else "_" for character in to[0][:60])
        file = self.folder / f"{self._number:04}-{name}.txt"
        file.write_text(
            f"From: {sender}\nTo: {', '.join(to)}\nDate: {message['Date']}\nSubject: {subject}\n\n{text}",
            encoding="utf-8",
        )
        self.mails.append(ReceivedMail(to, sender, subject, text, file))

    def _connection(self) -> Any:
        return SMTP(self, hostname="localhost", ident="demonstration inbox")
