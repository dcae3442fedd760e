"""Sends mails through an SMTP server: plain, STARTTLS or TLS from the start, with or without a login."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal

import aiosmtplib
from wherry_chassis.logging import logger

from wherry_user.mail import Mail, MailFailed

_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password at the mail server."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmtpMailer:
    """A mail server.

    With `starttls` a server that does not offer it gets neither the login nor the mail: whoever sits between could
    otherwise strip the offer.

    Attributes:
        host, port: where it listens.
        security: how the connection is protected.
        sender: the address that mails come from.
        trust: which CAs are believed, where TLS is used.
        login: given if the server asks for one.
    """

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    sender: str
    trust: ssl.SSLContext
    login: Login | None = None

    async def send(self, mail: Mail) -> None:
        """Returns once the server has taken the mail; raises MailFailed if it has not."""
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
            tls_context=self.trust,
            timeout=_TIMEOUT_S,
            local_hostname=socket.gethostname(),  # the default asks the name server, and waits for it
        )
        try:
            async with client:
                if self.login is not None:
                    await client.login(self.login.username, self.login.password)
                await client.send_message(self._message(mail))
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # The text may repeat what the server said, which never holds our password; it is for the operator alone.
            logger().error("mail_failed", host=self.host, port=self.port, error=f"{type(error).__name__}: {error}")
            raise MailFailed from error

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2].rstrip(">") or "localhost")
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps holiday notices from answering
        message.set_content(mail.text)
        return message
