"""The mails that accounts need, and the port that sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain text mail to one person."""

    to: str
    subject: str
    text: str


class MailFailed(Exception):
    """The mail was not taken by the mail server."""


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, mail: Mail) -> None:
        """Returns once the mail server has taken the mail.

        Raises:
            MailFailed: it has not, whatever the cause.
        """
        ...


@dataclass(frozen=True, slots=True)
class MailTexts:
    """Writes the mails of a deployment.

    Attributes:
        deployment: its name, as people know it.
        verify_url: the page that takes a token, with `{token}` in it; empty if there is none.
    """

    deployment: str
    verify_url: str

    def verification(self, to: str, token: str, lifetime_ms: int) -> Mail:
        """Returns the mail that carries a verification token."""
        link = f"\nor open\n\n    {self.verify_url.replace('{token}', token)}\n" if self.verify_url else ""
        text = (
            f"Somebody, probably you, has registered this address at {self.deployment}.\n\n"
            f"To confirm it, run\n\n    wherry verify {token}\n{link}\n"
            f"This works once, within {_duration(lifetime_ms)}. "
            "If it was not you, ignore this mail: without it the account cannot be used.\n"
        )
        return Mail(to, f"Confirm your address at {self.deployment}", text)

    def already_registered(self, to: str) -> Mail:
        """Returns the mail for a registration of an address that has an account."""
        text = (
            f"Somebody, probably you, has tried to register this address at {self.deployment}.\n\n"
            "It is registered already: sign in with the password that you chose then. Nothing has been changed.\n"
            "If it was not you, ignore this mail.\n"
        )
        return Mail(to, f"You are registered already at {self.deployment}", text)


def _duration(milliseconds: int) -> str:
    minutes = max(1, milliseconds // 60_000)
    for size, name in ((1440, "days"), (60, "hours")):
        if minutes >= 2 * size:
            return f"{minutes // size} {name}"
    return f"{minutes} minutes" if minutes > 1 else "a minute"
