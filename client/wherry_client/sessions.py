"""Keeps a sign-in alive: hands out access tokens, and trades the refresh token for new ones in time, once."""

from __future__ import annotations

import time
from collections.abc import Callable

from wherry.user.v1 import user_service_pb2

from wherry_client.errors import SignInNeededError, UnavailableError, sign_in_needed
from wherry_client.names import show_text
from wherry_client.tokens import StoredTokens, TokenFile, require

#: An access token is renewed when less than this is left of it.
RENEWAL_MARGIN_S = 30.0

Refresh = Callable[[str], user_service_pb2.Tokens]


class SessionKeeper:
    """The sign-in of this user at this deployment.

    A refresh token works once, and using it twice ends the whole session. So renewing happens under the token file's
    lock, and whoever gets the lock looks first whether somebody else has renewed meanwhile. What was begun as one
    person never goes on as another who has signed in meanwhile.
    """

    def __init__(self, file: TokenFile, refresh: Refresh, now: Callable[[], float] = time.time) -> None:
        self._file = file
        self._refresh = refresh
        self._now = now
        self._tokens: StoredTokens | None = None
        self._email: str | None = None
        """Whose tokens this began with; another process may sign somebody else in meanwhile."""

    def access_token(self) -> str:
        """Returns a token that lives for a while; raises SignInNeededError."""
        if self._tokens is None:
            self._tokens = require(self._file.read())
            self._email = self._tokens.email
        if self._lives(self._tokens):
            return self._tokens.access_token
        return self._renewed(self._tokens.access_token, refused=False)

    def after_refusal(self, refused: str) -> str:
        """Returns another token than the one that a service has refused; raises SignInNeededError."""
        return self._renewed(refused, refused=True)

    def begin(self, tokens: user_service_pb2.Tokens, email: str) -> None:
        """Keeps the tokens of a new sign-in in place of any other."""
        with self._file.locked():
            self._tokens = StoredTokens.of(tokens, email)
            self._email = email
            self._file.write(self._tokens)

    def end(self) -> None:
        """Forgets the tokens."""
        with self._file.locked():
            self._tokens = None
            self._email = None
            self._file.remove()

    def stored(self) -> StoredTokens | None:
        """Returns what the file holds; None where nobody is signed in."""
        return self._file.read()

    def _lives(self, tokens: StoredTokens, margin_s: float = RENEWAL_MARGIN_S) -> bool:
        return tokens.access_expire_time_s - self._now() > margin_s

    def _renewed(self, unfit: str, *, refused: bool) -> str:
        with self._file.locked():
            current = self._mine(require(self._file.read()))
            if current.access_token == unfit or not self._lives(current):
                current = self._trade(current, refused)
            self._tokens = current
            return current.access_token

    def _mine(self, found: StoredTokens) -> StoredTokens:
        if self._email is None:
            self._email = found.email
        elif found.email != self._email:
            raise _somebody_else(self._email, found.email)
        return found

    def _trade(self, current: StoredTokens, refused: bool) -> StoredTokens:
        if current.refresh_expire_time_s <= self._now():
            self._file.remove()
            raise sign_in_needed("REFRESH_TOKEN_INVALID")
        try:
            answer = self._refresh(current.refresh_token)
        except SignInNeededError:
            self._file.remove()
            raise
        except UnavailableError:
            if not refused and self._lives(current, margin_s=0):
                return current  # good for the moment; the next command tries again
            raise
        fresh = StoredTokens.of(answer, current.email)
        self._file.write(fresh)
        return fresh


def _somebody_else(began: str, now: str) -> SignInNeededError:
    return SignInNeededError(
        f"Meanwhile {show_text(now)} has signed in at Wherry here; this was begun as {show_text(began)}.",
        advice=f"Sign in as before: wherry login {show_text(began)}",
    )
