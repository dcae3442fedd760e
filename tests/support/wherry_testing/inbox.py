"""A real SMTP server that keeps what it is sent, for tests: plain, STARTTLS or TLS, with or without a login."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import warnings
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from wherry_testing.waiting import PATIENCE_S

_TOKEN = re.compile(r"wherry verify (\S+)")


class Inbox:
    """What has been sent, and a switch to refuse further mail.

    Attributes:
        mails: in the order of their arrival.
        refusing: whether mail is refused with a temporary error.
        logins: (user name, whether the password was right) of each login.
        encrypted: for each mail, whether it came over TLS.
        port: where it listens, on 127.0.0.1.
    """

    def __init__(
        self,
        *,
        username: str | None = None,
        password: str = "",
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.refusing = False
        self.logins: list[tuple[str, bool]] = []
        self.encrypted: list[bool] = []
        self.port = 0
        self._username = username
        self._password = password
        self._starttls = starttls
        self._tls = tls
        self._arrived = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Inbox]:
        """Listens within the block."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def wait_for(self, to: str, *, count: int = 1, timeout_s: float = PATIENCE_S) -> EmailMessage:
        """Returns the newest mail to an address, once there are `count`; fails if that takes too long."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.to(to)) >= count)
        return self.to(to)[-1]

    def to(self, address: str) -> list[EmailMessage]:
        """Returns the mails to an address, oldest first."""
        return [mail for mail in self.mails if mail["To"] == address]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Takes a mail."""
        if self.refusing:
            return "451 not now"
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.encrypted.append(session.ssl is not None or self._tls is not None)
        async with self._arrived:
            self._arrived.notify_all()
        return "250 taken"

    def _connection(self) -> SMTP:
        login: dict[str, Any] = {}
        if self._username is not None:
            # What aiosmtpd knows of TLS is STARTTLS; a connection that began with TLS seems plain to it.
            plain = self._starttls is None and self._tls is not None
            login = {"authenticator": self._authenticate, "auth_required": True, "auth_require_tls": not plain}
        secured = self._starttls is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a login goes without STARTTLS, where TLS came first
            return SMTP(self, tls_context=self._starttls, require_starttls=secured, hostname="localhost", **login)

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = data.login.decode() == self._username and data.password.decode() == self._password
        self.logins.append((data.login.decode(), right))
        return AuthResult(success=right, handled=False)


def token_in(mail: Message) -> str:
    """Returns the verification token that a mail carries."""
    assert isinstance(mail, EmailMessage)
    found = _TOKEN.search(mail.get_content())
    assert found is not None, f"no token in the mail {mail['Subject']!r}"
    return found[1]
